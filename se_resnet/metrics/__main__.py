"""Compares two runs on the images that both evaluated.

  python -m se_resnet.metrics compare runs/plain runs/se
  python -m se_resnet.metrics compare a/predictions.csv b/predictions.csv --json=difference.json

A run is given as its workdir or as a predictions.csv. The table reports the difference B - A with
its 95 % interval and the p-value of no difference, both from the gain of each patient. Both runs
are evaluated at the threshold 0.5.
"""

from __future__ import annotations

from pathlib import Path

from se_resnet.errors import UserError
from se_resnet.metrics.comparison import compare, table
from se_resnet.metrics.predictions import PREDICTIONS, Predictions
from se_resnet.runtime.cli import ArgumentParser, exit_on_user_error, path_option
from se_resnet.runtime.files import write_json


def main(argv: list[str] | None = None) -> None:
    """Runs the command; ``argv`` has no program name, None means ``sys.argv``."""
    with exit_on_user_error():
        options = _parser().parse_args(argv)
        run_a, run_b = (
            Predictions.read_csv(_predictions_file(run, options.split))
            for run in (options.run_a, options.run_b)
        )
        comparison = compare(run_a, run_b)
        print(f"A: {options.run_a}\nB: {options.run_b}\n{table(comparison)}")
        if options.json:
            try:
                write_json(options.json, {"a": options.run_a, "b": options.run_b, **comparison})
            except OSError as error:
                raise UserError(
                    f"{options.json} cannot be written ({error.strerror}): choose another file "
                    "for --json."
                ) from error


def _predictions_file(run: str, split: str) -> Path:
    from se_resnet.runs.run_folder import RunFolder  # imports JAX: after the options are known

    path = Path(run)
    return RunFolder(path).evaluation(split).path / PREDICTIONS if path.is_dir() else path


def _parser() -> ArgumentParser:
    parser = ArgumentParser("python -m se_resnet.metrics", __doc__ or "")
    parser.add_argument("command", choices=["compare"])
    parser.add_argument(
        "run_a", metavar="RUN_A", type=path_option, help="workdir or predictions.csv"
    )
    parser.add_argument(
        "run_b", metavar="RUN_B", type=path_option, help="workdir or predictions.csv"
    )
    parser.add_argument("--split", default="test", help="split of the workdirs (default: test)")
    parser.add_argument(
        "--json", metavar="FILE", type=path_option, help="write all estimates to FILE"
    )
    return parser


if __name__ == "__main__":
    main()
