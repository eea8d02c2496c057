"""Predictions by hand and simulated ones."""

from __future__ import annotations

import numpy as np

from se_resnet.metrics.predictions import Predictions


def make(accession, label, probability, magnification=200):
    label = np.asarray(label)
    count = len(label)
    return Predictions(
        file=np.array([f"{i}.png" for i in range(count)], dtype=np.str_),
        slide=np.array([f"slide-{name}" for name in accession], dtype=np.str_),
        accession=np.asarray(accession, dtype=np.str_),
        magnification=np.broadcast_to(magnification, (count,)).astype(np.int64),
        subtype=np.where(label == 1, "DC", "A"),
        label=label.astype(np.int64),
        probability=np.asarray(probability, dtype=np.float64),
    )


def simulate(images=600, accessions=20, seed=0, decimals=2, benign_share=0.4):
    """Patients with effects of their own; rounded probabilities, so that many are tied."""
    rng = np.random.default_rng(seed)
    owner = np.concatenate(
        [np.arange(accessions), rng.integers(0, accessions, images - accessions)]
    )
    label = (np.arange(accessions) >= benign_share * accessions).astype(int)[owner]
    logit = 2 * (label - 0.4) + rng.normal(0, 1, accessions)[owner] + rng.normal(0, 1, images)
    return make(
        [f"14-{i:05d}" for i in owner],
        label,
        np.round(1 / (1 + np.exp(-logit)), decimals),
        rng.choice([40, 100, 200, 400], images),
    )
