"""Gives images the roles of a published split."""

from __future__ import annotations

import numpy as np

from data.protocols.published.splits import PublishedSplit
from data.records import Records
from se_resnet.errors import UserError
from se_resnet.runs.run_files import EXCLUDED, ROLES


def image_roles(records: Records, split: PublishedSplit, fold: int, repaired: bool) -> np.ndarray:
    """Returns the role of every image in a split.

    Args:
        records: N images.
        split: the split.
        fold: number of the fold, from 0.
        repaired: True for the repaired fold.

    Returns:
        ``str [N]``: ``train``, ``val``, ``test``, or ``excluded`` where the split lacks the image.
    """
    role_of = split.roles(fold, repaired)
    roles = np.array([role_of.get(slide, EXCLUDED) for slide in records.slide.tolist()], "<U8")
    roles[~np.isin(records.magnification, split.magnifications)] = EXCLUDED
    return roles


def published_roles(
    records: Records, split: PublishedSplit, fold: int, repaired: bool
) -> np.ndarray:
    """Returns the roles of :func:`image_roles`, of which none is missing.

    Raises:
        UserError: the images lack a role that the split has.
    """
    roles = image_roles(records, split, fold, repaired)
    role_of = split.roles(fold, repaired)
    for role in ROLES:
        slides = [slide.name for slide in split.slides if role_of[slide.name] == role]
        if slides and not (roles == role).any():
            scales = ", ".join(f"{magnification}X" for magnification in split.magnifications)
            raise UserError(
                f"published split {split.name!r} has no {role} image among these images: its "
                f"{role} slides are {', '.join(slides[:3])}"
                f"{f' and {len(slides) - 3} more' if len(slides) > 3 else ''}, at {scales}. Bring "
                "more of BreaKHis or choose another split."
            )
    return roles
