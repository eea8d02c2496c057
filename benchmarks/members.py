"""Compares the prediction of an ensemble with that of one of its members, in seconds.

    python -m benchmarks.members [--members 5] [--images 48] [--rounds 7] [--out FILE]

Predicts generated images by ``Predictor.predict``: decoded pixels are resized, and the SE-ResNet50
with ImageNet's weights runs on batches of 16. One member and all members alternate in every round,
after a first round that compiles. The members of the ensemble share one compiled program.
"""

from __future__ import annotations

import dataclasses
import statistics
import time

import jax
import numpy as np

from benchmarks import measuring
from se_resnet.metrics.decision import Decision
from se_resnet.models.classifier import Classifier
from se_resnet.models.resnet import create_model
from se_resnet.predict.predictor import Predictor
from se_resnet.runs.workdir import Run
from se_resnet.runtime.cli import exit_on_user_error
from se_resnet.weights import pretrained

SIZE = (224, 224)
DECISION = Decision("balanced_accuracy", 0.5, 1.0, 0.0, "no validation images")


def make_predictor(members: int) -> Predictor:
    """Returns an ensemble whose members differ in the weights of their new layers."""
    weights = pretrained.load("imagenet")
    model = create_model(attention="se", variant=weights.variant, bn_epsilon=weights.bn_epsilon)
    classifier = Classifier(model, weights.preprocessing, SIZE, "squash")
    variables = tuple(
        jax.device_put(pretrained.initial_variables(model, weights, jax.random.key(seed), SIZE))
        for seed in range(members)
    )
    return Predictor(Run(classifier, variables, DECISION), "benchmark", {"metrics": None})


def main() -> None:
    parser = measuring.parser(__doc__ or "")
    parser.add_argument("--members", type=int, default=5)
    parser.add_argument("--images", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    images = np.random.default_rng(0).integers(256, size=(options.images, 460, 700, 3))
    images = images.astype(np.uint8)
    ensemble = make_predictor(options.members)
    alone = Predictor(
        dataclasses.replace(ensemble.run, members=ensemble.run.members[:1]),
        "one",
        {"metrics": None},
    )
    contenders = {"one network": alone, f"{options.members} members": ensemble}
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(options.rounds + 1):
        for name, model in contenders.items():
            start = time.perf_counter()
            model.predict(images)
            if turn:
                seconds[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    one = medians["one network"]
    rows = [
        {
            "prediction by": name,
            "median s": f"{medians[name]:.2f}",
            "range s": f"{min(values):.2f} to {max(values):.2f}",
            "ratio": f"{medians[name] / one:.2f}",
        }
        for name, values in seconds.items()
    ]
    note = f"{options.images} images of 700x460, {options.rounds} rounds"
    measuring.finish(rows, options.out, note)


if __name__ == "__main__":
    with exit_on_user_error():
        main()
