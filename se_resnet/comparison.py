"""The command ``python -m se_resnet.metrics compare RUN_A RUN_B``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from se_resnet.cli import ArgumentParser, mistakes_told
from se_resnet.errors import UserError
from se_resnet.files import write_json
from se_resnet.metrics import METRIC_NAMES, Predictions, compare

_USAGE = """Compares two runs on the images that both evaluated: what B gains over A.

  python -m se_resnet.metrics compare runs/plain runs/se
  python -m se_resnet.metrics compare a/predictions.csv b/predictions.csv --json=difference.json

A run is its workdir or a predictions.csv. The 95 % interval and P(B > A) come from a bootstrap that
draws the same patients for both runs. Decisions are taken at the threshold 0.5."""


def main(argv: list[str] | None = None) -> None:
    """The command; ``argv`` without the program's name, None for the process's own."""
    with mistakes_told():
        options = _parser().parse_args(argv)
        run_a, run_b = (
            Predictions.read_csv(_predictions_of(run, options.split))
            for run in (options.run_a, options.run_b)
        )
        found = compare(run_a, run_b)
        print(f"A: {options.run_a}\nB: {options.run_b}\n{table(found)}")
        if options.json:
            try:
                write_json(options.json, {"a": options.run_a, "b": options.run_b, **found})
            except OSError as error:
                raise UserError(
                    f"{options.json} cannot be written ({error.strerror}): choose another --json."
                ) from error


def table(found: dict[str, Any]) -> str:
    """What :func:`se_resnet.metrics.compare` returned, as aligned lines of text."""
    left_out = [f"{found[f'only_{run}']} only in {run.upper()}" for run in "ab"]
    patient = found["patient"]
    rows = {f"image {name}": found["image"][name] for name in METRIC_NAMES}
    rows |= {f"patient {name}": patient[name] for name in patient if "value_a" in patient[name]}
    for score in ("mean_probability", "majority_vote"):
        rows |= {f"patient {score} {name}": row for name, row in patient[score].items()}
    lines: list[tuple[str, ...]] = [("", "A", "B", "B - A", "95 % interval", "P(B > A)")]
    lines += [(_spoken(name), *_cells(row)) for name, row in rows.items()]
    widths = [max(len(line[column]) for line in lines) for column in range(5)]
    return "\n".join(
        [
            f"{found['images']} images of {found['accessions']} patients in common "
            f"({', '.join(left_out)})",
            "",
            *(
                f"{first:<{widths[0]}}  {'  '.join(map(str.rjust, rest, widths[1:]))}  {last}"
                for first, *rest, last in lines
            ),
        ]
    )


def _spoken(name: str) -> str:
    lower_is_better = " (lower is better)" if name.endswith("brier") else ""
    return name.replace("_", " ") + lower_is_better


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    difference = row["difference"]
    interval, probability = "", difference.get("reason", "")
    if difference["low"] is not None:
        interval = f"{_signed(difference['low'])} to {_signed(difference['high'])}"
        probability = f"{row['probability_above_zero']:.3f}"
    values = ("-" if row[key] is None else f"{row[key]:.3f}" for key in ("value_a", "value_b"))
    gain = "-" if difference["value"] is None else _signed(difference["value"])
    return (*values, gain, interval, probability)


def _signed(value: float) -> str:
    return f"{round(value, 3) + 0.0:+.3f}"  # adding 0.0 spares the reader a -0.000


def _predictions_of(run: str, split: str) -> Path:
    path = Path(run)
    return path / "eval" / split / "predictions.csv" if path.is_dir() else path


def _parser() -> ArgumentParser:
    parser = ArgumentParser("python -m se_resnet.metrics", _USAGE)
    parser.add_argument("command", choices=["compare"])
    parser.add_argument("run_a", metavar="RUN_A", help="workdir or predictions.csv")
    parser.add_argument("run_b", metavar="RUN_B", help="workdir or predictions.csv")
    parser.add_argument("--split", default="test", help="split of the workdirs (default: test)")
    parser.add_argument("--json", metavar="FILE", help="write every figure here")
    return parser
