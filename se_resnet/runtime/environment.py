"""What the environment may decide: not the numbers, and not whether a command starts.

The libraries read several hundred environment variables. A command keeps those that say where to
compute and what to log, and drops those that change what JAX computes: two runs of one
configuration must not differ by what a shell happened to export. Variables that choose a precision
on purpose are kept, and :mod:`se_resnet.runtime.numerics` records them.
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

from se_resnet.errors import UserError
from se_resnet.runtime import streams

# What JAX reads: the name of each of its options, in capitals.
_READ = re.compile(r"JAX_|EAGER_CONSTANT_FOLDING$|CHECK_VMA$")
# Of these, those that do not change what is computed, or are recorded.
_KEPT = re.compile(
    r"JAX_(PLATFORMS|PLATFORM_NAME|(CUDA|ROCM)_VISIBLE_DEVICES|NUM_CPU_DEVICES|LOCAL_DEVICE_IDS"
    r"|COORDINATOR_\w+|NUM_PROCESSES|PROCESS_ID|CPU_COLLECTIVES_IMPLEMENTATION"
    r"|ENABLE_COMPILATION_CACHE|COMPILATION_CACHE_\w+|\w*PERSISTENT_CACHE_\w+"
    r"|LOG\w*|DEBUG_LOG_MODULES|EXPLAIN_CACHE_MISSES|TRACEBACK_\w+|DUMP_IR_\w+|DISTRIBUTED_DEBUG"
    r"|DEFAULT_MATMUL_PRECISION)"
)
_XLA_FLAGS = "XLA_FLAGS"
_STARTED_XLA = "from jaxlib import xla_client; xla_client.make_cpu_client()"
# Sizes of images that OpenCV reads when it is imported. It aborts where one is no number.
_OPENCV_LIMITS = "OPENCV_IO_MAX_IMAGE_"
_ENOUGH_BYTES = 8 * 2**30


def prepare() -> None:
    """Settles what the libraries will read; to be called before they are imported."""
    streams.settle()
    dropped = [name for name in os.environ if _READ.match(name) and not _KEPT.fullmatch(name)]
    dropped += [
        name
        for name, value in os.environ.items()
        if name.startswith(_OPENCV_LIMITS) and not (value.isascii() and value.isdecimal())
    ]
    for name in sorted(dropped):
        print(
            f"warning: the environment variable {name}={os.environ.pop(name)} is not used: "
            + (
                "it is no number."
                if name.startswith(_OPENCV_LIMITS)
                else "a run must not depend on it."
            ),
            file=sys.stderr,
        )
    # A notebook's own backend cannot be imported outside it, and none is needed to draw files.
    os.environ["MPLBACKEND"] = "agg"
    if any("error" in option for option in sys.warnoptions):  # the libraries warn at their import
        warnings.resetwarnings()


def import_jax() -> None:
    """Imports JAX, and warns where it may lack memory, because it then ends without a sentence.

    Raises:
        UserError: an environment variable has a value that JAX does not know.
    """
    if (limit := _address_space()) < _ENOUGH_BYTES:
        print(
            f"warning: this shell allows {limit / 2**30:.1f} GiB of memory (ulimit -v), of which "
            "JAX reserves more than it uses: allow more if the command is aborted.",
            file=sys.stderr,
        )
    _try_xla_flags()
    try:
        import jax  # noqa: F401
    except ValueError as error:
        raise UserError(
            f"JAX cannot be imported ({_sentence(error)}): unset or correct the environment "
            f"variable{_among('JAX_')}."
        ) from error


def require_devices() -> None:
    """Starts JAX's backend.

    Raises:
        UserError: there is no device as the environment asks for.
    """
    import jax

    try:
        jax.devices()
    except (RuntimeError, AssertionError, ValueError) as error:
        raise UserError(
            f"JAX finds no device to compute on ({_sentence(error) or type(error).__name__}): "
            "install jax for that device and its driver, or unset the environment variable"
            f"{_among('JAX_PLATFORMS', 'JAX_PLATFORM_NAME', 'CUDA_VISIBLE_DEVICES', 'XLA_FLAGS')}."
        ) from error


def shortage(error: BaseException) -> str:
    """Returns a sentence on what the operating system did not give, or an empty string.

    Limits on memory, threads and open files make libraries fail in many places, also while they
    are imported.
    """
    told, number = str(error), getattr(error, "errno", None)
    if (
        isinstance(error, MemoryError)
        or number == errno.ENOMEM
        or re.search("RESOURCE_EXHAUSTED|annot allocate memory|failed to map segment", told)
    ):
        missing = "memory ran out", "lower config.batch_size and eval_batch_size, or allow more"
    elif "can't start new thread" in told or number == errno.EAGAIN:
        missing = "no more threads or processes may be started", "allow more (ulimit -u)"
    elif number in (errno.EMFILE, errno.ENFILE):
        missing = "no more files may be opened", "allow more (ulimit -n)"
    else:
        return ""
    return f"{missing[0]} ({_sentence(error) or type(error).__name__}): {missing[1]}."


def _try_xla_flags() -> None:
    """Lets another process read XLA's flags, because XLA ends the one that has an unknown flag."""
    if not os.environ.get(_XLA_FLAGS):
        return
    try:
        tried = subprocess.run(
            [sys.executable, "-c", _STARTED_XLA],
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=60,
        )
    except (OSError, subprocess.SubprocessError):
        return  # then this process will see
    if tried.returncode and (told := re.search(rf"\] (.*{_XLA_FLAGS}.*)", tried.stderr)):
        raise UserError(
            f"XLA cannot start ({told[1][:200].rstrip('.')}): correct or unset the environment "
            f"variable {_XLA_FLAGS}."
        )


def _address_space() -> float:
    """The limit in bytes, infinite where there is none."""
    if importlib.util.find_spec("resource") is None:  # Windows
        return math.inf
    import resource

    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return math.inf if limit == resource.RLIM_INFINITY else limit


def _among(*prefixes: str) -> str:
    """The variables that are set and begin with one of the prefixes, with their values."""
    found = [
        f"{name}={os.environ[name]}" for name in sorted(os.environ) if name.startswith(prefixes)
    ]
    return " " + ", ".join(found) if found else ""


def _sentence(error: BaseException) -> str:
    return " ".join(str(error).split())[:200].rstrip(".")
