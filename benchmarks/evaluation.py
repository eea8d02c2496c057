"""Times the parts of an evaluation, apart from the network's pass over the images.

    python -m benchmarks.evaluation

Runs ``eval.evaluate_run`` like the command, on all names of BreaKHis (7,909 images, 82 slides, 70
accessions). Logits and pixels are random. Checkpoint, plots, gallery, gates, files and report are
real. The first call compiles its programs, without compiled programs on disk. A second call, as for
the next fold, does not compile. The seconds of a part exclude the parts inside it. Gallery and
gates run in other threads, beside the metrics. The rows of the main thread add up to the total;
"else" includes its wait for the other threads.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

import eval as evaluation
import train
from benchmarks.generate import names
from benchmarks.measuring import finish, parser
from configs import breakhis
from data import run_data
from data.breakhis.filenames import parse
from data.dataset import Dataset
from data.protocols.roles import assign_roles
from data.records import Records
from se_resnet.explain import attention_gates
from se_resnet.metrics import calibration, full, selective
from se_resnet.metrics.decision import decide
from se_resnet.metrics.predictions import Predictions, probability_of
from se_resnet.report import gallery, plots, publish, report
from se_resnet.runs.evaluations import REPORT
from se_resnet.runs.run_folder import RunFolder
from se_resnet.runtime.cli import exit_on_user_error
from se_resnet.runtime.files import write_json
from se_resnet.training.config import plain

# The functions of each part of the table: where they are looked up, and their names.
PARTS: dict[str, list[tuple[Any, str]]] = {
    "checkpoint": [(evaluation, "load_best")],
    "metrics with intervals": [(full, "evaluate")],
    "calibration with intervals": [
        (calibration, "describe"),
        (calibration, "reliability_curve"),
    ],
    "risk and coverage with intervals": [(selective, "risk_coverage")],
    "gallery": [(gallery, "make")],
    "Grad-CAM": [(gallery, "heats")],
    "summary of gates": [(attention_gates, "describe")],
    "gates": [(attention_gates, "_gates")],
    "tables": [(Predictions, "write_csv"), (publish, "write_json")],
    "plots": [
        (plots, name)
        for name in (
            "roc",
            "precision_recall",
            "distribution",
            "training",
            "reliability",
            "risk_coverage",
            "gates",
        )
    ],
    "strips of patients": [(report, "patient_groups")],
    "report.html": [(publish, "write_report")],
}
NETWORK = ("Grad-CAM", "gates")  # the parts that run the network
MAIN = "main"
POOL = 64  # number of different images


class _Calls(threading.local):
    """The active calls of a thread."""

    def __init__(self) -> None:
        self.inside = [0.0]  # seconds of the parts inside each active call


class Stopwatch:
    """Measures time, calls and images of each part, by replacing functions by timed functions.

    Attributes:
        seconds: of each part, in its thread.
        calls: of each part.
        images: of the parts that run the network.
        threads: that ran each part: ``main``, which made the stopwatch, or ``other``.
    """

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(PARTS, 0.0)
        self.calls = dict.fromkeys(PARTS, 0)
        self.images = dict.fromkeys(NETWORK, 0)
        self.threads: dict[str, set[str]] = {part: set() for part in PARTS}
        self._thread = threading.current_thread()
        self._active = _Calls()

    def timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Returns the function with a stopwatch that adds each call to its part."""

        def call(*arguments: Any, **named: Any) -> Any:
            self.calls[part] += 1
            own = threading.current_thread() is self._thread
            self.threads[part].add(MAIN if own else "other")
            if part in NETWORK:
                self.images[part] += len(arguments[2])
            inside = self._active.inside
            inside.append(0.0)
            start = time.monotonic()
            try:
                return function(*arguments, **named)
            finally:
                whole = time.monotonic() - start
                self.seconds[part] += whole - inside.pop()
                inside[-1] += whole

        return call

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Times every part during the block."""
        with contextlib.ExitStack() as stack:
            for part, functions in PARTS.items():
                for owner, name in functions:
                    timed = self.timed(part, getattr(owner, name))
                    stack.enter_context(mock.patch.object(owner, name, timed))
            yield


def generated(count: int, size: tuple[int, int]) -> tuple[Dataset, np.ndarray]:
    """Returns images with BreaKHis names, and logits of malignant, ``float64 [count]``."""
    rng = np.random.default_rng(0)
    parsed = [parse(name) for name in names(count)]
    columns = ("slide", "accession", "magnification", "subtype", "label")
    records = Records.from_rows(
        {"file": str(name), "digest": f"digest of {name}", "row": row % POOL}
        | {column: getattr(name, column) for column in columns}
        for row, name in enumerate(parsed)
    )
    _, patient = np.unique(records.accession, return_inverse=True)
    shift = rng.normal(size=patient.max() + 1)[patient]
    logits = 3 * records.label - 1.5 + shift + rng.normal(size=count)
    images = rng.integers(0, 256, (POOL, *size, 3), np.uint8)
    return Dataset(images, records, "generated", "generated images", []), logits


def prepare(workdir: Path, config: Any, dataset: Dataset, logits: np.ndarray) -> None:
    """Writes the folder of a finished run: configuration, split, log and checkpoint."""
    records = dataset.records
    roles = assign_roles(records, "strict", folds=5, fold=0, val_folds=5, seed=0)
    run = RunFolder(workdir)
    run_data.save(run, dataset, roles, near={})
    write_json(run.config_path, plain(config))
    classifier, variables = train.build_model(config, run)
    decision = decide(records.predictions(probability_of(logits)), config.decision.target)
    facts = {**classifier.as_dict(), "decision": dataclasses.asdict(decision)}
    run.checkpoints.save_best(0, variables, facts)
    steps = range(10, 2001, 10)
    lines: list[dict] = [
        {"step": step, "train/loss": 9 / (step + 10), "train/accuracy": 0.9} for step in steps
    ]
    for line in lines[19::20]:
        line |= {"val/loss": 0.3, "val/accuracy": 0.9, "val/roc_auc": 0.95}
    run.log_path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def evaluate(workdir: Path, dataset: Dataset, logits: np.ndarray) -> tuple[Stopwatch, float]:
    """Evaluates all images once. Returns the stopwatch and the total seconds."""
    watch = Stopwatch()
    with (
        mock.patch.object(evaluation.run_data, "load_again", lambda *_: dataset),
        mock.patch.object(evaluation, "eval_batches", lambda *_: []),
        mock.patch.object(evaluation, "resize_rules", lambda tta, rule: (rule,)),
        mock.patch.object(evaluation, "mean_logits", lambda *_: logits[None]),
        watch.watching(),
    ):
        start = time.monotonic()
        evaluation.evaluate_run(workdir, "all")
        return watch, time.monotonic() - start


def table_of(first: tuple[Stopwatch, float], again: tuple[Stopwatch, float]) -> list[dict]:
    """Returns a row for each part, for the rest, and for the total."""
    rows: list[dict[str, Any]] = [
        {
            "part": part,
            "thread": " and ".join(sorted(first[0].threads[part])),
            "calls": first[0].calls[part],
            "images forward": first[0].images.get(part),
            "seconds, first": first[0].seconds[part],
            "seconds, again": again[0].seconds[part],
        }
        for part in PARTS
    ]
    names = ("seconds, first", "seconds, again")
    totals = dict(zip(names, (first[1], again[1]), strict=True))
    parts = {name: sum(row[name] for row in rows if row["thread"] == MAIN) for name in names}
    blank = dict.fromkeys(rows[0])
    rest = {name: totals[name] - parts[name] for name in names}
    rows.append({**blank, "part": "else", "thread": MAIN, **rest})
    return [*rows, {**blank, "part": "all", **totals}]


def main() -> None:
    flags = parser(__doc__)
    flags.add_argument("--images", type=int, default=7909)
    flags.add_argument("--permutations", type=int, default=2000, help="of the p-values")
    flags.add_argument("--side", type=int, default=224, help="of the images")
    flags.add_argument("--width", type=int, default=64, help="channels of the stem")
    flags.add_argument("--stage_sizes", type=int, nargs="+", default=[3, 4, 6, 3])
    options = flags.parse_args()
    config = breakhis.get_config()
    config.model.pretrained = "none"
    config.model.width = options.width
    config.model.stage_sizes = tuple(options.stage_sizes)
    config.data.size = (options.side, options.side)
    config.permutations = options.permutations
    dataset, logits = generated(options.images, config.data.size)
    with tempfile.TemporaryDirectory() as name:
        workdir = Path(name) / "run"
        workdir.mkdir()
        prepare(workdir, config, dataset, logits)
        first, again = (evaluate(workdir, dataset, logits) for _ in range(2))
        size = (RunFolder(workdir).evaluation("all").path / REPORT).stat().st_size
    records = dataset.records
    notes = [
        f"{len(records)} images of {len(set(records.slide.tolist()))} slides and "
        f"{len(set(records.accession.tolist()))} accessions, {options.permutations} permutations, "
        f"report.html {size / 1e6:.1f} MB",
    ]
    finish(table_of(first, again), options.out, *notes)


if __name__ == "__main__":
    with exit_on_user_error():
        main()
