"""Times ``python -m se_resnet.predict`` from start to end, and its parts.

    python -m benchmarks.prediction [--images 500] [--rounds 3] [--against ../other/checkout]
    python -m benchmarks.prediction --overlays no --runtimes onnxruntime "openvino, streams"

Predicts generated 700x460 PNG files with an SE-ResNet50 of random weights at 224x224 that has a
reference of its training images. Each run is a process of its own. The first run of a checkout
compiles; later runs find the compiled programs. Seconds are medians of the later runs. The main
thread's seconds add up to the time that a user waits. Other threads work at the same time.

``--against`` names another checkout, for example that of the version before
(``git worktree add FOLDER COMMIT``). ``--runtimes`` names other runtimes, which predict the same
images from the file of ``python -m se_resnet.export --format=onnx`` in a small program that only
writes the probabilities (:mod:`benchmarks.runtime_predict`); they draw no overlays. All take turns
in every round, and their probabilities are compared.
"""

from __future__ import annotations

import argparse
import csv
import functools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.generate import names, picture, write_tree
from benchmarks.measuring import ROOT, finish, in_own_process, parser
from benchmarks.peers.onnx_resnet import RUNTIMES
from benchmarks.timed_predict import ELSE, PARTS, START, STARTED, WAITING
from se_resnet.errors import UserError
from se_resnet.runtime.cli import exit_on_user_error, path_argument
from se_resnet.runtime.interpreter import with_huge_pages

REFERENCE_IMAGES = 32


