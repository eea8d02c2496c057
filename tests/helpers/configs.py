"""The configuration of a tiny network, which trains in seconds."""

from __future__ import annotations

from pathlib import Path

from ml_collections import ConfigDict

from configs import smoke


def tiny_config(data_dir: Path, cache_dir: Path) -> ConfigDict:
    config = smoke.get_config()
    config.data.dir = str(data_dir)
    config.data.cache_dir = str(cache_dir)
    config.data.size = (16, 16)
    config.model.stage_sizes = (1, 1)
    config.model.width = 4
    config.batch_size = 8
    config.eval_batch_size = 16
    config.log_every_steps = 3
    return config
