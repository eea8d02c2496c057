"""The folder of a run, as one object: every file of it has its path and its reader here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from se_resnet.metrics.decision import FORM as DECISION_FORM
from se_resnet.metrics.predictions import Predictions, in_folds
from se_resnet.runs import run_files
from se_resnet.runs.checkpoint import Checkpoints
from se_resnet.runs.evaluations import EVALUATIONS, EvaluationFolder
from se_resnet.runtime import processes, software
from se_resnet.runtime.log import log_file

INPUT_REFERENCE = "input_reference.safetensors"


class RunFolder:
    """The folder ``W`` of a run of ``train.py``.

    ======================  ====================================================================
    ``config.json``         the configuration
    ``data.json``           fingerprint of the images, leaks of the split, its summary
    ``split.csv``           the role of every image
    ``skipped_files.csv``   files that were left out, where there were any
    ``weights.json``        the weights that the run started from
    ``numerics.json``       settings of JAX and XLA that change numbers
    ``software.json``       versions of the software and the devices, at every start
    ``training.json``       every start: date, duration, steps, command, commit, end
    ``checkpoints/``        ``latest``: states to resume from; ``best``: the weights to evaluate
    ``input_reference.safetensors``  reference of the training images, for the input gate
    ``metrics.jsonl``       losses and metrics during training, one line per step or epoch
    ``metrics.csv``         the same as a table with one row per epoch
    ``log.txt``             what training and evaluation printed, with the time of every line
    ``trackers.json``       which tracker has received which lines
    ``tensorboard/``        the same for TensorBoard, with traces of steps
    ``mlflow/``             the same for MLflow
    ``eval/NAME/``          an evaluation, :class:`~se_resnet.runs.evaluations.EvaluationFolder`
    ``lock``, ``lock.json`` the process that uses the folder
    ``source/``             protocol ``source`` only: the images that it derived
    ``repeat0/``, ...       repeats only: their runs, cross-validations or ensembles
    ``fold0/``, ...         a cross-validation only: the runs or ensembles of its folds
    ``member0/``, ...       an ensemble only: the runs of its members
    ``decision.json``       several networks only: threshold and temperature for new patients
    ======================  ====================================================================

    Every reader checks the file against its form in :mod:`se_resnet.runs.run_files` and raises a
    :class:`~se_resnet.errors.UserError` that names the file.

    Args:
        path: of the folder, which need not exist.
    """

    def __init__(self, path: str | Path):
        self.path = path = Path(path)
        self.config_path = path / run_files.CONFIG
        self.data_path = path / run_files.DATA
        self.split_path = path / run_files.SPLIT
        self.skipped_path = path / "skipped_files.csv"
        self.weights_path = path / run_files.WEIGHTS
        self.numerics_path = path / "numerics.json"
        self.software_path = path / "software.json"
        self.training_path = path / "training.json"
        self.checkpoints = Checkpoints(path / "checkpoints")
        self.log_path = path / "metrics.jsonl"
        self.epochs_path = path / "metrics.csv"
        self.text_log_path = path / "log.txt"
        self.trackers_path = path / "trackers.json"
        self.tensorboard_path = path / "tensorboard"
        self.mlflow_path = path / "mlflow"
        self.lock_path = path / "lock"
        self.owner_path = path / "lock.json"
        self.source_path = path / "source"
        self.decision_path = path / "decision.json"
        self.input_reference_path = path / INPUT_REFERENCE

    @property
    def has_begun(self) -> bool:
        """True once the run has saved a state to resume from."""
        return bool(self.checkpoints.steps("latest"))

    def config(self, form: Mapping[Any, Any] = run_files.CONFIG_FORM) -> dict[str, Any]:
        """Returns ``config.json``, checked against ``form``.

        Fields that are newer than the run have the values of
        :data:`~se_resnet.runs.run_files.FIELDS_ADDED`.
        """
        return run_files.complete(run_files.read(self.config_path, form))

    def data_facts(self) -> dict[str, Any]:
        """Returns ``data.json``."""
        return run_files.read(self.data_path, run_files.DATA_FORM)

    def split(self, columns: Sequence[str] = run_files.SPLIT_COLUMNS) -> list[dict[str, str]]:
        """Returns the rows of ``split.csv``, which has at least these columns."""
        return run_files.read_split(self.split_path, columns)

    def patients(self, *roles: str) -> set[str]:
        """Returns the patients with an image in one of these roles."""
        return {row["accession"] for row in self.split() if row["role"] in roles}

    def magnifications(self, role: str) -> set[int]:
        """Returns the magnifications of the images of a role; 0 stands for not known."""
        rows = self.split((*run_files.SPLIT_COLUMNS, "magnification"))
        return {int(row["magnification"]) for row in rows if row["role"] == role}

    def weights_facts(self) -> dict[str, Any] | None:
        """Returns ``weights.json``; None for a run of a version that wrote none."""
        found = run_files.read_optional(self.weights_path, run_files.WEIGHTS_FORM)
        return found and {"licence": "", "source": "", "sha256": "", **found}

    def software(self) -> list[dict[str, Any]] | None:
        """Returns the starts in ``software.json``; None for a version that wrote none."""
        found = run_files.read_optional(self.software_path, software.FORM)
        return None if found is None else found["starts"]

    def log(self) -> list[dict[str, Any]]:
        """Returns the lines of ``metrics.jsonl``, oldest first."""
        return run_files.read_log(self.log_path)

    @contextmanager
    def logged(self) -> Iterator[None]:
        """Adds what the block prints to ``log.txt``, on process 0.

        See :func:`se_resnet.runtime.log.log_file`.
        """
        with log_file(self.text_log_path) if processes.is_primary() else nullcontext():
            yield

    def skipped_files(self) -> list[dict[str, str]]:
        """Returns ``path`` and ``reason`` of each file that was left out."""
        return run_files.read_skipped(self.skipped_path)

    def evaluation(
        self, split: str = "test", tta: str = "none", data_dir: str | None = None
    ) -> EvaluationFolder:
        """Returns the folder of an evaluation.

        Args:
            split: ``test``, ``val``, ``train`` or ``all``.
            tta: test-time augmentation.
            data_dir: other images than those of the run, or None.
        """
        name = f"{Path(data_dir).resolve().name or 'root'}-{split}" if data_dir else split
        return EvaluationFolder(
            self.path / EVALUATIONS / (name if tta == "none" else f"{name}-{tta}")
        )

    def tested(self, tta: str = "none") -> Predictions:
        """Returns the predictions for the test images of a run or a cross-validation.

        Args:
            tta: test-time augmentation.

        Returns:
            One row per image. The rows of a cross-validation carry their fold and are in the
            order of the folds.

        Raises:
            UserError: an evaluation is missing or broken.
        """
        if self.config()["split"]["fold"] != run_files.ALL_FOLDS:
            return self.evaluation(run_files.TEST, tta).predictions()
        folds = self._numbered(run_files.FOLD)
        return in_folds([fold.evaluation(run_files.TEST, tta).predictions() for fold in folds])

    def repeats(self, count: int) -> list[RunFolder]:
        """Returns ``count`` repeats in this folder: runs, cross-validations or ensembles."""
        return self._parts(run_files.REPEAT, count)

    def folds(self, count: int) -> list[RunFolder]:
        """Returns ``count`` folds of a cross-validation in this folder: runs or ensembles."""
        return self._parts(run_files.FOLD, count)

    def members(self, count: int) -> list[RunFolder]:
        """Returns the runs of ``count`` members of an ensemble in this folder."""
        return self._parts(run_files.MEMBER, count)

    def begun_parts(self) -> tuple[str, list[RunFolder]]:
        """Returns the kind of the parts of this run, and those that have begun, in order.

        The kind is empty, and there are no parts, if the run has a single network.
        """
        for kind in run_files.PARTS:
            parts = self._numbered(kind)
            if begun := [part for part in parts if part._holds_work() or part.begun_parts()[1]]:
                return kind, begun
        return "", []

    def _holds_work(self) -> bool:
        """Returns True for a saved state, and for an evaluation of features without a network."""
        return self.has_begun or self.evaluation().is_finished

    def networks(self) -> list[RunFolder]:
        """Returns the runs of all networks in this folder: this run itself, if it is only one."""
        _, parts = self.begun_parts()
        return [network for part in parts for network in part.networks()] or [self]

    def decision(self) -> dict[str, Any]:
        """Returns ``decision.json`` of a run with several networks."""
        return run_files.read(self.decision_path, DECISION_FORM)

    def _parts(self, kind: str, count: int) -> list[RunFolder]:
        return [RunFolder(self.path / f"{kind}{number}") for number in range(count)]

    def _numbered(self, kind: str) -> list[RunFolder]:
        """Returns the folders ``KIND0``, ``KIND1``, ... that exist, in the order of the numbers."""
        numbers = [path.name.removeprefix(kind) for path in self.path.glob(f"{kind}[0-9]*")]
        decimal = sorted((number for number in numbers if number.isdecimal()), key=int)
        return [RunFolder(self.path / f"{kind}{number}") for number in decimal]
