"""Audits a split: finds what the test set shares with training and validation images.

  python -m data.protocols --data_dir=/path/to/BreaKHis_v1
  python -m data.protocols --data_dir=/path/to/BreaKHis_v1 --protocol=official --fold=2
  python -m data.protocols --data_dir=/path/to/BreaKHis_v1 --split=split.csv
  python -m data.protocols --data_dir=runs/leaky/source --split=runs/leaky/split.csv
  python -m data.protocols --data_dir=/path/to/BreaKHis_v1 --protocol=published --name=eva
  python -m data.protocols --published

Prints the audit and writes into --out: audit.json, near_duplicates.csv with every pair found, and
split.csv with the roles that a protocol assigned. The file of --split needs the columns file
(the name of the image, with or without folders) and role (train, val, test or excluded). Slides and
patients come from the names of the images, or the columns of the table of images. Near-duplicates
are found by a perceptual hash: mirrored, turned and re-encoded copies and shifts by 2 %, but not by
5 %. A run of protocol 'source' keeps the images that it divided in its folder 'source'.
--protocol=source makes these images again, without augmentation. Leaks do not change the exit
code.

--published needs no images: it prints the images, patients and leaks of all published splits and
writes into --out: published.csv, and for each split and fold split.csv and repaired/split.csv, in
which the accessions that leak are moved to one role with the fewest images moved.
"""

from __future__ import annotations

from data.protocols.options import parser

if __name__ == "__main__":  # before the imports that take seconds
    parser(__doc__ or "").parse_command()

import argparse
import dataclasses
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from data.dataset import Dataset, load_dataset
from data.protocols.audit import audit
from data.protocols.audit_text import describe
from data.protocols.published import publish
from data.protocols.published.leak_table import describe as describe_leaks
from data.protocols.roles import (
    SOURCE,
    assign_roles,
    check_split,
    number_of_folds,
)
from data.protocols.split_file import user_roles, write_split
from se_resnet.errors import UserError
from se_resnet.runs.run_files import read_split
from se_resnet.runtime.cli import exit_on_user_error
from se_resnet.runtime.files import write_json
from se_resnet.runtime.folders import whole_folder
from se_resnet.runtime.tables import write_table

_FILES = ("split.csv", "near_duplicates.csv", "audit.json")
_PAIR_COLUMNS = ("test_file", "file", "role", "distance", "same_accession")


def main(argv: list[str] | None = None) -> None:
    """Runs the command. ``argv`` lacks the program name; None reads the command line."""
    with exit_on_user_error():
        options = parser(__doc__ or "").parse_args(argv)
        try:
            _run(options)
        except UserError as error:
            # The messages name fields of a configuration, which are options here.
            message = re.sub(r"config\.data\.dir\b", "--data_dir", str(error))
            raise UserError(re.sub(r"config\.(data|split)\.", "--", message)) from error


def _run(options: argparse.Namespace) -> None:
    if options.published:
        _write_published(options)
        return
    out = Path(options.out or "audit")
    # An audited split.csv in this folder must stay.
    names = _FILES[1:] if options.split else _FILES
    with whole_folder(out, names, "give another folder by --out", lambda: names) as new:
        _write_audit(options, new)
    print(f"written to {out}: {', '.join(sorted(names))}")


def _write_published(options: argparse.Namespace) -> None:
    """Prints the leaks of the published splits and writes the splits."""
    defaults = vars(parser(__doc__ or "").parse_args(["--published"]))
    for name, value in vars(options).items():
        if name != "out" and value != defaults[name]:
            raise UserError(f"--published takes no option but --out: leave out --{name}.")
    out = Path(options.out or "published")
    names = sorted({name.split("/")[0] for name in publish.files()} - {publish.TABLE})
    names = [*names, publish.TABLE]
    with whole_folder(out, names, "give another folder by --out", publish.files) as new:
        print(describe_leaks(publish.write(new)))
    print(f"written to {out}: {', '.join(names)}")


def _write_audit(options: argparse.Namespace, out: Path) -> None:
    """Prints the audit and writes its files into an empty folder."""
    split: dict[str, Any]
    # Check the split before reading the images, which takes minutes.
    if options.split:
        listed = read_split(Path(options.split), ("file", "role"))
        split, split_name = {"file": options.split}, options.split
    else:
        names = ("folds", "fold", "val_folds", "seed", "file", "name", "repaired")
        settings = {name: getattr(options, name) for name in names}
        split = {"protocol": options.protocol, **settings}
        folds = number_of_folds(options.protocol, options.folds, options.name)
        check_split(
            options.protocol, folds, **{n: settings[n] for n in names if n not in ("folds", "seed")}
        )
        repaired = ", repaired" if options.repaired else ""
        title = f"{options.name}{repaired}, " if options.name else ""
        split_name = f"{title}{options.protocol}, fold {options.fold} of {folds}"
    with _open_images(options, out) as dataset:
        records = dataset.records.at_magnifications(options.magnifications)
        lines = [dataset.description, *dataset.records.describe_left_out(records)]
        print("\n".join([*lines, "", f"split: {split_name}", ""]), flush=True)
        absent: Mapping[str, int] = {}
        if options.split:
            roles, absent = user_roles(listed, dataset.records, options.split)
            roles = roles[np.isin(dataset.records.file, records.file)]
        else:
            roles = assign_roles(records, options.protocol, **settings)
        result = audit(records, roles, dataset.images, absent)
    print(describe(result))
    write_json(
        out / "audit.json",
        {
            "data_dir": options.data_dir,
            "magnifications": options.magnifications,
            "split": split,
            **result,
        },
    )
    pairs = result["near_duplicates"]["pairs"]
    write_table(out / "near_duplicates.csv", pairs, _PAIR_COLUMNS)
    if not options.split:
        write_split(out / "split.csv", records, roles)


@contextmanager
def _open_images(options: argparse.Namespace, out: Path) -> Iterator[Dataset]:
    """Opens the images to audit. Images made by protocol ``source`` are removed afterwards."""
    from data.protocols import source_notebook  # imports TensorFlow, which takes seconds

    if (Path(options.data_dir) / "cache.json").is_file():
        yield source_notebook.reopen(Path(options.data_dir))
        return
    dataset = load_dataset(
        options.data_dir,
        on_bad_image=options.on_bad_image,
        cache_dir=options.cache_dir,
        positive=options.positive,
        negative=options.negative,
        patient=options.patient,
    )
    if options.protocol != SOURCE or options.split:
        yield dataset
        return
    chosen = dataset.records.at_magnifications(options.magnifications)
    description = "\n".join([dataset.description, *dataset.records.describe_left_out(chosen)])
    dataset = dataclasses.replace(dataset, records=chosen, description=description)
    with tempfile.TemporaryDirectory(prefix=".source-", dir=out) as folder:
        derived = source_notebook.derive(dataset, Path(folder) / "images", _unchanged, options.seed)
        yield dataclasses.replace(
            derived, description=derived.description.replace("augmented once", "not augmented here")
        )


def _unchanged(images: np.ndarray) -> np.ndarray:
    return images


if __name__ == "__main__":
    main()
