"""Scales of the images of a data set, and images at the scale of a network.

The scale of an image is in the column ``um_per_px`` of its table. An image of BreaKHis has the
scale of its magnification, by its name, unless the table states another.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

from data.breakhis.filenames import parse
from data.records import SYNTHETIC_PREFIX, Records
from se_resnet.errors import UserError, with_items
from se_resnet.images.decode import decode_image
from se_resnet.images.scale import (
    BREAKHIS_UM_PER_PX,
    Scale,
    TiledImage,
    bring_to_scale,
    enlargement_problem,
    parse_um_per_px,
)
from se_resnet.metrics.predictions import Predictions
from se_resnet.runtime.progress_bar import progress_bar

COLUMN = "um_per_px"
_LISTED = 5


def scale_of(file: str, stated: str = "") -> float | None:
    """Returns the scale of an image in micrometres per pixel, or None if the scale is not known.

    >>> scale_of("a.png", "0.42"), scale_of("SOB_B_A-14-22549AB-40-001.png"), scale_of("a.png")
    (0.42, 0.49, None)

    Args:
        file: name of the image.
        stated: the value in the column ``um_per_px`` of a table, or an empty string.

    Raises:
        ValueError: the stated value is not plausible.
    """
    if stated:
        return parse_um_per_px(stated)
    try:
        return BREAKHIS_UM_PER_PX[parse(PurePosixPath(file).name).magnification]
    except ValueError:  # the name of another image
        return None


def count_scales(images: Records | Predictions) -> dict[float | None, int]:
    """Counts images by scale in micrometres per pixel, ascending; None, last, is not known.

    A value that is not plausible counts as not known. Blends of images are not counted.
    """
    return _count(_named(images))


def count_scales_of_rows(rows: Iterable[Mapping[str, str]]) -> dict[float | None, int]:
    """Counts images by scale as :func:`count_scales` does, from rows of a ``split.csv``."""
    return _count((row["file"], row.get(COLUMN, "")) for row in rows)


def check_scales(records: Records, scale: Scale) -> None:
    """Checks that every image can be brought to the scale of a network, before one is read.

    Args:
        records: the images.
        scale: scale of the network.

    Raises:
        UserError: the scale of an image is not known, not plausible or far too large. The message
            counts and names such images.
    """
    _check(_named(records), scale)


def _check(images: Iterable[tuple[str, str]], scale: Scale) -> None:
    total, unknown, wrong = 0, [], []
    for file, stated in images:
        total += 1
        try:
            um_per_px = scale_of(file, stated)
        except ValueError as error:
            wrong.append(f"{file}: {stated} {error}")
            continue
        if um_per_px is None:
            unknown.append(file)
        elif problem := enlargement_problem(um_per_px, scale):
            wrong.append(f"{file}: {problem}")
    if unknown:
        raise UserError(
            f"the scale of {len(unknown):,} of {total:,} images is not known, for example "
            f"{', '.join(unknown[:_LISTED])}: give micrometres per pixel in a column "
            f"{COLUMN!r} of a table of images, or train a run without config.data.um_per_px, which "
            "takes whole images of any scale."
        )
    if wrong:
        sentence = (
            f"the scale of {len(wrong):,} of {total:,} images cannot be used: correct the column "
            f"{COLUMN!r}."
        )
        raise UserError(with_items(sentence, wrong, _LISTED))


def at_scale(example: Mapping[str, Any], scale: Scale) -> TiledImage:
    """Returns a decoded image at the scale of a network.

    Args:
        example: ``image`` (encoded bytes), ``file`` and, of a table, ``um_per_px``.
        scale: scale of the network.

    Raises:
        UserError: the scale is not known, or the image would have too many pixels or tiles. The
            message names the image.
    """
    _check([(example["file"], example.get(COLUMN, ""))], scale)
    um_per_px = scale_of(example["file"], example.get(COLUMN, ""))
    assert um_per_px is not None  # it was checked
    try:
        return bring_to_scale(decode_image(example["image"]), um_per_px, scale)
    except ValueError as error:
        raise UserError(f"{example['file']} {error}.") from error


def chosen_at_scale(
    examples: Iterable[Mapping[str, Any]], records: Records, scale: Scale, order: list[int]
) -> Iterator[TiledImage]:
    """Yields the images of a table at the scale of a network, one in memory at a time.

    Args:
        examples: all images of the data set, see :meth:`data.cache.Images.examples`.
        records: the images to yield.
        scale: scale of the network.
        order: receives the row of ``records`` of each image, in the order of the images.

    Raises:
        UserError: see :func:`at_scale`.
    """
    wanted = {file: row for row, file in enumerate(records.file.tolist())}
    with progress_bar(total=len(wanted), desc="predicting", unit="image") as progress:
        for example in examples:
            row = wanted.pop(example["file"], None)
            if row is not None:
                tiled = at_scale(example, scale)
                order.append(row)
                yield tiled
                progress.update()
    if wanted:
        raise UserError(
            f"{len(wanted):,} images are no longer there, for example {min(wanted)}: run again."
        )


def _named(images: Records | Predictions) -> Iterator[tuple[str, str]]:
    """Yields file and stated scale of each image."""
    files = images.file.tolist()
    stated = images.extra[COLUMN].tolist() if COLUMN in images.extra else [""] * len(files)
    return zip(files, stated, strict=True)


def _count(images: Iterable[tuple[str, str]]) -> dict[float | None, int]:
    counts: Counter[float | None] = Counter()
    for file, stated in images:
        if file.startswith(SYNTHETIC_PREFIX):
            continue
        try:
            counts[scale_of(file, stated)] += 1
        except ValueError:
            counts[None] += 1
    return {scale: counts[scale] for scale in sorted(counts, key=lambda s: (s is None, s or 0))}
