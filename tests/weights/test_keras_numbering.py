from __future__ import annotations

import h5py
import numpy as np
import pytest

from se_resnet.weights import formats, layout
from tests.helpers import checkpoints

WEIGHTS = {"conv": ("kernel", "bias"), "bn": ("gamma", "beta", "moving_mean", "moving_variance")}


def save_as_keras_2(path, folder, head=()):
    """Writes a small network as Keras 2 does; returns what it should become.

    Layers are numbered by class, in the order of ``keras.applications``: in a block with a
    projection (0), the first two convolutions come before it and the third one after it.
    """
    theirs, ours = checkpoints.make("keras_new", top=False)
    modules = [f"conv2_block1_{i}" for i in (1, 2, 0, 3)] + [f"conv2_block2_{i}" for i in (1, 2, 3)]
    modules = ["conv1", *modules, *(f"conv3_block1_{i}" for i in (1, 2, 0, 3))]
    with h5py.File(path, "w") as file:
        for kind, layer in (("conv", "conv2d"), ("bn", "batch_normalization")):
            for number, module in enumerate(modules):
                place = f"{folder}/{layer}{f'_{number}' if number else ''}/vars"
                for i, weight in enumerate(WEIGHTS[kind]):
                    file[f"{place}/{i}"] = theirs[f"{module}_{kind}/{weight}"]
        for place, shape in head:
            file[place] = np.ones(shape, np.float32)
        file["metrics/mean/vars/0"] = np.ones((), np.float32)
    return ours


@pytest.mark.parametrize(
    "folder", ["layers", "layers/functional/layers", "_layer_checkpoint_dependencies"]
)
def test_weights_of_keras_2_are_read_by_the_order_of_the_layers(tmp_path, folder):
    ours = save_as_keras_2(tmp_path / "it.weights.h5", folder)
    found = layout.recognise(formats.read(tmp_path / "it.weights.h5").tensors, "file")
    assert found.variables.keys() == ours.keys()
    for name, value in ours.items():
        np.testing.assert_array_equal(found.variables[name], value, err_msg=name)


def test_a_head_on_weights_of_keras_2_is_left_out(tmp_path):
    head = [("layers/dense/vars/0", (128, 1)), ("layers/dense/vars/1", (1,))]
    ours = save_as_keras_2(tmp_path / "it.weights.h5", "layers/functional/layers", head)
    found = layout.recognise(formats.read(tmp_path / "it.weights.h5").tensors, "file")
    assert found.variables.keys() == ours.keys()
    assert "was left out" in found.notes[0]
