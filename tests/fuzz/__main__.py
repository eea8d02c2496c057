"""Runs many cases and lists those that do what no input may make a command do.

python -m tests.fuzz --seed=1 --count=20000
python -m tests.fuzz --seed=1 --target=images --count=500
python -m tests.fuzz --seed=1 --target=images --case=17
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.fuzz import targets
from tests.fuzz.pool import Case, run_cases


def main() -> int:
    """The command; returns its exit code, 1 where a case failed."""
    parser = argparse.ArgumentParser("python -m tests.fuzz", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=2000, help="how many cases (default: 2000)")
    parser.add_argument("--target", choices=targets.SHARES, help="one kind of case (default: all)")
    parser.add_argument("--case", type=int, help="run only this case of --target")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    if options.case is not None and not options.target:
        parser.error("--case needs --target")
    numbers = [options.case] if options.case is not None else list(range(options.count))
    cases = [
        Case(options.target or targets.choose(options.seed, n), options.seed, n) for n in numbers
    ]
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        return report(cases, Path(folder), min(options.workers, len(cases)))


def report(cases: list[Case], folder: Path, workers: int) -> int:
    """Runs the cases, tells failures as they come and counts at the end."""
    os.environ["SE_RESNET_CACHE"] = str(folder / "cache")
    run = None
    if any(case.target in targets.NEED_A_RUN for case in cases):
        from tests.fuzz.specimens import make_run

        run = make_run(folder / "specimen")
    started = time.monotonic()
    outcomes: Counter[tuple[str, str]] = Counter()
    slowest = 0.0
    for case, verdict in run_cases(cases, folder, run, workers):
        outcomes[case.target, verdict.outcome or "failed"] += 1
        slowest = max(slowest, verdict.seconds)
        if verdict.problem:
            print(f"FAILED: python -m tests.fuzz {case}\n{verdict.problem}\n", flush=True)
    for target in sorted({name for name, _ in outcomes}):
        counts = [f"{n} {outcome}" for (name, outcome), n in outcomes.items() if name == target]
        print(f"  {target:<14}{', '.join(sorted(counts))}")
    failed = sum(count for (_, outcome), count in outcomes.items() if outcome == "failed")
    print(
        f"{outcomes.total()} cases in {time.monotonic() - started:.0f} s, the slowest took "
        f"{slowest:.1f} s: {failed} failed"
    )
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
