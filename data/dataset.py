"""Loads the images at a path or of a table: decoded, with records and a description."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from data.breakhis.summary import summarise
from data.cache import Cache, Images, damaged, open_cache, open_or_build
from data.records import Records
from data.scales import count_scales
from data.table.columns import Reading, read_image_table
from data.table.preparation import prepare as prepare_table
from se_resnet.errors import UserError
from se_resnet.images.image_table import is_table
from se_resnet.images.scale import Scale, configured_scale, describe_scales, scale_of_facts
from se_resnet.runs.image_source import BREAKHIS, ImageSource
from se_resnet.runtime.files import user_cache_dir
from se_resnet.runtime.paths import SAMPLE_FOLDER, local_path
from se_resnet.runtime.signals import postponed


class Prepared(Images, Protocol):
    """Validated images of any source, see :class:`data.breakhis.preparation.Prepared`."""

    @property
    def summary(self) -> Any:
        """The summary, with ``describe()``."""
        ...

    @property
    def source(self) -> ImageSource:
        """BreaKHis, or the table."""
        ...

    @property
    def skipped(self) -> list[tuple[str, str]]:
        """Path and reason of every file that was left out."""
        ...

    @property
    def walk(self) -> tuple[str, ...]:
        """Lines about trees read together and files that were not read."""
        ...

    def originals(self, files: Collection[str]) -> dict[str, bytes]:
        """Returns the encoded bytes of a few images by name."""
        ...


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Images ready for training and evaluation.

    Attributes:
        images: ``uint8 [N, H, W, 3]`` RGB, memory-mapped.
        records: M of the N images, with the wanted magnifications.
        fingerprint: identity of the pixels and their records.
        description: text for the user: complete or subset, duplicates, skipped files, and the
            ``notes``.
        skipped: path and reason of each file left out.
        notes: lines about trees read together, files that are not read, other magnifications and
            scales.
        most_tiles: largest number of tiles of an image; ``images`` holds the middle tiles. 1
            without a scale.
        encoded: returns all images again, see :meth:`data.cache.Images.examples`; None if only
            their pixels are here.
        originals: returns the encoded bytes of a few images by name, without those that are gone;
            None if only their pixels are here.
        source: BreaKHis, or the table.
    """

    images: np.ndarray
    records: Records
    fingerprint: str
    description: str
    skipped: list[tuple[str, str]]
    notes: tuple[str, ...] = ()
    most_tiles: int = 1
    encoded: Callable[[], Iterable[Mapping[str, Any]]] | None = None
    originals: Callable[[Collection[str]], Mapping[str, bytes]] | None = None
    source: ImageSource = BREAKHIS


def load_dataset(
    source: str,
    *,
    size: tuple[int, int] = (224, 224),
    resize: str = "squash",
    magnifications: tuple[int, ...] = (),
    on_bad_image: str = "error",
    cache_dir: str = "",
    positive: str = "",
    negative: str = "",
    patient: str = "",
    scale: Scale | None = None,
) -> Dataset:
    """Validates, decodes and describes a set of images. A second call is quick.

    Args:
        source: a BreaKHis tree at any nesting, the authors' archive, the folder of the archive,
            ``'sample'`` for the images that ship with the project, a table of any images (see
            :func:`data.table.columns.read_image_table`), or a finished cache folder of this size
            and rule. The last two need no TensorFlow.
        size: height and width in pixels of the decoded images.
        resize: rule that brings an image to that size, see :func:`se_resnet.images.resize.resize`.
        magnifications: magnifications to keep; empty for all.
        on_bad_image: ``'error'`` refuses a set with broken or misnamed files. ``'skip'`` leaves
            such files out.
        cache_dir: folder for decoded images; empty for the user's cache folder.
        positive: labels of a table that mean malignant, see :class:`data.table.columns.Reading`.
        negative: labels of a table that mean benign.
        patient: column of a table with the patients.
        scale: brings the images to this scale and keeps their middle tiles; None resizes whole
            images.

    Raises:
        UserError: there are no usable images, files are broken, a value is out of range, or the
            scale of an image is needed but not known.
    """
    if not source:
        raise no_images_given()
    source = local_path(source, "config.data.dir =")
    if is_cache(Path(source)):
        return _open_finished(Path(source), size, resize, magnifications, scale)
    reading = Reading(positive, negative, patient)
    try:
        root = user_cache_dir(cache_dir)
        prepared = prepare(source, root, on_bad_image, reading)
        cache = open_or_build(prepared, root, size, resize, scale)
    except OSError as error:
        raise UserError(
            f"the cache folder {cache_dir or '$SE_RESNET_CACHE or ~/.cache/se_resnet'} cannot be "
            f"used ({error}): set config.data.cache_dir to another folder."
        ) from error
    return _dataset(
        cache,
        magnifications,
        prepared.summary.describe(),
        prepared.source,
        walk=prepared.walk,
        skipped=prepared.skipped,
        encoded=prepared.examples,
        originals=prepared.originals,
    )


