"""Claims the folder of a run for a configuration, and loads the chosen network of a run."""

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
from se_resnet.runs.run_folder import RunFolder
from se_resnet.runtime.files import reason
from se_resnet.runtime.mesh import abstract_arrays, data_mesh, replicated
from se_resnet.runtime.schema import short

BEST_FORM = FORM | {"decision": DECISION_FORM}  # what is saved beside the chosen weights


def claim(run: RunFolder, config: Mapping[str, Any], free: Collection[str]) -> None:
    """Checks that the run in the folder, if there is one, has this configuration.

    Args:
        run: the folder.
        config: the configuration as JSON has it.
        free: fields, as ``part.field``, that may differ from those of the run's ``config.json``. A
            field that is newer than the run counts as having the value of
            :data:`~se_resnet.runs.run_files.FIELDS_ADDED`.

    Raises:
        UserError: the folder holds a run of another configuration; the first field that differs is
            named with both values.
    """
    begun = run.has_begun
    if not begun and not run.begun_folds() and not run.begun_repeats():
        return  # files of a start that failed early are written anew
    required = [run.config_path, run.data_path, run.split_path] if begun else [run.config_path]
    for path in required:
        if not path.exists():
            raise UserError(
                f"--workdir={run.path} holds checkpoints but no {path.name}: restore the file, or "
                "choose another --workdir."
            )
    found = flatten(run.config({}))
    given = flatten(config)
    for name in sorted({*found, *given} - {*free}):
        if found.get(name) != given.get(name):
            raise UserError(
                f"--workdir={run.path} holds a run with config.{name[:60]} = "
                f"{short(found.get(name))}, but this command has {short(given.get(name))}: choose "
                "another --workdir, or set it alike."
            )


@dataclasses.dataclass(frozen=True)
class Run:
    """The chosen checkpoint of a run, ready to predict.

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
    """Loads the chosen checkpoint: of the best or the last epoch, by ``config.checkpoint.choose``.

    Args:
        workdir: folder of the run.
        trusted: the user's attention module of the run, or ``'none'``. Its file is imported; no
            other file is, whatever the checkpoint names.

    Raises:
        UserError: the folder holds no run, the run no readable checkpoint, or its attention module
            is neither registered nor trusted.
    """
    attention.find(trusted)
    run = RunFolder(workdir)
    run.config({})
    for content, part, begun in (
        ("repeats", "repeat", run.begun_repeats()),
        ("a cross-validation", "fold", run.begun_folds()),
    ):
        if begun:
            raise UserError(
                f"--workdir={workdir} holds {content}: name the run of one {part}, for example "
                f"--workdir={begun[0].path}."
            )
    facts = run.checkpoints.best_facts(BEST_FORM)
    attention.require_trusted(facts["model"]["attention"], f"--workdir={workdir}")
    try:
        classifier, decision = Classifier.from_dict(facts), Decision(**facts["decision"])
        shapes = classifier.abstract_variables()
    except (TypeError, ValueError) as error:
        raise UserError(
            f"the facts of the chosen checkpoint in {workdir} are damaged ({reason(error)}): "
            f"delete {run.checkpoints.folder} and run train.py again."
        ) from error
    like = abstract_arrays(shapes, replicated(data_mesh()))
    return Run(classifier, run.checkpoints.restore_best(like), decision)


def flatten(tree: Mapping, prefix: str = "") -> dict[str, Any]:
    """Returns a nested configuration with names such as ``part.field``."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat
