"""The images to predict: of files, folders and patterns, or of a table."""

from __future__ import annotations

import dataclasses
import glob
import os
from collections.abc import Sequence
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


def find_inputs(
    sources: Path | Sequence[Path], patient_pattern: str, passed_over: PassedOver
) -> Inputs:
    """Returns the images of folders, files and patterns, or of a table.

    The name of an image is its path below the folder. With several sources it is the path below
    the nearest folder that holds all of them. An image that several sources name is listed once.

    Args:
        sources: images, folders and patterns such as ``folder/*.png``; or a single table with the
            column ``file`` and, where they are known, ``patient`` and ``um_per_px``. Other columns
            are not used.
        patient_pattern: finds the patients of a folder, see
            :func:`se_resnet.predict.patients.patient_of`.
        passed_over: receives the files of folders that are left out.

    Raises:
        UserError: there is no source, a path does not exist or holds no image, a pattern matches
            nothing, a table is not the only source, or the table is invalid.
    """
    given = [sources] if isinstance(sources, Path) else list(sources)
    if not given:
        raise UserError("no image is named: give images or folders by --input.")
    expanded = list(dict.fromkeys(path for source in given for path in _expand(source)))
    if tables := [path for path in expanded if is_table(path)]:
        if len(expanded) > 1:
            raise UserError(
                f"--input={tables[0]} is a table of images, and other inputs are given too: "
                "predict a table by itself."
            )
        return _of_table(tables[0])
    # find_images refuses a path that cannot be read.
    found = {
        path: None for source in expanded for path in find_images(source, passed_over=passed_over)
    }
    root = _common_folder(expanded)
    paths = [path if len(expanded) == 1 else Path(os.path.abspath(path)) for path in found]
    locations = {path.relative_to(root).as_posix(): Location(path) for path in paths}
    patients = {name: patient_of(name, patient_pattern) for name in locations}
    return Inputs(locations, patients, {}, False)


def _expand(source: Path) -> list[Path]:
    """Returns the paths that a pattern matches; a path that exists stands for itself."""
    if os.path.lexists(source) or not glob.has_magic(str(source)):
        return [source]
    if matches := sorted(glob.glob(str(source), recursive=True)):
        return [Path(match) for match in matches]
    raise UserError(f"--input={source} matches no file: check the pattern and the folder in it.")


def _common_folder(sources: Sequence[Path]) -> Path:
    """Returns the nearest folder that holds all sources; the single folder itself."""
    if len(sources) == 1:
        return sources[0] if sources[0].is_dir() else sources[0].parent
    folders = [path if path.is_dir() else path.parent for path in sources]
    return Path(os.path.commonpath([os.path.abspath(folder) for folder in folders]))


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
