"""Chooses the images that ship with the project as ``data/sample``.

    python -m benchmarks.make_sample --subset=DIR [--out=data/sample] [--megabytes=14.4]

``DIR`` holds a part of BreaKHis in the official tree and a ``manifest.csv`` with the columns
``path`` and ``size`` (``224x224``, ``350x230`` or ``original``, the form of the stored image).
Files are copied byte for byte. The same ``DIR`` always gives the same sample.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import shutil
from collections import Counter
from pathlib import Path

from data.breakhis import decode
from data.breakhis.filenames import CLASS_FOLDERS, ImageName, parse
from data.breakhis.official import official_names, slide_table
from se_resnet.runtime.cli import path_argument

# The same image, filed as ductal and as lobular carcinoma: a real case of a duplicate.
TWIN_NAMES = ("SOB_M_DC-14-13412-100-003.png", "SOB_M_LC-14-13412-100-003.png")
MAX_PER_ACCESSION = 6
BENIGN_SHARE = 0.35  # as in the subset
ORIGINALS_FROM = 250_000  # bytes; an original takes the space of six images of 224x224
STORED = {
    "224x224": "squashed to 224x224 (bicubic)",
    "350x230": "halved to 350x230 (area averaging)",
    "original": "unchanged",
}


def main() -> None:
    """Runs the command: chooses and copies images, and writes the manifest."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--subset", type=path_argument, required=True)
    parser.add_argument("--out", type=path_argument, default=Path("data/sample"))
    parser.add_argument("--megabytes", type=float, default=14.4)
    arguments = parser.parse_args()
    with (arguments.subset / "manifest.csv").open(newline="") as file:
        rows = {Path(row["path"]).name: row for row in csv.DictReader(file)}
    size_of = {name: (arguments.subset / row["path"]).stat().st_size for name, row in rows.items()}
    candidates = [name for name in rows if _is_numbered_officially(name, rows[name]["size"])]
    chosen = choose(candidates, size_of, int(arguments.megabytes * 1e6))
    shutil.rmtree(arguments.out / "BreaKHis_v1", ignore_errors=True)
    lines = []
    for file_name in sorted(chosen):
        name, row = parse(file_name), rows[file_name]
        target = arguments.out / row["path"]
        target.parent.mkdir(parents=True, exist_ok=True)
        data = (arguments.subset / row["path"]).read_bytes()
        target.write_bytes(data)
        facts = decode.inspect(data)
        assert isinstance(facts, decode.ImageFacts), (file_name, facts)
        lines.append(
            {
                "path": row["path"],
                "class": CLASS_FOLDERS[name.tumour_class],
                "subtype": name.subtype,
                "slide": name.slide,
                "accession": name.accession,
                "magnification": name.magnification,
                "size": f"{facts.width}x{facts.height}",
                "stored": STORED[row["size"]],
                "sha256": hashlib.sha256(data).hexdigest(),
            }
        )
    with (arguments.out / "manifest.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, lines[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)
    megabytes = sum(size_of[name] for name in chosen) / 1e6
    print(f"{len(chosen)} images, {megabytes:.1f} MB, in {arguments.out}")


def choose(candidates: list[str], size_of: dict[str, int], max_bytes: int) -> list[str]:
    """Takes turns between the accessions of each class until ``max_bytes`` are reached."""
    chosen = list(TWIN_NAMES)
    total = sum(size_of[name] for name in chosen)
    while True:
        num_benign = sum(parse(name).label == 0 for name in chosen)
        label = int(num_benign >= BENIGN_SHARE * (len(chosen) + 1))
        pick = _next(
            [parse(n) for n in candidates if parse(n).label == label and n not in chosen],
            [parse(n) for n in chosen],
            size_of,
        )
        if pick is None or total + size_of[pick] > max_bytes:
            return chosen
        chosen.append(pick)
        total += size_of[pick]


def _next(
    candidates: list[ImageName], chosen: list[ImageName], size_of: dict[str, int]
) -> str | None:
    """Returns an image of the accession, then slide and magnification, with the fewest so far."""
    by_accession = Counter(name.accession for name in chosen)
    by_slide = Counter((name.slide, name.magnification) for name in chosen)

    def rank(name: ImageName) -> tuple:
        return (
            by_accession[name.accession],
            size_of[str(name)] >= ORIGINALS_FROM,
            by_slide[name.slide, name.magnification],
            hashlib.sha256(str(name).encode()).hexdigest(),
        )

    # Benign accessions are few: an original is worth its size if its accession has nothing else.
    small = {name.accession for name in candidates if size_of[str(name)] < ORIGINALS_FROM}
    worthwhile_originals = {
        str(name)
        for name in candidates
        if name.label == 0 and name.accession not in small and not by_accession[name.accession]
    }
    allowed = [
        name
        for name in candidates
        if by_accession[name.accession] < MAX_PER_ACCESSION
        and (size_of[str(name)] < ORIGINALS_FROM or str(name) in worthwhile_originals)
    ]
    return str(min(allowed, key=rank)) if allowed else None


def _is_numbered_officially(file_name: str, stored: str) -> bool:
    """Returns whether the sequence number can be trusted.

    The 224x224 images were numbered by counting, which is wrong for a slide that skips numbers.
    """
    name = parse(file_name)
    if file_name not in official_names():
        return False
    (slide,) = (row for row in slide_table() if row["slide"] == name.slide)
    unbroken = slide[f"sequence{name.magnification}"] == f"1-{slide[f'n{name.magnification}']}"
    return stored != "224x224" or unbroken


if __name__ == "__main__":
    main()