def prepare(
    source: str,
    root: Path,
    on_bad_image: str,
    reading: Reading,
    beam_options: list[str] | None = None,
) -> Prepared:
    """Validates the images at ``source`` once. Later calls reuse the result.

    Args:
        source: as :func:`load_dataset` takes it, without a cache folder.
        root: folder of all caches.
        on_bad_image: ``'error'`` or ``'skip'``.
        reading: for a table.
        beam_options: options of Apache Beam, which then does the work; None for this machine.

    Raises:
        UserError: there are no usable images, or files are broken.
    """
    if is_table(source):
        scan = None
        if beam_options is not None:
            from data.table import beam  # needs Apache Beam

            scan = beam.make_scan(beam_options, root)
        return prepare_table(read_image_table(source, reading), root, on_bad_image, scan)
    check_reading_unused(reading, source)
    with postponed():
        from data.breakhis import preparation  # imports TensorFlow, which takes seconds

    path = SAMPLE_FOLDER if source == "sample" else source
    return preparation.prepare(path, root, on_bad_image, beam_options)


def no_images_given() -> UserError:
    """Returns the error for an empty path of the images."""
    return UserError(
        "config.data.dir is empty: give the path of BreaKHis (tree or archive), of a table of "
        "images, or 'sample' for the images that ship with the project."
    )


def check_reading_unused(reading: Reading, source: str) -> None:
    """Raises a :class:`UserError` if labels or patients of a table are named for other images."""
    if reading.is_given:
        raise UserError(
            f"config.data.positive, negative and patient say how a table is read, and {source} is "
            "none: remove them, or give a .csv, .tsv or .parquet file."
        )


def load_configured(settings: Mapping[str, Any]) -> Dataset:
    """Calls :func:`load_dataset` with the values of ``config.data``."""
    return load_dataset(
        settings["dir"],
        size=settings["size"],
        resize=settings["resize"],
        magnifications=tuple(settings["magnifications"]),
        on_bad_image=settings["on_bad_image"],
        cache_dir=settings["cache_dir"],
        scale=configured_scale(settings),
        **{name: settings.get(name, "") for name in ("positive", "negative", "patient")},
    )


def is_cache(path: Path) -> bool:
    """Returns whether a path is a finished cache folder."""
    try:
        return (path / "cache.json").is_file()
    except OSError:  # the name is too long for the file system
        return False


def _open_finished(
    path: Path,
    size: tuple[int, int],
    resize: str,
    magnifications: tuple[int, ...],
    scale: Scale | None,
) -> Dataset:
    cache = open_cache(path)
    found = scale_of_facts(cache.facts.get("scale"))
    if found != scale:
        raise UserError(
            f"{path} is an image cache {_describe_scale(found)}, not {_describe_scale(scale)}: set "
            "config.data.um_per_px and field to the same values, or give the images that it was "
            "made from."
        )
    for name, wanted in (("size", list(size)), ("resize", resize)):
        if cache.facts.get(name) != wanted:
            raise UserError(
                f"{path} is an image cache with {name} {cache.facts.get(name)}, not {wanted}: set "
                f"config.data.{name} to the same value, or give the images that it was made from."
            )
    files, digests = cache.records.file.tolist(), cache.records.digest.tolist()
    if not all(name.startswith("SOB_") and name.endswith(".png") for name in files):
        patients = len(set(cache.records.accession.tolist()))
        description = f"cache of a table: {len(files):,} images of {patients:,} patients"
        return _dataset(cache, magnifications, description, ImageSource(path.name))
    try:
        description = summarise(dict(zip(files, digests, strict=True))).describe()
    except ValueError as error:  # an image has another name
        raise damaged(path, error) from error
    return _dataset(cache, magnifications, description, BREAKHIS)


def _describe_scale(scale: Scale | None) -> str:
    return f"at {scale.describe()}" if scale else "of whole images without a scale"


def _dataset(
    cache: Cache,
    magnifications: tuple[int, ...],
    description: str,
    source: ImageSource,
    *,
    walk: tuple[str, ...] = (),
    skipped: list[tuple[str, str]] | None = None,
    encoded: Callable[[], Iterable[Mapping[str, Any]]] | None = None,
    originals: Callable[[Collection[str]], Mapping[str, bytes]] | None = None,
) -> Dataset:
    """Returns the images of these magnifications, and describes the images left out."""
    records = cache.records.at_magnifications(magnifications)
    notes = (*walk, *cache.records.describe_left_out(records), *_describe_tiles(cache, records))
    text = "\n".join([description, *notes])
    return Dataset(
        cache.images,
        records,
        cache.fingerprint,
        text,
        skipped or [],
        notes,
        most_tiles=cache.facts.get("most_tiles", 1),
        encoded=encoded,
        originals=originals,
        source=source,
    )


def _describe_tiles(cache: Cache, records: Records) -> list[str]:
    """Returns lines about the scales of images, for a cache with a scale."""
    scale = scale_of_facts(cache.facts.get("scale"))
    if scale is None:
        return []
    scales = describe_scales(count_scales(records))
    lines = [f"brought to {scale.describe()}; scale of the images: {scales}"]
    if mirrored := cache.facts["mirrored"]:
        lines.append(
            f"smaller than a tile and mirrored at the borders: {mirrored:,} of "
            f"{len(cache.records):,} images"
        )
    return lines
