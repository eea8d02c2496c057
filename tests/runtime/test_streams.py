from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.helpers import ROOT

CODE = """
import os, sys
from se_resnet.runtime.cli import exit_on_user_error
with exit_on_user_error():
    for _ in range(3):
        print("x" * 100_000, flush=True)
        print("y" * 100_000, file=sys.stderr)
    open(sys.argv[1], "w").write("done")
    assert os.open(sys.argv[1], os.O_RDONLY) > 2
"""


@pytest.mark.parametrize(
    ("redirections", "code"),
    [
        ("", 0),
        (">/dev/full", 2),
        ("2>/dev/full", 0),
        (">&-", 0),
        ("2>&-", 0),
        ("<&- >&- 2>&-", 0),
        ("2>&1 | head -c 1", 0),
    ],
)
def test_work_is_done_whatever_becomes_of_its_output(tmp_path, redirections, code):
    command = f'set -o pipefail; {sys.executable} -c "$CODE" {tmp_path}/out {redirections}'
    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, cwd=ROOT, env={**os.environ, "CODE": CODE}
    )
    assert done.returncode == code, done.stderr[-500:]
    assert (tmp_path / "out").read_text() == "done"
    if code:
        assert b"error: standard output could not be written (No space left" in done.stderr
