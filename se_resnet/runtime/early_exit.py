"""Ends a command that is interrupted before its work begins, at once and with one line.

The imports of a command take seconds. A KeyboardInterrupt that is raised while a library written in
C++ is imported can end in a traceback, an abort or a segmentation fault. Until the work begins,
Ctrl-C therefore ends the process without an exception. Nothing can be lost, because nothing has
begun.

Imports only the standard library. :mod:`se_resnet` calls :func:`begin` before all other imports.
"""

from __future__ import annotations

import _signal as signal  # the module signal would import enum, which takes longer than all else
import os
import sys

EXIT_CODE = 130
_PACKAGES = ("se_resnet", "data", "benchmarks")
_SCRIPTS = ("train.py", "eval.py")
_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
_MESSAGE = b"interrupted: the command had not begun its work; give the same command again.\n"


def begin() -> None:
    """Lets Ctrl-C end the process at once, if Python was started for a command of this project.

    Does nothing in a program that imports the project, nor if Ctrl-C is ignored, as in a job in
    the background.
    """
    if not _is_command() or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        return
    try:
        signal.signal(signal.SIGINT, _end)
    except ValueError:  # not in the main thread
        return
    unblock()


def end() -> None:
    """Lets Ctrl-C raise KeyboardInterrupt again, because the work of the command begins."""
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def block() -> None:
    """Holds Ctrl-C back while this process is replaced, until :func:`begin` of its successor."""
    if signal.getsignal(signal.SIGINT) is _end:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})


def unblock() -> None:
    """Delivers a Ctrl-C that :func:`block` has held back."""
    if hasattr(signal, "pthread_sigmask"):  # not on Windows
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def _end(_signum: int, _frame: object) -> None:
    os.write(2, _MESSAGE)
    os._exit(EXIT_CODE)


def _is_command() -> bool:
    """Returns whether the interpreter was started with a script or a module of the project."""
    if sys.argv[:1] == ["-m"]:  # Python imports the packages of a module before the module
        modules = [sys.orig_argv[i + 1] for i, arg in enumerate(sys.orig_argv[:-1]) if arg == "-m"]
        return bool(modules) and modules[0].partition(".")[0] in _PACKAGES
    script = os.path.realpath(getattr(sys.modules.get("__main__"), "__file__", None) or "")
    return script in [os.path.join(_ROOT, name) for name in _SCRIPTS]
