"""Sentences about the scale of images and networks, for the report and the screen."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from se_resnet.images.scale import Scale, describe_scales


def scale_notes(
    scale: Scale | None, evaluated: Mapping[float | None, int], tiles: Sequence[int] = ()
) -> list[str]:
    """Returns notes on the scale of the network and of the evaluated images.

    Args:
        scale: scale of the network; None if it takes whole images of any scale.
        evaluated: see :func:`se_resnet.images.scale.describe_scales`.
        tiles: number of tiles of each evaluated image, for a network with a scale.

    Returns:
        Sentences. A network without a scale gets one only if the scale of an image is not known.
    """
    if scale is None:
        unknown = evaluated.get(None, 0)
        total = sum(evaluated.values())
        if not unknown:
            return []
        if unknown == total:
            return ["The scale of the evaluated images is not known."]
        return [f"The scale of {unknown:,} of the {total:,} evaluated images is not known."]
    notes = [
        f"The network sees tissue at {scale.describe()}. Scale of the evaluated images: "
        f"{describe_scales(evaluated)}; each was resampled to that of the network."
    ]
    if tiles:
        notes.append(
            f"Tiles: {sum(tiles):,}, at most {max(tiles):,} of an image. The logit of an image is "
            "the mean over all its tiles. Pictures of an image below show its middle tile."
        )
    if tiles and max(tiles) > 1:
        notes.append(
            "Threshold and temperature were chosen on the middle tiles of the validation images."
        )
    return notes


def training_scale_notes(
    magnifications: Sequence[int],
    trained: Mapping[float | None, int],
    evaluated: Mapping[float | None, int],
) -> list[str]:
    """Returns a note that compares the scale of other images with that of the training images.

    Args:
        magnifications: of the training images; empty if they are not known.
        trained: scales of the training images, see :func:`se_resnet.images.scale.describe_scales`.
        evaluated: scales of the evaluated images.
    """
    named = ", ".join(f"{magnification}X" for magnification in magnifications)
    return [
        f"Magnification of the training images: {named or 'not known'}. Scale of the training "
        f"images: {describe_scales(trained)}. Scale of the evaluated images: "
        f"{describe_scales(evaluated)}."
    ]


def scale_warnings(
    scale: Scale | None,
    trained: Mapping[float | None, int],
    evaluated: Mapping[float | None, int],
) -> list[str]:
    """Returns a warning if a network without a scale meets images of another scale.

    Args:
        scale: scale of the network, or None.
        trained: scales of the training images, see :func:`se_resnet.images.scale.describe_scales`.
        evaluated: scales of the evaluated images.
    """
    known = [um_per_px for um_per_px in trained if um_per_px]
    if scale or not known:
        return []
    others: dict[float | None, int] = {
        um_per_px: count
        for um_per_px, count in evaluated.items()
        if um_per_px and not any(math.isclose(um_per_px, one, rel_tol=0.01) for one in known)
    }
    if not others:
        return []
    return [
        f"{sum(others.values()):,} of the evaluated images have a scale on which the network was "
        f"not trained: {describe_scales(others)}; the training images have "
        f"{', '.join(f'{um_per_px:g}' for um_per_px in known)}. The network does not know the "
        "scale and sees their cells in another size. A run with config.data.um_per_px would bring "
        "all images to one scale."
    ]
