from __future__ import annotations

import pytest

from benchmarks.decisions import measure


def test_few_patients_choose_worse_than_a_half_and_drawing_helps():
    row = measure(2, 4, samples=15, true_auc=0.9)
    assert float(row["on new patients"]) < float(row["at 0.5"])
    assert float(row["balanced accuracy on validation"]) > float(row["on new patients"])
    assert abs(float(row["drawn towards 1"])) < float(row["added loss"])
    assert float(row["best validation AUC of 10 epochs"]) > 0.9
    assert row["patients"] == "2 + 4"
    assert float(row["at 0.5"]) == pytest.approx(0.8, abs=0.03)
