"""Parses the flags of a command, runs the command and chooses its exit code.

A command defines and parses its flags at the top of its file, before the imports that take seconds,
and runs at the bottom::

    if __name__ == "__main__":
        _WORKDIR = flags.DEFINE(PATH, "workdir", None, "Folder of the run.", required=True)
        parse_flags()

Help and errors in flags then appear at once. The text of ``--help`` is the file's docstring.
"""

from __future__ import annotations

import argparse
import ast
import functools
import inspect
import re
import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn

from absl import app, flags
from ml_collections import ConfigDict

from se_resnet.errors import UserError
from se_resnet.runtime import early_exit, environment, flag_errors, launch, signals
from se_resnet.runtime.config_flag import ConfigFlag
from se_resnet.runtime.interpreter import restart
from se_resnet.runtime.paths import local_path
from se_resnet.runtime.streams import require_written

RESUMES = "the same command resumes from there"
BEGINS_ANEW = "the same command begins anew"


def parse_flags(
    epilogue: Callable[[], str] | None = None,
    config: ConfigFlag | None = None,
    required: tuple[str, ...] = (),
) -> None:
    """Parses the command line. Ends the process after ``--help`` or an error in a flag.

    The text above the flags in ``--help`` is the docstring of the file that was started.

    Args:
        epilogue: returns the text below the flags.
        config: the flag ``--config`` of a command that has a configuration. The process ends here
            if ``--print_config`` is given.
        required: flags that such a command needs for anything else.
    """
    app.define_help_flags()
    for name in ("help", "helpshort", "helpfull", "helpxml"):
        flag: Any = flags.FLAGS[name]
        flag.parse = functools.partial(_show_help, flag.parse, epilogue)
    with _exit_on_user_error():
        parse(sys.argv, config)
        if config and config.is_to_be_printed:
            for note in config.notes:
                print(note, file=sys.stderr)
            print(config.as_json())
            require_written()
            sys.exit(0)
        for name in required:
            if flags.FLAGS[name].value is None:
                raise flag_errors.missing(name, flags.FLAGS)
    launch.set_timeout()
    restart()
    with _exit_on_user_error():
        environment.import_jax()


def run_command(main: Callable[[], None], again: str = BEGINS_ANEW) -> None:
    """Runs ``main``, the work of a command whose flags are parsed, and ends the process.

    The exit code is 0 after success, 2 after a user error, 130 after Ctrl-C and 75 after SIGTERM.
    A user error prints one sentence on standard error. A bug ends with its traceback.

    Args:
        main: the work.
        again: what the same command does after an interruption, for the message.
    """
    from se_resnet.runtime import memory, processes
    from se_resnet.runtime.compilation_cache import keep_compiled_programs

    keep_compiled_programs()
    memory.return_after_compilations()
    with processes.exit_together(), _exit_on_interrupt(again), _exit_on_user_error():
        launch.join()
        environment.require_devices()
        main()


@contextmanager
def exit_on_user_error() -> Iterator[None]:
    """Ends the process with a sentence when the block raises a UserError or is interrupted.

    The exit code is 2 after a user error, 130 after Ctrl-C and 75 after SIGTERM. An error because
    memory, threads or open files ran out is a user error, also after the block.
    """
    with _exit_on_interrupt(BEGINS_ANEW), _exit_on_user_error():
        yield


@contextmanager
def _exit_on_interrupt(again: str) -> Iterator[None]:
    """Ends the process with exit code 130 or 75 when a signal interrupts the block."""
    try:
        with signals.raised():
            early_exit.end()
            yield
    except KeyboardInterrupt as error:
        unfinished = (
            "nothing that was saved is lost"
            if again == RESUMES
            else "results that were not complete are not kept"
        )
        print(f"interrupted: {str(error) or unfinished}; {again}.", file=sys.stderr)
        sys.exit(getattr(error, "exit_code", signals.EXIT_CODES[signal.SIGINT]))


