"""The recorded facts of an evaluated run, read once from its files."""

from __future__ import annotations

import dataclasses
import re
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

from se_resnet.errors import UserError
from se_resnet.metrics.decision import FORM as DECISION_FORM
from se_resnet.metrics.full import at_used_threshold
from se_resnet.metrics.labels import CLASS_NAMES, TUMOUR_TYPES
from se_resnet.metrics.predictions import Predictions
from se_resnet.runs.image_source import ImageSource
from se_resnet.runs.run_files import (
    ALL_FOLDS,
    ESTIMATE_FORM,
    EXCLUDED,
    FOLD,
    METRICS_FORM,
    ROLES,
    SYNTHETIC_PREFIX,
    TEST,
    TRAIN,
    VAL,
)
from se_resnet.runs.run_folder import RunFolder
from se_resnet.runs.workdir import BEST_FORM, flatten
from se_resnet.runtime.schema import Maybe, misfit

_COLUMNS = ("file", "slide", "accession", "magnification", "subtype", "label", "role")
ROLE_NAMES = {TRAIN: "training", VAL: "validation", TEST: "test"}
_NUMBER = (float, None)
_RATIO = dict.fromkeys(("value", "low", "high"), _NUMBER)
_PREVALENCE = {"prevalence": float, "prevalence_given": bool}
# The parts of metrics.json that are used here besides those of run_files.METRICS_FORM.
_METRICS_FORM = METRICS_FORM | {
    "decision": Maybe(
        DECISION_FORM | {f"{name}_patients": Maybe((int, None)) for name in CLASS_NAMES}
    ),
    "decisions": Maybe([DECISION_FORM]),
    "clinical": Maybe(
        (
            _PREVALENCE | {"reason": str},
            _PREVALENCE
            | dict.fromkeys(
                ("ppv", "npv", "positive_likelihood_ratio", "negative_likelihood_ratio"), _RATIO
            )
            | {
                "sensitivity_at_specificity": [_RATIO | {"at": float}],
                "specificity_at_sensitivity": [_RATIO | {"at": float}],
                "patients_needed": (int, None),
            },
        )
    ),
    "p_value": Maybe({"image": _NUMBER, "patient": _NUMBER, "permutations": int}),
    "by_subtype": Maybe({str: {"accuracy": ESTIMATE_FORM}}),
    "magnification_agreement": Maybe({"all_pairs": ESTIMATE_FORM}),
    "folds": Maybe({str: {"mean": _NUMBER, "sd": _NUMBER}}),
    "patient": METRICS_FORM["patient"]
    | {
        "mean_probability": {
            **dict.fromkeys(("accuracy", "roc_auc", "recall", "specificity"), ESTIMATE_FORM),
            "confusion": dict.fromkeys(("tp", "fp", "tn", "fn"), int),
        }
    },
}
_OPTIONAL = ("skipped_files.csv", "software.json", "weights.json")
Row = Mapping[str, str]  # of split.csv


@dataclasses.dataclass(frozen=True)
class Sizes:
    """Counts of a group of images; None where the files do not hold the number.

    Attributes:
        images: number of images.
        slides: number of slides.
        patients: number of patients.
    """

    images: int
    slides: int | None
    patients: int | None


def sizes(rows: Iterable[Row]) -> Sizes:
    """Counts images, slides and patients.

    A table without a column of slides has the patient in its place; its slides are not known.
    """
    rows = list(rows)
    slides = {row["slide"] for row in rows}
    known = not rows or any(row["slide"] != row["accession"] for row in rows)
    patients = {row["accession"] for row in rows}
    return Sizes(len(rows), len(slides) if known else None, len(patients))


def scale_of(row: Row) -> int:
    """Returns the magnification of an image; 0 if it is not known."""
    return int(row["magnification"])


def of_class(rows: Iterable[Row], name: str) -> list[Row]:
    """Returns the images of a class, ``benign`` or ``malignant``; of any other name all images."""
    if name not in CLASS_NAMES:
        return list(rows)
    label = str(CLASS_NAMES.index(name))
    return [row for row in rows if row["label"] == label]


