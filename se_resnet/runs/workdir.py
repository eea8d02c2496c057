"""The folder of a run: whether it may be used for a configuration, and what it learned."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from se_resnet import attention
from se_resnet.errors import UserError
from se_resnet.metrics.decision import FORM as DECISION_FORM
from se_resnet.metrics.decision import Decision
from se_resnet.models.classifier import FORM, Classifier
from se_resnet.runs.checkpoint import Checkpoints
from se_resnet.runs.run_files import CONFIG, DATA, SPLIT, read
from se_resnet.runtime.files import reason
from se_resnet.runtime.mesh import data_mesh, on_devices, replicated
from se_resnet.runtime.schema import short

BEST_FORM = FORM | {"decision": DECISION_FORM}  # what is saved beside the best weights


def claim(workdir: Path, config: Mapping[str, Any], free: Collection[str]) -> None:
    """Checks that the run in the folder, if there is one, has this configuration.

    Args:
        workdir: folder of the run.
        config: the configuration as JSON has it.
        free: fields, as ``part.field``, that may differ from those of the run's ``config.json``.

    Raises:
        UserError: the folder holds a run of another configuration; the first field that differs is
            named with both values.
    """
    begun = has_begun(workdir)
    if not begun and not fold_runs(workdir):
        return  # what a start that failed early has left is written anew
    for name in (CONFIG, DATA, SPLIT) if begun else (CONFIG,):
        if not (workdir / name).exists():
            raise UserError(
                f"--workdir={workdir} holds checkpoints but no {name}: restore the file, or choose "
                "another --workdir."
            )
    found = flatten(read(workdir / CONFIG))
    given = flatten(config)
    for name in sorted({*found, *given} - {*free}):
        if found.get(name) != given.get(name):
            raise UserError(
                f"--workdir={workdir} holds a run with config.{name[:60]} = "
                f"{short(found.get(name))}, but this command has {short(given.get(name))}: choose "
                "another --workdir, or set it alike."
            )


def has_begun(workdir: Path) -> bool:
    """Whether the run in this folder has saved a state to go on from."""
    return bool(Checkpoints(workdir / "checkpoints").steps("latest"))


def fold_folders(workdir: Path, count: int) -> list[Path]:
    """Where a cross-validation in this folder keeps the runs of its folds."""
    return [workdir / f"fold{fold}" for fold in range(count)]


def fold_runs(workdir: Path) -> list[Path]:
    """The runs that a cross-validation in this folder has begun, in order of their folds."""
    folds = [path for path in workdir.glob("fold[0-9]*") if path.name[4:].isdecimal()]
    return sorted(filter(has_begun, folds), key=lambda path: int(path.name[4:]))


@dataclasses.dataclass(frozen=True)
class Run:
    """The best checkpoint of a run, ready to predict.

    Attributes:
        classifier: network, preprocessing, size and resize rule.
        variables: ``{'params', 'batch_stats'}`` on all devices.
        decision: threshold and temperature, chosen on the run's validation images.
    """

    classifier: Classifier
    variables: Mapping[str, Any]
    decision: Decision

    @cached_property
    def predict(self) -> Callable[[Mapping, Iterable[Mapping]], np.ndarray]:
        """The compiled forward pass, see :meth:`Classifier.make_predict`."""
        return self.classifier.make_predict()


def load_best(workdir: Path, trusted: str = attention.NONE) -> Run:
    """Loads the checkpoint with the best validation score.

    Args:
        workdir: folder of the run.
        trusted: the run's own attention module, if it has one: its file is imported. No other is,
            whatever the checkpoint says.

    Raises:
        UserError: the folder holds no run, the run no readable checkpoint, or its attention module
            is neither one of ours nor trusted.
    """
    attention.find(trusted)
    read(workdir / CONFIG)
    if folds := fold_runs(workdir):
        raise UserError(
            f"--workdir={workdir} holds a cross-validation: name the run of one fold, for example "
            f"--workdir={folds[0]}."
        )
    checkpoints = Checkpoints(workdir / "checkpoints")
    facts = checkpoints.best_facts(BEST_FORM)
    attention.require_trusted(facts["model"]["attention"], f"--workdir={workdir}")
    try:
        classifier, decision = Classifier.from_dict(facts), Decision(**facts["decision"])
        shapes = classifier.abstract_variables()
    except (TypeError, ValueError) as error:
        raise UserError(
            f"the facts of the best checkpoint in {workdir} are damaged ({reason(error)}): delete "
            f"{workdir / 'checkpoints'} and run train.py again."
        ) from error
    like = on_devices(shapes, replicated(data_mesh()))
    return Run(classifier, checkpoints.restore_best(like), decision)


def flatten(tree: Mapping, prefix: str = "") -> dict[str, Any]:
    """A nested configuration with names as ``part.field``."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat
