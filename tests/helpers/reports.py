"""A report with every section, on generated predictions."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from se_resnet import explain
from se_resnet.images.data_uri import JPEG, data_uri
from se_resnet.metrics import calibration, selective
from se_resnet.metrics.decision import Decision
from se_resnet.metrics.evaluation import evaluate
from se_resnet.metrics.predictions import Predictions
from se_resnet.report import gallery
from se_resnet.report.report import write_report

THRESHOLD = 0.4


def make_predictions(patients: int = 8, images: int = 40, name: str = "{}.png") -> Predictions:
    """Two fifths of the patients are benign; every image's file is ``name`` with its number."""
    rng = np.random.default_rng(0)
    owner = np.arange(images) % patients
    label = (owner >= 0.4 * patients).astype(int)
    accession = np.array([f"14-{10000 + i}" for i in owner])
    return Predictions(
        file=np.array([name.format(i) for i in range(images)]),
        slide=accession,
        accession=accession,
        magnification=np.array([40, 100, 200, 400])[np.arange(images) // patients % 4],
        subtype=np.where(label == 1, np.array(["DC", "PC"])[owner % 2], "PT"),
        label=label,
        probability=np.clip(rng.normal(0.35 + 0.3 * label, 0.25), 0, 1),
    )


def make_gallery(predictions: Predictions) -> list[dict[str, Any]]:
    """Noise in place of pictures."""
    rng = np.random.default_rng(0)
    picture = data_uri(rng.integers(0, 256, (32, 48, 3)).astype(np.uint8), JPEG)
    return [
        {
            "label": group.label,
            "correct": group.correct,
            "total": group.total,
            "pictures": [
                {
                    "file": str(predictions.file[i]),
                    "accession": str(predictions.accession[i]),
                    "magnification": 40,
                    "probability": float(predictions.probability[i]),
                    "image": picture,
                    "overlay": picture,
                }
                for i in group.index
            ],
        }
        for group in gallery.select(predictions, THRESHOLD)
    ]


def make_gates() -> dict[str, list[dict[str, Any]]]:
    rng = np.random.default_rng(0)
    gates = {
        f"stage{stage}/block{block}": rng.normal(1, 0.1 * stage, (6, 8))
        for stage in (1, 2)
        for block in (1, 2, 3)
    }
    label = np.arange(6) % 2
    return {f"{by}s": explain.gate_summary(gates, label, by) for by in ("block", "stage")}


def write_full_report(path: Path, predictions: Predictions, **change: Any) -> None:
    metrics = evaluate(predictions)
    chosen = evaluate(predictions, THRESHOLD)
    decision = Decision("balanced_accuracy", THRESHOLD, 1.5, 0.1, "", 12, 30)
    metrics |= {
        "decisions": [dataclasses.asdict(decision)],
        "decision": dataclasses.asdict(decision),
        "at_chosen_threshold": {part: chosen[part] for part in ("image", "patient")},
        "calibration": calibration.describe(predictions, 1.5)
        | {"reliability": calibration.reliability_curve(predictions)},
        "selective": selective.risk_coverage(predictions),
        "audit": {
            "protocol": "official",
            "shared_images": 0,
            "straddling_accessions": 9,
            "straddling_test_images": 1874,
            "excluded_copies": 60,
        },
        "folds": {
            name: {"mean": 0.91, "sd": 0.02, "values": [0.9, 0.92, None, 0.91, 0.91]}
            for name in ("image_accuracy", "image_roc_auc", "patient_recognition_rate")
        },
    }
    steps = range(10, 500, 10)
    arguments: dict[str, Any] = {
        "title": "breakhis: test images",
        "predictions": predictions,
        "metrics": metrics,
        "split_summary": [
            {"role": role, "class": name, "images": 1234, "slides": 56, "accessions": 7}
            for role in ("train", "val", "test")
            for name in ("benign", "malignant")
        ],
        "training_log": [
            {"step": step, "train/loss": 1 / step, "train/accuracy": 0.9, "val/loss": 2 / step}
            for step in steps
        ],
        "config": {"seed": 0, "data": {"dir": "a/rather/long/path/" * 8}},
        "command": "python eval.py --workdir=runs/breakhis --split=test --data_dir=elsewhere",
        "warnings": ["1,874 of the evaluated images come from patients that were trained on."],
        "notes": ["Every logit is the mean over the views of --tta=dihedral."],
        "data_notes": ["7,909 images, 82 slides, 70 accessions"],
        "gallery": make_gallery(predictions),
        "gates": make_gates(),
    }
    write_report(path, **(arguments | change))
