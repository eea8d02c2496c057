"""Runs one training step and one evaluation batch, and estimates a whole training from them."""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Sequence
from typing import Any

import jax

from se_resnet.runtime import memory
from se_resnet.runtime.batches import batch_count
from se_resnet.runtime.memory import size_text
from se_resnet.runtime.times import duration
from se_resnet.training import loop
from se_resnet.training.step import TrainState

# Checkpoints in the folder of a run, see se_resnet.runs.checkpoint: two states and one set of
# weights remain. While a checkpoint is saved there is one more of its kind.
_STATES, _WEIGHTS = 2, 1


@dataclasses.dataclass(frozen=True)
class Estimate:
    """Time, memory and disk space of a training.

    Attributes:
        compile_seconds: until all programs are compiled.
        step_seconds: of a training step, for each phase.
        phase_steps: number of steps that are still to be done, for each phase.
        validation_seconds: of the validation after an epoch.
        epochs: number of epochs that are still to be done.
        memory_bytes: largest memory of this process so far, 0 if it is not known.
        device_bytes: largest memory of an accelerator so far, 0 for a CPU.
        state_bytes: size of a training state.
        weights_bytes: size of the weights to evaluate.
    """

    compile_seconds: float
    step_seconds: Sequence[float]
    phase_steps: Sequence[int]
    validation_seconds: float
    epochs: int
    memory_bytes: int
    device_bytes: int
    state_bytes: int
    weights_bytes: int

    @property
    def seconds(self) -> float:
        """Time of the training with compilation, without the evaluation at its end."""
        steps = sum(map(float.__mul__, self.step_seconds, map(float, self.phase_steps)))
        return self.compile_seconds + steps + self.epochs * self.validation_seconds

    @property
    def disk_bytes(self) -> int:
        """Size of the checkpoints that remain in the folder of the run."""
        return _STATES * self.state_bytes + _WEIGHTS * self.weights_bytes

    @property
    def peak_disk_bytes(self) -> int:
        """Largest size of the checkpoints, while one is saved."""
        return self.disk_bytes + self.state_bytes + self.weights_bytes

    def describe(self, runs: int = 1, free_bytes: int | None = None) -> str:
        """Returns the lines for the log.

        Args:
            runs: number of runs like this one: folds, repeats and members of an ensemble.
            free_bytes: free space on the disk of the folder, None if it is not known.
        """
        steps = sum(self.phase_steps)
        each = ", ".join(f"{seconds:.2g}" for seconds in self.step_seconds)
        several = f"; {runs} runs: about {duration(runs * self.seconds)}" if runs > 1 else ""
        disk = self.peak_disk_bytes + (runs - 1) * self.disk_bytes
        lines = [
            f"time: about {duration(self.seconds)}, without the evaluation at the end{several}",
            f"  compilation {duration(self.compile_seconds)}; {steps:,} steps of {each} s; "
            f"{self.epochs:,} validations of {self.validation_seconds:.2g} s",
            *([f"memory: about {size_text(self.memory_bytes)}"] if self.memory_bytes else []),
            *([f"memory of a device: {size_text(self.device_bytes)}"] if self.device_bytes else []),
            f"disk: about {size_text(disk)} for checkpoints"
            + ("" if free_bytes is None else f", {size_text(free_bytes)} free"),
        ]
        if free_bytes is not None and disk > free_bytes:
            lines.append("WARNING: the disk is too small: make room, or choose another --workdir")
        return "\n".join(lines)


def measure(
    training: loop.Training, state: TrainState, feed: loop.Feed, images: int, done: int = 0
) -> Estimate:
    """Runs a step of each phase and a validation batch twice, the second time to measure it.

    The first time compiles the programs.

    Args:
        training: the fixed parts.
        state: on the devices; the steps take its memory.
        feed: batches.
        images: number of validation images.
        done: number of steps that an earlier start of the run has done.
    """
    steps = training.steps
    compile_seconds, step_seconds = 0.0, []
    block, _ = next(iter(feed.blocks(0, 1)))
    state_bytes, weights_bytes = _bytes(state), _bytes(state.variables)
    for phase in training.phases:
        step = loop.compiled(training, feed, phase)
        times = []
        for _ in range(2):
            start = time.monotonic()
            state, _ = jax.block_until_ready(step(state, block))
            times.append(time.monotonic() - start)
        compile_seconds += max(times[0] - times[1], 0)
        step_seconds.append(times[1])
    predict = training.classifier.make_predict()
    batch = list(itertools.islice(feed.validation_batches(), 1))
    times = []
    for _ in range(2):
        start = time.monotonic()
        predict([state.variables], batch)
        times.append(time.monotonic() - start)
    compile_seconds += max(times[0] - times[1], 0)
    ends = [*(phase.start for phase in training.phases[1:]), steps.total]
    left = [
        max(end - max(phase.start, done), 0)
        for phase, end in zip(training.phases, ends, strict=True)
    ]
    return Estimate(
        compile_seconds=compile_seconds,
        step_seconds=step_seconds,
        phase_steps=left,
        validation_seconds=times[1] * batch_count(images, training.config.eval_batch_size),
        epochs=steps.epochs - done // steps.per_epoch,
        memory_bytes=memory.peak_bytes(),
        device_bytes=memory.peak_device_bytes(),
        state_bytes=state_bytes,
        weights_bytes=weights_bytes,
    )


def describe_needs(state: TrainState, free_bytes: int) -> str:
    """Returns lines on the disk space and the memory at the start of a training.

    Args:
        state: of the training.
        free_bytes: free space on the disk of the folder.
    """
    states, weights = _bytes(state), _bytes(state.variables)
    peak = (_STATES + 1) * states + (_WEIGHTS + 1) * weights
    available = memory.available_bytes()
    lines = [f"disk: up to {size_text(peak)} of checkpoints, {size_text(free_bytes)} free"]
    if peak > free_bytes:
        lines.append("WARNING: the disk is too small: make room, or choose another --workdir")
    if available:
        lines.append(
            f"memory: {size_text(available)} available; {memory.describe_peak()}, the first steps "
            "show the rest"
        )
    return "\n".join(lines)


def _bytes(tree: Any) -> int:
    return sum(leaf.nbytes for leaf in jax.tree.leaves(tree))
