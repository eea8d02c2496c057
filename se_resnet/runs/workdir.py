"""Claims the folder of a run for a configuration, and loads the chosen network of a run."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from se_resnet import attention
from se_resnet.errors import UserError
from se_resnet.input_gate.embedding import unit_length
from se_resnet.input_gate.features import simple_features
from se_resnet.input_gate.gate import InputGate
from se_resnet.metrics.decision import FORM as DECISION_FORM
from se_resnet.metrics.decision import Decision
from se_resnet.models.classifier import FORM, Classifier, Forward
from se_resnet.runs.run_files import PARTS
from se_resnet.runs.run_folder import RunFolder
from se_resnet.runtime.batches import batches
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
            named with both values. Or it holds an evaluation that no network here made.
    """
    begun = run.has_begun
    if not begun and not run.begun_parts()[1]:
        if run.evaluation().is_finished:
            raise UserError(
                f"--workdir={run.path} holds an evaluation without checkpoints, of another program "
                "or of a run whose checkpoints are gone: choose another --workdir, or move the "
                "evaluation away."
            )
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
    """The chosen checkpoint of a run, or those of several networks as one, ready to predict.

    The logit of several networks is the mean of their logits, as the project averages the logits of
    views and tiles (docs/results.md, "Recipes and ensembles", compares it with the mean of their
    probabilities).

    Attributes:
        classifier: network, preprocessing, size and resize rule.
        members: ``{'params', 'batch_stats'}`` of each network, on all devices.
        decision: threshold and temperature, chosen on the run's validation images.
        gate: reference of the training images of the first network; None for a run that has none.
    """

    classifier: Classifier
    members: tuple[Mapping[str, Any], ...]
    decision: Decision
    gate: InputGate | None = None

    @property
    def variables(self) -> Mapping[str, Any]:
        """The variables of the only network.

        Raises:
            UserError: there are several networks.
        """
        if len(self.members) > 1:
            raise UserError(
                f"these are {len(self.members)} networks, and one is needed: name the folder of "
                "one network in the run."
            )
        return self.members[0]

    def features(self, images: np.ndarray, batch_size: int) -> np.ndarray:
        """Returns the pooled features of the first network, ``float32 [N, D]``.

        Args:
            images: RGB ``uint8 [N, H, W, 3]`` of the network's size.
            batch_size: images per batch.
        """
        parts = (
            {"image": images[positions], "mask": mask}
            for positions, mask in batches(len(images), batch_size)
        )
        return self.predict.with_features(self.members[:1], parts)[1]

    def unlike_training(
        self, images: np.ndarray, batch_size: int, features: np.ndarray | None = None
    ) -> list[str] | None:
        """Returns the reason why each image does not look like the training images.

        Args:
            images: RGB ``uint8 [B, H, W, 3]``, resized by the rule of the network.
            batch_size: images per batch.
            features: pooled features of the first network for these images, where a pass has
                computed them; None to compute them.

        Returns:
            See :meth:`se_resnet.input_gate.gate.InputGate.reasons`; None without a reference.
        """
        if self.gate is None:
            return None
        if features is None:
            features = self.features(images, batch_size)
        return self.gate.reasons(simple_features(images), unit_length(features))

    @cached_property
    def predict(self) -> Forward:
        """The compiled forward pass, which keeps the folded variables of the networks."""
        return self.classifier.make_predict(keeps_folded=True)


def load_best(workdir: Path, trusted: str = attention.NONE) -> Run:
    """Loads the chosen checkpoint: of the best or the last epoch, by ``config.checkpoint.choose``.

    Of an ensemble, a cross-validation or repeats all networks are loaded, as one ensemble. Its
    decision is in ``decision.json``.

    Args:
        workdir: folder of the run.
        trusted: the user's attention module of the run, or ``'none'``. Its file is imported; no
            other file is, whatever the checkpoint names.

    Raises:
        UserError: the folder holds no run, the run no readable checkpoint, its attention module is
            neither registered nor trusted, several networks have not been evaluated together, or
            they differ in more than their variables.
    """
    attention.find(trusted)
    run = RunFolder(workdir)
    run.config({})
    kind, parts = run.begun_parts()
    if not parts:
        return _load_network(run)
    if not run.decision_path.exists():
        raise UserError(
            f"--workdir={workdir} holds {PARTS[kind]} without {run.decision_path.name}: finish it "
            f"by train.py, or evaluate it once by python eval.py --workdir={workdir}."
        )
    networks = [_load_network(network) for network in run.networks()]
    first, *others = networks
    if any(other.classifier != first.classifier for other in others):
        raise UserError(
            f"the networks in {workdir} differ in architecture, input or preprocessing, and cannot "
            f"predict together: name the run of one {kind}, for example --workdir={parts[0].path}."
        )
    try:
        decision = Decision(**run.decision())
    except (TypeError, ValueError) as error:
        raise UserError(
            f"{run.decision_path} is damaged ({reason(error)}): write it again by python eval.py "
            f"--workdir={workdir}."
        ) from error
    members = tuple(network.members[0] for network in networks)
    return Run(first.classifier, members, decision, first.gate)


def _load_network(run: RunFolder) -> Run:
    """Loads the chosen checkpoint of a run with a single network."""
    workdir = run.path
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
    gate = InputGate.read(run.input_reference_path)
    return Run(classifier, (run.checkpoints.restore_best(like),), decision, gate)


def flatten(tree: Mapping, prefix: str = "") -> dict[str, Any]:
    """Returns a nested configuration with names such as ``part.field``."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat
