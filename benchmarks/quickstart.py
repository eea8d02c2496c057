"""Wall time and peak memory of the quickstart, from the start of the process to its end.

python benchmarks/quickstart.py
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        start = time.monotonic()
        subprocess.run(
            [
                sys.executable,
                "train.py",
                "--config=configs/quickstart.py",
                f"--workdir={folder}/run",
                f"--config.data.cache_dir={folder}/cache",
                *sys.argv[1:],
            ],
            cwd=ROOT,
            check=True,
        )
        seconds = time.monotonic() - start
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024  # bytes on Linux
    print(f"\n{seconds:.0f} s, peak memory {peak / 1e9:.2f} GB")


if __name__ == "__main__":
    main()
