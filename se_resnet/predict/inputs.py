"""The images to predict: of a folder, or of a table."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from se_resnet.errors import UserError, with_items
from se_resnet.images.image_location import Location, locate, written_path
from se_resnet.images.image_table import is_table, read_rows
from se_resnet.images.scale import parse_um_per_px
from se_resnet.predict.image_files import find_images
from se_resnet.predict.patients import patient_of
from se_resnet.runtime.walk import PassedOver


@dataclasses.dataclass(frozen=True)
class Inputs:
    """Images to predict.

    Attributes:
        locations: file or archive member of each image, by the name in the results.
        patients: patient of each image by name; an empty string if not known.
        um_per_px: scale of the images whose scale a table states, by name, in micrometres per
            pixel.
        is_table: True for the images of a table.
    """

    locations: dict[str, Location]
    patients: dict[str, str]
    um_per_px: dict[str, float]
    is_table: bool


def find_inputs(source: Path, patient_pattern: str, passed_over: PassedOver) -> Inputs:
    """Returns the images of a folder, a table or a path.

    Args:
        source: an image, a folder, or a table with the column ``file`` and, where they are known,
            ``patient`` and ``um_per_px``; other columns are not used.
        patient_pattern: finds the patients of a folder, see
            :func:`se_resnet.predict.patients.patient_of`.
        passed_over: receives the files of a folder that are left out.

    Raises:
        UserError: the path does not exist or holds no image, or the table is invalid.
    """
    if is_table(source):
        return _of_table(source)
    paths = find_images(source, passed_over=passed_over)  # refuses a path that cannot be read
    root = source if source.is_dir() else source.parent
    locations = {path.relative_to(root).as_posix(): Location(path) for path in paths}
    patients = {name: patient_of(name, patient_pattern) for name in locations}
    return Inputs(locations, patients, {}, False)


def _of_table(path: Path) -> Inputs:
    locations: dict[str, Location] = {}
    patients: dict[str, str] = {}
    scales: dict[str, float] = {}
    seen: set[str] = set()
    problems = []
    for number, row in read_rows(path):
        name = written_path(row["file"])
        try:
            location = locate(name, path.parent)
            if name.lstrip("/") in seen:
                raise ValueError(f"{name[:200]} is listed twice")
            seen.add(name.lstrip("/"))
            if text := row.get("um_per_px"):
                try:
                    scales[name] = parse_um_per_px(text)
                except ValueError as error:
                    raise ValueError(f"um_per_px = {text[:40]!r} {error}") from None
        except ValueError as error:
            problems.append(f"line {number}: {error}")
            continue
        locations[name] = location
        patients[name] = row.get("patient", "")
    if problems:
        sentence = f"{len(problems):,} rows of {path} cannot be used: correct them."
        raise UserError(with_items(sentence, problems))
    return Inputs(locations, patients, scales, True)
