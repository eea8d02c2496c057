"""The slides of BreaKHis with the number of their images, which needs no image."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection

from data.breakhis.official import slide_table


@dataclasses.dataclass(frozen=True)
class Slide:
    """A slide folder of BreaKHis.

    Attributes:
        name: for example ``SOB_B_A-14-22549AB``.
        accession: for example ``14-22549``.
        subtype: tumour type, for example ``A``.
        label: 0 benign, 1 malignant.
        images: number of images at some magnifications.
    """

    name: str
    accession: str
    subtype: str
    label: int
    images: int

    @property
    def number(self) -> str:
        """The third field of its file names: slide number and section letters, ``22549AB``."""
        return self.name.split("-", 2)[2]


def slides_of(tumour_types: Collection[str], magnifications: Collection[int]) -> tuple[Slide, ...]:
    """Returns the slides of these tumour types with their images at these magnifications."""
    return tuple(
        Slide(
            name=row["slide"],
            accession=row["accession"],
            subtype=row["subtype"],
            label=int(row["slide"].startswith("SOB_M")),
            images=sum(int(row[f"n{magnification}"]) for magnification in magnifications),
        )
        for row in slide_table()
        if row["subtype"] in tumour_types
    )
