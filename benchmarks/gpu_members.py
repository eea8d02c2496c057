"""Trains several networks at once for :mod:`benchmarks.gpu`: folds or seeds, by ``vmap``.

The members share the program and the images in the device's memory. Each has its plan, rows, seed
and state, and computes what it would compute alone, up to rounding.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from benchmarks.gpu_step import Case, Training, build


def joined(members: Sequence[Training]) -> tuple[Any, tuple[Any, ...], Any]:
    """Returns a program that trains all members at once.

    Args:
        members: trainings of one network on the same images, with equal phases.

    Returns:
        ``program``, ``arguments`` and ``states``. ``program(*arguments, states, rows, count)`` is
        :func:`se_resnet.training.step.make_train_steps` with an axis ``[K]`` before those of
        states, rows ``int32 [K, k, B]`` and metrics; ``count`` is common. The states passed in are
        donated.
    """
    import jax
    import jax.numpy as jnp

    def stack(trees: Sequence[Any]) -> Any:
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)

    first = members[0]
    plans = stack([_with_images(member.data, None) for member in members])
    of_members = jax.tree.map(lambda _: 0, plans)  # the images, None, are common
    program = jax.jit(
        jax.vmap(first.program.function, in_axes=(0, None, of_members, 0, 0, None)),
        donate_argnums=3,
    )
    recipes = stack([member.program.recipe for member in members])
    arguments = recipes, first.program.phase, _with_images(plans, first.data.images)
    return program, arguments, stack([member.state for member in members])


def _with_images(data: Any, images: Any) -> Any:
    """Returns the data with other images; a plan alone is data without images."""
    return dataclasses.replace(data, images=images)


def at_once(case: Case, members: int) -> Iterator[dict[str, Any]]:
    """Measures the training of several networks at once, like :func:`benchmarks.gpu_step.ours`."""
    import jax

    from se_resnet.runtime.compilation_cache import keep_compiled_programs

    keep_compiled_programs()
    program, arguments, states = joined([build(case, seed) for seed in range(members)])
    rows = [
        jax.device_put(np.stack([np.roll(block, member) for member in range(members)]))
        for block in case.blocks()
    ]
    start = time.monotonic()
    compiled = program.lower(*arguments, states, rows[0], np.int32(case.steps)).compile()

    def run(steps: int) -> float:
        nonlocal states
        start = time.monotonic()
        for block in rows:
            states, _ = compiled(*arguments, states, block, np.int32(steps))
        jax.block_until_ready(states)
        return time.monotonic() - start

    run(1)
    yield {"compile_seconds": time.monotonic() - start, "members": members}
    while True:
        seconds = run(case.steps) / (case.steps * case.dispatches)
        stats = jax.devices()[0].memory_stats() or {}
        yield {"seconds": seconds, "peak_bytes": stats.get("peak_bytes_in_use")}
