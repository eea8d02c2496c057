"""The settings of JAX and XLA that change numbers: recorded once for a run, and kept."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import jax

from se_resnet.errors import UserError
from se_resnet.runtime.files import read_json, write_json

_OPTIONS = (
    "jax_enable_x64",
    "jax_default_matmul_precision",
    "jax_numpy_dtype_promotion",
    "jax_default_prng_impl",
    "jax_threefry_partitionable",
    "jax_random_seed_offset",
    "jax_disable_jit",
)
_VARIABLES = ("NVIDIA_TF32_OVERRIDE", "TF32_OVERRIDE", "LIBTPU_INIT_ARGS")
# Flags of XLA that say where, how long or how loudly it works.
_HARMLESS = re.compile(
    r"--xla_(dump\w*|force_host_platform_device_count|gpu_cuda_data_dir|\w*timeout\w*|hlo_profile"
    r"|gpu_force_compilation_parallelism|gpu_per_fusion_autotune_cache_dir)(=.*)?"
)


def settings() -> dict[str, Any]:
    """Returns the settings in force, by the name that a user knows them by."""
    found: dict[str, Any] = {name: getattr(jax.config, name, None) for name in _OPTIONS}
    found = {name: getattr(value, "value", value) for name, value in found.items()}
    found |= {name: os.environ.get(name) for name in _VARIABLES}
    flags = os.environ.get("XLA_FLAGS", "").split()
    return {**found, "XLA_FLAGS": sorted(flag for flag in flags if not _HARMLESS.fullmatch(flag))}


def keep(path: Path, begun: bool) -> None:
    """Records the settings in a file, or checks that the run resumes with its own.

    Args:
        path: of the file.
        begun: whether the run has saved a state. A run from before the file existed gets it now.

    Raises:
        UserError: a setting differs from the recorded one, or the file cannot be read.
    """
    now = settings()
    if not (begun and path.exists()):
        write_json(path, now)
        return
    try:
        recorded = read_json(path, dict)
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path} cannot be read ({error}): restore it, or choose another --workdir."
        ) from error
    run = path.parent
    for name in sorted({*recorded, *now}):
        if recorded.get(name) != now.get(name):
            raise UserError(
                f"the run in {run} began with {name} = {recorded.get(name)!r}, but now it is "
                f"{now.get(name)!r}, which changes the numbers: set it alike, or choose another "
                "--workdir."
            )
