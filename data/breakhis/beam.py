"""Validates and reads the images of a tree on Apache Beam."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from data.breakhis import decode, image_files
from data.breakhis.decode import ImageFacts, SourceImage
from data.breakhis.filenames import ImageName
from data.breakhis.image_files import Source
from data.problems import Problem
from se_resnet.errors import UserError
from se_resnet.runtime.files import write_json


@dataclasses.dataclass(frozen=True)
class Checked:
    """A usable image.

    Attributes:
        path: relative to the tree.
        name: parsed file name.
        digest: digest of its pixels, see :class:`data.breakhis.decode.ImageFacts`.
        content: SHA-256 of the file.
    """

    path: str
    name: ImageName
    digest: str
    content: str


def pipeline_options(options: list[str]) -> Any:
    """Returns the ``PipelineOptions`` of Beam.

    Raises:
        UserError: Beam is not installed.
    """
    return import_beam().options.pipeline_options.PipelineOptions(options)


def check(source: Source, options: list[str], folder: Path) -> tuple[list[Checked], list[Problem]]:
    """Validates every candidate image of a tree, like :func:`data.breakhis.decode.scan`.

    Args:
        source: images from :func:`data.breakhis.image_files.find`.
        options: options of Beam.
        folder: folder in which workers can write their results.

    Returns:
        The usable images and the problems with other images, each in the order of paths.

    Raises:
        UserError: the source is an archive.
    """
    if source.is_archive:
        raise UserError(
            f"{source.path} is an archive, which Apache Beam cannot divide: extract it and give "
            "the folder."
        )
    named = image_files.check_names(source)
    results = folder / "found.json"
    beam = import_beam()
    with beam.Pipeline(options=pipeline_options(options)) as pipeline:
        _ = (
            pipeline
            | beam.Create(list(enumerate(named)))
            | beam.Reshuffle()
            | beam.Map(functools.partial(_check_one, source.path))
            | beam.combiners.ToList()
            | beam.Map(functools.partial(_write, results))
        )
    checked, problems = [], []
    for number, *facts in sorted(json.loads(results.read_text())):
        path, name = named[number]
        if len(facts) == 2:
            assert isinstance(name, ImageName)
            checked.append(Checked(path, name, *facts))
        else:
            problems.append(Problem(path, *facts))
    results.unlink()
    return checked, problems


def read(
    source: Source, checked: list[Checked], example_of: Callable[[SourceImage], tuple[int, dict]]
) -> Any:
    """Returns a transform that reads the usable images again, as examples for TFDS."""
    beam = import_beam()
    return (
        beam.Create(checked)
        | beam.Reshuffle()
        | beam.Map(functools.partial(_read_one, source.path, example_of))
    )


def import_beam() -> Any:
    """Imports Apache Beam, or raises a :class:`UserError`."""
    try:
        import apache_beam.options.pipeline_options
    except ImportError as error:
        raise UserError(
            "Apache Beam is not installed: install the extra 'beam' as constraints-beam.txt says."
        ) from error
    return apache_beam


def _check_one(root: Path, numbered: tuple[int, tuple[str, ImageName | Problem]]) -> tuple:
    number, (path, name) = numbered
    image = name if isinstance(name, Problem) else decode.read_image(root, path, name)
    if isinstance(image, Problem):
        return number, image.reason
    return number, image.facts.digest, hashlib.sha256(image.data).hexdigest()


def _write(path: Path, results: list[tuple]) -> None:
    write_json(path, results)


def _read_one(
    root: Path, example_of: Callable[[SourceImage], tuple[int, dict]], image: Checked
) -> tuple[int, dict[str, Any]]:
    data = (root / image.path).read_bytes()
    if hashlib.sha256(data).hexdigest() != image.content:
        raise RuntimeError(f"{image.path} has changed since it was validated")
    return example_of(SourceImage(image.path, image.name, data, ImageFacts(0, 0, image.digest)))
