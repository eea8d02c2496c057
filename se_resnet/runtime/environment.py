"""Removes environment variables that would change results, and explains limits of the system.

The libraries read several hundred environment variables. A command keeps variables that choose
devices or logging. It drops variables that change the computation, so that two runs of one
configuration do not differ because of the shell. Variables that choose a precision are kept, and
:mod:`se_resnet.runtime.numerics` records them.
"""

from __future__ import annotations

import errno
import importlib.util
import math
import os
import re
import subprocess
import sys
import warnings

from se_resnet.errors import UserError, one_line
from se_resnet.runtime import streams

# The variables that JAX reads: the name of each of its options, in capitals.
_JAX_VARIABLES = re.compile(r"JAX_|EAGER_CONSTANT_FOLDING$|CHECK_VMA$")
# Of these, the variables that do not change results or that are recorded.
_KEPT = re.compile(
    r"JAX_(PLATFORMS|PLATFORM_NAME|(CUDA|ROCM)_VISIBLE_DEVICES|NUM_CPU_DEVICES|LOCAL_DEVICE_IDS"
    r"|COORDINATOR_\w+|NUM_PROCESSES|PROCESS_ID|CPU_COLLECTIVES_IMPLEMENTATION"
    r"|ENABLE_COMPILATION_CACHE|COMPILATION_CACHE_\w+|\w*PERSISTENT_CACHE_\w+"
    r"|LOG\w*|DEBUG_LOG_MODULES|EXPLAIN_CACHE_MISSES|TRACEBACK_\w+|DUMP_IR_\w+|DISTRIBUTED_DEBUG"
    r"|DEFAULT_MATMUL_PRECISION)"
)
_XLA_FLAGS = "XLA_FLAGS"
_DEVICE_VARIABLES = ("JAX_PLATFORMS", "JAX_PLATFORM_NAME", "CUDA_VISIBLE_DEVICES", _XLA_FLAGS)
_STARTED_XLA = "from jaxlib import xla_client; xla_client.make_cpu_client()"
# Limits of image size that OpenCV reads at its import. It aborts if a limit is not a number.
_OPENCV_LIMITS = "OPENCV_IO_MAX_IMAGE_"
_ENOUGH_BYTES = 8 * 2**30


def prepare() -> None:
    """Prepares the environment for the libraries; to be called before they are imported."""
    streams.make_safe()
    dropped = [
        name for name in os.environ if _JAX_VARIABLES.match(name) and not _KEPT.fullmatch(name)
    ]
    dropped += [
        name
        for name, value in os.environ.items()
        if name.startswith(_OPENCV_LIMITS) and not (value.isascii() and value.isdecimal())
    ]
    for name in sorted(dropped):
        print(
            f"warning: the environment variable {name}={os.environ.pop(name)} is not used: "
            + (
                "it is not a number."
                if name.startswith(_OPENCV_LIMITS)
                else "a run must not depend on it."
            ),
            file=sys.stderr,
        )
    # The backend of a notebook cannot be imported elsewhere. Files need no backend.
    os.environ["MPLBACKEND"] = "agg"
    if any("error" in option for option in sys.warnoptions):  # the libraries warn at import
        warnings.resetwarnings()


def import_jax() -> None:
    """Imports JAX. Warns if memory may be too small, because JAX then ends without a message.

    Raises:
        UserError: JAX does not know the value of an environment variable.
    """
    if (limit := _address_space()) < _ENOUGH_BYTES:
        print(
            f"warning: this shell allows {limit / 2**30:.1f} GiB of memory (ulimit -v), and JAX "
            "reserves more than it uses: allow more if the command is aborted.",
            file=sys.stderr,
        )
    _try_xla_flags()
    try:
        import jax  # noqa: F401
    except ValueError as error:
        raise UserError(
            f"JAX cannot be imported ({one_line(error)}): unset or correct the environment "
            f"variable{_set_variables('JAX_')}."
        ) from error


def require_devices() -> None:
    """Starts JAX's backend.

    Raises:
        UserError: the device that the environment asks for does not exist.
    """
    import jax

    try:
        jax.devices()
    except (RuntimeError, AssertionError, ValueError) as error:
        raise UserError(
            f"JAX finds no device to compute on ({one_line(error)}): "
            "install jax for that device (the extra cuda12 or cuda13 of this project) and its "
            "driver, or unset the environment variable"
            f"{_set_variables(*_DEVICE_VARIABLES)}."
        ) from error


def shortage(error: BaseException) -> str:
    """Returns a message if the error is a shortage of memory, threads or files, else nothing.

    Limits of the operating system make libraries fail in many places, also while they are
    imported.
    """
    message, number = str(error), getattr(error, "errno", None)
    if (
        isinstance(error, MemoryError)
        or number == errno.ENOMEM
        or re.search("RESOURCE_EXHAUSTED|annot allocate memory|failed to map segment", message)
    ):
        problem, remedy = (
            "memory ran out",
            "lower config.batch_size and eval_batch_size, or allow more",
        )
    elif "can't start new thread" in message or number == errno.EAGAIN:
        problem, remedy = "no more threads or processes may be started", "allow more (ulimit -u)"
    elif number in (errno.EMFILE, errno.ENFILE):
        problem, remedy = "no more files may be opened", "allow more (ulimit -n)"
    else:
        return ""
    return f"{problem} ({one_line(error)}): {remedy}."


def _try_xla_flags() -> None:
    """Tries ``$XLA_FLAGS`` in another process, because an unknown flag ends the process."""
    if not os.environ.get(_XLA_FLAGS):
        return
    try:
        trial = subprocess.run(
            [sys.executable, "-c", _STARTED_XLA],
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=60,
        )
    except (OSError, subprocess.SubprocessError):
        return  # this process will find out
    if trial.returncode and (message := re.search(rf"\] (.*{_XLA_FLAGS}.*)", trial.stderr)):
        raise UserError(
            f"XLA cannot start ({message[1][:200].rstrip('.')}): correct or unset the environment "
            f"variable {_XLA_FLAGS}."
        )


def _address_space() -> float:
    """Returns the limit of the address space in bytes, infinite without a limit."""
    if importlib.util.find_spec("resource") is None:  # Windows
        return math.inf
    import resource

    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return math.inf if limit == resource.RLIM_INFINITY else limit


def _set_variables(*prefixes: str) -> str:
    """Returns the variables that are set and begin with a prefix, with their values."""
    found = [
        f"{name}={os.environ[name]}" for name in sorted(os.environ) if name.startswith(prefixes)
    ]
    return " " + ", ".join(found) if found else ""
