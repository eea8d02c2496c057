"""Evaluates the test images of all folds of a cross-validation together."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from se_resnet.metrics.decision import decide, decide_left_out
from se_resnet.metrics.full import across_folds, all_metrics
from se_resnet.metrics.predictions import Predictions, concatenate, in_folds
from se_resnet.report.publish import Evaluation
from se_resnet.report.remarks import leak_warnings, pooling_notes
from se_resnet.runs.evaluations import REPORT
from se_resnet.runs.image_source import ImageSource
from se_resnet.runs.run_files import TEST, TRAIN, VAL
from se_resnet.runs.run_folder import RunFolder
from se_resnet.runtime.files import write_json


def pool_folds(
    run: RunFolder,
    folds: Sequence[RunFolder],
    config: dict[str, Any],
    tta: str,
    prevalence: float | None,
) -> Evaluation:
    """Evaluates the test images of all folds, each as the network of its fold predicted it.

    Writes ``decision.json`` of the cross-validation, for new patients.

    Args:
        run: the cross-validation.
        folds: its folds, whose validation and test images are evaluated.
        config: content of its ``config.json``.
        tta: test-time augmentation of the evaluations.
        prevalence: see :func:`se_resnet.metrics.clinical.describe`.

    Raises:
        UserError: an evaluation of a fold is missing or broken.
    """
    validation = [fold.evaluation(VAL, tta).predictions() for fold in folds]
    tested = [fold.evaluation(TEST, tta).predictions() for fold in folds]
    predictions, target = in_folds(tested), config["decision"]["target"]
    decisions = decide_left_out(validation, tested, target)
    metrics = all_metrics(predictions, decisions, config["permutations"], prevalence)
    fold_metrics = [fold.evaluation(TEST, tta).metrics() for fold in folds]
    metrics["folds"] = across_folds(fold_metrics)
    metrics["audit"] = {
        "protocol": config["split"]["protocol"],
        **_sum_of_audits([fold["audit"] for fold in fold_metrics], folds, tested),
    }
    # No image of new patients takes part in the choice, so all validation patients may choose.
    new_patients = decide(concatenate(validation), target)
    write_json(run.decision_path, dataclasses.asdict(new_patients))
    example = RunFolder(folds[0].path.name).evaluation(TEST, tta).path / REPORT
    return Evaluation(
        title=f"{run.path.name}: test images of {len(folds)} folds",
        predictions=predictions,
        metrics=metrics,
        warnings=leak_warnings(metrics["audit"], TEST, config, metrics["decision"]),
        config=config,
        split_summary=[
            {**row, "role": f"fold {number}: {row['role']}"}
            for number, fold in enumerate(folds)
            for row in fold.data_facts()["split"]
        ],
        training_log=[],
        notes=pooling_notes(metrics),
        data_notes=[
            "Training curves, gates and pictures of each network are in the reports of the folds, "
            f"for example {example}.",
        ],
        run=run,
        source=ImageSource.from_facts(folds[0].data_facts()),
    )


def _sum_of_audits(
    audits: Sequence[Mapping[str, Any]], folds: Sequence[RunFolder], tested: Sequence[Predictions]
) -> dict[str, int]:
    """Adds the counts of all folds: images once for every fold in which they leak, patients once.

    A fold of version 0.1 lacks counts. Their sum is then not known and left out.
    """
    seen = set[str]()
    for fold, predictions in zip(folds, tested, strict=True):
        seen |= fold.patients(TRAIN, VAL) & set(predictions.accession.tolist())
    counted = set.intersection(*(set(audit) for audit in audits)) - {"protocol"}
    return {
        **{name: sum(audit[name] for audit in audits) for name in audits[0] if name in counted},
        "straddling_accessions": len(seen),
        "evaluated_accessions_seen": len(seen),
    }
