"""The configuration of a tiny measurement by :mod:`benchmarks.frozen_stages`."""

from __future__ import annotations

import argparse

from ml_collections import ConfigDict

from benchmarks import frozen_stages

TINY = {"stage_sizes": (1, 1, 1, 1), "width": 8}


def last_stage_config() -> ConfigDict:
    """Two folds of the sample, trained for two epochs from new weights."""
    config = frozen_stages.make_config(
        argparse.Namespace(data_dir="sample", size=32, folds=2, epochs=2, batch_size=8)
    )
    config.model.pretrained = "none"
    config.model.update(TINY)
    return config
