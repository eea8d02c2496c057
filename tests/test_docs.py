"""Links, paths, commands and names in the Markdown files exist."""

from __future__ import annotations

import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers import ROOT

DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("data/sample/*.md")])
FOLDERS = "benchmarks|configs|data|docs|notebooks|se_resnet|tests"
# A file named in prose or in a command, at the start of a word.
PATH = rf"(?<![\w/.-])((?:{FOLDERS})/[\w*./-]*|train\.py|eval\.py)"
NAME = r"(?<![\w/.-])((?:se_resnet|data|benchmarks)(?:\.[A-Za-z_]\w*)+)(?![\w/])"
NOT_FILES = {"data.json"}  # a file of a run, which looks like a dotted name


def named(pattern: str, text: str) -> Iterator[str]:
    yield from (match.rstrip(".") for match in re.findall(pattern, text))


def code(text: str) -> str:
    """The blocks and spans of code."""
    return "\n".join(re.findall(r"```.*?```|`[^`\n]+`", text, re.DOTALL))


def anchors(document: Path) -> set[str]:
    """The anchors that GitHub gives to the headings."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(), re.MULTILINE)
    words = [re.sub(r"[^\w\- ]", "", re.sub(r"[`*]", "", heading)).lower() for heading in headings]
    return {word.replace(" ", "-") for word in words}


def is_command(module: str) -> bool:
    path = ROOT / module.replace(".", "/")
    return path.with_suffix(".py").is_file() or (path / "__main__.py").is_file()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_to_files_and_headings(document):
    text = re.sub(r"```.*?```", "", document.read_text(), flags=re.DOTALL)
    targets = [*re.findall(r"\]\(([^)\s]+)\)", text), *re.findall(r'src="([^"]+)"', text)]
    for target in targets:
        if re.match(r"https?:", target):
            continue
        name, _, anchor = target.partition("#")
        path = document.parent / name if name else document
        assert path.exists(), target
        assert not anchor or anchor in anchors(path), target


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_named_files_and_commands_exist(document):
    text = document.read_text()
    for path in named(PATH, text):
        assert any(ROOT.glob(path)) or (ROOT / path).exists(), path
    for module in re.findall(r"python3? -m ([\w.]+)", text):
        assert module in ("pytest", "venv") or is_command(module), module


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_named_modules_and_attributes_exist(document):
    for name in set(named(NAME, code(document.read_text()))) - NOT_FILES:
        if not is_command(name):
            pkgutil.resolve_name(name)


def test_every_page_is_linked_from_the_readme():
    text = (ROOT / "README.md").read_text()
    for page in (ROOT / "docs").glob("*.md"):
        assert f"(docs/{page.name}" in text, page.name


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150
