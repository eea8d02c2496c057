"""A list of the runs below a folder: data, network, progress, state and headline metric."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from se_resnet.errors import UserError, one_line
from se_resnet.metrics.evaluation import headline
from se_resnet.runs import provenance
from se_resnet.runs.image_source import ImageSource
from se_resnet.runs.lock import is_running
from se_resnet.runs.run_files import ALL_FOLDS, CONFIG, NO_FOLD, PARTS, last_evaluation
from se_resnet.runs.run_folder import RunFolder
from se_resnet.runs.state import training_state
from se_resnet.runtime.files import read_json
from se_resnet.runtime.text_table import text_table

METRIC = "image_roc_auc"
_MAX_DEPTH = 20
_PACKAGE_FIELDS = ("format", "format_version")  # of the config.json of a model package
_LONGEST_REASON = 80


@dataclasses.dataclass(frozen=True)
class Row:
    """A run in the list.

    Attributes:
        path: relative to the folder, with ``/``.
        level: 0 for a run, 1 and more for its parts, whose ``path`` is relative to the run.
        protocol: the division of the images, for example ``strict, fold 0``.
        data: the images, for example ``BreaKHis 200X, 839 images``.
        attention: the attention module.
        epochs: epochs done of those configured, for example ``2 of 10``.
        state: for example ``finished`` or ``stopped at step 6 of 150``.
        estimate: the headline metric with ``value``, ``low`` and ``high``; None before an
            evaluation.
        role: the images of the estimate, ``test`` or ``val``.
    """

    path: str
    level: int
    protocol: str = ""
    data: str = ""
    attention: str = ""
    epochs: str = ""
    state: str = ""
    estimate: Mapping[str, Any] | None = None
    role: str = ""


def list_runs(folder: Path, parts: bool = False, order: str = "path") -> list[Row]:
    """Returns a row for every run below a folder, or for the run that the folder is.

    A cross-validation, repeats and an ensemble are one run. A run that cannot be read has the
    reason in ``state``.

    Args:
        folder: is searched with its subfolders; links to folders are followed once.
        parts: true to add a row for every fold, repeat and member, below the row of its run.
        order: ``path``, with numbers in their order, or ``headline``, the highest first.

    Raises:
        UserError: the folder cannot be read.
    """
    found = sorted(_find(folder, folder, set(), 0), key=lambda path: _natural(str(path)))
    groups = []
    for path in found:
        run = RunFolder(path)
        name = path.relative_to(folder).as_posix()
        rows = [_row(run, folder.resolve().name if name == "." else name, 0)]
        if parts:
            rows += _part_rows(run, 1)
        groups.append(rows)
    if order == "headline":
        groups.sort(key=lambda rows: _rank(rows[0]))
    return [row for rows in groups for row in rows]


def table(rows: list[Row]) -> list[str]:
    """Returns the lines of a table of runs."""
    title = f"{METRIC.replace('_', ' ').replace('roc auc', 'ROC AUC')} (95 % interval)"
    lines = [("run", "protocol", "data", "attention", "epochs", "state", title)]
    for row in rows:
        lines.append(
            (
                "  " * row.level + row.path,
                row.protocol,
                row.data,
                row.attention,
                row.epochs,
                row.state,
                _in_words(row),
            )
        )
    return text_table(lines, "<" * len(lines[0]))


def _find(folder: Path, root: Path, seen: set[str], depth: int) -> Iterator[Path]:
    """Yields the folders of runs; a run is not searched for further runs."""
    real = os.path.realpath(folder)
    if real in seen or depth > _MAX_DEPTH:
        return
    seen.add(real)
    if _is_run(folder):
        yield folder
        return
    try:
        with os.scandir(folder) as scanned:
            names = sorted(entry.name for entry in scanned if entry.is_dir())
    except OSError as error:
        if folder == root:
            raise UserError(
                f"{folder} cannot be read ({error.strerror}): give a folder with runs of train.py."
            ) from error
        return
    for name in names:
        if not name.startswith("."):
            yield from _find(folder / name, root, seen, depth + 1)


def _is_run(folder: Path) -> bool:
    """Returns true for a folder with the configuration of a run, also a broken one."""
    path = folder / CONFIG
    if not path.is_file():
        return False
    try:
        content = read_json(path)
    except (OSError, ValueError):
        # A broken file counts if anything else of a run lies beside it.
        run = RunFolder(folder)
        return any(
            known.exists() for known in (run.split_path, run.log_path, run.checkpoints.folder)
        )
    return "split" in content and not any(field in content for field in _PACKAGE_FIELDS)


def _row(run: RunFolder, path: str, level: int) -> Row:
    row = Row(path, level)
    try:
        config = run.config()
        row = dataclasses.replace(
            row,
            protocol=_protocol(config),
            attention=config["model"].get("attention", ""),
            role=last_evaluation(config),
        )
        kind, parts = run.begun_parts()
        epochs, state = _several(run, kind, parts) if kind else _single(run)
        row = dataclasses.replace(row, epochs=epochs, state=state)
        row = dataclasses.replace(row, data=_data(run, config))
        return dataclasses.replace(row, estimate=_estimate(run, config))
    except UserError as error:
        return dataclasses.replace(row, state=f"broken: {one_line(error)}")


def _part_rows(run: RunFolder, level: int) -> Iterator[Row]:
    _, parts = run.begun_parts()
    for part in parts:
        yield _row(part, part.path.name, level)
        yield from _part_rows(part, level + 1)


def _single(run: RunFolder) -> tuple[str, str]:
    """Returns ``epochs`` and ``state`` of a run with one network."""
    state, training = training_state(run), provenance.read_training(run)
    done = state.epoch_of(state.step)
    epochs = "-" if done is None else f"{done:g} of {state.epochs:,}"
    ended = training["starts"][-1]["ended"] if training and training["starts"] else ""
    if state.is_finished:
        text = "finished" + (" (stopped early)" if state.stopped_early else "")
        text += "" if state.is_evaluated else ", not evaluated"
    else:
        text = f"stopped at {state.describe()}"
    if is_running(run):
        text = f"running, {state.describe()}"
    elif not state.is_finished and ended.startswith(provenance.FAILED):
        reason = ended.removeprefix(provenance.FAILED)[:_LONGEST_REASON]
        text = f"failed at {state.describe()}: {reason}"
    return epochs, text


def _several(run: RunFolder, kind: str, parts: list[RunFolder]) -> tuple[str, str]:
    """Returns ``epochs`` and ``state`` of a run with several networks."""
    finished = sum(part.evaluation(last_evaluation(part.config())).is_finished for part in parts)
    evaluated = run.evaluation(last_evaluation(run.config())).is_finished
    count = f"{finished} of {len(parts)} begun {kind}s finished"
    if is_running(run):
        text = f"running, {count}"
    elif evaluated and finished == len(parts):
        text = f"finished, {PARTS[kind]} of {len(parts)}"
    else:
        text = f"stopped, {count}"
    states = [training_state(network) for network in run.networks()]
    done = [state.epoch_of(state.step) for state in states]
    known = [value for value in done if value is not None]
    epochs = f"{sum(known):g} of {sum(state.epochs for state in states):,}" if known else "-"
    return epochs, text


def _protocol(config: Mapping[str, Any]) -> str:
    split = config["split"]
    name = " ".join(filter(None, (split["protocol"], split.get("name", ""))))
    name += " repaired" if split.get("repaired") else ""
    fold = {ALL_FOLDS: "all folds", NO_FOLD: "no test set"}.get(
        split["fold"], f"fold {split['fold']}"
    )
    return f"{name}, {fold}"


def _data(run: RunFolder, config: Mapping[str, Any]) -> str:
    facts = run.networks()[0].data_facts()
    images = sum(row["images"] for row in facts["split"])
    name = ImageSource.from_facts(facts).name
    if config["data"]["dir"] == "sample":
        name = "sample"
    powers = "".join(f" {power}X" for power in config["data"]["magnifications"])
    return f"{name}{powers}, {images:,} images"


def _estimate(run: RunFolder, config: Mapping[str, Any]) -> Mapping[str, Any] | None:
    folder = run.evaluation(last_evaluation(config))
    if not folder.is_finished:
        return None
    if config["repeats"] > 1:
        row = folder.repeats()["repeats"].get(METRIC)
        return None if row is None else {**row, "value": row["mean"]}
    return headline(folder.metrics())[METRIC]


def _in_words(row: Row) -> str:
    estimate = row.estimate
    if estimate is None:
        return ""
    if estimate["value"] is None:
        return "undefined"
    text = f"{estimate['value']:.3f}"
    if estimate["low"] is not None:
        text += f" ({estimate['low']:.3f} to {estimate['high']:.3f})"
    return text + (" of validation" if row.role == "val" else "")


def _natural(text: str) -> list[tuple[int, int, str]]:
    """Returns a key that sorts numbers within names by their value."""
    parts = re.split(r"(\d+)", text)
    return [(1, int(part), "") if part.isdecimal() else (0, 0, part) for part in parts]


def _rank(row: Row) -> tuple[bool, float]:
    """Returns a key that sorts by the headline metric, the highest first."""
    value = None if row.estimate is None else row.estimate["value"]
    return value is None, -(value or 0.0)
