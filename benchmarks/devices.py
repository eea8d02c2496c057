"""Compares losses and parameters of the same training on 1, 2, 4 and 8 devices.

    python -m benchmarks.devices [--counts 1 2 4 8] [--steps 8] [--dtypes float32 float64]

Uses virtual CPU devices, each count in a separate process. Trains a small SE-ResNet on 16 generated
images a step, with SMOTE and the headline augmentation, through the input pipeline of ``train.py``.
Reports the largest difference of a loss and of a parameter from the first count. Parameters differ
in units of the learning rate, because Adam moves each parameter by about that much per step. The
only cause is the order of sums over a batch. With float64 the differences must almost vanish, which
distinguishes rounding from an error.
"""

from __future__ import annotations

import os

import numpy as np

from benchmarks.measuring import finish, in_own_process, parser
from se_resnet.runtime.cli import exit_on_user_error
from se_resnet.runtime.mesh import batch_sharding, data_mesh, replicated

BATCH = 16
LEARNING_RATE = 1e-3


def train(steps: int, dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """Trains on all devices. Returns losses ``[steps]`` and all parameters, flattened."""
    import jax

    from data.balance import Plan
    from data.feed import host
    from se_resnet.models import resnet
    from se_resnet.models.classifier import Classifier
    from se_resnet.runtime.compilation_cache import keep_compiled_programs
    from se_resnet.training.augment import Augmentation
    from se_resnet.training.optim import Adam, Phase
    from se_resnet.training.recipe import Recipe
    from se_resnet.training.step import TrainState, make_train_step
    from se_resnet.weights import pretrained

    keep_compiled_programs()
    weights = pretrained.load("none")
    model = resnet.create_model(
        stage_sizes=(1, 1), width=8, bn_epsilon=weights.bn_epsilon, formulation="plain"
    )
    classifier = Classifier(model.clone(dtype=dtype), weights.preprocessing, (32, 32), "squash")
    variables = pretrained.initial_variables(model, weights, jax.random.key(0), classifier.size)
    variables = jax.tree.map(lambda leaf: leaf.astype(dtype), variables)
    phase = Phase(Adam(LEARNING_RATE))
    augment = Augmentation(translate=0.05, zoom=0.1, stain=0.05, brightness=0.05, contrast=0.1)
    step = make_train_step(classifier, Recipe(augment, 0), phase)

    rng = np.random.default_rng(0)
    rows = 4 * BATCH
    label = np.arange(rows) % 2
    images = (rng.integers(0, 200, (rows, 32, 32, 3)) + 50 * label[:, None, None, None]).astype(
        np.uint8
    )
    plan = Plan(
        np.arange(rows),
        (np.arange(rows) + 2) % rows,
        np.where(rng.random(rows) < 0.3, rng.random(rows), 0.0),
        label,
        rng.uniform(0.5, 1.5, rows),
    )
    mesh = data_mesh()
    sharding = batch_sharding(mesh, BATCH)
    state = jax.device_put(TrainState.create(variables, [phase]), replicated(mesh))
    losses = []
    for batch in host.train_batches(
        images, plan, batch_size=BATCH, seed=0, start=0, stop=steps, sharding=sharding
    ):
        state, metrics = step(state, batch)
        losses.append(float(metrics["loss"]))
    leaves = [np.asarray(leaf).ravel() for leaf in jax.tree.leaves(state.params)]
    return np.array(losses), np.concatenate(leaves)


def compare(counts: list[int], steps: int, dtype: str) -> list[dict]:
    """Returns a row for each count of devices, compared with the first count."""
    before = dict(os.environ)
    os.environ["JAX_ENABLE_X64"] = str(int(dtype == "float64"))
    rows = []
    try:
        for count in counts:
            os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={count}"
            losses, parameters = in_own_process(train, steps, dtype).value
            if not rows:
                first = losses, parameters
            rows.append(
                {
                    "dtype": str(parameters.dtype),
                    "devices": count,
                    "last loss": float(losses[-1]),
                    "largest difference of a loss": float(np.abs(losses - first[0]).max()),
                    "of a parameter, in learning rates": float(
                        np.abs(parameters - first[1]).max() / LEARNING_RATE
                    ),
                }
            )
    finally:
        os.environ.clear()
        os.environ.update(before)
    return rows


def main() -> None:
    flags = parser(__doc__)
    flags.add_argument("--counts", type=int, nargs="+", default=[1, 2, 4, 8])
    flags.add_argument("--steps", type=int, default=8)
    flags.add_argument("--dtypes", nargs="+", default=["float32", "float64"])
    options = flags.parse_args()
    rows = []
    for dtype in options.dtypes:
        rows += compare(options.counts, options.steps, dtype)
    finish(rows, options.out)


if __name__ == "__main__":
    with exit_on_user_error():
        main()
