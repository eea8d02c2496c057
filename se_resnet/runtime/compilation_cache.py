"""Keeps compiled programs on disk, so that only the first start of a command waits for XLA.

Uses JAX's persistent compilation cache, in the folder ``xla`` of the user's cache. Its keys hold
the program, the versions of JAX and XLA, XLA's flags, the devices and, on a CPU, the
instruction sets. A home folder that machines share is therefore safe.
``JAX_ENABLE_COMPILATION_CACHE=0`` switches the cache off. ``JAX_COMPILATION_CACHE_DIR`` leaves the
cache to JAX's settings.
"""

from __future__ import annotations

import sys
import warnings
from typing import Any

import jax

from se_resnet.errors import UserError
from se_resnet.runtime.file_locks import lock_error
from se_resnet.runtime.files import user_cache_dir, writable_folder

_MAX_BYTES = 2**30  # the step of an SE-ResNet50 takes 1 MB on a CPU; the least recent goes first


def keep_compiled_programs() -> None:
    """Switches the cache on, if the user's cache folder can be used.

    A folder on a file system without locks cannot: JAX would wait 20 seconds for each program.
    """
    settings: Any = jax.config  # its fields are defined at run time
    if settings.jax_compilation_cache_dir or not settings.jax_enable_compilation_cache:
        return
    try:
        folder = user_cache_dir() / "xla"
        writable_folder(folder, "nothing is lost but time")
        if reason := lock_error(folder):
            print(
                f"warning: compiled programs are not kept: the file system of {folder} has no "
                f"locks ({reason}); set SE_RESNET_CACHE to a folder on another file system to "
                "start faster.",
                file=sys.stderr,
            )
            return
    except UserError:
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_compilation_cache_max_size", _MAX_BYTES)
    _ignore_lost_entries()


def _ignore_lost_entries() -> None:
    """Keeps JAX from warning that another process has just removed an entry of the cache.

    The program is then compiled again. Other failures to use the cache are still reported.
    """
    message = r"Error (reading|writing) persistent compilation cache entry .*FileNotFoundError"
    warnings.filterwarnings("ignore", message, UserWarning)
