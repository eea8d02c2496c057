"""Explains errors in flags and options without the terms of Python, absl and argparse."""

from __future__ import annotations

import argparse
import difflib
import re
from collections.abc import Callable, Iterable, Sequence

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


def explained_option(message: str, parser: argparse.ArgumentParser) -> UserError:
    """Returns a sentence for an error that argparse found in the options.

    Args:
        message: the message of argparse.
        parser: of the command.
    """
    for pattern, explain in _OPTION_ERRORS:
        if found := re.fullmatch(pattern, message, re.DOTALL):
            return UserError(f"{explain(found, parser)} (--help lists the options).")
    return UserError(f"{message.removeprefix('argument ').rstrip('.')} (--help lists the options).")


def _missing_options(found: re.Match, parser: argparse.ArgumentParser) -> str:
    names = found[1].split(", ")
    if len(names) > 1:
        return f"{', '.join(names[:-1])} and {names[-1]} are missing: give them"
    value = f"{names[0]}=VALUE" if names[0].startswith("-") else names[0]
    help_text = next((a.help for a in parser._actions if names[0] in _names(a)), None) or ""
    return f"{names[0]} is missing: give {value}, {help_text.replace('%%', '%')}".rstrip("., ")


def _names(action: argparse.Action) -> Sequence[str]:
    """Returns the names under which argparse reports a missing option."""
    return action.option_strings or (str(action.metavar or action.dest),)


def _wrong_choice(found: re.Match, _parser: argparse.ArgumentParser) -> str:
    choices = ", ".join(choice.strip().strip("'") for choice in found[3].split(","))
    return f"{found[1]} = {found[2]} is not possible: choose from {choices}"


def _unknown_option(found: re.Match, parser: argparse.ArgumentParser) -> str:
    name = found[1].split()[0]
    if not name.startswith("-"):
        return f"unexpected argument {name!r}: give it as the value of an option"
    known = [option for action in parser._actions for option in action.option_strings]
    alike = difflib.get_close_matches(name.partition("=")[0], known, 1, 0.7)
    hint = f": did you mean {alike[0]}?" if alike else ""
    return f"{name.partition('=')[0]} is not an option of this command{hint}"


# Messages of argparse, and the sentences in their place.
_OPTION_ERRORS: tuple[tuple[str, Callable[[re.Match, argparse.ArgumentParser], str]], ...] = (
    (r"the following arguments are required: (.*)", _missing_options),
    (
        r"one of the arguments (.*) is required",
        lambda m, _: f"give one of {', '.join(m[1].split())}",
    ),
    (r"argument (\S+): invalid choice: (.*?) \((?:maybe .*)?choose from (.*)\)", _wrong_choice),
    (
        r"argument (\S+): invalid int value: (.*)",
        lambda m, _: f"{m[1]} = {m[2]} is not a whole number",
    ),
    (r"argument (\S+): invalid float value: (.*)", lambda m, _: f"{m[1]} = {m[2]} is not a number"),
    (
        r"argument (\S+): expected (?:one|at least one) argument",
        lambda m, _: f"{m[1]} has no value: write {m[1]}=VALUE",
    ),
    (
        r"argument (\S+): not allowed with argument (\S+)",
        lambda m, _: " and ".join(sorted(m.groups())) + " exclude each other: give one of them",
    ),
    (
        r"argument (\S+): ignored explicit argument (.*)",
        lambda m, _: f"{m[1]} takes no value: leave out {m[2]}",
    ),
    (r"unrecognized arguments: (.*)", _unknown_option),
)


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
