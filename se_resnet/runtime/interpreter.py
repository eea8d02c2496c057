"""The environment that Python itself reads at its start: huge pages and UTF-8.

A training step of an SE-ResNet50 with 16 images takes some 2 GB from the operating system and
returns them: 450,000 page faults a step, in which the kernel clears and maps 4 kB each. With
``glibc.malloc.hugetlb=1`` malloc asks for transparent huge pages of 2 MB, so that 2,000 faults do,
and the peak of memory stays as it was.

Where the locale is not UTF-8, Python would encode the names of files otherwise than the libraries
that write checkpoints and images do, which know only UTF-8.

Both are read when a process starts, so a command that was started without them starts itself anew,
once its flags are known to be right.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

SWITCH = "SE_RESNET_HUGE_PAGES"
_VARIABLE = "GLIBC_TUNABLES"
_TUNABLE = "glibc.malloc.hugetlb"
_KERNEL = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def with_huge_pages(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment in which malloc asks for huge pages; what it says itself stays."""
    tunables = environment.get(_VARIABLE, "")
    if _TUNABLE in tunables:
        return dict(environment)
    return {**environment, _VARIABLE: f"{tunables}:{_TUNABLE}=1".lstrip(":")}


def with_utf8(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment in which names of files are UTF-8; a terminal keeps its own encoding."""
    shown = f"{sys.stdout.encoding}:backslashreplace"
    return {"PYTHONIOENCODING": shown, **environment, "PYTHONUTF8": "1"}


def restart() -> None:
    """Replaces this process by the same command with huge pages and UTF-8, as it needs them.

    Huge pages are asked for on Linux with glibc, if the kernel gives them to those who ask, unless
    ``SE_RESNET_HUGE_PAGES=0``. Left alone are a process that has what it needs, one in a debugger,
    and one whose ``__main__`` is not the command that was started.
    """
    environment = dict(os.environ)
    if os.environ.get(SWITCH) != "0" and _kernel_waits_to_be_asked():
        environment = with_huge_pages(environment)
    if sys.getfilesystemencoding() != "utf-8":
        environment = with_utf8(environment)
    if environment != dict(os.environ) and not sys.gettrace() and _is_started_command():
        try:
            os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)
        except OSError:
            return  # the command runs as well without


def _kernel_waits_to_be_asked() -> bool:
    try:
        return "[madvise]" in _KERNEL.read_text()
    except OSError:
        return False


def _is_started_command() -> bool:
    """Whether ``sys.argv`` is what the interpreter was started with, as a script or a module."""
    before = len(sys.orig_argv) - len(sys.argv) + 1
    if before < 2 or sys.orig_argv[before:] != sys.argv[1:]:
        return False
    return sys.orig_argv[before - 1] == sys.argv[0] or sys.orig_argv[before - 2] == "-m"
