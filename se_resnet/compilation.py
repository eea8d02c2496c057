"""Compiled programs kept on disk, so that only the first start of a command waits for XLA.

JAX's persistent compilation cache, in the folder ``xla`` of the user's cache. Its keys hold the
program, the versions of JAX and XLA, XLA's flags, the devices and, on a CPU, the instruction sets:
a home directory that machines share is safe. ``JAX_ENABLE_COMPILATION_CACHE=0`` switches it off;
where ``JAX_COMPILATION_CACHE_DIR`` is set, JAX's own settings rule.
"""

from __future__ import annotations

from typing import Any

import jax

from se_resnet.errors import UserError
from se_resnet.files import user_cache_dir, writable_folder

_MAX_BYTES = 2**30  # the step of an SE-ResNet50 takes 1 MB on a CPU; the least recent goes first


def keep_compiled_programs() -> None:
    """Switches the cache on; where its folder cannot be written, programs are compiled anew."""
    settings: Any = jax.config  # its fields are made at run time
    if settings.jax_compilation_cache_dir or not settings.jax_enable_compilation_cache:
        return
    folder = user_cache_dir() / "xla"
    try:
        writable_folder(folder, "nothing is lost but time")
    except UserError:
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_compilation_cache_max_size", _MAX_BYTES)
