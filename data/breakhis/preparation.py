"""Prepares BreaKHis once by the TensorFlow Datasets builder, and reads the prepared images."""

from __future__ import annotations

import contextlib
import dataclasses
import io
from collections.abc import Collection, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import tensorflow_datasets as tfds
from absl import logging as absl_logging
from google.protobuf.json_format import ParseError

from data.breakhis import image_files
from data.breakhis.builder import SPLIT, Breakhis
from data.breakhis.image_files import Source
from data.breakhis.summary import Summary
from data.disk import unfinished
from se_resnet.errors import UserError
from se_resnet.images.image_location import read_existing
from se_resnet.runs.image_source import BREAKHIS, ImageSource


@dataclasses.dataclass(frozen=True)
class Prepared:
    """Validated images, ready to be read.

    Attributes:
        num_images: number of images.
        summary: complete or a subset, counts, duplicates, skipped files.
        fingerprint: identity of the content: SHA-256 of sorted file names and pixel digests.
        path: folder that TFDS reads.
        found: the tree or archive that they come from.
        walk: lines about trees read together and files that were not read.
    """

    num_images: int
    summary: Summary
    fingerprint: str
    path: Path
    found: Source
    walk: tuple[str, ...] = ()

    @property
    def source(self) -> ImageSource:
        """BreaKHis."""
        return BREAKHIS

    @property
    def skipped(self) -> list[tuple[str, str]]:
        """Path and reason of every file that was left out."""
        return [(problem.path, problem.reason) for problem in self.summary.skipped]

    def examples(self) -> Iterator[dict[str, Any]]:
        """Reads the images, in an order that depends only on their names.

        Yields:
            ``image`` (encoded PNG bytes), ``file``, ``slide``, ``accession``, ``magnification``
            (int), ``subtype``, ``label`` (0 benign, 1 malignant) and ``digest``.
        """
        builder = Breakhis(data_dir=self.path)
        subtype_name = builder.info.features["subtype"].int2str
        images = builder.as_dataset(
            split=SPLIT,
            decoders={"image": tfds.decode.SkipDecoding()},
            read_config=tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False),
        )
        for example in _read_whole(images, self.path):
            yield {
                "image": example["image"],
                "file": example["file_name"].decode(),
                "slide": example["slide"].decode(),
                "accession": example["accession"].decode(),
                "magnification": int(example["magnification"]),
                "subtype": subtype_name(example["subtype"]),
                "label": int(example["label"]),
                "digest": example["digest"].decode(),
            }

    def originals(self, files: Collection[str]) -> dict[str, bytes]:
        """Returns the encoded bytes of a few images by name; a file that is gone is left out.

        A tree is read directly. The images of an archive are read again from its preparation.
        """
        if not self.found.is_archive:
            paths = {
                name: self.found.path / file
                for file in self.found.files
                if (name := PurePosixPath(file).name) in files
            }
            return read_existing(paths)
        found: dict[str, bytes] = {}
        for example in self.examples():
            if example["file"] in files:
                found[example["file"]] = example["image"]
            if len(found) == len(files):
                break
        return found


def prepare(
    source: str | Path,
    cache_dir: str | Path,
    on_bad_image: str = "error",
    beam_options: list[str] | None = None,
) -> Prepared:
    """Validates and prepares the images at ``source`` once. Later calls reuse the result.

    Args:
        source: BreaKHis or a part of BreaKHis: a folder at any height above ``benign/`` and
            ``malignant/``, an archive, or the folder of the archive.
        cache_dir: folder for prepared images, which take about the size of the source.
        on_bad_image: ``error`` or ``skip``, see :class:`Breakhis`.
        beam_options: options of Apache Beam, which then does the work; see
            :mod:`data.breakhis.beam`.

    Raises:
        UserError: the source has no usable images, files are unusable under ``error`` (the message
            lists each file with its reason), or ``cache_dir`` is full or not writable.
    """
    found = image_files.find(source)
    # The policy changes the prepared images, so it is part of the key.
    key = f"{image_files.fingerprint(found)[:32]}-{on_bad_image}"
    data_dir = Path(cache_dir).absolute() / "prepared" / key
    with _quiet():
        try:
            builder = Breakhis(data_dir=data_dir, on_bad_image=on_bad_image)
        except ParseError as error:
            raise _damaged(data_dir) from error
        if not Path(builder.data_dir).exists():
            _prepare(found, data_dir, on_bad_image, beam_options)
            builder = Breakhis(data_dir=data_dir)
        try:
            summary = builder.summary
            walk = builder.info.metadata.get("walk", ())
        except (KeyError, TypeError, ValueError) as error:
            raise _damaged(data_dir) from error
    return Prepared(
        num_images=summary.num_images,
        summary=summary,
        fingerprint=summary.fingerprint,
        path=data_dir,
        found=found,
        walk=tuple(walk if found.is_archive else image_files.describe_walk(found)),
    )


def _prepare(
    source: Source, data_dir: Path, on_bad_image: str, beam_options: list[str] | None
) -> None:
    remedy = "set config.data.cache_dir to another folder"
    # TFDS sorts more than 1 GB on disk, but removes each part before it writes the next.
    needed = image_files.size_bytes(source)
    with contextlib.ExitStack() as stack:
        try:
            temporary = stack.enter_context(
                unfinished(data_dir, needed, purpose="preparing", remedy=remedy)
            )
        except OSError as error:
            raise UserError(
                f"{data_dir} cannot be written ({error.strerror}): {remedy}."
            ) from error
        builder = Breakhis(
            data_dir=temporary,
            source=source,
            on_bad_image=on_bad_image,
            beam_options=beam_options,
        )
        written = Path(builder.data_dir)
        finished = data_dir / written.relative_to(temporary)
        try:
            builder.download_and_prepare(download_config=_download_config(beam_options))
            finished.parent.mkdir(parents=True, exist_ok=True)
            written.rename(finished)
        except (OSError, RuntimeError) as error:  # a full disk comes as either
            # Another process may have prepared the same images and renamed its folder first.
            if not finished.exists():
                raise UserError(f"preparing into {data_dir} failed: {error}.") from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps TFDS from logging, printing and showing progress bars."""
    tfds.disable_progress_bar()
    before = absl_logging.get_verbosity()
    absl_logging.set_verbosity(absl_logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        absl_logging.set_verbosity(before)


def _read_whole(images: Any, path: Path) -> Iterator[dict[str, Any]]:
    import tensorflow as tf

    try:
        yield from images.as_numpy_iterator()
    except tf.errors.OpError as error:
        raise _damaged(path) from error


def _damaged(path: Path) -> UserError:
    return UserError(
        f"the prepared images in {path} are damaged: delete that folder and run again."
    )


def _download_config(beam_options: list[str] | None) -> tfds.download.DownloadConfig | None:
    if beam_options is None:
        return None
    from data.breakhis import beam

    return tfds.download.DownloadConfig(beam_options=beam.pipeline_options(beam_options))
