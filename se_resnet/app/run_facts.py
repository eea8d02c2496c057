"""What the page says of a run beside its predictions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from se_resnet.metrics.evaluation import headline
from se_resnet.metrics.predictions import logit_of, probability_of
from se_resnet.predict.inference import NOTICE
from se_resnet.runs.run_files import TRAIN
from se_resnet.runs.run_folder import RunFolder
from se_resnet.runs.workdir import Run


def describe(workdir: Path, run: Run, config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the values that the page's template shows.

    Args:
        workdir: folder of the run.
        run: its best checkpoint.
        config: its ``config.json``.

    Raises:
        UserError: ``split.csv`` or the ``metrics.json`` of the test images cannot be read.
    """
    decision = run.decision
    around = logit_of(np.clip(np.array([decision.threshold]), 1e-12, 1 - 1e-12))[0]
    low, high = probability_of(around + np.array([-1, 1]) * decision.margin)
    split = RunFolder(workdir).split(("file", "magnification", "role"))
    trained = [row for row in split if row["role"] == TRAIN]
    tested = RunFolder(workdir).evaluation().metrics_if_any()
    return {
        "name": workdir.resolve().name,
        "notice": NOTICE,
        "trained": sorted(Counter(int(row["magnification"]) for row in trained).items()),
        "protocol": config["split"]["protocol"],
        "threshold": decision.threshold,
        "doubt": (float(low), float(high)),
        "counts": tested and tested["counts"],
        "auc": tested and headline(tested)["image_roc_auc"],
    }
