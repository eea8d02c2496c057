"""Times a training step of the SE-ResNet50 with frozen early parts.

    python -m benchmarks.freezing [--side 112] [--batch_size 8] [--repeats 5]

The step is that of ``train.py``, with Adam and without augmentation, on random pixels and weights.
XLA counts the operations of the whole step in the plain formulation. The forward pass takes the
same number in every row. The steps of all rows are timed in turn. The table has the median of each
row and the memory of the moments of its optimizer.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from benchmarks.measuring import finish, parser
from se_resnet.models import resnet
from se_resnet.models.classifier import Classifier
from se_resnet.runtime.cli import exit_on_user_error
from se_resnet.runtime.compilation_cache import keep_compiled_programs
from se_resnet.training.augment import Augmentation
from se_resnet.training.lr_multipliers import multipliers, parse_rules
from se_resnet.training.optim import Adam, Phase
from se_resnet.training.recipe import Recipe
from se_resnet.training.step import TrainState, make_train_step
from se_resnet.weights import pretrained

CASES = {
    "nothing": "",
    "stem, stage1": "stem|stage1=0 stage[234]|head=1",
    "stem to stage2": "stem|stage[12]=0 stage[34]|head=1",
    "stem to stage3": "stem|stage[123]=0 stage4|head=1",
    "all but the head": "(?!head).*=0 head=1",
    "all but head and attention": "(?!head|.*/attention).*=0 head|.*/attention=1",
}
RECIPE = Recipe(Augmentation(flip=False, rotate=False), seed=0)


def flops(classifier: Classifier, phase: Phase, state: Any, batch: dict) -> float:
    plain = Classifier(
        classifier.model.clone(formulation="plain"),
        classifier.preprocessing,
        classifier.size,
        classifier.resize,
    )
    lowered = make_train_step(plain, RECIPE, phase).lower(state, batch)
    analysis = lowered.cost_analysis()
    assert analysis is not None
    return float(analysis["flops"])


def measure(side: int, batch_size: int, repeats: int) -> list[dict]:
    weights = pretrained.load("none")
    model = resnet.create_model(attention="se", variant=weights.variant)
    classifier = Classifier(model, weights.preprocessing, (side, side), "squash")
    key = jax.random.key(0)
    variables = pretrained.initial_variables(model, weights, key, classifier.size)
    rng = np.random.default_rng(0)
    batch = {
        "image": rng.integers(0, 256, (batch_size, side, side, 3), np.uint8),
        "label": np.arange(batch_size, dtype=np.float32) % 2,
        "importance": np.ones(batch_size, np.float32),
    }
    steps: list[Callable] = []
    states, rows = [], []
    for name, rules in CASES.items():
        multiplier_of = multipliers(parse_rules(rules), variables["params"])
        frozen = frozenset(path for path, multiplier in multiplier_of.items() if multiplier == 0)
        phase = Phase(Adam(1e-4), frozen)
        state = TrainState.create(jax.tree.map(np.copy, variables), [phase])
        rows.append(
            {
                "frozen": name,
                "GFLOPs a step": flops(classifier, phase, state, batch) / 1e9,
                "moments, MB": sum(leaf.nbytes for leaf in jax.tree.leaves(state.opt_state)) / 1e6,
            }
        )
        steps.append(make_train_step(classifier, RECIPE, phase))
        states.append(jax.block_until_ready(steps[-1](state, batch)[0]))  # compiles
    seconds: list[list[float]] = [[] for _ in rows]
    for _ in range(repeats):
        for number, step in enumerate(steps):
            start = time.monotonic()
            states[number] = jax.block_until_ready(step(states[number], batch)[0])
            seconds[number].append(time.monotonic() - start)
    medians = [statistics.median(values) for values in seconds]
    for row, median in zip(rows, medians, strict=True):
        row |= {"seconds a step": median, "times faster": medians[0] / median}
    return rows


def main() -> None:
    flags = parser(__doc__)
    flags.add_argument("--side", type=int, default=112, help="pixels")
    flags.add_argument("--batch_size", type=int, default=8)
    flags.add_argument("--repeats", type=int, default=5)
    options = flags.parse_args()
    keep_compiled_programs()
    rows = measure(options.side, options.batch_size, options.repeats)
    finish(rows, options.out, f"{options.batch_size} images of {options.side}x{options.side}")


if __name__ == "__main__":
    with exit_on_user_error():
        main()
