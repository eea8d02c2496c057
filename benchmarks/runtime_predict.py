"""Predicts a folder of PNG files with another runtime, as a small program without JAX would.

    python -m benchmarks.runtime_predict RUNTIME MODEL.onnx IMAGES TABLE.csv

:mod:`benchmarks.prediction` starts it. RUNTIME is one of ``benchmarks.peers.onnx_resnet.RUNTIMES``,
MODEL.onnx a file that ``python -m se_resnet.export --format=onnx`` wrote. Threads read, decode and
resize the images of the next batches while the runtime works.
"""

from __future__ import annotations

import csv
import itertools
import sys
from pathlib import Path

import numpy as np

from benchmarks.peers.onnx_resnet import RUNTIMES
from se_resnet.images.decode import decode_image, read_file
from se_resnet.images.resize import resize
from se_resnet.runtime.batches import batch_positions
from se_resnet.runtime.files import read_json
from se_resnet.runtime.parallel import parallel_map

BATCH = 16


def main() -> None:
    runtime, model, images, table = sys.argv[1], *map(Path, sys.argv[2:])
    facts = read_json(model.with_name("metadata.json"))["input"]
    size = facts["shape"][1], facts["shape"][2]
    paths = sorted(images.rglob("*.png"))
    predict = RUNTIMES[runtime](model, BATCH, size)

    def prepare(path: Path) -> np.ndarray:
        return resize(decode_image(read_file(path)), size, facts["resize"]["rule"])

    probabilities: list[float] = []
    prepared = parallel_map(prepare, paths)
    while batch := list(itertools.islice(prepared, BATCH)):
        positions, mask = batch_positions(len(batch), BATCH)  # fills the last batch
        probabilities += predict(np.stack(batch)[positions])[mask].tolist()
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "probability"])
        for path, value in zip(paths, probabilities, strict=True):
            writer.writerow([path.relative_to(images).as_posix(), repr(value)])


if __name__ == "__main__":
    main()
