"""Rooms and the order in which they may import each other; an offence is named by file and line."""

from __future__ import annotations

import ast
import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from se_resnet.metrics.predictions import PREDICTIONS
from se_resnet.runs import evaluations
from se_resnet.runs.run_folder import RunFolder
from tests.helpers import ROOT

# Each package of se_resnet imports only from those before it.
ORDER = (
    "errors",
    "runtime",
    "images",
    "attention",
    "metrics",
    "models",
    "input_gate",
    "runs",
    "explain",
    "weights",
    "report",
    "tracking",
    "training",
    "predict",
    "package",
    "export",
    "app",
)
COMMANDS = {"train", "eval", "data.spread", "se_resnet.convert"}
TENSORFLOW = (
    "se_resnet.export.",
    "data.breakhis.builder",
    "data.breakhis.preparation",
    "data.feed.host",
    "data.protocols.source",
)


def modules(root: Path) -> dict[str, Path]:
    """The project's modules by dotted name."""
    found = {}
    for path in [root / "train.py", root / "eval.py", *root.glob("[ds]*/**/*.py")]:
        parts = path.relative_to(root).with_suffix("").parts
        if parts[0] in ("train", "eval", "data", "se_resnet"):
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(path: Path, known: dict[str, Path], typing: bool) -> Iterator[tuple[str, int]]:
    """Each imported module with its line, ``typing`` for those under ``TYPE_CHECKING`` as well."""
    tree = ast.parse(path.read_text())
    skipped = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING" and not typing:
            skipped |= set(ast.walk(node))
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module and not node.level, f"{path}:{node.lineno}: a relative import"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield (inner if inner in known else node.module), node.lineno


def is_command(name: str) -> bool:
    return name in COMMANDS or name.endswith(".__main__")


def offences(root: Path) -> list[str]:
    """Lists the offences against the rules, one line each: file, line and reason."""
    known = modules(root)
    found = []
    for name, path in known.items():
        place = path.relative_to(root).as_posix()
        for target, line in imports(path, known, typing=path.name != "__init__.py"):
            why = offence(name, target)
            if why:
                found.append(f"{place}:{line}: {why}")
    return found


def offence(name: str, target: str) -> str:
    """Returns the reason against ``name`` importing ``target``, or an empty string."""
    if is_command(target) and not is_command(name):
        return f"imports the command {target}"
    if target.split(".")[0] == "tensorflow" and not name.startswith(TENSORFLOW):
        return "imports TensorFlow"
    if is_command(name) or not name.startswith("se_resnet."):
        return ""
    if target.split(".")[0] == "data":
        return f"se_resnet imports {target}"
    if not target.startswith("se_resnet."):
        return ""
    own, other = (module.split(".")[1] for module in (name, target))
    if other in ORDER and ORDER.index(other) > ORDER.index(own):
        return f"{own} comes before {other} and imports {target}"
    return ""


def circles(root: Path) -> list[str]:
    """Import circles, each as its modules with the lines of their imports."""
    known = modules(root)
    graph = {
        name: {
            target: line for target, line in imports(path, known, typing=False) if target in known
        }
        for name, path in known.items()
    }
    found, done = [], set[str]()

    def visit(name: str, above: tuple[str, ...]) -> None:
        if name in above:
            ring = (*above[above.index(name) :], name)
            places = (
                f"{known[one].relative_to(root)}:{graph[one][other]}"
                for one, other in itertools.pairwise(ring)
            )
            found.append(" -> ".join(places))
        elif name not in done:
            for target in graph[name]:
                if target != name:
                    visit(target, (*above, name))
            done.add(name)

    for name in graph:
        visit(name, ())
    return found


def test_every_module_lies_in_a_room():
    flat = {path.name for path in (ROOT / "se_resnet").glob("*.py")}
    assert flat == {"__init__.py", "__main__.py", "convert.py", "errors.py"}
    rooms = {path.parent.name for path in (ROOT / "se_resnet").glob("*/__init__.py")}
    assert rooms == {*ORDER} - {"errors"}


def test_the_order_of_the_rooms_holds():
    assert offences(ROOT) == []


def test_there_is_no_import_circle():
    assert circles(ROOT) == []


# Files with these names that do not belong to a run: an audit's split, a prediction's table.
OTHER_FILES = {
    ("data/protocols/__main__.py", "split.csv"),
    ("se_resnet/predict/folder.py", PREDICTIONS),
    ("se_resnet/runtime/config_flag.py", "config.json"),
}


def test_only_the_run_folder_joins_the_paths_of_a_run(tmp_path):
    assigned = vars(RunFolder(tmp_path)).values()
    names = {path.name for path in assigned if isinstance(path, Path)} - {tmp_path.name}
    names |= {"checkpoints", "eval", *evaluations.FILES}
    found = set()
    for path in modules(ROOT).values():
        place = path.relative_to(ROOT).as_posix()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
                name = getattr(node.right, "value", None)
                if name in names and not place.startswith("se_resnet/runs/"):
                    found.add((place, name))
    assert len(names) > 15 and found == OTHER_FILES


def test_every_room_says_what_lives_there():
    for path in [
        *(ROOT / "se_resnet").glob("*/__init__.py"),
        *(ROOT / "data").glob("*/__init__.py"),
    ]:
        text = ast.get_docstring(ast.parse(path.read_text())) or ""
        for module in path.parent.glob("*.py"):
            if module.stem not in ("__init__", "__main__"):
                named = f"``{module.stem}``" in text or f"``{module.stem.split('_')[0]}*``" in text
                assert named, f"{path.relative_to(ROOT)} does not name {module.stem}"


@pytest.mark.parametrize(
    ("place", "line", "told"),
    [
        ("se_resnet/metrics/a.py", "import se_resnet.models.b", "metrics comes before models"),
        ("se_resnet/models/a.py", "from se_resnet.metrics import __main__", "imports the command"),
        ("se_resnet/app/a.py", "from data import records", "se_resnet imports data"),
        ("data/a.py", "    import tensorflow as tf", "imports TensorFlow"),
    ],
)
def test_a_planted_offence_is_named_by_file_and_line(tmp_path, place, line, told):
    for name in (
        "se_resnet/models/b.py",
        "se_resnet/metrics/__main__.py",
        "data/records.py",
        place,
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    for name in ("train.py", "eval.py"):
        (tmp_path / name).write_text("")
    (tmp_path / place).write_text(f"def f():\n    {line.strip()}\n")
    (found,) = offences(tmp_path)
    assert found.startswith(f"{place}:2: ") and told in found


def test_a_planted_circle_is_found(tmp_path):
    for name in ("train.py", "eval.py"):
        (tmp_path / name).write_text("")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.py").write_text("\nfrom data import b\n")
    (tmp_path / "data" / "b.py").write_text("import data.a\n")
    assert circles(tmp_path) == ["data/a.py:2 -> data/b.py:1"]