def is_synthetic(row: Row) -> bool:
    """Returns whether an image is a blend of other images, as protocol ``source`` makes them."""
    return row["file"].startswith(SYNTHETIC_PREFIX)


def images_per_patient(rows: Iterable[Row]) -> tuple[float, int, int] | None:
    """Returns median, minimum and maximum of the images of a patient; None without images."""
    counts = Counter(row["accession"] for row in rows).values()
    return (statistics.median(counts), min(counts), max(counts)) if counts else None


@dataclasses.dataclass(frozen=True)
class Training:
    """The recorded facts of one trained network.

    Attributes:
        run: folder of the run, or of the fold of a cross-validation.
        prefix: path from the studied run to ``run``, such as ``fold0/``; empty for a single run.
        data: content of ``data.json``.
        rows: lines of ``split.csv``.
        skipped: lines of ``skipped_files.csv``.
        weights: content of ``weights.json``; None if the version recorded none.
        log: lines of ``metrics.jsonl``.
        network: facts of the evaluated checkpoint: ``model``, ``preprocessing``, ``size``,
            ``resize`` and ``decision``.
        step: training step of the evaluated weights.
        last_step: last training step of the run.
    """

    run: RunFolder
    prefix: str
    data: dict[str, Any]
    rows: list[dict[str, str]]
    skipped: list[dict[str, str]]
    weights: dict[str, Any] | None
    log: list[dict[str, Any]]
    network: dict[str, Any]
    step: int
    last_step: int

    @classmethod
    def read(cls, run: RunFolder, prefix: str = "") -> Training:
        """Reads the files of a run.

        Raises:
            UserError: a file is missing or broken.
        """
        network = run.checkpoints.best_facts(BEST_FORM)
        step = run.checkpoints.steps("best")[-1]
        return cls(
            run=run,
            prefix=prefix,
            data=run.data_facts(),
            rows=run.split(_COLUMNS),
            skipped=run.skipped_files(),
            weights=run.weights_facts(),
            log=run.log(),
            network=network,
            step=step,
            last_step=max([step, *run.checkpoints.steps("latest")]),
        )

    def role(self, role: str) -> list[dict[str, str]]:
        """Returns the images of a role: ``train``, ``val``, ``test`` or ``excluded``."""
        return [row for row in self.rows if row["role"] == role]

    @property
    def photographs(self) -> list[dict[str, str]]:
        """The images that are not synthetic."""
        return [row for row in self.rows if not is_synthetic(row)]

    @property
    def with_role(self) -> list[dict[str, str]]:
        """The images that have a role."""
        return [row for row in self.rows if row["role"] in ROLES]

    @property
    def copies(self) -> Sizes:
        """The images that were left out because another file shows the same image.

        Slides and patients are not known where images were left out for another reason too.
        """
        excluded = sizes(self.role(EXCLUDED))
        copies = self.data["audit"]["excluded_copies"]
        return excluded if copies == excluded.images else Sizes(copies, None, None)

    @property
    def epoch(self) -> float | None:
        """The epoch of the evaluated weights, if the log holds it."""
        return self._logged("epoch")

    @property
    def validation_auc(self) -> float | None:
        """The validation ROC AUC of the evaluated weights, if the log holds it."""
        return self._logged("val/roc_auc")

    def _logged(self, name: str) -> float | None:
        values = [line[name] for line in self.log if line["step"] == self.step and name in line]
        return values[-1] if values else None


def _prefix(run: RunFolder, network: RunFolder) -> str:
    """Returns the path from a run to one of its networks, with a slash; empty for the run."""
    path = network.path.relative_to(run.path).as_posix()
    return "" if path == "." else f"{path}/"


