"""The tour in notebooks/ runs from top to bottom, and reads well as it is committed."""

from __future__ import annotations

import json
import re

import pytest

from tests.helpers import ROOT

TOUR = ROOT / "notebooks" / "tour.ipynb"


def code_cells(notebook: dict) -> list[dict]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def kinds(notebook: dict) -> list[list[str]]:
    """What each cell put out: the names of streams and the types of data."""
    return [
        [
            kind
            for out in cell["outputs"]
            for kind in sorted(out.get("data", [str(out.get("name"))]))
        ]
        for cell in code_cells(notebook)
    ]


def text_of(notebook: dict) -> str:
    outputs = [out for cell in code_cells(notebook) for out in cell["outputs"]]
    return "".join("".join(out.get("text", "")) for out in outputs)


def test_the_committed_tour_is_small_and_whole():
    content = TOUR.read_text()
    notebook = json.loads(content)
    assert len(content) < 300_000
    assert [cell["execution_count"] for cell in code_cells(notebook)] == [*range(1, 8)]
    assert "same bits: True" in text_of(notebook)
    assert not any("stderr" in kind or "error" in kind for kind in kinds(notebook))
    assert not re.search(r"/(tmp|home|root|usr|opt|work|Users)/|https?://(?!www\.w3\.org)", content)


@pytest.mark.notebook
def test_the_tour_runs(tmp_path):
    execute = pytest.importorskip("notebooks.execute", reason="needs the extra 'notebook'")
    made = execute.execute(TOUR, tmp_path)
    assert "same bits: True" in text_of(made)
    assert kinds(made) == kinds(json.loads(TOUR.read_text()))
    assert (tmp_path / "runs" / "tour" / "eval" / "test" / "report.html").exists()
