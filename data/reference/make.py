"""Computes the input reference of a run from its training and validation images."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np

from data import run_data
from data.protocols.split_file import read_roles
from data.table.columns import USUAL
from se_resnet.errors import UserError
from se_resnet.input_gate.embedding import unit_length
from se_resnet.input_gate.features import simple_features
from se_resnet.input_gate.gate import fit
from se_resnet.runs.run_files import TRAIN, VAL
from se_resnet.runs.run_folder import RunFolder
from se_resnet.runs.workdir import load_best
from se_resnet.runtime import processes

# More images would change the limits little and cost a pass of the network each.
MOST_TRAINING, MOST_CALIBRATION = 512, 1024
_SEED = 0


def make_reference(run: RunFolder, attention: str = "none") -> None:
    """Writes ``input_reference.safetensors`` of a run with a single network; replaces an older one.

    At most 512 training and 1,024 validation images, chosen at random, are compared. Process 0
    computes.

    Args:
        run: folder of a finished run.
        attention: attention module from outside this project, see
            :func:`se_resnet.runs.workdir.load_best`.

    Raises:
        UserError: there is no checkpoint, or the images of the run cannot be loaded.
    """

    def remove() -> None:
        if processes.is_primary():
            run.input_reference_path.unlink(missing_ok=True)

    processes.primary_first(remove)  # an older reference is not read
    network, config = load_best(run.path, attention), run.config()
    if len(network.members) > 1:
        raise UserError(
            f"{run.path} holds several networks: each has a reference in its own folder."
        )
    classifier = network.classifier
    load = functools.partial(
        run_data.load_again, config, run, None, classifier.size, classifier.resize, USUAL
    )
    dataset = processes.primary_first(load)

    def work() -> None:
        if not processes.is_primary():
            return
        roles = read_roles(run.split_path, dataset.records)
        rng = np.random.default_rng(_SEED)
        chosen = [
            _choose(np.flatnonzero(roles == role), most, rng)
            for role, most in ((TRAIN, MOST_TRAINING), (VAL, MOST_CALIBRATION))
        ]
        records = dataset.records.take(np.concatenate(chosen))
        images = np.asarray(dataset.images[records.row])
        members = processes.to_local_device(network.members)
        local = dataclasses.replace(network, members=members)
        gate = fit(
            simple_features(images),
            unit_length(local.features(images, config["eval_batch_size"])),
            np.repeat([False, True], [len(part) for part in chosen]),
            records.accession,
        )
        gate.write(run.input_reference_path)

    processes.primary_first(work)


def _choose(indices: np.ndarray, most: int, rng: np.random.Generator) -> np.ndarray:
    if len(indices) <= most:
        return indices
    return np.sort(rng.choice(indices, most, replace=False))
