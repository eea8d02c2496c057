"""Restarts a command with huge pages and UTF-8, which Python reads from the environment at start.

A training step of an SE-ResNet50 with 16 images takes about 2 GB from the operating system and
returns them: 450,000 page faults a step, in each of which the kernel clears and maps 4 kB. With
``glibc.malloc.hugetlb=1`` malloc asks for transparent huge pages of 2 MB. Then 2,000 faults are
enough, and the peak of memory stays the same.

If the locale is not UTF-8, Python encodes file names in another way than the libraries that write
checkpoints and images. Those use UTF-8 always.

A process reads both settings only at its start. A command that was started without them therefore
starts itself again, after its flags are checked.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from se_resnet.runtime import early_exit

SWITCH = "SE_RESNET_HUGE_PAGES"
_VARIABLE = "GLIBC_TUNABLES"
_TUNABLE = "glibc.malloc.hugetlb"
_KERNEL = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def with_huge_pages(environment: Mapping[str, str]) -> dict[str, str]:
    """Returns the environment with huge pages switched on, unless it sets them already."""
    tunables = environment.get(_VARIABLE, "")
    if _TUNABLE in tunables:
        return dict(environment)
    return {**environment, _VARIABLE: f"{tunables}:{_TUNABLE}=1".lstrip(":")}


def with_utf8(environment: Mapping[str, str]) -> dict[str, str]:
    """Returns the environment with UTF-8 file names. A terminal keeps its encoding."""
    shown = f"{sys.stdout.encoding}:backslashreplace"
    return {"PYTHONIOENCODING": shown, **environment, "PYTHONUTF8": "1"}


def restart() -> None:
    """Replaces this process by the same command with huge pages and UTF-8, if it lacks them.

    Huge pages need Linux, glibc and a kernel that gives them on request.
    ``SE_RESNET_HUGE_PAGES=0`` switches them off. A process in a debugger is not replaced, nor a
    process whose ``__main__`` is not the command that was started.
    """
    environment = dict(os.environ)
    if os.environ.get(SWITCH) != "0" and _gives_huge_pages_on_request():
        environment = with_huge_pages(environment)
    if sys.getfilesystemencoding() != "utf-8":
        environment = with_utf8(environment)
    if environment != dict(os.environ) and not sys.gettrace() and _is_started_command():
        early_exit.block()
        try:
            os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)
        except OSError:
            early_exit.unblock()  # the command also runs without


def _gives_huge_pages_on_request() -> bool:
    try:
        return "[madvise]" in _KERNEL.read_text()
    except OSError:
        return False


def _is_started_command() -> bool:
    """Returns whether the interpreter was started with ``sys.argv``, a script or a module."""
    before = len(sys.orig_argv) - len(sys.argv) + 1
    if before < 2 or sys.orig_argv[before:] != sys.argv[1:]:
        return False
    return sys.orig_argv[before - 1] == sys.argv[0] or sys.orig_argv[before - 2] == "-m"
