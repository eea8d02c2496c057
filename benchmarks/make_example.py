"""Makes ``data/example``: a table over images of the sample under names of their own.

    python -m benchmarks.make_example [--out=data/example]

The images are those of ``data/sample`` at half size (350x230), saved as JPEG. Their patients are
numbered ``case01``, ``case02``, ... in the order of their accessions. The same sample always gives
the same example.
"""

from __future__ import annotations

import argparse
import csv
from collections import Counter
from pathlib import Path

import cv2

from data.breakhis.filenames import parse
from se_resnet.metrics.labels import CLASS_NAMES, TUMOUR_TYPES
from se_resnet.runtime.cli import path_argument
from se_resnet.runtime.paths import SAMPLE_FOLDER
from se_resnet.runtime.tables import write_table

HALVED = "350x230"
JPEG_QUALITY = 90
# 0.20 micrometres at 100X (Spanhol et al. 2016), halved in both directions.
UM_PER_PX = {100: "0.4"}


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=path_argument, default=Path("data/example"))
    out = parser.parse_args().out
    with (SAMPLE_FOLDER / "manifest.csv").open(newline="") as file:
        listed = [row for row in csv.DictReader(file) if row["size"] == HALVED]
    listed.sort(key=lambda row: (row["accession"], row["path"]))
    case = {row["accession"]: "" for row in listed}
    case |= {accession: f"case{number:02d}" for number, accession in enumerate(case, 1)}
    (out / "images").mkdir(parents=True, exist_ok=True)
    counts: Counter[str] = Counter()
    rows = []
    for row in listed:
        name = parse(Path(row["path"]).name)
        patient = case[row["accession"]]
        counts[patient] += 1
        file_name = f"images/{patient}_{counts[patient]}.jpg"
        pixels = cv2.imread(str(SAMPLE_FOLDER / row["path"]))
        cv2.imwrite(str(out / file_name), pixels, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        rows.append(
            {
                "file": file_name,
                "label": CLASS_NAMES[name.label],
                "patient": patient,
                "subtype": TUMOUR_TYPES[name.subtype],
                "magnification": name.magnification,
                "um_per_px": UM_PER_PX[name.magnification],
                "source": str(name),
            }
        )
    write_table(out / "images.csv", rows, list(rows[0]))
    print(f"{out}: {len(rows)} images of {len(case)} patients")


if __name__ == "__main__":
    main()
