"""Times and analyses the training step of ``train.py`` for :mod:`benchmarks.gpu`."""

from __future__ import annotations

import dataclasses
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from se_resnet.runtime.mesh import data_mesh, replicated

AUGMENT: dict[str, Any] = {
    "translate": 0.05,
    "zoom": 0.1,
    "stain": 0.05,
    "brightness": 0.05,
    "contrast": 0.1,
}
SYNTHETIC = 0.27  # share of blends among the rows of BreaKHis balanced by SMOTE


@dataclasses.dataclass(frozen=True)
class Case:
    """One configuration of the step.

    Attributes:
        batch: number of images in a step.
        dtype: ``'float32'`` or ``'bfloat16'``.
        images: number of uint8 images in device memory.
        side: their height and width.
        width: channels of the stem.
        stage_sizes: bottlenecks of each stage.
        steps: number of steps in one dispatch.
        dispatches: number of timed dispatches.
        augment: whether batches are augmented.
        copy: size in megabytes of the array that measures bandwidth.
        trace: whether to measure by a trace in which share of the time the device is busy.
        formulation: ``config.model.formulation``.
    """

    batch: int
    dtype: str
    images: int
    side: int
    width: int
    stage_sizes: tuple[int, ...]
    steps: int
    dispatches: int
    augment: bool
    copy: int
    trace: bool = True
    formulation: str = "auto"

    def pixels(self) -> np.ndarray:
        """Returns random pixels ``uint8 [images, side, side, 3]``."""
        shape = (self.images, self.side, self.side, 3)
        return np.random.default_rng(0).integers(0, 256, shape, np.uint8)

    def columns(self) -> dict[str, Any]:
        """Returns the columns of a plan with two rows for each image."""
        rng = np.random.default_rng(1)
        rows = 2 * self.images
        base, other = rng.integers(self.images, size=(2, rows))
        blended = rng.random(rows) < SYNTHETIC
        return {
            "base": base,
            "neighbour": np.where(blended, other, base),
            "weight": np.where(blended, rng.random(rows), 0.0),
            "label": rng.integers(2, size=rows),
            "importance": np.ones(rows),
        }

    def blocks(self) -> list[np.ndarray]:
        """Returns the rows ``int32 [steps, batch]`` of each dispatch."""
        rng = np.random.default_rng(2)
        shape = (self.dispatches, self.steps, self.batch)
        return list(rng.integers(2 * self.images, size=shape).astype(np.int32))


@dataclasses.dataclass
class Training:
    """A training whose data and state are on the device.

    Attributes:
        program: the steps of one dispatch, see :func:`se_resnet.training.step.make_train_steps`.
        data: images and plan.
        state: the state before the next step.
        sharding: sharding that keeps whole arrays on every device.
    """

    program: Any
    data: Any
    state: Any
    sharding: Any


def build(case: Case, seed: int = 0) -> Training:
    """Returns a training of the SE-ResNet50 from random weights; the rows come from ``case``."""
    import jax

    from data.balance import Plan
    from data.feed import device as resident
    from se_resnet.models import resnet
    from se_resnet.models.classifier import Classifier
    from se_resnet.training.augment import Augmentation
    from se_resnet.training.optim import Adam, Phase
    from se_resnet.training.recipe import Recipe
    from se_resnet.training.step import TrainState, make_train_steps
    from se_resnet.weights import pretrained

    weights = pretrained.load("none")
    model = resnet.create_model(
        variant=weights.variant,
        bn_epsilon=weights.bn_epsilon,
        stage_sizes=case.stage_sizes,
        width=case.width,
        dtype=case.dtype,
        formulation=case.formulation,
    )
    classifier = Classifier(model, weights.preprocessing, (case.side, case.side), "squash")
    variables = pretrained.initial_variables(model, weights, jax.random.key(seed), classifier.size)
    everywhere = replicated(data_mesh())
    phase = Phase(Adam(1e-4))
    state = jax.device_put(TrainState.create(variables, [phase]), everywhere)
    augment = Augmentation(**AUGMENT) if case.augment else Augmentation(flip=False, rotate=False)
    recipe = Recipe(augment, seed=seed)
    program = make_train_steps(classifier, recipe, phase, resident.make_batch)
    placed = resident.place(case.pixels(), Plan(**case.columns()), everywhere)
    return Training(program, placed, state, everywhere)


