"""Measures the input gate: real images that it withholds, and other images that it catches.

    python -m benchmarks.input_gate --workdir=runs/quickstart
    python -m benchmarks.input_gate --workdir=runs/quickstart --data_dir=/path/to/BreaKHis_v1

The gate of a run compares images with the run's training images (:mod:`se_resnet.input_gate`). Real
images are the test images of the run, and with --data_dir at most 300 images of patients whom the
run has not seen. The other images are made from a seed (benchmarks/damaged_images.py): blanks,
photographs, text, noise, and blurred, enlarged, reduced and inverted test images of the run, 25 of
each kind. Prints a table with the share that gets no call, by kind, and the reasons.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.damaged_images import make
from benchmarks.measuring import table
from data.breakhis.filenames import parse
from se_resnet.errors import UserError
from se_resnet.images.decode import read_image
from se_resnet.images.resize import resize
from se_resnet.predict.image_files import find_images
from se_resnet.runs.run_files import EXCLUDED, TEST, TRAIN, VAL
from se_resnet.runs.run_folder import RunFolder
from se_resnet.runs.workdir import Run, load_best
from se_resnet.runtime.cli import ArgumentParser, exit_on_user_error, path_option
from se_resnet.runtime.paths import SAMPLE_FOLDER

EACH = 25  # images of a kind
MOST = 300  # images of unseen patients
_BATCH = 16


def reasons(run: Run, images: Sequence[np.ndarray]) -> list[str]:
    """Returns the reason by which the gate withholds each image, or an empty string."""
    classifier = run.classifier
    inputs = np.stack([resize(image, classifier.size, classifier.resize) for image in images])
    found = run.unlike_training(inputs, _BATCH)
    if found is None:
        raise UserError(
            "the run has no reference of its training images: add it by python -m data.reference."
        )
    return found


def row(kind: str, found: Sequence[str]) -> dict[str, str]:
    """Returns a row of the table."""
    named = Counter(reason for reason in found if reason)
    return {
        "images": kind,
        "number": f"{len(found):,}",
        "no call": f"{100 * np.mean([bool(reason) for reason in found]):.1f} %",
        "reasons": ", ".join(f"{reason} {count}" for reason, count in named.most_common()),
    }


def main() -> None:
    """Runs the command."""
    parser = ArgumentParser("python -m benchmarks.input_gate", __doc__ or "")
    parser.add_argument("--workdir", type=path_option, required=True)
    parser.add_argument("--data_dir", type=path_option, default="")
    options = parser.parse_args()
    folder = RunFolder(options.workdir)
    run = load_best(folder.path)
    split = folder.split()
    trained_in = folder.config()["data"]["dir"]
    source = SAMPLE_FOLDER if trained_in == "sample" else Path(trained_in)
    paths = {path.name: path for path in find_images(source, "config.data.dir")}
    tested = [read_image(paths[row["file"]]) for row in split if row["role"] == TEST]
    rows = [row("test images", reasons(run, tested))]
    if options.data_dir:
        seen = {entry["accession"] for entry in split if entry["role"] in (TRAIN, VAL, EXCLUDED)}
        others = [
            path
            for path in find_images(Path(options.data_dir), "--data_dir")
            if parse(path.name).accession not in seen and path.name not in paths
        ]
        rng = np.random.default_rng(0)
        chosen = sorted(rng.choice(len(others), min(MOST, len(others)), replace=False).tolist())
        found = reasons(run, [read_image(others[index]) for index in chosen])
        rows.append(row("further images of unseen patients", found))
    made = make(tested, EACH)
    caught = {kind: reasons(run, images) for kind, images in made.items()}
    rows += [row(kind, found) for kind, found in caught.items()]
    rows.append(row("all but real images", [one for found in caught.values() for one in found]))
    print(table(rows))


if __name__ == "__main__":
    with exit_on_user_error():
        main()
