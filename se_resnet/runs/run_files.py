"""Names, forms and readers of the small files of a run; :mod:`se_resnet.runs.run_folder` uses them.

Every reader accepts a regular file of bounded size in UTF-8 whose content has the form given here,
and refuses anything else in one sentence that names the file. Fields that no reader needs are kept
and not checked.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from se_resnet.errors import UserError
from se_resnet.images.scale import FORM as SCALE_FORM
from se_resnet.metrics.labels import label_problem, magnification_problem
from se_resnet.runtime.csv_dialect import LineError
from se_resnet.runtime.files import parse_json, read_json, read_small_file, reason
from se_resnet.runtime.schema import Between, Maybe, misfit
from se_resnet.runtime.tables import read_table

CONFIG, DATA, SPLIT, WEIGHTS = "config.json", "data.json", "split.csv", "weights.json"
METRICS = "metrics.json"

TRAIN, VAL, TEST, EXCLUDED = "train", "val", "test", "excluded"
ROLES = (TRAIN, VAL, TEST)
SYNTHETIC_PREFIX = "synthetic-"  # the start of the file name of a synthetic image
SPLIT_COLUMNS = ("file", "accession", "role")

STRICT, PUBLISHED = "strict", "published"  # values of config.split.protocol
ALL_FOLDS = "all"  # the value of config.split.fold for a cross-validation
NO_FOLD = "none"  # the value of config.split.fold for training on all patients, without a test set
# Parts of a run, from the outermost to the innermost; the names of their folders begin so.
REPEAT, FOLD, MEMBER = "repeat", "fold", "member"
PARTS = {REPEAT: "repeats", FOLD: "a cross-validation", MEMBER: "an ensemble"}

# The weights to evaluate: those with the best validation score, or those of the last epoch.
BEST, LAST = "best", "last"
CHECKPOINTS = (BEST, LAST)

# The seeds that count up by one from repeat to repeat, as fields of the configuration.
SPLIT_SEED = "split"
REPEAT_SEEDS = {
    SPLIT_SEED: ("split.seed",),
    "training": ("seed",),
    "both": ("split.seed", "seed"),
}

# Fields of a configuration that are newer than version 0.1, with the value that corresponds to what
# the version before a field did. A run whose config.json lacks a field counts as having this value.
FIELDS_ADDED = {
    "checkpoint.choose": BEST,
    "data.um_per_px": 0.0,
    "data.field": [],
    "split.allow_near_duplicates": False,
    "data.positive": "",
    "data.negative": "",
    "data.patient": "",
    "split.file": "",
    "split.name": "",
    "split.repaired": False,
    "split.train_magnifications": [],
    "split.test_magnifications": [],
    "permutations": 2000,
    "repeats": 1,
    "repeat_seeds": SPLIT_SEED,
    "ensemble.members": 1,
    "split.val_fold": 0,
    "model.mean": [],
    "model.std": [],
    "model.accept_licence": "",
}

# Fields of earlier versions, which no reader uses.
FIELDS_REMOVED = ("bootstrap_resamples",)

# More than these would ask for more memory than there is.
MAX_BATCH, MAX_PERMUTATIONS = 2**16, 10**6
MAX_REPEATS = 1000  # a training each
MAX_MEMBERS = 100

# The forms, see se_resnet.runtime.schema.misfit.
DATA_CONFIG_FORM = {
    **dict.fromkeys(("dir", "cache_dir", "resize", "on_bad_image"), str),
    "placement": Maybe(str),
    "size": [int],
    "magnifications": [int],
    "um_per_px": Maybe((Between(0.0, 0.0), SCALE_FORM["um_per_px"])),
    "field": Maybe(([], SCALE_FORM["field"])),
}
CONFIG_FORM = {
    "seed": int,
    "epochs": int,
    "batch_size": int,
    "eval_batch_size": Between(1, MAX_BATCH),
    "repeats": Maybe(Between(1, MAX_REPEATS)),
    "repeat_seeds": Maybe(str),
    "ensemble": Maybe({"members": Maybe(Between(1, MAX_MEMBERS))}),
    "permutations": Maybe(Between(1, MAX_PERMUTATIONS)),
    "checkpoint": Maybe({"choose": Maybe(str)}),
    "early_stopping": Maybe({"metric": Maybe(str)}),
    "data": DATA_CONFIG_FORM,
    "split": {
        **dict.fromkeys(("protocol", "fold"), str),
        **dict.fromkeys(("folds", "seed"), int),
        "name": Maybe(str),
        "repaired": Maybe(bool),
        **dict.fromkeys(("train_magnifications", "test_magnifications"), Maybe([int])),
    },
    "model": {"pretrained": str},
    "balance": {"method": str},
    "optim": {"learning_rate": float},
    "decision": {"target": str},
}
LEAKS = (
    "shared_images",
    "straddling_accessions",
    "straddling_test_images",
    "synthetic_test_images",
    "excluded_copies",
)
# Counts that runs of version 0.1 lack, which did not check near-duplicates.
NEAR_DUPLICATES = (
    "near_duplicate_test_images",
    "near_duplicate_test_images_of_another_accession",
)
SPLIT_SUMMARY_FORM = [
    {"role": str, "class": str, **dict.fromkeys(("images", "slides", "accessions"), int)}
]
# Of the field ``table`` of data.json, see se_resnet.runs.image_source.
TABLE_FORM = {"name": str, "benign": [str], "malignant": [str]}
DATA_FORM = {
    "fingerprint": str,
    "description": str,
    "audit": {**dict.fromkeys(LEAKS, int), **dict.fromkeys(NEAR_DUPLICATES, Maybe(int))},
    "split": SPLIT_SUMMARY_FORM,
    "seen_digests": [str],
    "plan": Maybe({"benign": int, "malignant": int, "synthetic": int}),
    "magnifications": Maybe([int]),
    "table": Maybe(TABLE_FORM),
}
# What the training state of a run is saved with.
PROGRESS_FORM = {
    "best_score": ([], [float, float]),
    "early_stopping": {"best": (float, None), "waited": Between(0, 2**31)},
    "unlogged": [[float, float]],
}
STEP = Between(0, 2**63 - 1)
# Of training.json, see se_resnet.runs.provenance.
TRAINING_FORM = {
    "epoch_steps": Between(1, 2**63 - 1),
    "steps": STEP,
    "starts": [
        {
            **dict.fromkeys(("began", "command", "commit", "ended"), str),
            **dict.fromkeys(("from_step", "to_step"), STEP),
            "seconds": float,
        }
    ],
}
LINE_FORM = {"step": STEP, str: (float, None)}  # of metrics.jsonl
WEIGHTS_FORM = {
    "name": str,
    **dict.fromkeys(("licence", "source", "sha256", "licence_url", "accepted_licence"), Maybe(str)),
    "non_commercial": Maybe(bool),
    "assumed": Maybe([str]),
}

_OPTIONAL_FLOAT = (float, None)
# Of the entry ``provenance`` of metrics.json, which versions before lack.
NETWORK_FORM = {
    "run": str,
    **dict.fromkeys(("step", "of_epochs"), int),
    **dict.fromkeys(("of_steps", "evaluated_step"), (int, None)),
    **dict.fromkeys(("epoch", "evaluated_epoch"), _OPTIONAL_FLOAT),
    **dict.fromkeys(("finished", "stopped_early"), bool),
    "starts": TRAINING_FORM["starts"],
}
PROVENANCE_FORM = {
    **dict.fromkeys(("date", "command", "commit"), str),
    "seconds": float,
    "software": {
        "python": str,
        "packages": {str: str},
        "system": str,
        "cpus": int,
        "devices": [str],
    },
    "networks": [NETWORK_FORM],
    "differs_from_default": {},
    "images": int,
    "banner": str,
}
# A metric with its interval, or the reason why one of them is undefined.
ESTIMATE_FORM = (
    {"value": float, "low": float, "high": float},
    {"value": _OPTIONAL_FLOAT, "low": None, "high": None, "reason": str},
)
_CONFUSION = dict.fromkeys(("tp", "fp", "tn", "fn"), int)
_IMAGE = {
    **dict.fromkeys(
        ("accuracy", "balanced_accuracy", "roc_auc", "recall", "specificity"), ESTIMATE_FORM
    ),
    "confusion": _CONFUSION,
}
_PATIENT = {
    "recognition_rate": ESTIMATE_FORM,
    "mean_probability": dict.fromkeys(("accuracy", "roc_auc"), ESTIMATE_FORM),
}
METRICS_FORM: dict[Any, Any] = {
    "image": _IMAGE,
    "patient": _PATIENT,
    "by_magnification": {str: dict.fromkeys(("accuracy", "roc_auc"), ESTIMATE_FORM)},
    "by_site": Maybe(
        {
            str: dict.fromkeys(("accuracy", "roc_auc"), ESTIMATE_FORM)
            | dict.fromkeys(("images", "accessions"), int)
        }
    ),
    "too_many_parts": Maybe({str: int}),
    "counts": {
        part: dict.fromkeys(("all", "benign", "malignant"), int)
        for part in ("images", "slides", "accessions")
    },
    "threshold": float,
    "resamples": int,
    "seed": int,
    "at_chosen_threshold": {"image": _IMAGE, "patient": _PATIENT},
    "calibration": {part: {"ece": ESTIMATE_FORM} for part in ("before", "after")},
    "audit": {
        "protocol": str,
        **dict.fromkeys((*LEAKS, "evaluated_accessions_seen"), int),
        str: int,
    },
    "provenance": Maybe(PROVENANCE_FORM),
}

# The metrics of several repeats together, by name, and the seeds of each repeat.
REPEATS_FORM: dict[Any, Any] = {
    "repeats": {
        str: {
            "values": [_OPTIONAL_FLOAT],
            **dict.fromkeys(("mean", "sd", "low", "high"), _OPTIONAL_FLOAT),
        }
    },
    "seeds": [{"repeat": str, "split.seed": int, "seed": int}],
    "threshold": float,
    "provenance": Maybe(PROVENANCE_FORM),
}


def read(path: Path, form: Mapping[Any, Any] | None = None) -> dict[str, Any]:
    """Reads a JSON file of a run.

    Args:
        path: of the file.
        form: of its content, see :func:`se_resnet.runtime.schema.misfit`; None for any object.

    Raises:
        UserError: the file cannot be read, or its content has another form.
    """
    try:
        return read_json(path, form or {})
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path} cannot be read ({reason(error)}): --workdir must be the folder of a run of "
            "train.py."
        ) from error


def complete(config: dict[str, Any]) -> dict[str, Any]:
    """Returns the content of a ``config.json`` with the fields of :data:`FIELDS_ADDED` it lacks.

    A part that is no object, as in a damaged file, is left as it is.
    """
    completed = copy.deepcopy(config)
    for name, value in FIELDS_ADDED.items():
        *parents, field = name.split(".")
        part: Any = completed
        for parent in parents:
            part = part.setdefault(parent, {}) if isinstance(part, dict) else part
        if isinstance(part, dict):
            part.setdefault(field, value)
    return completed


def of_this_version(config: dict[str, Any]) -> dict[str, Any]:
    """Returns the content of a ``config.json`` with the fields of this version.

    Fields that it lacks are added as by :func:`complete`, those of :data:`FIELDS_REMOVED` are left
    out.
    """
    completed = complete(config)
    return {name: value for name, value in completed.items() if name not in FIELDS_REMOVED}


def keeps_patients_apart(split: Mapping[str, Any]) -> bool:
    """Returns True if a division promises that the test set has no patient of the other roles.

    Args:
        split: the part ``split`` of a configuration.
    """
    repaired = split["protocol"] == PUBLISHED and split.get("repaired", False)
    return split["protocol"] == STRICT or repaired


def last_evaluation(config: Mapping[str, Any]) -> str:
    """Returns the role whose images a run evaluates at its end: test, or validation without test.

    Args:
        config: content of ``config.json``.
    """
    return VAL if config["split"]["fold"] == NO_FOLD else TEST


def used_magnifications(config: Mapping[str, Any], data: Mapping[str, Any]) -> list[int]:
    """Returns the magnifications of a run's images, sorted; empty if they are not known.

    Args:
        config: content of ``config.json``, where an empty list means all magnifications.
        data: content of ``data.json``, which lacks them in a run of version 0.1.
    """
    return config["data"]["magnifications"] or data.get("magnifications", [])


def trained_magnifications(config: Mapping[str, Any], data: Mapping[str, Any]) -> list[int]:
    """Returns the magnifications of a run's training images as :func:`used_magnifications` does."""
    return config["split"].get("train_magnifications") or used_magnifications(config, data)


