"""What is exported: from pixels to probabilities, with all that the checkpoint carries inside."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from se_resnet.folding import fold
from se_resnet.workdir import Run

# The threshold of a run is one of the first; the second is for people to read.
OUTPUTS = ("probability", "calibrated_probability")


def in_float32(run: Run) -> Run:
    """The run computing in float32, which every runtime has."""
    classifier = run.classifier
    model = classifier.model.clone(dtype="float32")
    return dataclasses.replace(run, classifier=dataclasses.replace(classifier, model=model))


def inference(run: Run) -> Callable[[jax.Array], dict[str, jax.Array]]:
    """The function that is exported, its weights being constants in it.

    It uses XLA's own operations, which every runtime has, and batch normalisations are folded into
    the convolutions.

    Args:
        run: a run in float32.

    Returns:
        From RGB images ``uint8 [B, H, W, 3]`` of the network's size, for any B, to a dict of
        :data:`OUTPUTS`, float32 ``[B]`` each: the probability of malignant as the network gives
        it, and after temperature scaling.
    """
    classifier = run.classifier
    model = classifier.model.clone(formulation="plain")
    folded = jax.jit(lambda variables: fold(model, variables, classifier.size))(run.variables)
    constants = jax.tree.map(np.asarray, folded)

    def apply(images: jax.Array) -> dict[str, jax.Array]:
        logits: Any = model.apply(constants, classifier.preprocessing(images), train=False)
        logit = jnp.squeeze(logits, -1)
        probabilities = jax.nn.sigmoid(logit), jax.nn.sigmoid(logit / run.decision.temperature)
        return dict(zip(OUTPUTS, probabilities, strict=True))

    return apply
