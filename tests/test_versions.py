"""The commands of the README, one after another, with whatever versions are installed."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.helpers import ROOT

IMAGES = ROOT / "data/sample/BreaKHis_v1/histology_slides/breast/malignant/SOB/lobular_carcinoma"


@pytest.mark.environment
def test_the_commands_run_one_after_another(tmp_path):
    run, predicted = tmp_path / "run", tmp_path / "predicted"
    for arguments in (
        ["train.py", "--config=configs/smoke.py", "--config.epochs=1", f"--workdir={run}"],
        ["eval.py", f"--workdir={run}", "--split=val"],
        ["-m", "se_resnet.predict", f"--workdir={run}", f"--input={IMAGES}", f"--out={predicted}"],
        ["-m", "se_resnet.package", f"--workdir={run}", f"--out={tmp_path / 'package'}"],
    ):
        command = [sys.executable, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=600)
        assert done.returncode == 0, done.stderr
    assert json.loads((run / "eval" / "val" / "metrics.json").read_text())["image"]
    assert (predicted / "predictions.csv").stat().st_size
