"""Huge pages for a process that trains or predicts on a CPU.

A training step of an SE-ResNet50 with 16 images takes some 2 GB from the operating system and
returns them: 450,000 page faults a step, in which the kernel clears and maps 4 kB each. With
``glibc.malloc.hugetlb=1`` malloc asks for transparent huge pages of 2 MB, so that 2,000 faults do,
and the peak of memory stays as it was. glibc reads the setting when a process starts, so a command
that was started without it starts itself anew, once its flags are known to be right.
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


def restart_with_huge_pages() -> None:
    """Replaces this process by the same command with huge pages, where that changes something.

    It does on Linux with glibc, if the kernel gives huge pages to those who ask. Left alone are a
    process that has the setting, one in a debugger, one whose ``__main__`` is not the command that
    was started, and all where ``SE_RESNET_HUGE_PAGES=0``.
    """
    environment = with_huge_pages(os.environ)
    wanted = os.environ.get(SWITCH) != "0" and environment != dict(os.environ)
    if wanted and _kernel_waits_to_be_asked() and not sys.gettrace() and _is_started_command():
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
