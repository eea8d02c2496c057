"""A finished run of a tiny network on generated images, shared by the tests of the commands."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ml_collections import ConfigDict

from configs import smoke
from tests.datasets import make_records
from tests.image_trees import make_tree


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


@pytest.fixture(scope="session", autouse=True)
def compiled_programs(tmp_path_factory) -> None:
    """A cache of compiled programs for all tests and the commands they start, away from the user's.

    Most tests that train do so with the same network, which XLA then compiles once.
    """
    import jax  # not at the top: pytest's own process, which only hands out tests, does not need it

    base = tmp_path_factory.getbasetemp()
    cache = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "cache"
    os.environ["SE_RESNET_CACHE"] = str(cache)
    jax.config.update("jax_compilation_cache_dir", str(cache / "xla"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)


@pytest.fixture(scope="session")
def place(tmp_path_factory) -> tuple[Path, Path]:
    """A tree of 10 benign and 14 malignant patients, and a cache folder."""
    root = tmp_path_factory.mktemp("data")
    make_tree(root / "tree", make_records(10, 14, images=3).file.tolist())
    return root / "tree", root / "cache"


@pytest.fixture(scope="session")
def run(place, tmp_path_factory) -> Path:
    """A finished run."""
    import train

    workdir = tmp_path_factory.mktemp("runs") / "first"
    config = tiny_config(*place)
    config.profile_steps = (2, 3)
    train.train_and_evaluate(config, workdir)
    return workdir
