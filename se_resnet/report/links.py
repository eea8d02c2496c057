"""Links between the report of a run and those of its repeats, folds or members.

All addresses are relative, so that the links hold after the folder of the run is moved. A part is
evaluated before its parent. The report of the parent therefore adds the link back to the reports of
its parts when it is written, and no report has a link to a file that does not exist.
"""

from __future__ import annotations

import os
import re
import urllib.parse
from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup, escape

from se_resnet.runs.evaluations import REPORT, EvaluationFolder
from se_resnet.runs.run_files import FOLD, MEMBER, REPEAT
from se_resnet.runtime.files import atomic_write, reason
from se_resnet.runtime.log import log

_LABELS = {REPEAT: "All repeats", FOLD: "All folds", MEMBER: "All members"}
_BEGIN, _END = "<!--parent-->", "<!--/parent-->"
_SLOT = re.compile(rf"{_BEGIN}.*?{_END}".encode(), re.DOTALL)


def address(target: Path, start: Path) -> str:
    """Returns the address of a file relative to a folder, for a link."""
    return urllib.parse.quote(os.fsencode(os.path.relpath(target, start)))


def part_addresses(parts: Sequence[EvaluationFolder], folder: Path) -> list[str]:
    """Returns the address of the report of each part; empty for a report that does not exist.

    Args:
        parts: evaluations of the repeats, folds or members.
        folder: where the report of all parts is written.
    """
    return [address(part.path / REPORT, folder) if part.is_finished else "" for part in parts]


def parent_of(folder: Path) -> tuple[str, str] | None:
    """Returns address and label of the report that an evaluation is a part of.

    Args:
        folder: of the evaluation, see :meth:`se_resnet.runs.evaluations.EvaluationFolder.whole`.

    Returns:
        None if the evaluation is no part of another, or if that report does not exist.
    """
    whole = EvaluationFolder(folder).whole()
    if whole is None or not whole[1].is_finished:
        return None
    kind, evaluation = whole
    return address(evaluation.path / REPORT, folder.absolute()), _LABELS[kind]


def link_back(parts: Sequence[EvaluationFolder], folder: Path) -> None:
    """Adds the link to the report in ``folder`` to the reports of its parts.

    A report elsewhere than in the folder of the run gets no links: it may be moved away. Reports of
    earlier versions, which have no place for the link, are left as they are.
    """
    for part in parts:
        whole, parent = part.whole(), parent_of(part.path)
        if whole and parent and part.is_finished and whole[1].path.samefile(folder):
            _write_parent(part.path / REPORT, *parent)


def parent_slot(link: str, label: str) -> Markup:
    """Returns the place of the link to the parent in a page, with the link unless it is empty."""
    anchor = Markup('<a rel="up" href="{}">↑ {}</a>').format(link, label) if link else ""
    return Markup(_BEGIN) + escape(anchor) + Markup(_END)


def _write_parent(path: Path, link: str, label: str) -> None:
    slot = str(parent_slot(link, label)).encode()
    try:
        old = path.read_bytes()
        new = _SLOT.sub(lambda _: slot, old, count=1)
        if new != old:
            with atomic_write(path, "wb") as file:
                file.write(new)
    except OSError as error:
        log("report", f"{path} gets no link to the report of all parts: {reason(error)}")
