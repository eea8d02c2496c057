"""Reads the configuration of a command from ``--config`` and ``--config.FIELD=VALUE``.

``--config`` names a Python file with a function ``get_config``, or a JSON file: the ``config.json``
of a run, or the text that ``--print_config`` prints.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib.util
import json
import linecache
import re
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict

from se_resnet.errors import UserError, one_line
from se_resnet.runtime import config_form
from se_resnet.runtime.files import read_json, reason
from se_resnet.runtime.paths import local_path

_OVERRIDE = re.compile(r"--?config\.([^=]*)(?:=(.*))?", re.DOTALL)
_NEGATED = re.compile(r"--?noconfig\.([\w.]+)")
_FIELD = re.compile(r"(?!\d)\w+(\.(?!\d)\w+)*")
_PARSERS: dict[type, flags.ArgumentParser] = {
    bool: flags.BooleanParser(),
    int: flags.IntegerParser(),
    float: flags.FloatParser(),
}
_EXAMPLE = "for example configs/quickstart.py"


@dataclasses.dataclass(frozen=True)
class Override:
    """A field that the command line sets.

    Attributes:
        name: of the field, such as ``optim.learning_rate``.
        text: the value as it was written.
    """

    name: str
    text: str


class ConfigFlag:
    """The flags ``--config`` and ``--print_config``, and the fields that the command line sets.

    Args:
        full: returns a new configuration with all fields.
        complete: returns the content of a ``config.json`` of an earlier version with the fields
            that it lacks.
        flag_values: where the flags are defined.
        default: the file to use without ``--config``; None if the flag is required.

    Attributes:
        value: the configuration, locked, after :meth:`read`.
        notes: lines about fields that an earlier version lacks, after :meth:`read`.
    """

    value: ConfigDict
    notes: list[str]

    def __init__(
        self,
        full: Callable[[], ConfigDict],
        complete: Callable[[dict[str, Any]], dict[str, Any]],
        flag_values: flags.FlagValues = flags.FLAGS,
        default: str | None = None,
    ):
        self._full, self._complete, self.notes = full, complete, []
        self._path = flags.DEFINE_string(
            "config",
            default,
            "Python file with get_config(), or the config.json of a run.",
            flag_values=flag_values,
        )
        self._print = flags.DEFINE_bool(
            "print_config",
            False,
            "Print the configuration as JSON, which --config takes back, and end.",
            flag_values=flag_values,
        )

    @property
    def is_to_be_printed(self) -> bool:
        """True if ``--print_config`` was given."""
        return self._print.value

    @property
    def field_names(self) -> list[str]:
        """The names of all fields and sections."""
        return list(config_form.field_values(self._full()))

    def split(self, argv: Sequence[str]) -> tuple[list[str], list[Override]]:
        """Divides a command line into other arguments and the fields that it sets.

        Raises:
            UserError: a field is unknown, or its value is missing.
        """
        full = config_form.field_values(self._full())
        rest, overrides = [], []
        arguments = iter(argv)
        for argument in arguments:
            if argument == "--":
                rest += [argument, *arguments]
                break
            if negated := _NEGATED.fullmatch(argument):
                overrides.append(Override(negated[1], "false"))
            elif given := _OVERRIDE.fullmatch(argument):
                text = given[2]
                if text is None:
                    is_switch = isinstance(full.get(given[1]), bool)
                    text = "true" if is_switch else next(arguments, None)
                if text is None or (given[2] is None and text.startswith("--")):
                    raise UserError(
                        f"{argument} has no value: write {argument}=VALUE (--help lists the fields)"
                        "."
                    )
                overrides.append(Override(given[1], text))
            else:
                rest.append(argument)
        for override in overrides:
            _require_field(override.name, full)
        return rest, overrides

    def read(self, overrides: Sequence[Override]) -> None:
        """Loads the file, sets the fields of the command line, and keeps the configuration.

        Raises:
            UserError: the flag is missing, the file cannot be used, or a value does not fit its
                field.
        """
        full = self._full()
        given = self._path.value
        if given is None or given.startswith("--"):
            raise UserError(f"--config is missing: give a file, {_EXAMPLE}.")
        path, argument = _path_and_argument(local_path(given, "--config ="))
        is_json = path.suffix == ".json"
        loaded = self._load_json(path) if is_json else _load_python(path, argument)
        try:
            config = config_form.conformed(loaded, full)
        except UserError as error:
            raise UserError(f"{path}: {error}") from error
        for override in overrides:
            _set(config, override)
        self.value = config.lock()

    def as_json(self) -> str:
        """Returns the configuration as indented JSON."""
        return json.dumps(json.loads(self.value.to_json()), indent=2)

    def _load_json(self, path: Path) -> dict[str, Any]:
        try:
            content = read_json(path, {})
        except FileNotFoundError as error:
            raise _missing(path) from error
        except (OSError, ValueError) as error:
            raise UserError(
                f"--config={path} cannot be read ({reason(error)}): give a Python file, {_EXAMPLE}"
                ", or the config.json of a run."
            ) from error
        completed = self._complete(content)
        before, after = (config_form.field_values(part) for part in (content, completed))
        if added := [name for name, value in after.items() if before.get(name) != value]:
            fields = [name for name in added if not isinstance(after[name], dict)]
            self.notes = [
                f"{path} is of an earlier version; these fields have the values that correspond "
                "to that version:",
                *(f"config.{name} = {after[name]!r}" for name in fields),
            ]
        if dropped := [name for name in before if name not in after]:
            self.notes += [f"not used any more: config.{name}" for name in dropped]
        return completed


def _path_and_argument(text: str) -> tuple[Path, list[str]]:
    """Divides ``file.py:argument``, where ``argument`` is for ``get_config``."""
    path, colon, argument = text.partition(":")
    if not colon or Path(text).exists():
        return Path(text), []
    return Path(path), [argument]


def _load_python(path: Path, argument: Sequence[str]) -> Any:
    """Returns the result of ``get_config``. An error of the file's code keeps its traceback.

    Raises:
        UserError: there is no such file, it is not Python, it has no ``get_config`` that returns a
            configuration, or it sets a field to another type.
    """
    if path.is_dir():
        inside = path / "config.json"
        remedy = f"--config={inside}" if inside.exists() else f"a file in the folder, {_EXAMPLE}"
        raise UserError(f"--config={path} is a folder: give {remedy}.")
    if not path.exists():
        raise _missing(path)
    if path.suffix != ".py":
        raise UserError(
            f"--config={path} is neither a Python file (.py) nor JSON (.json): give a file of the "
            f"folder configs, {_EXAMPLE}, or the config.json of a run."
        )
    spec = importlib.util.spec_from_file_location("config_file", path)
    if spec is None or spec.loader is None:
        raise _missing(path)
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        if not hasattr(module, "get_config"):
            raise UserError(
                f"--config={path} has no function get_config: give a file as those of the folder "
                f"configs, {_EXAMPLE}."
            )
        config = module.get_config(*argument)
    except OSError as error:
        if error.filename and Path(error.filename) == path:
            raise UserError(f"--config={path} cannot be read ({reason(error)}).") from error
        raise
    except SyntaxError as error:
        if error.filename is None or Path(error.filename) != path:
            raise
        raise UserError(
            f"--config={path} is not valid Python (line {error.lineno}: {error.msg}): correct that "
            "line."
        ) from error
    except (AttributeError, KeyError, TypeError) as error:
        raise _explained(path, error) or error from error
    if config is None:
        raise UserError(
            f"get_config() of --config={path} returns nothing: end the function with 'return "
            "config'."
        )
    return config


def _explained(path: Path, error: Exception) -> UserError | None:
    """Returns a message for a field that ``ml_collections`` refuses, None for any other error."""
    frames = traceback.extract_tb(error.__traceback__)
    if not frames or Path(frames[-1].filename).name != "config_dict.py":
        return None
    own = [frame for frame in frames if Path(frame.filename) == path]
    if not own:
        return None
    line = linecache.getline(str(path), own[-1].lineno or 0).strip()
    cause = one_line(error).strip("'\"")
    if types := re.search(r"<class '\w+'> and cannot be casted to type <class '(\w+)'>", cause):
        kinds = {kind.__name__: text for kind, text in config_form.WANTED.items()}
        cause = f"the value has another type than the field, which needs {kinds[types[1]]}"
    elif question := re.search(r'Did you mean "(\w+)"', str(error)):
        cause = f"no such field; did you mean {question[1]}?"
    return UserError(
        f"--config={path}, line {own[-1].lineno}, cannot be used ({cause}): correct {line!r}."
    )


def _missing(path: Path) -> UserError:
    return UserError(f"the config file {path} does not exist: see the folder configs.")


def _require_field(name: str, full: Mapping[str, Any]) -> None:
    """Raises a UserError if a name is not the name of a field."""
    section = full.get(name.rpartition(".")[0])
    is_free = isinstance(section, dict) and not section
    if name in full or (is_free and _FIELD.fullmatch(name)):
        return
    if not _FIELD.fullmatch(name):
        question = "write --config.FIELD=VALUE"
    else:
        question = config_form.hint(name, full, "--config.") or "--help lists the fields"
    raise UserError(
        f"--config.{name} is not a field of the configuration: {question.rstrip('?')}"
        f"{'?' if question.endswith('?') else '.'}"
    )


def _set(config: ConfigDict, override: Override) -> None:
    """Sets a field to the value that the command line gives.

    Raises:
        UserError: the value does not fit the field.
    """
    *parents, field = override.name.split(".")
    section = config
    for parent in parents:
        section = section[parent]
    example = section.get(field)
    shown = f"--config.{override.name}={override.text[:60]}"
    try:
        value = _parsed(override.text, example, is_free=field not in section)
    except ValueError as error:
        if isinstance(example, ConfigDict):
            wanted = (
                f"it is a section: set its fields, such as --config.{override.name}."
                f"{next(iter(example))}=VALUE"
                if len(example)
                else "give options in braces, for example \"{'reduction': 8}\""
            )
        else:
            wanted = f"give {config_form.WANTED[type(example)]}"
        raise UserError(f"{shown} does not fit the field: {wanted}.") from error
    section[field] = value


def _parsed(text: str, example: Any, *, is_free: bool) -> Any:
    """Returns the value that a text means for a field of the type of ``example``.

    Raises:
        ValueError: the text means no such value.
    """
    if is_free:
        try:
            return _literal({"true": "True", "false": "False"}.get(text, text))
        except ValueError:
            return text
    if isinstance(example, str):
        return text
    if isinstance(example, tuple):
        value = _literal(text) if text else ()
        value = value if isinstance(value, (tuple, list)) else (value,)
        return config_form.converted(value, example)
    if isinstance(example, ConfigDict):
        value = _literal(text)
        if len(example) or not isinstance(value, dict):
            raise ValueError
        return ConfigDict(value)
    try:
        return _PARSERS[type(example)].parse(text)
    except TypeError as error:
        raise ValueError from error


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text.strip())
    except (SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise ValueError from error
