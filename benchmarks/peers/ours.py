"""The network, training step and prediction of this project."""

from __future__ import annotations

from collections.abc import Iterable

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from benchmarks.peers import LEARNING_RATE, Batch, Task, Work
from se_resnet.models.classifier import Classifier
from se_resnet.models.resnet import create_model
from se_resnet.runtime.mesh import data_mesh, replicated
from se_resnet.training.augment import Augmentation
from se_resnet.training.optim import Adam, Phase
from se_resnet.training.recipe import Recipe
from se_resnet.training.step import TrainState, make_train_step
from se_resnet.weights import pretrained


def write_tensors(task: Task) -> None:
    """Writes random variables in which no gate is 1, no head 0 and no statistic at its start."""
    classifier = classifier_of(task, "plain")
    shapes = flatten_dict(classifier.abstract_variables(), sep="/")
    rng = np.random.default_rng(0)
    tensors = {}
    for path, leaf in shapes.items():
        if path.endswith(("/scale", "/var")):
            values = rng.uniform(0.5, 1.5, leaf.shape)
        else:
            kernel = path.endswith("/kernel")
            spread = np.sqrt(1 / np.prod(leaf.shape[:-1])) if kernel else 0.1
            values = rng.normal(0, spread, leaf.shape)
        tensors[path] = values.astype(np.float32)
    np.savez(task.tensors, **tensors)


def trainer(task: Task, formulation: str) -> Work:
    """Returns a function that trains by the jitted step of ``train.py``."""
    phase = Phase(Adam(LEARNING_RATE))
    state = TrainState.create(unflatten_dict(task.load(), sep="/"), [phase])
    state = jax.device_put(state, replicated(data_mesh()))
    recipe = Recipe(Augmentation(flip=False, rotate=False), seed=0)
    step = make_train_step(classifier_of(task, formulation), recipe, phase)
    importance = np.ones(task.batch_size, np.float32)

    def work(batches: Iterable[Batch]) -> list[float]:
        nonlocal state
        losses = []
        for images, labels in batches:
            batch = {"image": images, "label": labels, "importance": importance}
            state, metrics = step(state, jax.device_put(batch))
            losses.append(float(metrics["loss"]))
        return losses

    return work


def predictor(task: Task, formulation: str) -> Work:
    """Returns the prediction of ``eval.py``, which folds normalisations in each call."""
    variables = jax.device_put(unflatten_dict(task.load(), sep="/"))
    predict = classifier_of(task, formulation).make_predict()
    mask = np.ones(task.batch_size, bool)

    def work(batches: Iterable[Batch]) -> np.ndarray:
        (logits,) = predict([variables], ({"image": images, "mask": mask} for images, _ in batches))
        return logits

    return work


def classifier_of(task: Task, formulation: str) -> Classifier:
    """Returns the network of a task with its preprocessing."""
    model = create_model(
        attention="se",
        variant="v1",
        bn_epsilon=task.bn_epsilon,
        stage_sizes=task.stage_sizes,
        width=task.width,
        formulation=formulation,
        dtype=task.dtype,
    )
    preprocessing = pretrained.Preprocessing("RGB", task.mean, task.std, scale=1.0)
    return Classifier(model, preprocessing, (task.size, task.size), "squash")
