"""Example images for a run: from its test set if available, else the project's sample."""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from se_resnet.images.decode import SUFFIXES
from se_resnet.metrics.labels import CLASS_NAMES
from se_resnet.predict.patients import breakhis_scale
from se_resnet.runs.ensembles import joined_data_facts, joined_split
from se_resnet.runs.image_source import ImageSource
from se_resnet.runs.run_files import TEST
from se_resnet.runs.run_folder import RunFolder
from se_resnet.runtime.paths import SAMPLE_FOLDER
from se_resnet.runtime.tables import read_table


@dataclasses.dataclass(frozen=True)
class Sample:
    """An image with a known diagnosis.

    Attributes:
        path: the file.
        diagnosis: ``benign`` or ``malignant``.
        magnification: for example 200; 0 if it is not known.
        role: role in the run: ``train``, ``val``, ``test`` or ``excluded``; empty if the image is
            not part of the run.
    """

    path: Path
    diagnosis: str
    magnification: int
    role: str

    @property
    def um_per_px(self) -> float | None:
        """Scale in micrometres per pixel by the BreaKHis name; None if it is not known."""
        return breakhis_scale(self.path.name)


def find_samples(workdir: Path, config: Mapping[str, Any], count: int = 6) -> list[Sample]:
    """Chooses images of both classes and of several magnifications and patients.

    Args:
        workdir: folder of the run.
        config: configuration of the run.
        count: maximum number of images.

    Returns:
        Test images of the run. If its folder of images is missing or an archive, images of the
        project's sample, with the roles that their names have in the run. Empty for a run on a
        table, which images of BreaKHis do not represent.
    """
    run = RunFolder(workdir)
    split = joined_split(run, ("file", "magnification", "label", "role"))
    rows = {row["file"]: row for row in split}
    folder = Path(config["data"]["dir"])
    if os.path.isdir(folder):  # False for an invalid path, too
        paths = {path.name: path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES}
        tested = [
            Sample(
                paths[name],
                CLASS_NAMES[int(row["label"])],
                int(row["magnification"]),
                role=TEST,
            )
            for name, row in rows.items()
            if row["role"] == TEST and name in paths
        ]
        if tested:
            return _choose(tested, count)
    is_breakhis = ImageSource.from_facts(joined_data_facts(run)).is_breakhis
    if not is_breakhis or not (SAMPLE_FOLDER / "manifest.csv").exists():
        return []
    shipped = read_table(SAMPLE_FOLDER / "manifest.csv", ("path", "class", "magnification"))
    samples = [
        Sample(
            SAMPLE_FOLDER / row["path"],
            row["class"],
            int(row["magnification"]),
            role=rows.get(Path(row["path"]).name, {"role": ""})["role"],
        )
        for _, row in shipped
    ]
    # Training images are a last resort, because they show little.
    unseen = [sample for sample in samples if sample.role in (TEST, "")]
    return _choose(unseen or samples, count)


def _choose(samples: list[Sample], count: int) -> list[Sample]:
    """Alternates the classes; varies slides and magnifications within each class."""

    def ranked_by_variety(diagnosis: str) -> list[Sample]:
        seen: dict[Any, int] = {}
        ranked = []
        for sample in samples:
            if sample.diagnosis == diagnosis:
                slide, scale = sample.path.name.rsplit("-", 2)[0], sample.magnification
                rank = seen.get(slide, 0), seen.get(scale, 0)
                seen[slide], seen[scale] = rank[0] + 1, rank[1] + 1
                ranked.append((rank, sample.path.name, sample))
        return [sample for *_, sample in sorted(ranked, key=lambda entry: entry[:2])]

    pairs = itertools.zip_longest(*map(ranked_by_variety, CLASS_NAMES))
    return [sample for pair in pairs for sample in pair if sample][:count]
