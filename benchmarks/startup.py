"""Times --help and imports of the commands, and the way to the first training step.

    python -m benchmarks.startup

A training start is ``train.py --config=configs/quickstart.py`` (SE-ResNet50 at 224x224, the images
that ship with the project) in a separate process, from the start of the interpreter to the line of
the first step in ``metrics.jsonl``. The first start has empty caches. The second start has a new
workdir, but finds the decoded images and the compiled programs.
"""

from __future__ import annotations

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
from pathlib import Path

from benchmarks.measuring import ROOT, finish, parser
from se_resnet.runs.run_folder import RunFolder
from se_resnet.runtime.cli import exit_on_user_error, path_option

# Command line, and the module that it runs.
COMMANDS = {
    "train.py": "train",
    "eval.py": "eval",
    "-m se_resnet.predict": "se_resnet.predict.__main__",
    "-m se_resnet.metrics compare": "se_resnet.metrics.__main__",
    "-m se_resnet.convert": "se_resnet.convert",
}
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


def start_training(workdir: Path, cache: Path, config: str) -> dict:
    flags = [f"--config={config}", f"--workdir={workdir}", "--config.log_every_steps=1"]
    script = f"from benchmarks.startup import *; run_until_interrupted({flags!r})"
    start = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env={**os.environ, "SE_RESNET_CACHE": str(cache)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    log = RunFolder(workdir).log_path
    while not (log.exists() and log.read_text().endswith("\n")):
        if process.poll() is not None or time.monotonic() - start > TIMEOUT:
            process.kill()
            raise SystemExit("training ended before its first step")
        time.sleep(0.02)
    total = time.monotonic() - start
    seconds = json.loads(interrupted(process).splitlines()[-1])
    return {
        "to the first step, s": total,
        "XLA or its cache, s": seconds["backend_compile_duration"],
        "tracing and lowering, s": seconds["jaxpr_trace_duration"]
        + seconds["jaxpr_to_mlir_module_duration"],
    }


def interrupted(process: subprocess.Popen) -> str:
    """Interrupts a process and returns its output. Repeats a signal that Python lost."""
    while True:
        process.send_signal(signal.SIGINT)
        try:
            return process.communicate(timeout=5)[0]
        except subprocess.TimeoutExpired:
            continue


def main() -> None:
    flags = parser(__doc__)
    flags.add_argument("--repeats", type=int, default=3)
    flags.add_argument("--config", type=path_option, default="configs/quickstart.py")
    options = flags.parse_args()
    rows = [
        {
            "command": f"python {command}",
            "--help, s": seconds_of([*command.split(), "--help"], options.repeats),
            "import, s": seconds_of(["-c", f"import {module}"], options.repeats),
        }
        for command, module in COMMANDS.items()
    ]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        starts = [
            {"start": start} | start_training(folder / start, folder / "cache", options.config)
            for start in ("first", "second")
        ]
    finish(rows, options.out, starts=starts)


if __name__ == "__main__":
    with exit_on_user_error():
        main()
