"""Memory of this process, of its devices and of this machine."""

from __future__ import annotations

import ctypes
import importlib.util
import re
import sys
from pathlib import Path

import jax

_MACHINE = Path("/proc/meminfo")
_GROUP = Path("/sys/fs/cgroup")  # version 2 of Linux control groups, seen from inside a container
_LONG_COMPILATION = 0.5  # seconds; shorter ones leave little behind


def peak_bytes() -> int:
    """Returns the largest memory of this process so far in bytes, 0 if it is not known."""
    if importlib.util.find_spec("resource") is None:  # Windows
        return 0
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak  # bytes, and kilobytes on Linux


def peak_device_bytes() -> int:
    """Returns the largest memory of an accelerator so far in bytes, 0 for a CPU."""
    statistics = [device.memory_stats() or {} for device in jax.local_devices()]
    return max(found.get("peak_bytes_in_use", 0) for found in statistics)


def available_bytes(machine: Path = _MACHINE, group: Path = _GROUP) -> int:
    """Returns the memory that this process may still take, in bytes; 0 if it is not known.

    Args:
        machine: file of the Linux kernel with the memory of the machine.
        group: folder of the Linux kernel with the limit of a container.
    """
    try:
        found = re.search(r"^MemAvailable: +(\d+) kB$", machine.read_text(), re.MULTILINE)
    except OSError:  # not Linux
        return 0
    available = 1024 * int(found[1]) if found else 0
    try:
        limit, used = ((group / f"memory.{name}").read_text() for name in ("max", "current"))
        if limit.strip() != "max":
            available = min(available, max(int(limit) - int(used), 0))
    except (OSError, ValueError):  # no container, or version 1
        pass
    return available


def return_after_compilations() -> None:
    """Calls :func:`return_freed` after each compilation of XLA that takes long."""

    def compiled(event: str, duration_secs: float, **_: object) -> None:
        if event.endswith("/backend_compile_duration") and duration_secs > _LONG_COMPILATION:
            return_freed()

    jax.monitoring.register_event_duration_secs_listener(compiled)


def return_freed() -> None:
    """Returns memory that this process has freed to the system; only glibc keeps it.

    After a compilation of the training step this is 0.6 GB or more. It takes less than 0.1 s.
    """
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl has none
        if trim is not None:
            trim(0)


def describe_peak() -> str:
    """Returns the largest memory so far as text, for example ``memory so far 3.1 GB``."""
    parts = [(peak_bytes(), ""), (peak_device_bytes(), " of a device")]
    texts = [f"{size_text(count)}{name}" for count, name in parts if count]
    return f"memory so far {', '.join(texts)}" if texts else "memory not known"


def size_text(count: int) -> str:
    """Returns a number of bytes as text.

    >>> size_text(6_200_000), size_text(3_100_000_000)
    ('6.2 MB', '3.1 GB')
    """
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"
