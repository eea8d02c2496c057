"""Images at the scale of a network, and their tiles.

The scale of an image is the side of one of its pixels in micrometres of tissue. Two images of one
scale show a nucleus with equally many pixels, whichever microscope and camera took them.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Any

import cv2
import numpy as np

from se_resnet.images.pixels import ImageError, check_size
from se_resnet.images.resize import resample
from se_resnet.runtime.csv_dialect import parse_number
from se_resnet.runtime.schema import Between

# BreaKHis by magnification: "effective pixel size" in Spanhol et al., A Dataset for Breast Cancer
# Histopathological Image Classification, IEEE TBME 63(7), 2016. Camera pixels of 6.5 micrometres
# lie behind a relay lens of 3.3x and an objective of 4x, 10x, 20x or 40x.
BREAKHIS_UM_PER_PX = {40: 0.49, 100: 0.20, 200: 0.10, 400: 0.05}

# Micrometres. An oil objective of 100x gives about 0.04, a slide in one screen about 50.
SMALLEST, LARGEST = 0.01, 100.0
MAX_ENLARGEMENT = 20  # BreaKHis at 40X becomes 400X by 9.8
MAX_TILES = 4096  # of one image: one of 67 megapixels has 1,400 tiles of 224x224

MAX_FIELD = 8192  # pixels of a side of a tile
# The form of Scale.as_dict(), for se_resnet.runtime.schema.
FORM: dict[str, Any] = {
    "um_per_px": Between(SMALLEST, LARGEST),
    "field": [Between(1, MAX_FIELD), Between(1, MAX_FIELD)],
}


@dataclasses.dataclass(frozen=True)
class Scale:
    """The scale at which a network sees tissue.

    Attributes:
        um_per_px: side in micrometres of the pixels to which every image is resampled.
        field: height and width of a tile in such pixels.
    """

    um_per_px: float
    field: tuple[int, int]

    def describe(self) -> str:
        """Returns for example ``0.5 µm per pixel, tiles of 224x224 pixels (112 x 112 µm)``."""
        height, width = self.field
        sides = " x ".join(f"{side * self.um_per_px:.4g}" for side in self.field)
        return f"{self.um_per_px:g} µm per pixel, tiles of {height}x{width} pixels ({sides} µm)"

    def as_dict(self) -> dict[str, Any]:
        """Returns the scale as JSON values; :func:`scale_of_facts` reads them back."""
        return {"um_per_px": self.um_per_px, "field": list(self.field)}


def describe_scales(counts: Mapping[float | None, int]) -> str:
    """Returns counts of images by scale as text.

    >>> describe_scales({0.1: 30, None: 2})
    '0.1 µm per pixel (30 images), not known (2 images)'

    Args:
        counts: number of images by scale in micrometres per pixel; None stands for not known.
    """
    return ", ".join(
        f"{'not known' if um_per_px is None else f'{um_per_px:g} µm per pixel'} "
        f"({count:,} image{'' if count == 1 else 's'})"
        for um_per_px, count in counts.items()
    )


def configured_scale(settings: Mapping[str, Any]) -> Scale | None:
    """Returns the scale that the fields ``um_per_px`` and ``field`` of ``config.data`` state.

    Args:
        settings: the fields of ``config.data``; ``um_per_px`` of 0 means no scale.
    """
    if not settings.get("um_per_px"):
        return None
    height, width = settings["field"] or settings["size"]
    return Scale(float(settings["um_per_px"]), (height, width))


def scale_of_facts(facts: Mapping[str, Any] | None) -> Scale | None:
    """Returns the scale that :meth:`Scale.as_dict` has written; None stands for no scale."""
    if facts is None:
        return None
    height, width = facts["field"]
    return Scale(float(facts["um_per_px"]), (height, width))


def parse_um_per_px(text: str) -> float:
    """Returns the scale that a text states, in micrometres per pixel.

    >>> parse_um_per_px("0.42")
    0.42

    Raises:
        ValueError: the text is not a plausible scale. The message is worded to follow the text.
    """
    try:
        value = parse_number(text)
    except ValueError:
        raise ValueError("is not a number of micrometres per pixel, for example 0.42") from None
    if problem := um_per_px_problem(value):
        raise ValueError(problem)
    return value


def um_per_px_problem(value: float) -> str:
    """Returns the problem with a scale, worded to follow its value, or an empty string."""
    if SMALLEST <= value <= LARGEST:
        return ""
    return f"is no plausible scale: give micrometres per pixel, from {SMALLEST:g} to {LARGEST:g}"


def enlargement_problem(um_per_px: float, scale: Scale) -> str:
    """Returns the problem with bringing images to a scale, or an empty string.

    Args:
        um_per_px: scale of the images.
        scale: the scale to which they are to be resampled.
    """
    factor = um_per_px / scale.um_per_px
    if factor <= MAX_ENLARGEMENT:
        return ""
    return (
        f"{um_per_px:g} µm per pixel would have to be enlarged {factor:,.0f} times to become "
        f"{scale.um_per_px:g}, more than {MAX_ENLARGEMENT} times, and would show no more than a "
        "blur: correct the scale of the images"
    )


@dataclasses.dataclass(frozen=True)
class TiledImage:
    """An image at the scale of a network, with the tiles that cover it.

    The tiles lie on a grid. They cover the image, overlap as little as possible and are evenly
    spaced, up to whole pixels.

    Attributes:
        pixels: RGB ``uint8 [h, w, 3]``, no side shorter than that of a tile.
        field: height and width of a tile.
        rows: upper edges of the tiles, ascending.
        columns: left edges of the tiles, ascending.
        inner: first row, first column, height and width of the image in ``pixels``. The pixels
            around it are its mirror image.
    """

    pixels: np.ndarray
    field: tuple[int, int]
    rows: tuple[int, ...]
    columns: tuple[int, ...]
    inner: tuple[int, int, int, int]

    def __len__(self) -> int:
        """Returns the number of tiles."""
        return len(self.rows) * len(self.columns)

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yields the tiles row by row, ``uint8 [height, width, 3]``: views into ``pixels``."""
        for number in range(len(self)):
            yield self.tile(number)

    def tile(self, number: int) -> np.ndarray:
        """Returns a tile by its number, from 0, ``uint8 [height, width, 3]``."""
        row, column = divmod(number, len(self.columns))
        return self._cut(self.rows[row], self.columns[column])

    @property
    def middle(self) -> np.ndarray:
        """The tile in the middle of the image, ``uint8 [height, width, 3]``."""
        height, width = self.pixels.shape[:2]
        return self._cut((height - self.field[0]) // 2, (width - self.field[1]) // 2)

    @property
    def is_mirrored(self) -> bool:
        """True if the image is smaller than a tile, which then shows a mirror image around it."""
        return self.inner[2:] != self.pixels.shape[:2]

    def _cut(self, top: int, left: int) -> np.ndarray:
        return self.pixels[top : top + self.field[0], left : left + self.field[1]]

    def shown(self, longest: int) -> np.ndarray:
        """Returns the image without the mirrored border, no side longer than ``longest`` pixels."""
        top, left, height, width = self.inner
        image = self.pixels[top : top + height, left : left + width]
        factor = min(1.0, longest / max(height, width))
        size = (max(1, round(width * factor)), max(1, round(height * factor)))
        return cv2.resize(image, size, interpolation=cv2.INTER_AREA)

    def blend(self, values: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
        """Returns a map of the tiles' values over the image.

        A pixel has the mean value of the tiles that cover its centre.

        Args:
            values: ``[T]``, one value per tile, in the order of the tiles.
            shape: height and width of the map, which covers the image without mirrored border.

        Returns:
            ``float64 [height, width]``.
        """
        *_, height, width = self.inner
        vertical = _shares(self.rows, self.field[0], height, shape[0])
        horizontal = _shares(self.columns, self.field[1], width, shape[1])
        return vertical.T @ values.reshape(len(self.rows), len(self.columns)) @ horizontal


def bring_to_scale(image: np.ndarray, um_per_px: float, scale: Scale) -> TiledImage:
    """Returns an image at the scale of a network, with the tiles that cover it.

    Shrinking averages over areas, enlarging interpolates linearly, as
    :func:`se_resnet.images.resize.resample` does. A side shorter than that of a tile is mirrored at
    both borders.

    Args:
        image: RGB ``uint8 [h, w, 3]``.
        um_per_px: scale of the image, in micrometres per pixel.
        scale: the scale of the network.

    Raises:
        ImageError: the scale is not plausible, or the image would have too many pixels or tiles.
            A ``ValueError``, worded to follow the name of the image.
    """
    if problem := um_per_px_problem(um_per_px):
        raise ImageError(f"has a scale of {um_per_px:g}, which {problem}")
    if problem := enlargement_problem(um_per_px, scale):
        raise ImageError(f"cannot be brought to the network's scale: {problem}")
    factor = um_per_px / scale.um_per_px
    height, width = (max(1, round(side * factor)) for side in image.shape[:2])
    count = math.prod(
        max(1, math.ceil(side / tile))
        for side, tile in zip((height, width), scale.field, strict=True)
    )
    remedy = (
        f"its scale of {um_per_px:g} µm per pixel becomes {scale.um_per_px:g}: correct the scale "
        "if it is wrong, or cut the image into smaller ones"
    )
    if count > MAX_TILES:
        raise ImageError(
            f"would have {width:,}x{height:,} pixels at the network's scale, which are {count:,} "
            f"tiles, more than {MAX_TILES:,}; {remedy}"
        )
    try:
        check_size(width, height)
    except ImageError as error:
        raise ImageError(f"{error} at the network's scale; {remedy}") from None
    at_scale = resample(image, height, width)
    short = [max(0, tile - side) for side, tile in zip((height, width), scale.field, strict=True)]
    (top, bottom), (left, right) = ((side // 2, side - side // 2) for side in short)
    if any(short):
        at_scale = np.pad(at_scale, ((top, bottom), (left, right), (0, 0)), "symmetric")
    return TiledImage(
        at_scale,
        scale.field,
        tile_starts(at_scale.shape[0], scale.field[0]),
        tile_starts(at_scale.shape[1], scale.field[1]),
        (top, left, height, width),
    )


def tile_starts(length: int, tile: int) -> tuple[int, ...]:
    """Returns the first pixels of the tiles that cover a side.

    They are as few as possible and evenly spaced, up to whole pixels.

    >>> tile_starts(700, 224)
    (0, 159, 317, 476)

    Args:
        length: of the side in pixels, at least ``tile``.
        tile: length of a tile.
    """
    count = math.ceil(length / tile)
    # Integers only: rounds (length - tile) * number / (count - 1) to the nearest, halves up.
    gaps = max(1, count - 1)
    return tuple((2 * (length - tile) * number + gaps) // (2 * gaps) for number in range(count))


def _shares(starts: tuple[int, ...], tile: int, length: int, pixels: int) -> np.ndarray:
    """Returns the share of each tile in each pixel of a map along one side: ``[tiles, pixels]``.

    A mirrored side has a single tile, so the width of its border does not matter.
    """
    centres = (np.arange(pixels) + 0.5) * length / pixels
    edges = np.array(starts)[:, None]
    covers = ((edges <= centres) & (centres < edges + tile)).astype(np.float64)
    return covers / covers.sum(axis=0)
