"""Generated cases end well, and the oracle sees it where they do not."""

from __future__ import annotations

import os
import textwrap
from pathlib import Path

import pytest

from tests.fuzz import oracle, targets
from tests.fuzz.pool import Case, run_cases

SEED = 6
SMOKE = tuple(name for name in targets.SHARES if name not in (*targets.NEED_A_RUN, "datasets"))

pytestmark = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux")


@pytest.mark.parametrize("target", SMOKE)
def test_a_few_cases_of_every_kind_end_well(target, tmp_path):
    for number in range(10):
        case = Case(target, SEED, number)
        assert not (problem := case.run(tmp_path, None).problem), f"{case}\n{problem}"


@pytest.mark.fuzz
def test_two_thousand_cases_end_well(run, tmp_path):
    cases = [Case(targets.choose(SEED, number), SEED, number) for number in range(2000)]
    verdicts = list(run_cases(cases, tmp_path, run, os.cpu_count() or 1))
    failed = [f"{case}\n{verdict.problem}" for case, verdict in verdicts if verdict.problem]
    assert len(verdicts) == 2000 and not failed, "\n\n".join(failed)
    ended = {(case.target, verdict.outcome) for case, verdict in verdicts}
    missing = {(name, oracle.REFUSED) for name in targets.SHARES if name != "images"} - ended
    assert not missing


# What a command must not do with any input, and the words that tell it.
BAD = {
    "raises": ("raise KeyError('bug')", "KeyError: 'bug'"),
    "asks": ("raise SystemExit(1)", "exit code 1"),
    "writes": ("open(place.elsewhere / 'x', 'w').close()", "open of"),
    "moves": ("os.rename(place.input / 'x', place.work / 'x')", "os.rename of"),
    "changes": ("os.utime(place.input / 'x'); posix_write(place.input / 'x')", "changed"),
    "unpickles": ("pickle.loads(pickle.dumps(os.getcwd))", "unpickled"),
    "hoards": ("bytearray(b'x') * (3 << 29)", "MB of memory"),
    "works": ("busy()", "s of work"),
    "crashes": ("os.abort()", "the process died (-6)"),
    "hangs": ("time.sleep(100)", "no end after 60 s"),
}


def write_target(folder: Path, action: str) -> None:
    folder.mkdir(parents=True)
    (folder / "target.py").write_text(
        textwrap.dedent(
            """
            import ctypes, os, pickle, time
            def posix_write(path):
                libc = ctypes.CDLL(None)  # which Python's audit does not hear
                end = libc.open(os.fsencode(path), os.O_WRONLY)
                libc.write(end, b"other", 5)
                libc.close(end)
            def busy():
                end = time.process_time() + 11
                while time.process_time() < end:
                    sum(range(10**5))
            def case(rng, place):
                (place.input / "x").write_text("input")
                def action():
                    ACTION
                return action
            """
        ).replace("ACTION", action)
    )


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.fuzz if name in ("works", "hangs") else ())
        for name in BAD
    ],
)
def test_the_oracle_tells_what_must_not_happen(name, tmp_path, monkeypatch):
    action, words = BAD[name]
    write_target(tmp_path / "code" / f"fuzz_{name}", action)
    path = os.pathsep.join([str(tmp_path / "code"), os.environ.get("PYTHONPATH", "")])
    monkeypatch.setenv("PYTHONPATH", path)
    monkeypatch.syspath_prepend(str(tmp_path / "code"))
    case = Case(f"fuzz_{name}.target", 0, 0)
    if name in ("crashes", "hangs"):
        verdicts = [verdict for _, verdict in run_cases([case, case], tmp_path, None, 1)]
        assert len(verdicts) == 2
    else:
        verdicts = [case.run(tmp_path, None)]
    assert all(words in verdict.problem for verdict in verdicts), verdicts
