"""Our network with loaded weights beside another implementation with the same tensors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np
from flax.traverse_util import flatten_dict

from se_resnet.models.resnet import create_model
from se_resnet.weights import pretrained

STAGES = ("stem", "stage1", "stage2", "stage3", "stage4")


def check(path: Path, images: np.ndarray, expected: Mapping[str, np.ndarray]) -> None:
    """Loads the file and asserts that stages and logits are those of the other implementation.

    ``images`` are preprocessed, ``[B, H, W, 3]``; ``expected`` holds stages ``[B, h, w, C]`` and,
    where the file has a classifier, ``'logits'``.
    """
    weights = pretrained.load(str(path))
    assert (weights.head is None) == ("logits" not in expected)
    model = create_model(
        attention=weights.attention,
        attention_options=weights.attention_options,
        variant=weights.variant,
        bn_epsilon=weights.bn_epsilon,
        num_outputs=expected["logits"].shape[-1] if "logits" in expected else 1,
    )
    variables = pretrained.initial_variables(model, weights, jax.random.key(0))
    if weights.head is not None:
        variables["params"]["head"] = weights.head
    given = flatten_dict({"params": weights.params, "batch_stats": weights.batch_stats}, sep="/")
    filled = flatten_dict(variables, sep="/")
    assert filled.keys() - given.keys() == {"params/head/kernel", "params/head/bias"}
    apply = jax.jit(lambda x: model.apply(variables, x, train=False, return_stages=True))
    logits, stages = apply(images)
    for name, theirs in expected.items():
        ours = np.asarray(logits if name == "logits" else stages[name])
        assert ours.shape == theirs.shape
        spread = theirs.std()
        assert spread > 0.1 * np.abs(theirs).mean(), f"{name} tells nothing"
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4 * spread, err_msg=name)
