"""The network in Keras on TensorFlow, run by ``train_on_batch`` and ``predict_on_batch``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
from keras import layers

from benchmarks.peers import EPSILON, LEARNING_RATE, Batch, Task, Work


def network(task: Task) -> keras.Model:
    """Builds the network, from ``uint8 [B, H, W, 3]`` to logits ``float32 [B, 1]``."""
    mean, std = np.array(task.mean), np.array(task.std)
    pixels = keras.Input((task.size, task.size, 3), dtype="uint8")
    x = layers.Rescaling(1 / std, -mean / std, dtype="float32")(pixels)
    x = layers.ZeroPadding2D(3)(x)
    x = _conv_norm(task, x, "stem_conv", "stem_norm", task.width, 7, 2)
    x = layers.ZeroPadding2D(1)(layers.ReLU()(x))
    x = layers.MaxPooling2D(3, 2)(x)
    for i, blocks in enumerate(task.stage_sizes):
        for j in range(blocks):
            name = f"stage{i + 1}_block{j + 1}"
            x = _bottleneck(task, x, name, task.width * 2**i, 2 if i > 0 and j == 0 else 1, j == 0)
    x = layers.GlobalAveragePooling2D(dtype="float32")(x)
    return keras.Model(pixels, layers.Dense(1, name="head", dtype="float32")(x))


def _bottleneck(task: Task, x: Any, name: str, width: int, stride: int, project: bool) -> Any:
    shortcut = x
    for i, (features, size, step) in enumerate(
        ((width, 1, stride), (width, 3, 1), (4 * width, 1, 1)), start=1
    ):
        x = _conv_norm(task, x, f"{name}_conv{i}", f"{name}_norm{i}", features, size, step)
        x = layers.ReLU()(x) if i < 3 else x
    gates = layers.GlobalAveragePooling2D()(x)
    hidden = max(1, 4 * width // 16)
    gates = layers.Dense(hidden, activation="relu", name=f"{name}_attention_reduce")(gates)
    gates = layers.Dense(4 * width, activation="sigmoid", name=f"{name}_attention_expand")(gates)
    x = layers.Multiply()([x, layers.Reshape((1, 1, 4 * width))(2 * gates)])
    if project:
        norm = f"{name}_projection_norm"
        shortcut = _conv_norm(task, shortcut, f"{name}_projection_conv", norm, 4 * width, 1, stride)
    return layers.ReLU()(layers.Add()([x, shortcut]))


def _conv_norm(
    task: Task, x: Any, conv: str, norm: str, features: int, size: int, stride: int
) -> Any:
    # The padding of TensorFlow is asymmetric at stride 2; there the caller pads.
    padding = "same" if stride == 1 else "valid"
    x = layers.Conv2D(features, size, stride, padding, use_bias=False, name=conv)(x)
    return layers.BatchNormalization(momentum=0.9, epsilon=task.bn_epsilon, name=norm)(x)


def trainer(task: Task) -> Work:
    """Returns a function that trains by ``train_on_batch``."""
    model = _filled(task)

    def work(batches: Iterable[Batch]) -> list[float]:
        losses = []
        for images, labels in batches:
            model.reset_metrics()  # the return value is the mean since the reset
            losses.append(float(model.train_on_batch(images, labels[:, None])))
        return losses

    return work


def predictor(task: Task) -> Work:
    """Returns a function that predicts by ``predict_on_batch``."""
    model = _filled(task)

    def work(batches: Iterable[Batch]) -> np.ndarray:
        return np.concatenate([model.predict_on_batch(images)[:, 0] for images, _ in batches])

    return work


def _filled(task: Task) -> keras.Model:
    if task.dtype == "bfloat16":
        keras.mixed_precision.set_global_policy("mixed_bfloat16")
    model = network(task)
    names = {"gamma": "scale", "beta": "bias", "moving_mean": "mean", "moving_variance": "var"}
    tensors = task.load()
    for layer in model.layers:
        for weight in layer.weights:
            collection = "batch_stats" if weight.name.startswith("moving") else "params"
            name = names.get(weight.name, weight.name)
            weight.assign(tensors.pop("/".join([collection, *layer.name.split("_"), name])))
    assert not tensors
    optimizer = keras.optimizers.Adam(LEARNING_RATE, epsilon=EPSILON)
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    # XLA, the default of Keras, is slower on a CPU than the kernels of TensorFlow.
    model.compile(optimizer, loss, jit_compile=False)
    return model
