"""Explains errors in flags without the terms of Python and absl."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence

from absl import flags

from se_resnet.errors import UserError, one_line
from se_resnet.runtime import config_form

_HELP = "(--help lists the flags)"
_CHOICES = re.compile(r"value should be one of <(.*)>")


def missing(name: str, values: flags.FlagValues) -> UserError:
    """Returns the error for a flag that a command needs and that is not given."""
    text = (values[name].help or "").rstrip(".")
    text = text[:1].lower() + text[1:]
    return UserError(f"--{name} is missing: give --{name}=VALUE, {text} {_HELP}.")


def explained(
    error: flags.Error, argv: Sequence[str], values: flags.FlagValues, fields: Iterable[str]
) -> UserError:
    """Returns a sentence for an error that absl found in the flags.

    Args:
        error: the error.
        argv: the command line.
        values: the defined flags.
        fields: names of the fields and sections of the configuration; empty for a command without.
    """
    message = str(error).strip().splitlines()[-1]
    if isinstance(error, flags.UnrecognizedFlagError):
        return _unknown(error.flagname, argv, values, list(fields))
    if needed := re.match(r"flag --(\w+)=None: .* must have a value", message):
        return missing(needed[1], values)
    if needed := re.match(r"Missing value for flag --(\w+)", message):
        return missing(needed[1], values)
    given = re.match(r"flag --(\w+)=", message)
    cause = error.__context__
    if given and given[1] in values and isinstance(cause, (ValueError, TypeError)):
        value = _value(given[1], argv)
        return UserError(f"--{given[1]}={value}: {_wanted(values[given[1]], cause)} {_HELP}.")
    return UserError(f"{message.rstrip('.')} {_HELP}.")


def _unknown(
    name: str, argv: Sequence[str], values: flags.FlagValues, fields: Sequence[str]
) -> UserError:
    field = config_form.hint(name, fields, "--config.")
    same_word = any(known.rpartition(".")[2] == name for known in fields)
    alike = difflib.get_close_matches(name, list(values), 1, 0.7)
    if alike and not same_word:
        question = f"did you mean --{alike[0]}?"
    elif field:
        value = _value(name, argv)
        question = field.replace("?", f"={value}?" if value else "?")
    else:
        question = "--help lists the flags."
    return UserError(f"--{name} is not a flag of this command: {question}")


def _value(name: str, argv: Sequence[str]) -> str:
    """Returns the value that a command line gives to a flag, shortened; empty without a value."""
    for index, argument in enumerate(argv):
        flag, equals, value = argument.partition("=")
        if flag.lstrip("-") == name and flag.startswith("-"):
            following = argv[index + 1 : index + 2]
            separate = following[0] if following and not following[0].startswith("--") else ""
            return (value if equals else separate)[:60]
    return ""


def _wanted(flag: flags.Flag, cause: BaseException) -> str:
    """Returns what a flag must be given."""
    if choices := _CHOICES.search(str(cause)):
        return f"choose from {choices[1].replace('|', ', ')}"
    if isinstance(flag.parser, flags.BooleanParser):
        return "give true or false"
    if isinstance(flag.parser, (flags.IntegerParser, flags.FloatParser)):
        number = flag.parser.syntactic_help.replace("an integer", "a whole number")
        return f"give {number.replace('integer', 'whole number')}"
    return one_line(cause, 400)