def ours(case: Case) -> Iterator[dict[str, Any]]:
    """Compiles the step; each further value is the measurement of a round.

    Yields:
        First the seconds of compilation, the device and the counts of XLA; then the seconds of a
        step and the peak of memory, once for each round.
    """
    import jax

    from se_resnet.runtime.compilation_cache import keep_compiled_programs

    keep_compiled_programs()
    training = build(case)
    blocks = [jax.device_put(rows, training.sharding) for rows in case.blocks()]
    start = time.monotonic()
    lowered = training.program.lower(training.data, training.state, blocks[0], case.steps)
    compiled = lowered.compile()
    recipe, phase = training.program.recipe, training.program.phase
    device = jax.devices()[0]
    # XLA counts a loop of steps as one step.
    written, counted = (part.cost_analysis() or {} for part in (lowered, compiled))

    def run(blocks: Iterable[jax.Array], steps: int) -> float:
        """Returns the seconds from the first dispatch until all steps are finished."""
        start = time.monotonic()
        for rows in blocks:
            training.state, _ = compiled(
                recipe, phase, training.data, training.state, rows, np.int32(steps)
            )
        jax.block_until_ready(training.state)
        return time.monotonic() - start

    run(blocks[:1], 1)  # the first call allocates
    assert "tensorflow" not in sys.modules, "this path must not need TensorFlow"
    yield {
        "compile_seconds": time.monotonic() - start,
        "platform": device.platform,
        "kind": device.device_kind,
        "flops": written.get("flops"),
        "compiled_flops": counted.get("flops"),
        "bytes": counted.get("bytes accessed"),
    }
    bandwidth = peak = None
    while True:
        seconds = run(blocks, case.steps) / (case.steps * case.dispatches)
        single = run(blocks, 1) / case.dispatches
        if bandwidth is None:
            peak = (device.memory_stats() or {}).get("peak_bytes_in_use")
            bandwidth = copy_bandwidth(case.copy)  # its arrays are no part of the peak
        yield {
            "seconds": seconds,
            "single_seconds": single,
            "busy": _traced(lambda: run(blocks[:2], case.steps)) if case.trace else None,
            "peak_bytes": peak,
            "copy_bandwidth": bandwidth,
        }


def _traced(work: Callable[[], Any]) -> float | None:
    """Returns the busy share of the device while ``work`` runs."""
    import jax

    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            work()
        return busy_share(Path(folder))


def busy_share(folder: Path) -> float | None:
    """Returns the busy share in a trace of jax.profiler; None if it has no stream of a GPU."""
    import jax

    return covered(
        [
            (event.start_ns, event.start_ns + event.duration_ns)
            for file in folder.rglob("*.xplane.pb")
            for plane in jax.profiler.ProfileData.from_file(str(file)).planes
            if plane.name.startswith("/device:GPU")
            for line in plane.lines
            if line.name.startswith("Stream")
            for event in line.events
        ]
    )


def covered(spans: list[tuple[float, float]]) -> float | None:
    """Returns the share of the time from first start to last end that the spans cover."""
    if not spans:
        return None
    first = end = min(spans)[0]
    total = 0.0
    for start, stop in sorted(spans):
        total += max(0.0, stop - max(start, end))
        end = max(end, stop)
    return total / (end - first)


def copy_bandwidth(megabytes: int) -> float:
    """Returns bytes per second, read and written, of ``x + 1`` on a large array (median of 5)."""
    import jax
    import jax.numpy as jnp

    add = jax.jit(lambda x: x + 1, donate_argnums=0)
    x = jax.block_until_ready(add(jnp.zeros(megabytes * 2**18, jnp.float32)))
    rates = []
    for _ in range(5):
        start = time.monotonic()
        for _ in range(10):
            x = add(x)
        jax.block_until_ready(x)
        rates.append(20 * x.nbytes / (time.monotonic() - start))
    return statistics.median(rates)
