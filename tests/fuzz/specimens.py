"""What several targets start from: a finished run of a tiny network."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

from tests.helpers.configs import tiny_config
from tests.helpers.datasets import make_records
from tests.helpers.image_trees import make_tree


def make_run(folder: Path) -> Path:
    """Trains for one epoch on generated images below ``folder``."""
    import train

    make_tree(folder / "tree", make_records(10, 14, images=3).file.tolist())
    config = tiny_config(folder / "tree", folder / "cache")
    config.epochs = 1
    with contextlib.redirect_stdout(io.StringIO()):
        train.train_and_evaluate(config, folder / "run")
    return folder / "run"