def make_run(workdir: Path, size: int, width: int, stage_sizes: Sequence[int]) -> None:
    """Writes a finished run of random weights; imports JAX, so it runs in its own process."""
    from benchmarks.evaluation import generated, prepare
    from configs import breakhis
    from se_resnet.input_gate.embedding import unit_length
    from se_resnet.input_gate.features import simple_features
    from se_resnet.input_gate.gate import fit
    from se_resnet.runs.run_folder import RunFolder
    from se_resnet.runs.workdir import BEST_FORM, load_best

    config = breakhis.get_config()
    config.model.pretrained = "none"
    config.model.width, config.model.stage_sizes = width, tuple(stage_sizes)
    config.data.size = (size, size)
    workdir.mkdir()
    prepare(workdir, config, *generated(1000, config.data.size))
    run = RunFolder(workdir)
    (variables,) = load_best(workdir).members
    head = variables["params"]["head"]
    images = np.stack([picture(row, size, size) for row in range(REFERENCE_IMAGES)])
    features = load_best(workdir).features(images, 16)
    # A new head is 0 and gives each image the same probability, which would prove nothing.
    kernel = np.random.default_rng(0).normal(size=head["kernel"].shape).astype(np.float32)
    logits = features @ kernel
    trained = {"kernel": kernel / logits.std(), "bias": -logits.mean(0) / logits.std()}
    params = {**variables["params"], "head": trained}
    run.checkpoints.save_best(
        1, {**variables, "params": params}, run.checkpoints.best_facts(BEST_FORM)
    )
    numbers = np.arange(REFERENCE_IMAGES)
    gate = fit(
        simple_features(images),
        unit_length(features),
        numbers % 2 == 1,
        (numbers // 2).astype(str),
    )
    gate.write(run.input_reference_path)


def export(run: Path, out: Path, images: Path) -> None:
    """Exports the run to ONNX; imports TensorFlow, so it runs in its own process."""
    from se_resnet.export.exporting import export_run

    export_run(run, "onnx", out, images)


def predict_by_runtime(runtime: str, folder: Path) -> dict[str, Any]:
    """Predicts the images by another runtime."""
    table = folder / "by runtime.csv"
    model = folder / "exported" / "model.onnx"
    command = [sys.executable, "-m", "benchmarks.runtime_predict", runtime]
    command += [str(path) for path in (model, folder / "images", table)]
    return finished(runtime, command, ROOT, with_huge_pages(os.environ), table)


def predict_once(checkout: Path, folder: Path, overlays: bool) -> dict[str, Any]:
    """Predicts the images with the code of a checkout; returns the seconds of its parts."""
    seconds, out = folder / "seconds.json", folder / f"out of {checkout.name}"
    name = checkout.resolve().as_posix().replace("/", "_")
    command = [
        sys.executable,
        str(ROOT / "benchmarks" / "timed_predict.py"),
        str(seconds),
        *(f"--workdir={folder / 'run'}", f"--input={folder / 'images'}", f"--out={out}"),
        f"--overlays={overlays}",
    ]
    cache = {"SE_RESNET_CACHE": str(folder / f"cache of {name}")}
    environment = with_huge_pages(os.environ) | cache
    result = finished(checkout.name, command, checkout, environment, out / "predictions.csv")
    return result | json.loads(seconds.read_text())


def finished(
    name: str, command: Sequence[str], cwd: Path, environment: Mapping[str, str], table: Path
) -> dict[str, Any]:
    """Runs a command that writes a table. Returns its seconds and the probabilities."""
    started = time.monotonic()
    variables = {**environment, STARTED: str(started)}
    done = subprocess.run(command, cwd=cwd, env=variables, capture_output=True, text=True)
    whole = time.monotonic() - started
    if done.returncode:
        raise UserError(f"the prediction by {name} failed: {done.stderr[-1000:]}")
    with table.open() as lines:
        found = sorted((row["file"], float(row["probability"])) for row in csv.DictReader(lines))
    probabilities = [probability for _, probability in found]
    if len(set(probabilities)) < 2:
        raise UserError(f"{name} gives all images the same probability.")
    return {"whole": whole, "probabilities": probabilities}


def table_of(runs: Mapping[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Returns a row for each part, with the medians over the runs after the first."""

    def median(results: list[dict[str, Any]], thread: str, part: str) -> float:
        return statistics.median(result[thread].get(part, 0.0) for result in results[1:])

    rows: list[dict[str, Any]] = []
    for part in (START, *PARTS, WAITING, ELSE):
        row: dict[str, Any] = {"part": part}
        for name, results in runs.items():
            row[f"{name}: main thread, s"] = median(results, "main", part)
            row[f"{name}: other threads, s"] = median(results, "others", part)
        rows.append(row)
    total: dict[str, Any] = {"part": "all, with the end of the process"}
    for name, results in runs.items():
        total[f"{name}: main thread, s"] = statistics.median(r["whole"] for r in results[1:])
        total[f"{name}: other threads, s"] = None
    return [*rows, total]


def summaries(runs: Mapping[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Returns a row for each checkout and runtime: seconds, and ratios of each round."""
    ours = next(iter(runs.values()))
    rows = []
    for name, results in runs.items():
        ratios = [
            peer["whole"] / mine["whole"] for peer, mine in zip(results[1:], ours[1:], strict=True)
        ]
        first, others = (np.array(r[0]["probabilities"]) for r in (ours, results))
        rows.append(
            {
                "by": name,
                "first run, s": results[0]["whole"],
                "later runs, s": statistics.median(result["whole"] for result in results[1:]),
                "time / this, first run": results[0]["whole"] / ours[0]["whole"],
                "time / this": statistics.median(ratios),
                "lowest": min(ratios),
                "highest": max(ratios),
                "largest difference": float(abs(first - others).max()),
            }
        )
    return rows


def main() -> None:
    flags = parser(__doc__)
    flags.add_argument("--images", type=int, default=500)
    flags.add_argument("--rounds", type=int, default=3, help="after the first, which compiles")
    flags.add_argument("--overlays", choices=["yes", "no"], default="yes")
    flags.add_argument("--against", type=path_argument, help="another checkout")
    flags.add_argument("--size", type=int, default=224, help="pixels of the network's input")
    flags.add_argument("--width", type=int, default=64, help="channels of the stem")
    flags.add_argument("--stage_sizes", type=int, nargs="+", default=[3, 4, 6, 3])
    flags.add_argument("--runtimes", nargs="+", choices=list(RUNTIMES), default=[])
    options: argparse.Namespace = flags.parse_args()
    if options.runtimes and options.overlays == "yes":
        raise UserError("other runtimes draw no overlays: add --overlays no.")
    checkouts = {"this": ROOT}
    if options.against:
        if not (options.against / "se_resnet" / "predict").is_dir():
            raise UserError(f"--against={options.against} is not a checkout of this repository.")
        checkouts["other"] = options.against.resolve()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shape = options.size, options.width, options.stage_sizes
        in_own_process(make_run, folder / "run", *shape)
        write_tree(folder / "images", names(options.images))
        if options.runtimes:
            in_own_process(export, folder / "run", folder / "exported", folder / "images")
        predict = {
            label: functools.partial(predict_once, checkout, folder, options.overlays == "yes")
            for label, checkout in checkouts.items()
        } | {name: functools.partial(predict_by_runtime, name, folder) for name in options.runtimes}
        runs: dict[str, list[dict[str, Any]]] = {label: [] for label in predict}
        for _ in range(options.rounds + 1):
            for label, one in predict.items():
                runs[label].append(one())
    note = f"{options.images} images, overlays: {options.overlays}, {options.rounds} rounds"
    parts = {label: runs[label] for label in checkouts}
    finish(table_of(parts), options.out, note, runs=summaries(runs))


if __name__ == "__main__":
    with exit_on_user_error():
        main()