def read_optional(path: Path, form: Mapping[Any, Any] | None = None) -> dict[str, Any] | None:
    """Reads a JSON file of a run as :func:`read` does; None where there is none."""
    try:
        return read(path, form)
    except UserError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return None
        raise


def read_split(path: Path, columns: Sequence[str] = SPLIT_COLUMNS) -> list[dict[str, str]]:
    """Returns the rows of a ``split.csv``, which has at least these columns.

    Args:
        path: of the file, of a run or made by a user.
        columns: names; of these ``role``, ``label`` and ``magnification`` are checked.

    Raises:
        UserError: the file is missing or broken, a column is missing, an image is listed twice, or
            a value is unknown.
    """
    rows, seen = [], set[str]()
    try:
        for number, row in read_table(path, columns):
            if row["file"] in seen:
                raise LineError(number, f"it lists {row['file'][:80]} twice")
            seen.add(row["file"])
            for name in _CHECKS.keys() & set(columns):
                if problem := _CHECKS[name](row[name]):
                    raise LineError(number, problem)
            rows.append(row)
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path} cannot be read ({reason(error)}): give a split.csv, such as train.py writes."
        ) from error
    return rows


def read_log(path: Path) -> list[dict]:
    """Reads the lines of a ``metrics.jsonl``, oldest first, without an incomplete last line.

    A killed process can leave an incomplete last line. A file that does not exist has no lines.

    Raises:
        UserError: the file cannot be read, or another line is damaged.
    """
    try:
        lines = read_small_file(path).splitlines()
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path} cannot be read ({reason(error)}): restore the log of the run, or move the "
            "file away to begin a new log."
        ) from error
    entries = []
    for number, line in enumerate(lines, 1):
        try:
            entry = parse_json(line)
            if problem := misfit(entry, LINE_FORM):
                raise ValueError(problem)
            entries.append(entry)
        except ValueError as error:
            if number < len(lines):
                raise UserError(
                    f"line {number} of {path} is damaged ({reason(error)}): restore or remove the "
                    "line."
                ) from error
    return entries


def read_skipped(path: Path) -> list[dict[str, str]]:
    """Returns the rows of a ``skipped_files.csv``; a file that does not exist has no rows.

    Raises:
        UserError: the file cannot be read, or a column is missing.
    """
    try:
        return [row for _, row in read_table(path, ("path", "reason"))]
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path} cannot be read ({reason(error)}): restore the file of the run, or run "
            "train.py on another --workdir."
        ) from error


def _role_problem(text: str) -> str:
    if text in (*ROLES, EXCLUDED):
        return ""
    return f"unknown role {text[:20]!r}: use {', '.join(ROLES)} or {EXCLUDED}"


_CHECKS = {
    "role": _role_problem,
    "label": label_problem,
    "magnification": magnification_problem,
}
