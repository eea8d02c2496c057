"""Programs that predict compute in full float32, and training keeps the fast default."""

from __future__ import annotations

import re

import jax
import numpy as np
import pytest

from se_resnet.explain import class_activation
from se_resnet.models import classifier as classifiers
from se_resnet.training.optim import Adam, Phase
from se_resnet.training.recipe import Recipe
from se_resnet.training.step import make_train_step
from tests.helpers.batches import OFF, make_batch
from tests.helpers.networks import randomised, start, tiny_classifier

IMAGES = jax.ShapeDtypeStruct((2, 16, 16, 3), np.uint8)
FORMULATIONS = pytest.mark.parametrize("formulation", ["plain", "fast", "fused"])


def precisions(lowered: jax.stages.Lowered) -> list[str]:
    """The precision of each convolution and each product of a program."""
    found = []
    for line in lowered.as_text().splitlines():
        if re.search(r"stablehlo\.(convolution|dot_general|dot)\b", line):
            names = re.search(r"precision\w* = \[([^\]]*)\]", line)
            found.append(" ".join(sorted(set(re.findall(r"[A-Z]+", names[1] if names else "")))))
    return found


def is_full(lowered: jax.stages.Lowered) -> bool:
    found = precisions(lowered)
    return len(found) > 8 and set(found) == {"HIGHEST"}


@FORMULATIONS
def test_predictions_and_explanations_are_in_full_float32(formulation):
    classifier = tiny_classifier(formulation=formulation)
    variables = randomised(classifier.model)
    fold, forward = classifiers._programs(classifier)
    assert is_full(forward.lower(jax.eval_shape(fold, variables), IMAGES))
    assert set(precisions(fold.lower(variables))) <= {"HIGHEST"}
    maps = class_activation._features_and_gradients
    assert is_full(maps.lower(classifier, variables, IMAGES, stage="stage1"))
    features = jax.ShapeDtypeStruct((2, 4, 4, 8), np.float32)
    signs = jax.ShapeDtypeStruct((2,), np.float32)
    combined = class_activation._combine.lower(
        (features,), (features,), signs, size=(16, 16), plus_plus=False
    )
    assert set(precisions(combined)) == {"HIGHEST"}


@FORMULATIONS
def test_a_training_step_keeps_the_fast_default(formulation):
    classifier = tiny_classifier(formulation=formulation)
    step = make_train_step(classifier, Recipe(OFF, seed=0), Phase(Adam(1e-3)))
    found = precisions(step.lower(start(classifier), make_batch()))
    # The mean over the pixels before the head, and its gradient, are exact everywhere.
    assert found.count("HIGHEST") == 2 and len(found) > 24
    assert set(found) <= {"HIGHEST", "DEFAULT", ""}
