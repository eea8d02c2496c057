"""The state of a training, read from the folder of its run: steps done, finished or not."""

from __future__ import annotations

import dataclasses
from typing import Any

from se_resnet.errors import UserError
from se_resnet.runs.provenance import Training, read_training
from se_resnet.runs.run_files import last_evaluation
from se_resnet.runs.run_folder import RunFolder


@dataclasses.dataclass(frozen=True)
class TrainingState:
    """The state of the training of one network.

    Attributes:
        step: training steps done and saved.
        epoch_steps: steps per epoch; None if no file of the run says it.
        epochs: configured number of epochs.
        chosen_step: step of the weights to evaluate; None before any are chosen.
        stopped_early: true if early stopping ended the training.
        is_evaluated: true if the evaluation at the end of the training is written.
    """

    step: int
    epoch_steps: int | None
    epochs: int
    chosen_step: int | None
    stopped_early: bool
    is_evaluated: bool

    @property
    def steps(self) -> int | None:
        """Configured number of steps; None if it is not known."""
        return None if self.epoch_steps is None else self.epoch_steps * self.epochs

    @property
    def is_finished(self) -> bool:
        """True if the training has ended, with its last step or by early stopping."""
        if self.steps is None:
            return self.is_evaluated
        return self.stopped_early or self.step >= self.steps

    def epoch_of(self, step: int | None) -> float | None:
        """Returns the number of epochs after a step, with 2 decimals; None if not known."""
        return None if step is None or not self.epoch_steps else round(step / self.epoch_steps, 2)

    def as_dict(self) -> dict[str, Any]:
        """Returns the values for ``metrics.json``, of the form ``provenance.NETWORK_FORM``."""
        return {
            "step": self.step,
            "of_steps": self.steps,
            "epoch": self.epoch_of(self.step),
            "of_epochs": self.epochs,
            "evaluated_step": self.chosen_step,
            "evaluated_epoch": self.epoch_of(self.chosen_step),
            "finished": self.is_finished,
            "stopped_early": self.stopped_early,
        }

    def describe(self) -> str:
        """Returns the steps done, for example ``step 6 of 150``."""
        return f"step {self.step:,}" + ("" if self.steps is None else f" of {self.steps:,}")


def training_state(run: RunFolder) -> TrainingState:
    """Reads the state of the training of one network, of this version or an earlier.

    Raises:
        UserError: the configuration or the log of the run is missing or broken.
    """
    config = run.config()
    latest, best = (run.checkpoints.steps(kind) for kind in ("latest", "best"))
    rule = config.get("early_stopping", {})
    patience, waited = rule.get("patience"), run.checkpoints.latest_progress().get("waited")
    return TrainingState(
        step=latest[-1] if latest else 0,
        epoch_steps=_epoch_steps(run, read_training(run)),
        epochs=config["epochs"],
        chosen_step=best[-1] if best else None,
        stopped_early=bool(rule.get("metric"))
        and isinstance(patience, int)
        and isinstance(waited, int)
        and waited >= patience,
        is_evaluated=run.evaluation(last_evaluation(config)).is_finished,
    )


def unfinished_warnings(run: RunFolder) -> list[str]:
    """Returns a sentence for every network of a run whose training has not finished.

    A file that this needs and that is missing or broken counts as finished: other readers report
    it.
    """
    sentences = []
    for network in run.networks():
        try:
            state = training_state(network)
        except UserError:
            continue
        if state.is_finished:
            continue
        weights = (
            ""
            if state.chosen_step is None
            else f" The weights are those after step {state.chosen_step:,}."
        )
        sentences.append(
            f"The training in {network.path.name} has not finished: it is at {state.describe()}."
            f"{weights} Run train.py with the same --workdir to finish it."
        )
    return sentences


def _epoch_steps(run: RunFolder, training: Training | None) -> int | None:
    """Returns the steps per epoch, which a run of an earlier version has in its log only."""
    if training is not None:
        return training["epoch_steps"]
    for line in reversed(run.log()):
        epoch = line.get("epoch")
        if isinstance(epoch, float) and epoch > 0:
            return max(round(line["step"] / epoch), 1)
    return None
