"""Writes the tables and the text that a journal asks for, from a run that is evaluated.

  python -m se_resnet.report runs/quickstart
  python -m se_resnet.report runs/quickstart --split=test-dihedral --out=paper

Writes flow.csv, flow.svg, characteristics.csv, tripod_ai.csv, tripod_ai.html, claim.csv,
claim.html, methods.txt and reporting.html, by default to W/eval/test/reporting. Nothing is computed
anew: eval.py must have evaluated the run.
"""

from __future__ import annotations

from pathlib import Path

from se_resnet.errors import UserError
from se_resnet.runtime.cli import ArgumentParser, exit_on_user_error, path_option
from se_resnet.runtime.signals import postponed


def main(argv: list[str] | None = None) -> None:
    """Runs the command; ``argv`` has no program name, None means ``sys.argv``."""
    with exit_on_user_error():
        options = _parser().parse_args(argv)
        _write(Path(options.run), options.split, options.out)


def _write(path: Path, split: str, out: str) -> None:
    with postponed():
        # These import JAX: after the options are known.
        from se_resnet.images.resize import TTA
        from se_resnet.report.remarks import view_notes
        from se_resnet.report.reporting.folder import FILES, PAGE, REPORTING, write_reporting
        from se_resnet.runs.evaluations import REPORT
        from se_resnet.runs.run_folder import RunFolder
        from se_resnet.runtime.folders import whole_folder

    run = RunFolder(path)
    if not run.config_path.exists():
        raise UserError(
            f"{path} is not the folder of a run (it has no {run.config_path.name}): give the "
            "--workdir of train.py."
        )
    if Path(split).name != split or split == "..":
        raise UserError(
            f"--split={split} is no name of an evaluation: give test, val, train or all, as "
            "eval.py named the folder."
        )
    evaluation = run.evaluation(split)
    if not evaluation.is_finished:
        raise UserError(
            f"{evaluation.path} holds no evaluation: run eval.py --workdir={path} first, or name "
            "another folder of the run's evaluations by --split."
        )
    folder = Path(out) if out else evaluation.path / REPORTING
    views = split.rpartition("-")[2]
    notes = view_notes(views if views in TTA else "none", run.config()["data"]["resize"])
    metrics, predictions = evaluation.metrics(), evaluation.predictions()
    with whole_folder(folder, FILES, "give another folder by --out", lambda: FILES) as new:
        write_reporting(
            new,
            run,
            metrics,
            predictions,
            evaluation=evaluation.path.relative_to(path).as_posix(),
            notes=notes,
            report="" if out else f"../{REPORT}",
        )
    print(f"written to {folder}: {PAGE} and {len(FILES) - 1} other files")


def _parser() -> ArgumentParser:
    parser = ArgumentParser("python -m se_resnet.report", __doc__ or "")
    parser.add_argument("run", metavar="RUN", type=path_option, help="workdir of an evaluated run")
    parser.add_argument(
        "--split", default="test", help="folder of the evaluation in RUN/eval (default: test)"
    )
    parser.add_argument(
        "--out",
        metavar="FOLDER",
        type=path_option,
        default="",
        help="where to write (default: RUN/eval/SPLIT/reporting)",
    )
    return parser


if __name__ == "__main__":
    main()
