"""Facts about the run that the page shows beside predictions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from se_resnet.metrics.evaluation import headline
from se_resnet.metrics.predictions import logit_of, probability_of
from se_resnet.predict.inference import NOTICE
from se_resnet.runs.ensembles import joined_data_facts, joined_split
from se_resnet.runs.image_source import ImageSource
from se_resnet.runs.run_files import ALL_FOLDS, NO_FOLD, TRAIN
from se_resnet.runs.run_folder import RunFolder
from se_resnet.runs.state import unfinished_warnings
from se_resnet.runs.workdir import Run


def describe(workdir: Path, run: Run, config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the values for the page's template.

    Args:
        workdir: folder of the run.
        run: chosen checkpoint of the run.
        config: content of ``config.json``.

    Raises:
        UserError: ``split.csv`` or the ``metrics.json`` of the test images cannot be read.
    """
    decision = run.decision
    center = logit_of(np.clip(np.array([decision.threshold]), 1e-12, 1 - 1e-12))[0]
    low, high = probability_of(center + np.array([-1, 1]) * decision.margin)
    folder = RunFolder(workdir)
    split = joined_split(folder, ("file", "magnification", "role"))
    trained = [row for row in split if row["role"] == TRAIN]
    data = joined_data_facts(folder)
    source = ImageSource.from_facts(data)
    # Repeats are evaluated one by one, so that no metrics belong to all networks.
    tested = folder.evaluation().metrics_if_any() if config["repeats"] == 1 else None
    return {
        "unfinished": unfinished_warnings(folder),
        "name": workdir.resolve().name,
        "notice": NOTICE,
        "trained": sorted(Counter(int(row["magnification"]) for row in trained).items()),
        "members": len(run.members),
        "is_cross_validation": config["split"]["fold"] == ALL_FOLDS,
        "is_tested": config["split"]["fold"] != NO_FOLD,
        "scale": run.classifier.scale,
        "source": source,
        "class_labels": source.explain_classes(),
        "protocol": config["split"]["protocol"],
        "known_patients": data["audit"]["straddling_accessions"],
        "has_gate": run.gate is not None,
        "threshold": decision.threshold,
        "decision": decision.describe(),
        "uncertain_range": (float(low), float(high)),
        "counts": tested and tested["counts"],
        "auc": tested and headline(tested)["image_roc_auc"],
    }
