"""The grammar of BreaKHis file names.

``SOB_B_A-14-22549AB-40-001.png`` reads: surgical open biopsy, benign, adenosis, year 14,
accession number 22549, sections AB, magnification 40X, image 001.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from se_resnet.metrics.labels import CLASS_NAMES, MAGNIFICATIONS, MAGNIFICATIONS_TEXT, TUMOUR_TYPES

CLASS_FOLDERS = dict(zip("BM", CLASS_NAMES, strict=True))
SUBTYPE_FOLDERS = {  # the archive has American spelling
    subtype: name.replace("tumour", "tumor").replace(" ", "_")
    for subtype, name in TUMOUR_TYPES.items()
}
SUBTYPES = {"B": ("A", "F", "PT", "TA"), "M": ("DC", "LC", "MC", "PC")}

_NAME = re.compile(
    r"SOB_(?P<tumour_class>[A-Z]+)_(?P<subtype>[A-Z]+)"
    r"-(?P<year>[0-9]{2})-(?P<accession_number>[0-9]+)(?P<section>[A-Z]*)"
    r"-(?P<magnification>[1-9][0-9]*)-(?P<sequence>[0-9]{3})(?P<suffix>\.[A-Za-z0-9]+)"
)


@dataclass(frozen=True)
class ImageName:
    """A parsed file name. ``str()`` returns the file name, with ``.png`` in lower case.

    Attributes:
        tumour_class: ``B`` benign or ``M`` malignant.
        subtype: A, F, PT, TA (benign), DC, LC, MC or PC (malignant).
        year: two digits.
        accession_number: digits, which identify the case of a patient together with the year.
        section: letters of the tissue section, or empty.
        magnification: 40, 100, 200 or 400.
        sequence: number of the image within its slide and magnification, from 1 to 999.
    """

    tumour_class: Literal["B", "M"]
    subtype: str
    year: str
    accession_number: str
    section: str
    magnification: int
    sequence: int

    @property
    def slide(self) -> str:
        """The slide, for example ``SOB_B_A-14-22549AB``."""
        return f"SOB_{self.tumour_class}_{self.subtype}-{self.accession}{self.section}"

    @property
    def accession(self) -> str:
        """Year and accession number, for example ``14-22549``: images of one patient share it."""
        return f"{self.year}-{self.accession_number}"

    @property
    def label(self) -> int:
        """0 benign, 1 malignant."""
        return int(self.tumour_class == "M")

    @property
    def folder(self) -> str:
        """Folder of the file in the official tree.

        For example ``benign/SOB/adenosis/SOB_B_A_14-22549AB/40X``. The name of the slide folder has
        an underscore before the year, the file name has a hyphen.
        """
        slide = f"SOB_{self.tumour_class}_{self.subtype}_{self.accession}{self.section}"
        return (
            f"{CLASS_FOLDERS[self.tumour_class]}/SOB/{SUBTYPE_FOLDERS[self.subtype]}/{slide}/"
            f"{self.magnification}X"
        )

    def columns(self) -> dict[str, str | int]:
        """Returns the columns of :class:`data.records.Records` that the name states."""
        return {
            "file": str(self),
            "slide": self.slide,
            "accession": self.accession,
            "magnification": self.magnification,
            "subtype": self.subtype,
            "label": self.label,
        }

    def __str__(self) -> str:
        return f"{self.slide}-{self.magnification}-{self.sequence:03d}.png"


def parse(name: str) -> ImageName:
    """Parses a BreaKHis file name without its folders.

    Raises:
        ValueError: the name does not follow the grammar. The message states the difference.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise ValueError("the name does not follow SOB_B_A-14-22549AB-40-001.png")
    if match["suffix"].lower() != ".png":
        raise ValueError(
            f"its suffix is {match['suffix']}, but images of BreaKHis are .png files: give those, "
            "or list these images in a table by python -m data.table"
        )
    tumour_class, subtype = match["tumour_class"], match["subtype"]
    if tumour_class not in SUBTYPES:
        raise ValueError(f"class {tumour_class} is unknown: B and M exist")
    if subtype not in SUBTYPES[tumour_class]:
        raise ValueError(
            f"subtype {subtype} is not one of the {CLASS_FOLDERS[tumour_class]} subtypes "
            f"{', '.join(SUBTYPES[tumour_class])}"
        )
    if int(match["magnification"]) not in MAGNIFICATIONS:
        raise ValueError(
            f"magnification {match['magnification']} is unknown: {MAGNIFICATIONS_TEXT} exist"
        )
    if match["sequence"] == "000":
        raise ValueError("images are numbered from 001")
    return ImageName(
        tumour_class="M" if tumour_class == "M" else "B",
        subtype=subtype,
        year=match["year"],
        accession_number=match["accession_number"],
        section=match["section"],
        magnification=int(match["magnification"]),
        sequence=int(match["sequence"]),
    )
