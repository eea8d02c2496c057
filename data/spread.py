r"""Preparation spread over the machines of Apache Beam.

    python -m data.spread --data_dir=/shared/BreaKHis_v1 --cache_dir=/shared/cache [BEAM'S OPTIONS]
    python -m data.spread --data_dir=... --cache_dir=... --direct_num_workers=0 \
        --direct_running_mode=multi_processing

Validates, hashes and stores the images as the first start of a run does, with the same result; that
run then finds them. Needs the extra ``beam``, here and on the workers, which must see both folders
under the same paths. Beam's options choose the engine; by default it is this machine. An archive
can only be read from its beginning: extract it first.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from data import sources
from data.candidates import Problem
from data.filenames import ImageName
from data.sources import ImageFacts, Source, SourceImage
from se_resnet.errors import UserError
from se_resnet.runtime.cli import ArgumentParser, mistakes_told, path_option
from se_resnet.runtime.files import user_cache_dir, write_json


@dataclasses.dataclass(frozen=True)
class Checked:
    """An image that was found usable.

    Attributes:
        path: relative to the tree.
        name: of the file.
        digest: of its pixels, see :class:`data.sources.ImageFacts`.
        content: SHA-256 of the file.
    """

    path: str
    name: ImageName
    digest: str
    content: str


def pipeline_options(options: list[str]) -> Any:
    """Beam's ``PipelineOptions``.

    Raises:
        UserError: Beam is not installed.
    """
    return _import_beam().options.pipeline_options.PipelineOptions(options)


def check(source: Source, options: list[str], folder: Path) -> tuple[list[Checked], list[Problem]]:
    """Validates every candidate image of a tree: what :func:`data.sources.scan` does.

    Args:
        source: what :func:`data.sources.find` found.
        options: of Beam.
        folder: where workers can leave what they found.

    Returns:
        The usable images and the others, each in the order of their paths.

    Raises:
        UserError: the source is an archive.
    """
    if source.is_archive:
        raise UserError(
            f"{source.path} is an archive, which Apache Beam cannot divide: extract it and give "
            "the folder."
        )
    named = sources.check_names(source)
    found = folder / "found.json"
    beam = _import_beam()
    with beam.Pipeline(options=pipeline_options(options)) as pipeline:
        _ = (
            pipeline
            | beam.Create(list(enumerate(named)))
            | beam.Reshuffle()
            | beam.Map(functools.partial(_check_one, source.path))
            | beam.combiners.ToList()
            | beam.Map(functools.partial(_write, found))
        )
    checked, problems = [], []
    for number, *facts in sorted(json.loads(found.read_text())):
        path, name = named[number]
        if len(facts) == 2:
            assert isinstance(name, ImageName)
            checked.append(Checked(path, name, *facts))
        else:
            problems.append(Problem(path, *facts))
    found.unlink()
    return checked, problems


def read(
    source: Source, checked: list[Checked], example_of: Callable[[SourceImage], tuple[int, dict]]
) -> Any:
    """A transform that reads the usable images again, as the examples that TFDS stores."""
    beam = _import_beam()
    return (
        beam.Create(checked)
        | beam.Reshuffle()
        | beam.Map(functools.partial(_read_one, source.path, example_of))
    )


def _import_beam() -> Any:
    try:
        import apache_beam.options.pipeline_options
    except ImportError as error:
        raise UserError(
            "Apache Beam is not installed: install the extra 'beam' as constraints-beam.txt says."
        ) from error
    return apache_beam


def _check_one(root: Path, numbered: tuple[int, tuple[str, ImageName | Problem]]) -> tuple:
    number, (path, name) = numbered
    image = name if isinstance(name, Problem) else sources.read_image(root, path, name)
    if isinstance(image, Problem):
        return number, image.reason
    return number, image.facts.digest, hashlib.sha256(image.data).hexdigest()


def _write(path: Path, found: list[tuple]) -> None:
    write_json(path, found)


def _read_one(
    root: Path, example_of: Callable[[SourceImage], tuple[int, dict]], image: Checked
) -> tuple[int, dict[str, Any]]:
    data = (root / image.path).read_bytes()
    if hashlib.sha256(data).hexdigest() != image.content:
        raise RuntimeError(f"{image.path} has changed since it was validated")
    return example_of(SourceImage(image.path, image.name, data, ImageFacts(0, 0, image.digest)))


def main() -> None:
    """The command."""
    parser = ArgumentParser("python -m data.spread", __doc__ or "")
    parser.add_argument("--data_dir", required=True, type=path_option, help="a BreaKHis tree")
    parser.add_argument("--cache_dir", default="", type=path_option, help="as config.data has it")
    parser.add_argument("--on_bad_image", choices=("error", "skip"), default="error")
    flags, options = parser.parse_known_args()
    from data.breakhis import prepare  # imports TensorFlow

    root = user_cache_dir(flags.cache_dir)
    prepared = prepare(flags.data_dir, root, flags.on_bad_image, options)
    print("\n".join([prepared.summary.describe(), *prepared.walk]))


if __name__ == "__main__":
    with mistakes_told():
        main()
