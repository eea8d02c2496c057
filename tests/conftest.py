"""A finished run of a tiny network on generated images, shared by the tests of the commands."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from filelock import FileLock

from tests.helpers.browser import CHROMIUM, Browser
from tests.helpers.configs import tiny_config
from tests.helpers.datasets import make_records
from tests.helpers.image_trees import make_tree
from tests.helpers.programs import forget_programs

# XLA compiles the tests' own programs with little effort, which halves their time. Commands in
# processes of their own compile as always, and so do the tests marked ``full_optimisation``.
LITTLE_EFFORT = "jax_disable_most_optimizations"


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Names a test by its argument where that is bytes.

    Bytes may differ between two processes of pytest, such as those of an archive, which holds the
    time; both processes must find the same tests.
    """
    return argname if isinstance(val, bytes) else None


def shared_folder(factory: pytest.TempPathFactory) -> Path:
    """The folder of this session that all of its processes share."""
    base = factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


def built_once(factory: pytest.TempPathFactory, name: str, build: Callable[[Path], None]) -> Path:
    """The folder that ``build`` fills, in the first process that asks; the others wait for it."""
    shared = shared_folder(factory)
    folder, unfinished = shared / name, shared / f"{name}.unfinished"
    with FileLock(shared / f"{name}.lock"):
        if not folder.exists():
            shutil.rmtree(unfinished, ignore_errors=True)
            build(unfinished)
            unfinished.rename(folder)
    return folder


@pytest.fixture(scope="session", autouse=True)
def compiled_programs(tmp_path_factory) -> None:
    """A cache of compiled programs for all tests and the commands they start, away from the user's.

    Most tests that train do so with the same network, which XLA then compiles once.
    """
    import jax  # not at the top: pytest's own process, which only hands out tests, does not need it

    cache = shared_folder(tmp_path_factory) / "cache"
    os.environ["SE_RESNET_CACHE"] = str(cache)
    jax.config.update("jax_compilation_cache_dir", str(cache / "xla"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.02)
    jax.config.update(LITTLE_EFFORT, True)


@pytest.fixture(autouse=True)
def optimisation(request) -> Iterator[None]:
    """Compiles as the commands do where a test is marked ``full_optimisation``."""
    if request.node.get_closest_marker("full_optimisation") is None:
        yield
        return
    import jax

    jax.config.update(LITTLE_EFFORT, False)
    forget_programs()
    yield
    jax.config.update(LITTLE_EFFORT, True)
    forget_programs()


@pytest.fixture(scope="session")
def place(tmp_path_factory) -> tuple[Path, Path]:
    """A tree of 10 benign and 14 malignant patients, and a cache folder."""

    def build(folder: Path) -> None:
        make_tree(folder / "tree", make_records(10, 14, images=3).file.tolist())

    root = built_once(tmp_path_factory, "data", build)
    return root / "tree", root / "cache"


@pytest.fixture(scope="session")
def run(place, tmp_path_factory) -> Path:
    """A finished run, which the tests of one process may change.

    It has no input gate, which would withhold the calls for images that tests generate.
    """

    def build(workdir: Path) -> None:
        import train

        config = tiny_config(*place)
        config.profile_steps = (2, 3)
        train.train_and_evaluate(config, workdir)

    workdir = tmp_path_factory.mktemp("runs") / "first"
    shutil.copytree(built_once(tmp_path_factory, "run", build), workdir, symlinks=True)
    (workdir / "input_reference.safetensors").unlink(missing_ok=True)
    return workdir


@pytest.fixture(scope="session")
def gated_run(run, tmp_path_factory) -> Path:
    """The finished run with its input gate, added as to a run of an earlier version."""
    from data.reference.make import make_reference
    from se_resnet.runs.run_folder import RunFolder

    workdir = tmp_path_factory.mktemp("gated") / "first"
    shutil.copytree(run, workdir, symlinks=True)
    make_reference(RunFolder(workdir))
    return workdir


@pytest.fixture(scope="module")
def browser(tmp_path_factory) -> Iterator[Browser]:
    """Chromium with a profile of its own; tests skip where there is none."""
    if CHROMIUM is None:
        pytest.skip("there is no Chromium")
    with Browser(tmp_path_factory.mktemp("profile")) as started:
        yield started
