"""Versions of the software and the hardware of a run, recorded at every start."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import jax

from se_resnet.runtime.files import read_json, write_json
from se_resnet.runtime.version import __version__

# Packages whose version can change the numbers of a run.
_PACKAGES = (
    "flax",
    "imbalanced-learn",
    "jax",
    "jaxlib",
    "numpy",
    "opencv-python-headless",
    "optax",
    "scikit-learn",
    "scipy",
)
# The form of a start, see se_resnet.runtime.schema.
START_FORM = {
    "step": int,
    "python": str,
    "packages": {str: str},
    "system": str,
    "cpus": int,
    "devices": [str],
}
FORM = {"starts": [START_FORM]}


def describe(step: int) -> dict[str, Any]:
    """Returns the versions and the devices of this process, of the form ``START_FORM``.

    Args:
        step: the training step from which this process trains; 0 at the first start.
    """
    devices = Counter(device.device_kind for device in jax.devices())
    return {
        "step": step,
        "python": platform.python_version(),
        "packages": {name: version for name in _PACKAGES if (version := _version(name))}
        | {"se-resnet": __version__},
        "system": f"{platform.system()} {platform.machine()}",
        "cpus": os.cpu_count() or 0,
        "devices": [f"{count} x {kind}" for kind, count in sorted(devices.items())],
    }


def keep(path: Path, step: int) -> None:
    """Adds the facts of this start to a file, unless they equal those of the last start.

    A file that cannot be read is replaced: it describes the run and does not change its numbers.

    Args:
        path: of the file.
        step: the training step from which this process trains.
    """
    try:
        starts = read_json(path, FORM)["starts"] if step else []
    except (OSError, ValueError):
        starts = []
    start = describe(step)
    if not starts or {**starts[-1], "step": step} != start:
        write_json(path, {"starts": [*starts, start]})


def commit() -> str:
    """Returns the commit of the repository that holds this project.

    The hash is followed by ``with changes`` if a tracked file differs from the commit. The text is
    empty if the project does not lie in a Git repository of its own, as after an installation, or
    if git is not available.
    """
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return ""
    head = _git(root, "rev-parse", "HEAD")
    changed = _git(root, "status", "--porcelain", "--untracked-files=no")
    return head and head + (" with changes" if changed else "")


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "--no-optional-locks", "-C", str(root), *arguments]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError, UnicodeError):
        return ""
    return found.stdout.strip()


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""
