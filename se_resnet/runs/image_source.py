"""The data set that images come from: BreaKHis, or a table of any images."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from se_resnet.metrics.labels import CLASS_NAMES


@dataclasses.dataclass(frozen=True)
class ImageSource:
    """The data set of a run or of an evaluation.

    Attributes:
        table: file name of the table of images; empty for BreaKHis.
        labels: the labels of the table that mean benign, and those that mean malignant; empty where
            they are not known.
    """

    table: str = ""
    labels: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())

    @property
    def is_breakhis(self) -> bool:
        """True for images of BreaKHis."""
        return not self.table

    @property
    def name(self) -> str:
        """The name of the data set: that of the table's file, or ``BreaKHis``."""
        return self.table or "BreaKHis"

    def facts(self) -> dict[str, Any]:
        """Returns the field ``table`` of ``data.json``; no field for BreaKHis."""
        if self.is_breakhis:
            return {}
        labels = {name: list(self.labels[label]) for label, name in enumerate(CLASS_NAMES)}
        return {"table": {"name": self.table, **labels}}

    @classmethod
    def from_facts(cls, data: Mapping[str, Any]) -> ImageSource:
        """Builds the value from the content of ``data.json``, see :meth:`facts`."""
        table = data.get("table")
        if not table:
            return BREAKHIS
        benign, malignant = (tuple(table[name]) for name in CLASS_NAMES)
        return cls(table["name"], (benign, malignant))

    def explain_classes(self) -> str:
        """Returns the labels of the table that the class names stand for.

        >>> ImageSource("images.csv", (("normal",), ("in situ", "invasive"))).explain_classes()
        "benign stands for 'normal', malignant for 'in situ' or 'invasive'"

        Returns:
            Part of a sentence; empty for BreaKHis, and where the labels have the class names or are
            not known.
        """
        named = [[label.lower() for label in labels] for labels in self.labels]
        if not all(named) or named == [[name] for name in CLASS_NAMES]:
            return ""
        benign, malignant = (" or ".join(map(repr, labels)) for labels in self.labels)
        return f"benign stands for {benign}, malignant for {malignant}"


BREAKHIS = ImageSource()
