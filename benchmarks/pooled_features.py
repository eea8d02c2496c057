r"""Writes the pooled features of the ImageNet ResNet50 that ships with the project.

  python -m benchmarks.pooled_features --out=features.npy --config.data.dir=/path/to/BreaKHis_v1
  python -m benchmarks.pooled_features --out=features.npy --config.data.dir=sample \
      --config.data.size=112,112

Writes features.npy, float32 [N, 2048], and features.csv, whose column file names the image of each
row. `python -m benchmarks.embeddings` takes both files. The network is not trained on the images.
Each image is resized as config.data says, as for a run of train.py; other fields have no effect.
"""

from __future__ import annotations

from pathlib import Path

from absl import flags

from benchmarks.config_option import define_config
from se_resnet.runtime import config_flag
from se_resnet.runtime.cli import PATH, parse_flags, run_command

if __name__ == "__main__":  # before the imports that take seconds
    _CONFIG = define_config()
    flags.adopt_module_key_flags(config_flag)
    _OUT = flags.DEFINE(PATH, "out", None, "File to write, *.npy.", required=True)
    parse_flags(config=_CONFIG)

import dataclasses
import time
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from data.config_check import check_data_config
from data.dataset import load_configured
from data.feed import host
from se_resnet.errors import UserError
from se_resnet.models import resnet
from se_resnet.models.layers import global_average_pool
from se_resnet.models.precision import full_float32
from se_resnet.models.preprocessing import Preprocessing
from se_resnet.models.resnet import ResNet
from se_resnet.runs.workdir import load_best
from se_resnet.runtime.files import atomic_write, reason
from se_resnet.runtime.mesh import batch_sharding, data_mesh
from se_resnet.runtime.tables import write_table
from se_resnet.weights import pretrained

BATCH = 32  # images in one call of the forward pass


@dataclasses.dataclass(frozen=True)
class Network:
    """A network whose features are wanted.

    Attributes:
        model: the architecture.
        preprocessing: of its pixels.
        variables: ``{'params', 'batch_stats'}``.
    """

    model: ResNet
    preprocessing: Preprocessing
    variables: Mapping[str, Any]


def imagenet() -> Network:
    """Returns the ResNet50 with the ImageNet weights that ship with the project."""
    weights = pretrained.load("imagenet")
    model = resnet.create_model(
        attention="none", variant=weights.variant, bn_epsilon=weights.bn_epsilon
    )
    variables = pretrained.initial_variables(model, weights, jax.random.key(0))
    return Network(model, weights.preprocessing, variables)


def of_run(workdir: Path) -> Network:
    """Returns the chosen network of a run of ``train.py``.

    Raises:
        UserError: the folder has no readable network.
    """
    run = load_best(workdir)
    return Network(run.classifier.model, run.classifier.preprocessing, run.variables)


def pooled_features(network: Network, images: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Returns the output of the last stage, averaged over the positions: the input of the head.

    Args:
        network: the network, in evaluation mode.
        images: ``uint8 [N, H, W, 3]`` RGB.
        rows: ``int [M]``, rows of ``images``.

    Returns:
        ``float32 [M, D]``; D is 2048 for a ResNet50.
    """
    model = network.model

    @jax.jit
    @full_float32
    def forward(variables: Mapping[str, Any], batch: jax.Array) -> jax.Array:
        inputs = network.preprocessing(batch)
        _, stages = model.apply(variables, inputs, train=False, return_stages=True)
        return global_average_pool(stages[model.stage_names[-1]])

    sharding = batch_sharding(data_mesh(), BATCH)
    batches = host.eval_batches(images, rows, batch_size=BATCH, sharding=sharding)
    return np.concatenate(
        [
            np.asarray(forward(network.variables, batch["image"]))[np.asarray(batch["mask"])]
            for batch in batches
        ]
    )


def write_features(path: Path, features: np.ndarray, files: np.ndarray) -> Path:
    """Writes features, and the names of their images beside them.

    Args:
        path: of the features, ``*.npy``.
        features: ``float32 [N, D]``.
        files: ``str [N]``, as :class:`data.records.Records` names the images.

    Returns:
        The path of the names, ``*.csv``.

    Raises:
        UserError: ``path`` has another suffix, or a file cannot be written.
    """
    if path.suffix != ".npy":
        raise UserError(f"--out={path} must end in .npy: choose another name.")
    listed = path.with_suffix(".csv")
    try:
        with atomic_write(path, "wb") as file:
            np.save(file, features)
        write_table(listed, [{"file": name} for name in files.tolist()], ["file"])
    except OSError as error:
        raise UserError(
            f"{path} and {listed} cannot be written ({reason(error)}): give another file by --out."
        ) from error
    return listed


def main() -> None:
    """The command."""
    config, out = _CONFIG.value, Path(_OUT.value)
    check_data_config(config)
    dataset = load_configured({**config.data, "magnifications": ()})
    print(dataset.description, flush=True)
    start = time.monotonic()
    features = pooled_features(imagenet(), dataset.images, dataset.records.row)
    listed = write_features(out, features, dataset.records.file)
    count, width = features.shape
    print(
        f"{count:,} images, {width:,} features each, in {time.monotonic() - start:.0f} s, "
        f"written to {out} and {listed}"
    )


if __name__ == "__main__":
    run_command(main)
