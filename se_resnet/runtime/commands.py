"""Lists the commands of this project, each with the first line of its own description."""

from __future__ import annotations

import ast
import re
import textwrap
from pathlib import Path

from se_resnet.runtime.text_table import text_table

_ROOT = Path(__file__).parents[2]
_SCRIPTS = ("train.py", "eval.py")
_PACKAGES = ("se_resnet", "data")
_BENCHMARKS = "benchmarks"
_LISTING = "se_resnet"  # the command that prints the list
_GUARD = '\nif __name__ == "__main__":'


def describe_commands(root: Path = _ROOT) -> str:
    """Returns one line for each command, and one entry for all benchmarks.

    No command is imported. An installed package has neither scripts nor benchmarks.

    Args:
        root: folder that holds the packages of the project.
    """
    scripts = [root / name for name in _SCRIPTS if (root / name).is_file()]
    rows = [(f"python {path.name}", _first_line(_docstring(path))) for path in scripts]
    for package in _PACKAGES:
        rows += [(f"python -m {name}", line) for name, line in modules(root, package).items()]
    lines = text_table(rows)
    if names := [name.removeprefix(f"{_BENCHMARKS}.") for name in modules(root, _BENCHMARKS)]:
        about = _docstring(root / _BENCHMARKS / "__init__.py").partition(".")[0]
        text = f"python -m {_BENCHMARKS}.NAME  {about}. NAME is one of: {', '.join(names)}"
        lines += textwrap.wrap(text, 100, subsequent_indent="  ", break_on_hyphens=False)
    return "\n".join(lines)


def modules(root: Path = _ROOT, package: str = "") -> dict[str, str]:
    """Returns the first line of the description of each module that is a command, by name.

    The docstring of a command contains ``python -m`` with its name.

    Args:
        root: folder that holds the packages.
        package: name of a package; empty for all packages but the benchmarks.
    """
    if not package:
        return {name: line for part in _PACKAGES for name, line in modules(root, part).items()}
    found = {}
    for path in (root / package).rglob("*.py"):
        if _GUARD in path.read_text(encoding="utf-8"):
            parts = path.relative_to(root).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__main__" else parts)
            docstring = _docstring(path)
            if name != _LISTING and re.search(rf"python -m {re.escape(name)}(?!\w)", docstring):
                found[name] = _first_line(docstring)
    return dict(sorted(found.items()))


def _docstring(path: Path) -> str:
    return ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""


def _first_line(docstring: str) -> str:
    return docstring.partition("\n")[0]
