"""Names of classes, tumour types and magnifications, and checks of their values in tables."""

from __future__ import annotations

CLASS_NAMES = ("benign", "malignant")  # by label; malignant is the positive class
MAGNIFICATIONS = (40, 100, 200, 400)  # of BreaKHis
MAGNIFICATIONS_TEXT = "40, 100, 200 and 400"  # for messages

TUMOUR_TYPES = {
    "A": "adenosis",
    "F": "fibroadenoma",
    "PT": "phyllodes tumour",
    "TA": "tubular adenoma",
    "DC": "ductal carcinoma",
    "LC": "lobular carcinoma",
    "MC": "mucinous carcinoma",
    "PC": "papillary carcinoma",
}


def magnification_name(magnification: int) -> str:
    """Returns for example ``200X``; 0 means that the magnification is not known."""
    return f"{magnification}X" if magnification else "unknown magnification"


def magnification_problem(text: str) -> str:
    """Returns the problem with a magnification in a table, or an empty string."""
    valid = text.isascii() and text.isdecimal() and len(text) <= 9
    return "" if valid else f"the magnification {text[:20]!r} is not a whole number"


def label_problem(text: str) -> str:
    """Returns the problem with a label in a table, or an empty string."""
    return "" if text in ("0", "1") else f"the label {text[:20]!r} is neither 0 nor 1"
