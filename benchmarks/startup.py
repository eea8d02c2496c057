"""Times --help and imports of the commands, and the way to the first steps of a training.

    python -m benchmarks.startup
    python -m benchmarks.startup --folds no

A training start is ``train.py --config=configs/quickstart.py`` (SE-ResNet50 at 224x224, the images
that ship with the project) in a separate process, from the start of the interpreter to the line of
the first step in ``metrics.jsonl``. The first start has empty caches. The second start has a new
workdir, but finds the decoded images and the compiled programs.

Then a cross-validation with one epoch trains two folds in one process, with caches that are empty
at first. The first step of the second fold is timed from the report of the first fold, and each
report from the last line of the log. ``benchmarks.evaluation`` times the parts of an evaluation.
"""

from __future__ import annotations

import functools
import json
import os
import runpy
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from benchmarks.measuring import ROOT, finish, parser
from se_resnet.runs.evaluations import REPORT
from se_resnet.runs.run_folder import RunFolder
from se_resnet.runtime.cli import exit_on_user_error, path_option
from se_resnet.runtime.interpreter import with_huge_pages

# Command line, and the module that it runs.
COMMANDS = {
    "train.py": "train",
    "eval.py": "eval",
    "-m se_resnet.predict": "se_resnet.predict.__main__",
    "-m se_resnet.metrics compare": "se_resnet.metrics.__main__",
    "-m se_resnet.convert": "se_resnet.convert",
    "-m se_resnet.export": "se_resnet.export.__main__",
    "-m se_resnet.package": "se_resnet.package.__main__",
    "-m se_resnet.app": "se_resnet.app.__main__",
    "-m data.protocols": "data.protocols.__main__",
}
# What the Python API imports at once, and at its first use.
IMPORTS = ("import se_resnet", "from se_resnet import load_run", "import data")
TIMEOUT = 600


def seconds_of(arguments: list[str], repeats: int) -> float:
    """Returns the median wall time of ``python ARGUMENTS``."""
    times = []
    for _ in range(repeats):
        start = time.monotonic()
        subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, timeout=TIMEOUT)
        times.append(time.monotonic() - start)
    return statistics.median(times)


def run_until_interrupted(arguments: list[str]) -> None:
    """Runs the training command here; prints the seconds of tracing and compiling as JSON."""
    import jax

    seconds: Counter[str] = Counter()
    jax.monitoring.register_event_duration_secs_listener(
        lambda name, value, **_: seconds.update({name.rsplit("/", 1)[-1]: value})
    )
    sys.argv = ["train.py", *arguments]
    try:
        runpy.run_path(str(ROOT / "train.py"), run_name="__main__")
    except SystemExit:
        print(json.dumps(seconds))


def started(workdir: Path, cache: Path, config: str, *further: str) -> subprocess.Popen:
    """Returns the process of a training with a log line for each step."""
    flags = [f"--config={config}", f"--workdir={workdir}", "--config.log_every_steps=1", *further]
    script = f"from benchmarks.startup import *; run_until_interrupted({flags!r})"
    return subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env=with_huge_pages(os.environ) | {"SE_RESNET_CACHE": str(cache)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def wait_for(event: Callable[[], bool], process: subprocess.Popen, name: str) -> float:
    """Waits for an event in a training; returns the seconds that it took."""
    start = time.monotonic()
    while not event():
        if process.poll() is not None or time.monotonic() - start > TIMEOUT:
            process.kill()
            raise SystemExit(f"training ended before {name}")
        time.sleep(0.02)
    return time.monotonic() - start


def has_stepped(run: RunFolder) -> bool:
    return run.log_path.exists() and run.log_path.read_text().endswith("\n")


def start_training(workdir: Path, cache: Path, config: str) -> dict:
    process = started(workdir, cache, config)
    total = wait_for(lambda: has_stepped(RunFolder(workdir)), process, "its first step")
    seconds = json.loads(interrupted(process).splitlines()[-1])
    return {
        "to the first step, s": total,
        "XLA or its cache, s": seconds["backend_compile_duration"],
        "tracing and lowering, s": seconds["jaxpr_trace_duration"]
        + seconds["jaxpr_to_mlir_module_duration"],
    }


def start_folds(workdir: Path, cache: Path, config: str) -> list[dict]:
    """Times the way to the first step, and from the last step to the report, of two folds."""
    process = started(workdir, cache, config, "--config.split.fold=all", "--config.epochs=1")
    rows = []
    for number, name in enumerate(("first", "second")):
        run = RunFolder(workdir / f"fold{number}")
        to_first_step = wait_for(functools.partial(has_stepped, run), process, "its first step")
        evaluation = run.evaluation()
        wait_for(lambda folder=evaluation: folder.is_finished, process, "its report")
        tail = (evaluation.path / REPORT).stat().st_mtime - run.log_path.stat().st_mtime
        rows.append(
            {
                "fold": name,
                "to the first step, s": to_first_step,
                "from the last log line to the report, s": tail,
            }
        )
    interrupted(process)
    return rows


def interrupted(process: subprocess.Popen) -> str:
    """Interrupts a training, which then saves its state, and returns its output."""
    process.send_signal(signal.SIGINT)  # once: a second signal would end it before it has saved
    return process.communicate(timeout=TIMEOUT)[0]


def main() -> None:
    flags = parser(__doc__)
    flags.add_argument("--repeats", type=int, default=3)
    flags.add_argument("--config", type=path_option, default="configs/quickstart.py")
    flags.add_argument("--folds", choices=["yes", "no"], default="yes", help="time two folds")
    options = flags.parse_args()
    rows = [
        {
            "command": f"python {command}",
            "--help, s": seconds_of([*command.split(), "--help"], options.repeats),
            "import, s": seconds_of(["-c", f"import {module}"], options.repeats),
        }
        for command, module in COMMANDS.items()
    ]
    imports = [
        {"statement": statement, "s": seconds_of(["-c", statement], options.repeats)}
        for statement in IMPORTS
    ]
    folds: dict[str, list[dict]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        starts = [
            {"start": start} | start_training(folder / start, folder / "cache", options.config)
            for start in ("first", "second")
        ]
        if options.folds == "yes":
            folds["folds"] = start_folds(folder / "all", folder / "new cache", options.config)
    finish(rows, options.out, imports=imports, starts=starts, **folds)


if __name__ == "__main__":
    with exit_on_user_error():
        main()
