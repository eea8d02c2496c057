"""Links between the report of a run and those of its parts."""

from __future__ import annotations

import re
import shutil
import urllib.parse

import pytest

from se_resnet.report.links import link_back, parent_of, part_addresses
from se_resnet.report.page import render_page
from se_resnet.runs.evaluations import EvaluationFolder
from se_resnet.runs.run_folder import RunFolder
from tests.helpers.page import Page

CHECKLIST = {"guideline": {"name": "a", "title": "t", "citation": "c", "official": "o"}}


def write(folder):
    """Writes a page with a navigation as the report of an evaluation."""
    folder.path.mkdir(parents=True, exist_ok=True)
    filters = {"groupby_in_order": lambda rows, field: []}
    parent = parent_of(folder.path)
    html = render_page(
        "checklist.html.j2", filters, **CHECKLIST, rows=[], title="<!--parent-->", parent=parent
    )
    (folder.path / "report.html").write_text(html)


def links_up(folder):
    html = (folder.path / "report.html").read_text()
    Page(html)  # still well-formed
    return re.findall(r'<a rel="up" href="([^"]*)">↑ ([^<]*)</a>', html)


def evaluations(workdir, kind, count=2, name="test"):
    return [RunFolder(workdir / f"{kind}{i}").evaluation(name) for i in range(count)]


@pytest.mark.parametrize(
    ("kind", "label"),
    [("fold", "All folds"), ("member", "All members"), ("repeat", "All repeats")],
)
def test_parts_and_whole_link_each_other(tmp_path, kind, label):
    workdir = tmp_path / "a <run> #1%20"
    parts, whole = evaluations(workdir, kind), RunFolder(workdir).evaluation()
    for part in parts:
        write(part)
        assert links_up(part) == [], "the report of all parts does not exist yet"
    write(whole)
    link_back(parts, whole.path)
    shutil.move(workdir, tmp_path / "moved")
    workdir = tmp_path / "moved"
    parts, whole = evaluations(workdir, kind), RunFolder(workdir).evaluation()
    for part in parts:
        ((address, text),) = links_up(part)
        assert text == label
        target = part.path / urllib.parse.unquote(address)
        assert target.resolve() == (whole.path / "report.html").resolve() and target.exists()
    for part, address in zip(parts, part_addresses(parts, whole.path), strict=True):
        target = whole.path / urllib.parse.unquote(address)
        assert target.resolve() == (part.path / "report.html").resolve()
    assert links_up(whole) == []


def test_a_part_that_is_evaluated_again_keeps_its_link(tmp_path):
    (part, other), whole = evaluations(tmp_path, "fold"), RunFolder(tmp_path).evaluation()
    write(part)
    write(whole)
    link_back([part, other], whole.path)
    once = (part.path / "report.html").read_bytes()
    link_back([part, other], whole.path)
    assert (part.path / "report.html").read_bytes() == once
    write(part)
    assert links_up(part) == [("../../../eval/test/report.html", "All folds")]


def test_a_part_without_a_report_is_not_linked(tmp_path):
    parts, whole = evaluations(tmp_path, "fold"), RunFolder(tmp_path).evaluation()
    write(parts[1])
    assert part_addresses(parts, whole.path) == ["", "../../fold1/eval/test/report.html"]


def test_another_evaluation_or_folder_is_not_linked(tmp_path):
    parts = evaluations(tmp_path, "fold")
    write(parts[0])
    elsewhere = EvaluationFolder(tmp_path / "out")
    for whole in (elsewhere, RunFolder(tmp_path).evaluation("test", "dihedral")):
        write(whole)
        link_back(parts, whole.path)
    assert links_up(parts[0]) == []


@pytest.mark.parametrize("name", ["fold", "fold0x", "my-fold0", "run"])
def test_only_the_folder_of_a_part_is_a_part(tmp_path, name):
    write(RunFolder(tmp_path).evaluation())
    assert parent_of(tmp_path / name / "eval" / "test") is None
    assert parent_of(tmp_path / "fold0" / "other" / "test") is None
    assert parent_of(tmp_path / "fold0" / "eval" / "test") is not None


def test_the_report_of_an_earlier_version_is_left_alone(tmp_path):
    (part,), whole = evaluations(tmp_path, "fold", 1), RunFolder(tmp_path).evaluation()
    part.path.mkdir(parents=True)
    (part.path / "report.html").write_text("<nav></nav>")
    write(whole)
    link_back([part], whole.path)
    assert (part.path / "report.html").read_text() == "<nav></nav>"


def test_a_report_that_cannot_be_changed_is_named(tmp_path, monkeypatch, capsys):
    (part,), whole = evaluations(tmp_path, "fold", 1), RunFolder(tmp_path).evaluation()
    write(part)
    write(whole)

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("se_resnet.report.links.atomic_write", refuse)
    link_back([part], whole.path)
    assert "fold0/eval/test/report.html gets no link" in capsys.readouterr().out
