r"""Lists the images of class folders in a table, which train.py and eval.py take as a data set.

  python -m data.table IMAGES --patient='(case\d+)' --out=images.csv
  python -m data.table BACH --positive=InSitu,Invasive --negative=Normal,Benign --patient=file \
      --um_per_px=0.42 --out=bach.csv

Each image lies in a folder that names its class, at any depth. --patient is a regular expression,
searched in the file name and then in the path; its first group is the patient. --patient=file says
that each image is its own patient. The table has the columns file, label (1 for --positive),
patient and those of the other options; where several folders mean one class, subtype names the
folder. Add further columns in a spreadsheet program. docs/your-own-images.md describes them.
"""

from __future__ import annotations

from data.table.options import parser

if __name__ == "__main__":  # before the imports that take seconds
    parser(__doc__ or "").parse_command()

import os
from pathlib import Path

from data.table.class_folders import rows_of_tree
from data.table.columns import FILE_IS_PATIENT, names_in, read_image_table
from se_resnet.errors import UserError
from se_resnet.images.scale import um_per_px_problem
from se_resnet.metrics.labels import CLASS_NAMES
from se_resnet.predict.patients import check_pattern
from se_resnet.runtime.cli import exit_on_user_error
from se_resnet.runtime.tables import write_table
from se_resnet.runtime.walk import PassedOver


def main(argv: list[str] | None = None) -> None:
    """Runs the command. ``argv`` lacks the program name; None reads the command line."""
    with exit_on_user_error():
        _run(parser(__doc__ or "").parse_args(argv))


def _run(options) -> None:  # a namespace of argparse
    folder, out = Path(options.folder), Path(options.out)
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder: give the folder with the class folders.")
    if out.suffix.lower() not in (".csv",):
        raise UserError(f"--out={out} does not end in .csv: the table is written as CSV.")
    if out.exists():
        raise UserError(f"{out} exists already: remove the file, or give another --out.")
    classes = _classes(options.negative, options.positive)
    patterns = {"patient": options.patient}
    for column in ("magnification", "slide", "site"):
        if pattern := getattr(options, column):
            patterns[column] = pattern
    for column, pattern in patterns.items():
        if (column, pattern) != ("patient", FILE_IS_PATIENT):
            check_pattern(pattern, column, column)
    if options.um_per_px is not None and (problem := um_per_px_problem(options.um_per_px)):
        raise UserError(f"--um_per_px={options.um_per_px:g} {problem}.")
    passed_over = PassedOver()
    rows = rows_of_tree(folder, classes, patterns, passed_over)
    prefix = _relative(folder, out.parent)
    for row in rows:
        row["file"] = f"{prefix}{row['file']}"
        if options.um_per_px is not None:
            row["um_per_px"] = repr(options.um_per_px)
    write_table(out, rows, list(rows[0]))
    try:
        table = read_image_table(out)
    except UserError:
        out.unlink()
        raise
    patients = len({row["accession"] for row in table.rows})
    print(f"written to {out}: {len(rows):,} images of {patients:,} patients")
    for label, name in enumerate(CLASS_NAMES):
        print(f"{name}: {sum(row['label'] == str(label) for row in rows):,} images")
    if passed_over:
        print(f"not looked at: {passed_over.describe()}")


def _classes(negative: str, positive: str) -> dict[str, int]:
    """Returns 0 or 1 by the name of the class folder."""
    classes: dict[str, int] = {}
    for text, label, option in ((negative, 0, "--negative"), (positive, 1, "--positive")):
        names = names_in(text)
        if not names:
            raise UserError(f"{option} names no folder: give names between commas.")
        for name in names:
            if name.lower() in {other.lower() for other in classes}:
                raise UserError(f"the folder {name!r} is named twice by --positive and --negative.")
            classes[name] = label
    return classes


def _relative(folder: Path, table_folder: Path) -> str:
    """Returns the start of the paths in the table: relative where the tree lies below it."""
    folder, table_folder = folder.absolute(), table_folder.absolute()
    if folder == table_folder:
        return ""
    if table_folder in folder.parents:
        return f"{os.path.relpath(folder, table_folder)}/".replace(os.sep, "/")
    return f"{folder.as_posix()}/"


if __name__ == "__main__":
    main()
