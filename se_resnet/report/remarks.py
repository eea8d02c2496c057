"""Sentences about an evaluation, for the report and the screen."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import numpy as np

from se_resnet.images.resize import TILE_RULES
from se_resnet.metrics.labels import magnification_name
from se_resnet.metrics.predictions import Predictions
from se_resnet.runs.run_files import BEST, NEAR_DUPLICATES, complete


def view_notes(tta: str, rule: str) -> list[str]:
    """Returns notes on test-time augmentation.

    Args:
        tta: the views.
        rule: resize rule that the network was trained with.
    """
    if tta == "none":
        return []
    notes = [f"Every logit is the mean over the views of --tta={tta}."]
    if tta != "dihedral" and rule not in TILE_RULES:
        notes.append(
            f"The network was trained on whole images (config.data.resize = {rule!r}); its tiles "
            "show another scale and aspect ratio than the training images."
        )
    return notes


def ensemble_notes(predictions: Predictions, networks: Collection[str]) -> list[str]:
    """Returns a note on how several networks predicted images together; nothing of one network.

    Args:
        predictions: of the images, with the column ``malignant_votes``.
        networks: their names.
    """
    if len(networks) < 2:
        return []
    votes = predictions.extra["malignant_votes"].astype(int)
    divided = int(((votes > 0) & (votes < len(networks))).sum())
    return [
        f"Each logit is the mean over {len(networks)} networks. They do not all make the same call "
        f"for {divided:,} of {len(predictions):,} images."
    ]


def other_images_notes(predictions: Predictions, name: str) -> list[str]:
    """Returns notes on images that are not those of the run.

    Args:
        predictions: of the images.
        name: name of their table or folder.
    """
    notes = [
        f"These are other images than the run's: {len(predictions):,} images of "
        f"{len(set(predictions.accession.tolist())):,} patients in {name}. Training, validation "
        "and decision are those of the run."
    ]
    if sites := sorted(set(predictions.extra.get("site", np.array([])).tolist()) - {""}):
        notes.append(f"Sites: {', '.join(sites)}.")
    if not predictions.magnification.any():
        notes.append("The magnification of these images is not known.")
    return notes


def weights_notes(facts: Mapping[str, Any] | None) -> list[str]:
    """Returns notes on the initial weights: assumptions and a licence that restricts their use.

    Args:
        facts: content of ``weights.json``; None if there is none.
    """
    notes = []
    if facts and facts.get("assumed"):
        notes.append(
            f"Assumed of the initial weights {facts['name']}, because no file states it: "
            f"{'; '.join(facts['assumed'])}."
        )
    if facts and facts.get("non_commercial"):
        notes.append(
            f"The initial weights {facts['name']} are for non-commercial use only: "
            f"{facts.get('licence', '')}, {facts.get('licence_url', '')}."
        )
    return notes


def pooling_notes(metrics: Mapping[str, Any]) -> list[str]:
    """Returns a note where the ROC AUC of pooled folds differs from that within folds.

    Args:
        metrics: content of ``metrics.json`` of a cross-validation.
    """
    notes = []
    for name, part in (
        ("images", metrics["image"]),
        ("patients", metrics["patient"]["mean_probability"]),
    ):
        within, pooled = part["roc_auc"]["value"], part.get("roc_auc_pooled", {}).get("value")
        if within is not None and pooled is not None and abs(within - pooled) > 0.01:
            notes.append(
                f"ROC AUC of {name} is {within:.3f} over pairs within folds, and {pooled:.3f} over "
                "all pairs: the networks of the folds differ by an offset, which the second also "
                "measures."
            )
    return notes


def chosen_on_validation(config: Mapping[str, Any], decision: Mapping[str, Any]) -> str:
    """Returns what the validation images of a run chose, as subject and auxiliary of a sentence.

    Args:
        config: content of the run's ``config.json``.
        decision: fields of the run's decision; threshold and temperature with a ``reason`` were not
            chosen.

    Returns:
        For example ``Checkpoint and number of epochs were``; empty if they chose nothing.
    """
    chosen = []
    if complete(dict(config))["checkpoint"]["choose"] == BEST:
        chosen.append("checkpoint")
    if config.get("early_stopping", {}).get("metric"):
        chosen.append("number of epochs")
    if not decision["reason"]:
        chosen += ["threshold", "temperature"]
    if len(chosen) < 2:
        return f"The {chosen[0]} was" if chosen else ""
    return f"{', '.join(chosen[:-1])} and {chosen[-1]} were".capitalize()


def magnification_notes(
    evaluated: Iterable[int],
    trained: Collection[int],
    validated: Collection[int],
    config: Mapping[str, Any],
    decision: Mapping[str, Any],
) -> list[str]:
    """Returns notes on evaluated magnifications at which a run was not trained or validated.

    Magnification 0 means not known. It does not count, and nothing is noted where images of the
    run have it.

    Args:
        evaluated: magnifications of the evaluated images.
        trained: magnifications of the training images.
        validated: magnifications of the validation images.
        config: content of the run's ``config.json``.
        decision: fields of the run's decision.
    """
    notes = []
    known = set(evaluated) - {0}
    if known - {*trained} and trained and 0 not in trained:
        notes.append(
            f"The network was trained on images at {_scales(trained)}: evaluated images at "
            f"{_scales(known - {*trained})} have a magnification that is new to it."
        )
    chosen = chosen_on_validation(config, decision)
    if known - {*validated} and validated and 0 not in validated and chosen:
        notes.append(
            f"{chosen} chosen on validation images at {_scales(validated)}, and not for images at "
            f"{_scales(known - {*validated})}."
        )
    return notes


def _scales(magnifications: Iterable[int]) -> str:
    return ", ".join(map(magnification_name, sorted(magnifications)))


def near_duplicate_warning(audit: Mapping[str, Any]) -> str:
    """Returns a sentence about test images with near-duplicates, empty if none was found.

    Args:
        audit: the counts of ``NEAR_DUPLICATES``; none where near-duplicates were not checked.
    """
    count, others = (audit.get(name, 0) for name in NEAR_DUPLICATES)
    if not count:
        return ""
    return (
        f"{count:,} {'test image is' if count == 1 else 'test images are'} nearly the same as an "
        f"image in training or validation, {others:,} of another patient."
    )


def leak_warnings(
    audit: Mapping[str, Any],
    split: str,
    config: Mapping[str, Any],
    decision: Mapping[str, Any],
    other: bool = False,
) -> list[str]:
    """Returns a sentence for each reason why the metrics are optimistic.

    Args:
        audit: the part ``audit`` of ``metrics.json``.
        split: name of the evaluated images.
        config: content of the run's ``config.json``.
        decision: fields of the run's decision.
        other: True for other images than the run's, whose patients may have the same names.
    """
    if split == "val":
        chosen = chosen_on_validation(config, decision)
        sentence = f"{chosen} chosen on these images: the metrics are optimistic."
        return [sentence] if chosen else []
    warnings = []
    if count := audit["evaluated_images_seen"]:
        warnings.append(f"{count} of the evaluated images were trained on or validated on.")
    if count := audit["evaluated_images_of_seen_accessions"]:
        patients = audit["evaluated_accessions_seen"]
        warnings.append(
            f"{count} of the evaluated images come from {patients} patients that were trained on "
            "or validated on: these metrics say little about unseen patients."
            if not other
            else f"{count} of the evaluated images carry the names of {patients} patients that "
            "were trained on or validated on: if they are the same patients, these metrics say "
            "little about unseen patients."
        )
    if count := audit["synthetic_test_images"]:
        warnings.append(f"{count} of the test images are synthetic: blends, not photographs.")
    if warning := near_duplicate_warning(audit):
        warnings.append(warning)
    return warnings