@dataclasses.dataclass(frozen=True)
class Study:
    """The recorded facts of an evaluated run or cross-validation.

    Attributes:
        run: folder of the run.
        config: content of ``config.json``.
        trainings: the network of a single run, or the networks of all folds; of an ensemble its
            first member.
        metrics: content of ``metrics.json``, with the main parts at the threshold of the run, see
            :func:`se_resnet.metrics.full.at_used_threshold`.
        predictions: content of ``predictions.csv``.
        evaluation: path of the evaluation's folder from the run, for example ``eval/test``.
        notes: remarks on the predictions, such as the views of test-time augmentation.
    """

    run: RunFolder
    config: dict[str, Any]
    trainings: tuple[Training, ...]
    metrics: dict[str, Any]
    predictions: Predictions
    evaluation: str
    notes: tuple[str, ...] = ()

    @classmethod
    def read(
        cls,
        run: RunFolder,
        metrics: dict[str, Any],
        predictions: Predictions,
        evaluation: str = "eval/test",
        notes: Sequence[str] = (),
    ) -> Study:
        """Reads the files of a run, or of all folds of a cross-validation.

        Args:
            run: folder of the run.
            metrics: content of ``metrics.json`` of the evaluation.
            predictions: content of ``predictions.csv`` of the evaluation.
            evaluation: path of the evaluation's folder, to name its files.
            notes: remarks on the predictions.

        Raises:
            UserError: a file is missing or broken.
        """
        if problem := misfit(metrics, _METRICS_FORM):
            raise UserError(
                f"metrics.json in {run.path / evaluation} cannot be used ({problem}): run eval.py "
                "again."
            )
        config = run.config()
        kind, parts = run.begun_parts()
        trained = [part.networks()[0] for part in parts] if kind == FOLD else run.networks()[:1]
        trainings = tuple(Training.read(network, _prefix(run, network)) for network in trained)
        used = at_used_threshold(metrics)
        return cls(run, config, trainings, used, predictions, evaluation, tuple(notes))

    @property
    def first(self) -> Training:
        """The only or first network, which shares the settings of all."""
        return self.trainings[0]

    @property
    def is_cross_validation(self) -> bool:
        """True if the networks of several folds are evaluated together."""
        return bool(self.setting("split.fold") == ALL_FOLDS)

    @property
    def members(self) -> int:
        """The number of networks whose mean logit predicts a test image."""
        return self.setting("ensemble.members") or 1

    @property
    def source(self) -> ImageSource:
        """The data set of the run: BreaKHis, or a table."""
        return ImageSource.from_facts(self.first.data)

    @cached_property
    def scales(self) -> list[int]:
        """The known magnifications of the images used, sorted."""
        return sorted({scale_of(row) for row in self.used} - {0})

    @cached_property
    def subtypes(self) -> list[str]:
        """The known subtypes of the images used, those of benign images first."""
        labels = {row["subtype"]: row["label"] for row in self.used if row["subtype"]}
        return sorted(labels, key=lambda name: (labels[name], name))

    @property
    def further_columns(self) -> list[str]:
        """The names of the further columns of the table of images."""
        known = (*_COLUMNS, "fold")
        return [name for name in self.first.rows[0] if name not in known]

    def type_name(self, subtype: str) -> str:
        """Returns the name of a subtype; those of BreaKHis have abbreviations."""
        if not subtype:
            return "unknown"
        return TUMOUR_TYPES.get(subtype, subtype) if self.source.is_breakhis else subtype

    @property
    def subtype_noun(self) -> str:
        """The noun for a subtype: ``tumour type`` in BreaKHis."""
        return "tumour type" if self.source.is_breakhis else "subtype"

    def setting(self, name: str) -> Any:
        """Returns a field of ``config.json`` such as ``optim.learning_rate``; None if absent."""
        return flatten(self.config).get(name)

    def files(self, *names: str) -> tuple[str, ...]:
        """Returns paths of files as tables name them.

        Args:
            names: files of the run. Files of each fold get the prefix ``fold*/``, those of each
                member of an ensemble ``member*/``; ``config.json``
                lies in the folder of a cross-validation too. ``metrics.json`` and
                ``predictions.csv`` lie in the evaluation's folder. Files that older versions did
                not write are left out where they are missing.
        """
        return tuple(
            self._file(name)
            for name in names
            if name not in _OPTIONAL or (self.first.run.path / name).exists()
        )

    def _file(self, name: str) -> str:
        if name in ("metrics.json", "predictions.csv", "report.html"):
            return f"{self.evaluation}/{name}"
        folder = "fold*/" if self.is_cross_validation else ""
        folder += "member*/" if self.members > 1 else ""
        return name if name == "config.json" else f"{folder}{name}"

    def role(self, role: str) -> list[dict[str, str]]:
        """Returns the images of a role over all folds, each image once."""
        found: dict[str, dict[str, str]] = {}
        for training in self.trainings:
            for row in training.role(role):
                found.setdefault(row["file"], row)
        return list(found.values())

    @cached_property
    def used(self) -> list[dict[str, str]]:
        """The images that have a role in the analysis; each image once over all folds."""
        used = {row["file"] for training in self.trainings for row in training.with_role}
        return [row for row in self.first.rows if row["file"] in used]

    @property
    def copies(self) -> Sizes:
        """The images that were left out because another file shows the same image.

        Where a fold excludes both images of a pair by their magnification, another fold counts.
        """
        return max((training.copies for training in self.trainings), key=lambda copy: copy.images)

    def magnifications_of(self, role: str) -> list[int]:
        """Returns the magnifications that a role takes by the configuration; empty for all."""
        option = "test" if role == TEST else "train"
        return self.setting(f"split.{option}_magnifications") or []

    @property
    def excluded_by_magnification(self) -> int:
        """The number of images at magnifications that the roles of their patient do not take."""
        return self._without_role if any(map(self.magnifications_of, ROLES)) else 0

    @property
    def _without_role(self) -> int:
        """The number of images that the division does not contain and that are no copies."""
        return len(self.first.rows) - len(self.used) - self.copies.images

    @property
    def evaluated(self) -> list[dict[str, str]]:
        """The evaluated images as rows with ``file``, ``slide``, ``accession``, ``label``, ..."""
        columns = {
            name: column.tolist()
            for name, column in self.predictions.columns().items()
            if name != "probability"
        }
        return [
            {name: str(value) for name, value in zip(columns, values, strict=True)}
            for values in zip(*columns.values(), strict=True)
        ]

    @property
    def evaluated_roles(self) -> Counter[str]:
        """The number of evaluated images by role; ``""`` for images that ``split.csv`` lacks.

        In a cross-validation an image counts as ``test`` if a fold tests it.
        """
        role_of: dict[str, str] = {}
        for training in self.trainings:
            for row in training.rows:
                if role_of.get(row["file"]) != TEST:
                    role_of[row["file"]] = row["role"]
        return Counter(role_of.get(name, "") for name in self.predictions.file.tolist())

    @property
    def found(self) -> Sizes:
        """The readable images at the path, before any choice."""
        number = r"([\d,]+)"
        pattern = (
            rf"(?:complete|subset): {number}(?: of {number})? images, {number} slides, "
            rf"{number} accessions"
        )
        description = self.first.data["description"]
        counted = sizes(self.first.photographs)
        line = rf".*: {number} images of {number} patients$"
        of_table = re.match(line, description, re.MULTILINE)
        if of_table and not self.source.is_breakhis:
            images, patients = (int(text.replace(",", "")) for text in of_table.groups())
            # The description does not count slides, and the magnifications may leave images out.
            return Sizes(images, counted.slides if counted.images == images else None, patients)
        if match := re.match(pattern, description):
            images, slides, patients = (int(match[i].replace(",", "")) for i in (1, 3, 4))
            return Sizes(images, slides, patients)
        return counted

    @property
    def other_magnifications(self) -> int:
        """The number of images left out because of their magnification."""
        pattern = r"^left out: ([\d,]+) images of other magnifications"
        match = re.search(pattern, self.first.data["description"], re.MULTILINE)
        return int(match[1].replace(",", "")) if match else 0

    @property
    def not_taken(self) -> int:
        """The number of readable images that the protocol did not take into the split."""
        split = len(self.first.photographs)
        unlisted = max(0, self.found.images - self.other_magnifications - split)
        return unlisted + self._without_role - self.excluded_by_magnification
