"""Compares two runs, or computes how many patients an interval needs.

  python -m se_resnet.metrics compare runs/se runs/plain
  python -m se_resnet.metrics compare a/predictions.csv b/predictions.csv --json=difference.json
  python -m se_resnet.metrics patients --auc=0.9 --width=0.1 --malignant=0.7
  python -m se_resnet.metrics patients --share=0.95 --width=0.1

compare: a run is given as its workdir or as a predictions.csv. The table reports the difference
A - B with its 95 % interval and the p-value of no difference, both from the gain of each patient,
and the number of patients that would detect a difference as large with a power of 80 %. Both runs
are evaluated at the threshold 0.5. Two folders of repeats (config.repeats) with the same splits are
paired by repeat; their interval holds patients and seeds.

patients: the least number of patients whose 95 % interval is as narrow as --width, for an AUC of
patients, or for a share of them such as a sensitivity.
"""

from __future__ import annotations

from se_resnet.metrics.options import parser

if __name__ == "__main__":  # before the imports that take seconds
    parser(__doc__ or "").parse_command()

import argparse
from pathlib import Path

from se_resnet.errors import UserError
from se_resnet.metrics.comparison import compare, table
from se_resnet.metrics.paired_repeats import compare_pairs, table_of_pairs
from se_resnet.metrics.predictions import PREDICTIONS, Predictions
from se_resnet.metrics.sample_size import patients_for_auc, patients_for_share
from se_resnet.runtime.cli import exit_on_user_error
from se_resnet.runtime.files import write_json
from se_resnet.runtime.signals import postponed


def main(argv: list[str] | None = None) -> None:
    """Runs the command; ``argv`` has no program name, None means ``sys.argv``."""
    with exit_on_user_error():
        options = parser(__doc__ or "").parse_args(argv)
        {"compare": _compare, "patients": _patients}[options.command](options)


def _compare(options: argparse.Namespace) -> None:
    names = (options.run_a, options.run_b)
    repeats = [_repeats(run, options.split) for run in names]
    if any(repeats):
        comparison = compare_pairs(names, *repeats)
        text = table_of_pairs(comparison)
    else:
        run_a, run_b = (
            Predictions.read_csv(_predictions_file(run, options.split)) for run in names
        )
        comparison = compare(run_a, run_b)
        text = table(comparison)
    print(f"A: {options.run_a}\nB: {options.run_b}\n{text}")
    if options.json:
        try:
            write_json(options.json, {"a": options.run_a, "b": options.run_b, **comparison})
        except OSError as error:
            raise UserError(
                f"{options.json} cannot be written ({error.strerror}): choose another file "
                "for --json."
            ) from error


def _patients(options: argparse.Namespace) -> None:
    if (options.auc is None) == (options.share is None):
        raise UserError("give either --auc or --share.")
    if options.auc is None:
        needed = patients_for_share(options.share, options.width)
    else:
        needed = patients_for_auc(options.auc, options.width, options.malignant)
    print("more than 10,000,000 patients" if needed is None else f"{needed:,} patients")


def _predictions_file(run: str, split: str) -> Path:
    with postponed():
        from se_resnet.runs.run_folder import RunFolder  # imports JAX: after the options are known

    path = Path(run)
    return RunFolder(path).evaluation(split).path / PREDICTIONS if path.is_dir() else path


def _repeats(run: str, split: str) -> list[Predictions]:
    """Returns the predictions of each repeat; an empty list for a single run or a file."""
    with postponed():
        from se_resnet.runs.run_folder import RunFolder

    folder = RunFolder(run)
    if not folder.config_path.exists() or (count := folder.config()["repeats"]) == 1:
        return []
    evaluated, _, tta = split.partition("-")
    if evaluated != "test":
        raise UserError(
            f"{run} holds {count} repeats, which are compared on their test images only: leave out "
            f"--split={split}, or compare two runs, for example {folder.repeats(1)[0].path}."
        )
    return [repeat.tested(tta or "none") for repeat in folder.repeats(count)]


if __name__ == "__main__":
    main()
