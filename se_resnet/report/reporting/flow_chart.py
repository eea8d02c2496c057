"""The flow diagram as SVG: boxes from the files found to the evaluated images."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from markupsafe import Markup

from se_resnet.report.reporting.flow import (
    ADDED,
    ASSIGNED,
    CLASSES,
    EVALUATED,
    FOUND,
    LEFT_OUT,
    USED,
    Count,
    count_flow,
    times_tested,
)
from se_resnet.report.reporting.study import ROLE_NAMES, Sizes, Study
from se_resnet.report.reporting.wording import listing, plural
from se_resnet.runs.run_files import ROLES
from se_resnet.runtime.templates import render

WIDTH = 640  # of the drawing; a page scales it
_LINE, _PAD, _GAP, _ARROW = 19, 10, 12, 28
_MAIN = 330  # width of a box that has a box with reasons beside it
_COLUMN = 30  # characters of a line with a reason
_LONGEST = 120  # characters of a reason in the diagram; flow.csv has the whole text


@dataclasses.dataclass(frozen=True)
class Box:
    """A box with a title and lines of text, in units of the drawing."""

    x: float
    y: float
    width: float
    height: float
    title: str
    lines: tuple[str, ...]

    @property
    def texts(self) -> list[tuple[float, str, bool]]:
        """The baseline, the text and whether it is the title, for each line."""
        lines = [(self.title, True), *((line, False) for line in self.lines)]
        return [
            (self.y + _PAD + _LINE * (index + 0.75), text, bold)
            for index, (text, bold) in enumerate(lines)
        ]


@dataclasses.dataclass(frozen=True)
class Arrow:
    """A straight arrow, or a line without a head, in units of the drawing."""

    x1: float
    y1: float
    x2: float
    y2: float
    has_head: bool = True


def draw_flow(study: Study) -> Markup:
    """Returns the flow diagram of a study as an SVG element that scales with the page."""
    boxes, arrows = _lay_out(study, count_flow(study))
    text = render(
        "se_resnet.report",
        "flow.svg.j2",
        {},
        width=WIDTH,
        height=max(box.y + box.height for box in boxes) + 2,
        boxes=boxes,
        arrows=arrows,
        label=f"Flow of images and patients: {boxes[0].lines[0]} found, "
        f"{boxes[-1].lines[0]} evaluated.",
    )
    return Markup(text)


def _lay_out(study: Study, counts: Sequence[Count]) -> tuple[list[Box], list[Arrow]]:
    boxes: list[Box] = []
    arrows: list[Arrow] = []

    def by_stage(stage: str) -> list[Count]:
        return [count for count in counts if count.stage == stage]

    def add_box(x: float, y: float, width: float, title: str, lines: Sequence[str]) -> Box:
        height = 2 * _PAD + _LINE * (1 + len(lines))
        boxes.append(Box(x, y, width, height, title, tuple(lines)))
        return boxes[-1]

    found = add_box(0, 1, _MAIN, "Images found", _size_lines(by_stage(FOUND)[0].sizes))
    reasons = [_reason_line(count) for stage in (LEFT_OUT, ADDED) for count in by_stage(stage)]
    title = "Left out and added" if by_stage(ADDED) else "Left out"
    lines = _wrapped(reasons or ["no image"])
    side = add_box(_MAIN + 30, found.y, WIDTH - _MAIN - 30, title, lines)
    middle = found.y + min(found.height, side.height) / 2
    arrows.append(Arrow(_MAIN, middle, side.x, middle))
    y = max(found.y + found.height, side.y + side.height) + _ARROW
    used = add_box(0, y, _MAIN, "Images used", _class_lines(by_stage(USED)))
    arrows.append(Arrow(_MAIN / 2, found.y + found.height, _MAIN / 2, used.y))
    assigned = by_stage(ASSIGNED)
    width = (WIDTH - 2 * _GAP) / 3
    centre = {role: i * (width + _GAP) + width / 2 for i, role in enumerate(ROLES)}
    top = used.y + used.height + 2 * _ARROW
    arrows += _branches(_MAIN / 2, used.y + used.height, list(centre.values()), top)
    y = top
    for number in dict.fromkeys(count.fold for count in assigned):
        for role in ROLES:
            group = [c for c in assigned if c.fold == number and c.role == role]
            title = ROLE_NAMES[role].capitalize() + (f", fold {number}" if number else "")
            box = add_box(centre[role] - width / 2, y, width, title, _narrow_lines(group))
        y = box.y + box.height + _GAP
    bottom = y - _GAP
    evaluated_roles = study.evaluated_roles
    for role in ROLES:
        if evaluated_roles[role]:
            arrows.append(Arrow(centre[role], bottom, centre[role], bottom + _ARROW))
    lines = _evaluated_lines(study, by_stage(EVALUATED))
    add_box(0, bottom + _ARROW, WIDTH, "Evaluated", lines)
    return boxes, arrows


def _size_lines(counted: Sizes) -> list[str]:
    lines = [plural(counted.images, "image")]
    if counted.patients is not None:
        slides = "" if counted.slides is None else f"{plural(counted.slides, 'slide')} of "
        lines.append(f"{slides}{plural(counted.patients, 'patient')}")
    return lines


def _class_lines(counts: Sequence[Count]) -> list[str]:
    by_class = {count.class_name: count.sizes for count in counts}
    return [
        *_size_lines(by_class["all"]),
        *(
            f"{name}: {plural(by_class[name].images, 'image')}, "
            f"{plural(by_class[name].patients or 0, 'patient')}"
            for name in CLASSES[1:]
        ),
    ]


def _narrow_lines(counts: Sequence[Count]) -> list[str]:
    by_class = {count.class_name: count.sizes for count in counts}
    everything = by_class["all"]
    return [
        plural(everything.images, "image"),
        plural(everything.patients or 0, "patient"),
        *(
            f"{name}: {by_class[name].images:,} ({by_class[name].patients or 0:,})"
            for name in CLASSES[1:]
        ),
    ]


def _branches(x: float, y: float, ends: Sequence[float], bottom: float) -> list[Arrow]:
    """Returns a line down from (x, y) that branches into an arrow to each of ``ends``."""
    middle = (y + bottom) / 2
    return [
        Arrow(x, y, x, middle, has_head=False),
        Arrow(min(ends), middle, max(ends), middle, has_head=False),
        *(Arrow(end, middle, end, bottom) for end in ends),
    ]


def _evaluated_lines(study: Study, counts: Sequence[Count]) -> list[str]:
    lines = _class_lines(counts)
    roles = study.evaluated_roles
    if set(roles) != {"test"}:
        names = {"": "in no role of this run", "excluded": "left out of the split"}
        parts = [f"{roles[role]:,} {names.get(role, role)}" for role in sorted(roles)]
        lines.append(f"roles of these images: {listing(parts)}")
    if study.is_cross_validation:
        times = times_tested(study)
        if set(times) == {1}:
            lines.append("each patient is tested once")
        else:
            parts = [f"{plural(n, 'patient')} in {plural(k, 'fold')}" for k, n in times.items()]
            lines.append(f"tested: {listing(parts)}")
    return lines


def _reason_line(count: Count) -> str:
    text = f"added: {count.reason}" if count.stage == ADDED else count.reason
    text = text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
    return f"{text}: {count.sizes.images:,}"


def _wrapped(reasons: Sequence[str]) -> list[str]:
    """Breaks each reason into lines that fit the box beside the main column."""
    lines = []
    for reason in reasons:
        line = ""
        for word in reason.split():
            word = word if len(word) < _COLUMN else f"{word[: _COLUMN - 2]}…"
            if line and len(line) + 1 + len(word) > _COLUMN:
                lines.append(line)
                line = word
            else:
                line = f"{line} {word}" if line else word
        lines.append(line)
    return lines
