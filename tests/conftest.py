"""A finished run of a tiny network on generated images, shared by the tests of the commands."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.helpers.configs import tiny_config
from tests.helpers.datasets import make_records
from tests.helpers.image_trees import make_tree


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
