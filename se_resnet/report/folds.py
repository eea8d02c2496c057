"""Evaluates images together, each as the network that was not trained on it predicted it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from se_resnet.metrics.decision import decide_left_out
from se_resnet.metrics.full import across_folds, all_metrics
from se_resnet.metrics.predictions import Predictions, in_folds
from se_resnet.report.publish import Evaluation
from se_resnet.report.remarks import leak_warnings, pooling_notes
from se_resnet.runs.ensembles import joined_data_facts
from se_resnet.runs.image_source import ImageSource
from se_resnet.runs.run_files import TEST, TRAIN, VAL
from se_resnet.runs.run_folder import RunFolder
from se_resnet.runs.state import unfinished_warnings


def pool_folds(
    run: RunFolder,
    folds: Sequence[RunFolder],
    config: dict[str, Any],
    tta: str,
    prevalence: float | None,
    role: str = TEST,
) -> Evaluation:
    """Evaluates the test images of all folds, or the validation images of all members.

    Args:
        run: the cross-validation, or the ensemble.
        folds: its folds or members, whose validation images, and images of ``role``, are evaluated.
        config: content of its ``config.json``.
        tta: test-time augmentation of the evaluations.
        prevalence: see :func:`se_resnet.metrics.clinical.describe`.
        role: ``test`` for a cross-validation, ``val`` for an ensemble.

    Raises:
        UserError: an evaluation of a fold is missing or broken.
    """
    validation = [fold.evaluation(VAL, tta).predictions() for fold in folds]
    tested = [fold.evaluation(role, tta).predictions() for fold in folds]
    predictions, target = in_folds(tested), config["decision"]["target"]
    decisions = decide_left_out(validation, tested, target)
    metrics = all_metrics(predictions, decisions, config["permutations"], prevalence)
    fold_metrics = [fold.evaluation(role, tta).metrics() for fold in folds]
    metrics["folds" if role == TEST else "members"] = across_folds(fold_metrics)
    metrics["audit"] = {
        "protocol": config["split"]["protocol"],
        **_sum_of_audits([fold["audit"] for fold in fold_metrics], folds, tested),
    }
    parts, images = ("folds", "test") if role == TEST else ("members", "validation")
    return Evaluation(
        title=f"{run.path.name}: {images} images of {len(folds)} {parts}",
        predictions=predictions,
        metrics=metrics,
        warnings=[
            *unfinished_warnings(run),
            *leak_warnings(metrics["audit"], role, config, metrics["decision"]),
        ],
        config=config,
        split_summary=joined_data_facts(run)["split"],
        training_log=[],
        notes=pooling_notes(metrics),
        data_notes=[
            "Training curves, gates and pictures of each network are in the reports of the "
            f"{parts}.",
        ],
        run=run if role == TEST else None,  # the tables for a journal describe a test
        source=ImageSource.from_facts(run.networks()[0].data_facts()),
        parts=[fold.evaluation(role, tta) for fold in folds],
    )


def _sum_of_audits(
    audits: Sequence[Mapping[str, Any]], folds: Sequence[RunFolder], tested: Sequence[Predictions]
) -> dict[str, int]:
    """Adds the counts of all folds: images once for every fold in which they leak, patients once.

    A fold of version 0.1 lacks counts. Their sum is then not known and left out.
    """
    seen = set[str]()
    for fold, predictions in zip(folds, tested, strict=True):
        for network in fold.networks():
            seen |= network.patients(TRAIN, VAL) & set(predictions.accession.tolist())
    counted = set.intersection(*(set(audit) for audit in audits)) - {"protocol"}
    return {
        **{name: sum(audit[name] for audit in audits) for name in audits[0] if name in counted},
        "straddling_accessions": len(seen),
        "evaluated_accessions_seen": len(seen),
    }
