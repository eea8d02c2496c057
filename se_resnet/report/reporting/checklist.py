"""The checklists TRIPOD+AI and CLAIM, filled in from the files of a run.

The item data are worded by this project; numbers and order of the items are those of

* TRIPOD+AI: Collins et al., BMJ 2024;385:e078378, 27 items with 52 parts.
* CLAIM, 2024 update: Tejani et al., Radiology: Artificial Intelligence 2024;6(4):e240300, 44 items.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from se_resnet.report.reporting.answers import ANSWERS
from se_resnet.report.reporting.study import Study
from se_resnet.runtime.tables import read_table

COLUMNS = ("item", "section", "topic", "asks", "answered_by", "answer", "files", "author")
RUN, BOTH, AUTHOR = "run", "run and author", "author"
_ITEM_COLUMNS = ("item", "section", "topic", "asks", "answer", "author")


@dataclasses.dataclass(frozen=True)
class Guideline:
    """A reporting guideline.

    Attributes:
        name: stem of its files.
        title: its name.
        citation: the publication.
        official: address of the official list.
    """

    name: str
    title: str
    citation: str
    official: str


GUIDELINES = (
    Guideline(
        "tripod_ai",
        "TRIPOD+AI",
        "Collins et al., TRIPOD+AI statement, BMJ 2024;385:e078378",
        "www.tripod-statement.org",
    ),
    Guideline(
        "claim",
        "CLAIM, 2024 update",
        "Tejani et al., Checklist for Artificial Intelligence in Medical Imaging (CLAIM): 2024 "
        "Update, Radiology: Artificial Intelligence 2024;6(4):e240300",
        "doi.org/10.1148/ryai.240300",
    ),
)


def items(guideline: Guideline) -> list[dict[str, str]]:
    """Returns the items: ``item``, ``section``, ``topic``, ``asks``, ``answer`` and ``author``.

    ``answer`` is a name in :data:`se_resnet.report.reporting.answers.ANSWERS`, or empty where the
    files of a run hold no answer. ``author`` says what the author has to write, or is empty where
    the answer suffices.
    """
    path = Path(__file__).with_name(f"{guideline.name}.csv")
    return [row for _, row in read_table(path, _ITEM_COLUMNS)]


def fill(guideline: Guideline, study: Study) -> list[dict[str, str]]:
    """Returns a row for each item, with the values of ``COLUMNS``.

    ``answered_by`` is ``run``, ``run and author`` or ``author``. ``files`` are paths from the
    folder of the run.
    """
    rows = []
    for item in items(guideline):
        row = {name: item[name] for name in ("item", "section", "topic", "asks", "author")}
        if not item["answer"]:
            rows.append(row | {"answered_by": AUTHOR, "answer": "", "files": ""})
            continue
        answer = ANSWERS[item["answer"]](study)
        rows.append(
            row
            | {
                "answered_by": BOTH if item["author"] else RUN,
                "answer": answer.text,
                "files": ", ".join(answer.sources),
            }
        )
    return rows
