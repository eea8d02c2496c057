"""Tables of images through reading, protocols and preparation."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable
from random import Random

from data.dataset import load_dataset
from data.protocols.roles import assign_roles
from data.table.columns import Reading
from se_resnet.runs.run_files import ROLES
from tests.fuzz.mutations import damage
from tests.fuzz.place import Place
from tests.fuzz.targets.splits import damage_table
from tests.helpers.own_images import write_images, write_table

CELLS = (
    "=HYPERLINK(A1)",
    "../outside.jpg",
    "a/../case00_0.jpg",
    "/etc/passwd",
    "/dev/zero",
    "link.jpg",
    "pipe.jpg",
    "loop.jpg",
    "images.zip/in.jpg",
    "images.zip/../in.jpg",
    "https://example.org/a.jpg",
    "case00_0.jpg",
    ".\\case00_0.jpg",
    "",
    "nan",
    "NaN",
    "1e400",
    "-1",
    "\udcff",
    "a\0b",
    "<script>",
    "é" * 300,
    "x" * 5000,
)


def case(rng: Random, place: Place) -> Callable[[], object]:
    rows = write_images(place.input, patients=6, images=2, size=(16, 20))
    os.symlink("case00_1.jpg", place.input / "link.jpg")
    os.symlink("loop.jpg", place.input / "loop.jpg")
    os.mkfifo(place.input / "pipe.jpg")
    with zipfile.ZipFile(place.input / "images.zip", "w") as archive:
        archive.write(place.input / "case00_0.jpg", "in.jpg")
    folded = rng.random() < 0.5
    for number, row in enumerate(rows):
        row |= {
            "magnification": rng.choice((20, 40, "20X", "")),
            "um_per_px": rng.choice((0.5, "")),
            "site": "A",
            **({"fold": number % 3} if folded else {"role": rng.choice(ROLES)}),
        }
    for _ in range(rng.choice((0, 1, 1, 2))):
        row = rng.choice(rows)
        row[rng.choice(list(row))] = rng.choice(CELLS)
    if rng.random() < 0.3:
        rows.append(dict(rng.choice(rows), **{rng.choice(("label", "patient")): rng.choice("01P")}))
    for name in rng.sample(list(rows[0]), rng.choice((0, 0, 0, 1, 2))):
        rows = [{other: row[other] for other in row if other != name} for row in rows]
    path = place.input / rng.choice(("images.csv", "images.tsv", "images.CSV"))
    try:
        write_table(path, rows, rng.choice(",;\t"))
    except UnicodeEncodeError:  # such a file cannot be written
        path.write_bytes(b"file,label,patient\n\xff.jpg,1,P1\n")
    if rng.random() < 0.3:
        path.write_bytes(damage_table(rng, path.read_bytes()))
    if rng.random() < 0.3:
        image = rng.choice(sorted(place.input.glob("case*.jpg")))
        image.write_bytes(damage(rng, image.read_bytes()))
    reading = Reading(
        rng.choice((*[""] * 12, "1", "tumor", ",")),
        rng.choice((*[""] * 12, "0", "1")),
        rng.choice((*[""] * 12, "file", "site", "label")),
    )
    policy = rng.choice(("skip", "skip", "error"))
    protocol, seed = rng.choice(("table", "table", "strict", "random")), rng.randrange(9)
    fold = int(folded)

    def action() -> None:
        dataset = load_dataset(
            str(path),
            size=(16, 16),
            on_bad_image=policy,
            cache_dir=str(place.work / "cache"),
            positive=reading.positive,
            negative=reading.negative,
            patient=reading.patient,
        )
        assign_roles(dataset.records, protocol, folds=3, fold=fold, val_folds=2, seed=seed)

    return action
