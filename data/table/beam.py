"""Decodes and hashes the images of a table on the machines of Apache Beam."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from data.breakhis.beam import import_beam, pipeline_options
from data.table.preparation import Facts, Scan, examine
from se_resnet.errors import UserError
from se_resnet.images.image_location import Location, read_all
from se_resnet.runtime.files import write_json


def make_scan(options: list[str], folder: Path) -> Scan:
    """Returns a function that examines images on Apache Beam.

    Args:
        options: options of Beam.
        folder: folder in which workers can write their results.
    """
    return partial(_scan, options, folder)


def _scan(options: list[str], folder: Path, locations: Sequence[Location]) -> list[Facts]:
    if archived := next((location for location in locations if location.member), None):
        raise UserError(
            f"{archived.path} is an archive, which Apache Beam cannot divide: extract it and name "
            "its files in the table."
        )
    beam = import_beam()
    results = folder / f"found-{uuid.uuid4().hex[:8]}.json"
    with beam.Pipeline(options=pipeline_options(options)) as pipeline:
        _ = (
            pipeline
            | beam.Create(list(enumerate(locations)))
            | beam.Reshuffle()
            | beam.Map(_examine)
            | beam.combiners.ToList()
            | beam.Map(partial(_write, results))
        )
    facts = [(digest, problem) for _, digest, problem in sorted(json.loads(results.read_text()))]
    results.unlink()
    return facts


def _examine(numbered: tuple[int, Location]) -> tuple[int, str, str]:
    return examine(next(read_all([numbered])))


def _write(path: Path, results: list[tuple]) -> None:
    write_json(path, results)
