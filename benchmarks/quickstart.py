"""Measures wall time and peak memory of the quickstart, from start to end of the process.

    python -m benchmarks.quickstart

Flags of ``train.py`` can be added, for example ``--config.epochs=1``.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time

from benchmarks.measuring import ROOT, finish, parser


def main() -> None:
    options, further = parser(__doc__).parse_known_args()
    with tempfile.TemporaryDirectory() as folder:
        start = time.monotonic()
        subprocess.run(
            [
                sys.executable,
                "train.py",
                "--config=configs/quickstart.py",
                f"--workdir={folder}/run",
                f"--config.data.cache_dir={folder}/cache",
                *further,
            ],
            cwd=ROOT,
            check=True,
        )
        seconds = time.monotonic() - start
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024  # kilobytes on Linux
    finish([{"seconds": seconds, "peak memory, GB": peak / 1e9}], options.out)


if __name__ == "__main__":
    main()
