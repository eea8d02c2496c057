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
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn

from absl import app, flags
from ml_collections import ConfigDict

from se_resnet.errors import UserError
from se_resnet.runtime import environment, launch, signals
from se_resnet.runtime.interpreter import restart
from se_resnet.runtime.paths import local_path
from se_resnet.runtime.streams import require_written


def parse_flags(epilogue: Callable[[], str] | None = None) -> None:
    """Parses the command line. Ends the process after ``--help`` or an error in a flag.

    The text above the flags in ``--help`` is the docstring of the file that was started.

    Args:
        epilogue: returns the text below the flags.
    """
    app.define_help_flags()
    for name in ("help", "helpshort", "helpfull", "helpxml"):
        flag: Any = flags.FLAGS[name]
        flag.parse = functools.partial(_show_help, flag.parse, epilogue)
    with exit_on_user_error():
        _expand_config(sys.argv)
        _parse(sys.argv)
    launch.set_timeout()
    restart()
    with exit_on_user_error():
        environment.import_jax()


def run_command(main: Callable[[], None]) -> None:
    """Runs ``main``, the work of a command whose flags are parsed, and ends the process.

    The exit code is 0 after success, 2 after a user error, 130 after Ctrl-C and 75 after SIGTERM.
    A user error prints one sentence on standard error. A bug ends with its traceback.
    """
    from se_resnet.runtime import processes
    from se_resnet.runtime.compilation_cache import keep_compiled_programs

    keep_compiled_programs()
    with processes.exit_together():
        try:
            with signals.raised(), exit_on_user_error():
                launch.join()
                environment.require_devices()
                main()
        except KeyboardInterrupt as error:
            progress = str(error) or "nothing that was saved is lost"
            print(f"interrupted: {progress}; the same command resumes from there.", file=sys.stderr)
            sys.exit(getattr(error, "exit_code", signals.EXIT_CODES[signal.SIGINT]))


@contextmanager
def exit_on_user_error() -> Iterator[None]:
    """Ends the process with exit code 2 and one sentence when the block raises a UserError.

    An error because memory, threads or open files ran out ends the process in the same way, also
    after the block.
    """
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

    def error(self, message: str) -> NoReturn:
        """Raises a UserError instead of ending the process."""
        raise UserError(f"{message} (--help lists the options).")


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


def _expand_config(argv: list[str]) -> None:
    """Expands the path of the flag ``--config``, whose parser does not."""
    for index, argument in enumerate(argv):
        name, given, path = argument.partition("=")
        if given and name.lstrip("-") == "config":
            argv[index] = f"{name}={local_path(path, '--config =')}"


def _parse(argv: list[str]) -> None:
    for argument in argv[1:]:
        name = re.match(r"--?config\.([^=]*)", argument)
        if name and not re.fullmatch(r"(?!\d)\w+(\.(?!\d)\w+|\[\d{1,6}\])*", name[1]):
            raise UserError(
                f"{argument.split('=')[0]!r} is not a field of the configuration: write "
                "--config.FIELD=VALUE."
            )
    try:
        rest = flags.FLAGS(argv)[1:]
    except flags.Error as error:
        message = str(error).strip().splitlines()[-1]
        raise UserError(f"{message} (--help lists the flags)") from error
    except (AttributeError, KeyError, TypeError, IndexError) as error:
        frames = traceback.extract_tb(error.__traceback__)
        if not any(Path(frame.filename).name == "config_path.py" for frame in frames):
            raise  # a bug in the config file
        # ml_collections names the last part of the path only, and the field it resembles.
        key = (re.findall(r"\w+", str(error.args[0])) or [""])[0]
        names = [arg.split("=")[0] for arg in argv if re.match(r"--?config\.", arg)]
        given = next((name for name in names if f".{key}" in name), " or ".join(names))
        hint = re.search(r'Did you mean "(\w+)"', str(error))
        raise UserError(
            f"{given} is not a field of the configuration: "
            + (f"did you mean {hint[1]}?" if hint else "the config file lists the fields.")
        ) from error
    except OSError as error:
        raise _missing_config(argv) from error
    if rest:
        raise UserError(f"unexpected argument {rest[0]!r}: options start with '--'.")


def read_config(value: ConfigDict | None) -> ConfigDict:
    """Returns the loaded value of the ``--config`` flag, locked.

    Raises:
        UserError: the flag was not given, or its file does not exist.
    """
    if value is None:
        raise UserError("--config is missing: give a file, for example configs/quickstart.py.")
    try:
        value.lock()
    except OSError as error:  # what ml_collections raises at the first use of a missing file
        raise _missing_config(sys.argv) from error
    return value


def _missing_config(argv: list[str]) -> UserError:
    # The value of a flag that could not be parsed stands only in the command line.
    path = re.search(r"--?config[= ](\S+)", " ".join(argv))
    return UserError(
        f"the config file {path[1] if path else ''} does not exist: see the folder configs."
    )