@contextmanager
def _exit_on_user_error() -> Iterator[None]:
    environment.prepare()
    sys.excepthook = _report_shortage
    try:
        yield
        require_written()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def _report_shortage(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    if message := environment.shortage(error):
        print(f"error: {message}", file=sys.stderr)
        sys.exit(2)
    sys.__excepthook__(kind, error, trace)


class _LocalPath(flags.ArgumentParser):
    """Parses the value of a flag that is a path of this machine, see :func:`local_path`."""

    syntactic_help = "a local path"

    def parse(self, argument: str) -> str:
        try:
            return local_path(argument)
        except UserError as error:
            raise ValueError(str(error).rstrip(".")) from error


# The parser of flags that are paths: flags.DEFINE(PATH, "out", None, "Folder for the results.").
PATH = _LocalPath()
# --help lists the flags of the file that was started, and so those that a function here defines.
flags.disclaim_key_flags()


def define_attention_flag() -> flags.FlagHolder[str]:
    """Defines ``--attention``, which allows a command to import the attention module of a run."""
    return flags.DEFINE_string(
        "attention",
        "none",
        "FILE:CLASS of a run that was trained with an attention module from outside this project. "
        "The file is imported, that is, its code runs.",
    )


def path_option(text: str) -> str:
    """Parses the value of an option that is a path, as ``type`` of :class:`ArgumentParser`.

    Empty text is returned as given: the option leaves the choice to the command.
    """
    try:
        return text and local_path(text)
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error).rstrip(".")) from error


def path_argument(text: str) -> Path:
    """Parses the value of an option that is a path to a :class:`~pathlib.Path`."""
    return Path(path_option(text))


class ArgumentParser(argparse.ArgumentParser):
    """Parser for commands without a configuration; an error in an option is a UserError.

    Args:
        prog: the command, as a user types it.
        description: text above the options in ``--help``, shown without changes.
    """

    def __init__(self, prog: str, description: str):
        super().__init__(
            prog=prog,
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def parse_command(self) -> argparse.Namespace:
        """Parses the command line before the imports of :func:`run_command` that take seconds."""
        with _exit_on_user_error():
            return self.parse_args()

    def error(self, message: str) -> NoReturn:
        """Raises a UserError instead of ending the process."""
        raise flag_errors.explained_option(message, self)


def describe_fields(get_config: Callable[[], ConfigDict]) -> str:
    """Returns the fields of a configuration with their comments, written as flags.

    Args:
        get_config: may only set literals and return.
    """
    lines = []
    for line in inspect.getsource(get_config).splitlines():
        part = re.fullmatch(r" +config\.?(\w*) = ConfigDict\(\)(?:  # (.+))?", line)
        field = re.fullmatch(r" +config\.([\w.]+) = (.+?)(  # .+)?", line)
        comment = re.fullmatch(r" +(# .+)", line)
        if part:
            lines += ["", *([f"  # {part[1]}: {part[2]}"] if part[2] else [])]
        elif field and "ConfigDict" not in field[2]:
            value = ast.literal_eval(field[2])
            lines.append(f"  --config.{field[1]}={shlex.quote(str(value))}{field[3] or ''}")
        elif comment:
            lines.append(f"  {comment[1]}")
    return "\n".join(lines)


def _show_help(
    parse: Callable[[object], None], epilogue: Callable[[], str] | None, value: object
) -> None:
    try:
        parse(value)
    except SystemExit:  # absl ends with exit code 1, but asking for help is no error
        if epilogue:
            print(epilogue())
        sys.exit(0)


def parse(argv: list[str], config: ConfigFlag | None) -> None:
    """Parses the flags of a command line, and loads the configuration that it names.

    Raises:
        UserError: a flag or field is unknown, or a value does not fit.
    """
    fields = config.field_names if config else []
    try:
        expanded = flags.FLAGS.read_flags_from_files(argv, force_gnu=False)
        rest, overrides = config.split(expanded) if config else (expanded, [])
        unexpected = flags.FLAGS(rest)[1:]
    except flags.Error as error:
        raise flag_errors.explained(error, argv, flags.FLAGS, fields) from error
    if unexpected:
        raise UserError(f"unexpected argument {unexpected[0]!r}: options start with '--'.")
    if config:
        config.read(overrides)
