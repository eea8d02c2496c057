"""Small generated data sets for tests that need no files."""

from __future__ import annotations

import numpy as np

from data.breakhis.filenames import parse
from data.breakhis.official import official_names
from data.records import Records


def make_records(
    benign: int = 12, malignant: int = 20, images: int = 5, magnifications=(40, 200)
) -> Records:
    """``images`` images of each patient at each magnification, all distinct."""
    rows = []
    for patient in range(benign + malignant):
        label = int(patient >= benign)
        letter, subtype = ("M", "DC") if label else ("B", "A")
        slide = f"SOB_{letter}_{subtype}-14-{1000 + patient}"
        for magnification in magnifications:
            for sequence in range(1, images + 1):
                file = f"{slide}-{magnification}-{sequence:03d}.png"
                rows.append(
                    {
                        "file": file,
                        "slide": slide,
                        "accession": f"14-{1000 + patient}",
                        "magnification": magnification,
                        "subtype": subtype,
                        "label": label,
                        "digest": f"digest of {file}",
                    }
                )
    rows.sort(key=lambda row: row["file"])
    return Records.from_rows({**row, "row": number} for number, row in enumerate(rows))


def full_records() -> Records:
    """The full data set by name; accession 14-13412's copies have equal digests."""
    rows = []
    for row, text in enumerate(official_names()):
        twin = text.replace("SOB_M_LC-14-13412", "SOB_M_DC-14-13412")
        rows.append({**parse(text).columns(), "digest": twin, "row": row})
    return Records.from_rows(rows)


def make_images(records: Records, size=(8, 8), seed: int = 0) -> np.ndarray:
    """Random pixels, ``uint8 [N, H, W, 3]``, brighter for malignant so that they can be told."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 156, (len(records), *size, 3))
    order = np.argsort(records.row)
    return (images + 100 * records.label[order, None, None, None]).astype(np.uint8)
