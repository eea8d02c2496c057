"""Writes and reads model packages: folders with weights, configuration and model card."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from pathlib import Path

import jax
import safetensors.numpy
from flax.traverse_util import unflatten_dict

from se_resnet.errors import UserError
from se_resnet.package import config as package_config
from se_resnet.package.model_card import write_card
from se_resnet.predict.predictor import Predictor, load_run
from se_resnet.runs.workdir import Run
from se_resnet.runtime.files import atomic_write, read_json, write_json
from se_resnet.runtime.folders import current, whole_folder
from se_resnet.runtime.mesh import data_mesh, replicated
from se_resnet.runtime.paths import local_path
from se_resnet.weights import formats, hub, layout, pretrained
from se_resnet.weights.timm_format import timm_config, to_timm

NAMINGS = ("se_resnet", "timm")
CARD = "README.md"
FILES = (formats.SAFETENSORS, CARD, package_config.FILE)
_HUB_NAME = r"[\w.-]+/[\w.-]+"


def save_pretrained(
    run: Predictor | str | Path,
    directory: str | Path,
    *,
    naming: str = "se_resnet",
    licence: str = "Apache-2.0",
) -> Path:
    """Writes a model package: ``model.safetensors``, ``config.json`` and a model card.

    Args:
        run: the folder of a run of ``train.py``, or the result of :func:`se_resnet.load_run` or
            :func:`from_pretrained`.
        directory: folder of the package; an existing package is replaced.
        naming: naming of the tensors: ``'se_resnet'`` for :func:`from_pretrained` and
            ``config.model.pretrained``, ``'timm'`` for timm, see
            :mod:`se_resnet.weights.timm_format`.
        licence: SPDX identifier of the weights' licence.

    Returns:
        ``directory``.

    Raises:
        UserError: the run has no checkpoint, the folder cannot be written or holds other files, or
            timm cannot represent the network.

    >>> import se_resnet
    >>> package = se_resnet.save_pretrained("runs/smoke", "package")
    >>> sorted(path.name for path in package.iterdir())
    ['README.md', 'config.json', 'model.safetensors']
    """
    if naming not in NAMINGS:
        raise UserError(f"unknown naming {naming!r}: choose one of {', '.join(NAMINGS)}.")
    predictor = run if isinstance(run, Predictor) else load_run(run)
    directory = Path(local_path(directory, "the package's folder"))
    facts = package_config.describe(predictor, licence)
    classifier, variables = predictor.run.classifier, jax.device_get(predictor.run.variables)
    if naming == "timm":
        tensors, config = to_timm(classifier.model, variables), timm_config(classifier)
        card = write_card(facts, naming, config["architecture"])
    else:
        config, card = facts, write_card(facts, naming)
    with whole_folder(
        directory, FILES, "give another folder by --out", lambda: _files_to_replace(directory)
    ) as new:
        tensor_file = new / formats.SAFETENSORS
        if naming == "timm":
            with atomic_write(tensor_file, "wb") as file:
                file.write(safetensors.numpy.save(tensors, {"format": "pt"}))
        else:
            weights = pretrained.of_run(predictor.run, predictor.name)
            pretrained.save(dataclasses.replace(weights, licence=licence), tensor_file)
            digest = hashlib.sha256(tensor_file.read_bytes()).hexdigest()
            config = {**config, package_config.WEIGHTS_DIGEST: digest}
        with atomic_write(new / CARD) as file:
            file.write(card)
        write_json(new / package_config.FILE, config)
    return directory


def from_pretrained(
    source: str | Path, *, revision: str | None = None, allow_own_attention: bool = False
) -> Predictor:
    """Loads a model package; every file is validated before it is used.

    Args:
        source: a folder written by :func:`save_pretrained`, or ``'organisation/repository'`` on the
            Hugging Face Hub, downloaded once.
        revision: branch, tag or commit on the Hub; None for the newest.
        allow_own_attention: True to import the attention module that the package names as
            ``'my_file:MyAttention'``. This runs the file ``my_file.py`` of this machine.

    Returns:
        The network. On the same machine it predicts the same bits as the packaged network.

    Raises:
        UserError: there is no package, the download failed, or the package is broken, contradicts
            itself or would run code.

    >>> import numpy as np
    >>> import se_resnet
    >>> directory = se_resnet.save_pretrained("runs/smoke", "package")
    >>> model = se_resnet.from_pretrained(directory)
    >>> model.predict(np.zeros((1, 460, 700, 3), np.uint8)).shape
    (1,)
    """
    folder = Path(source).expanduser()
    if not folder.is_dir():
        if folder.exists() or not re.fullmatch(_HUB_NAME, str(source)):
            raise UserError(
                f"there is no model package {str(source)!r}: give the folder that python -m "
                "se_resnet.package wrote, or ORGANISATION/NAME on the Hugging Face Hub."
            )
        files = (package_config.FILE, formats.SAFETENSORS)
        folder = hub.fetch_package(str(source), files, revision)
    path, config_path = (
        current(folder / name) for name in (formats.SAFETENSORS, package_config.FILE)
    )
    facts = package_config.load(config_path)
    if "architecture" in facts:
        raise UserError(
            f"{folder} is a package for timm: load it with timm.create_model, or make it again "
            "with --naming=se_resnet."
        )
    try:
        weights = formats.read(path)
        variables = layout.project_variables(weights.tensors, str(path))
    except formats.RefusedWeightsError as error:
        package_config.refuse(path, error.problem, error)
    if not variables:
        package_config.refuse(path, "its tensors have other names than this project's")
    config = package_config.read(config_path, variables, allow_own_attention)
    if facts.get(package_config.WEIGHTS_DIGEST, weights.sha256) != weights.sha256:
        package_config.refuse(path, f"its weights are not those that {config_path.name} describes")
    placed = jax.device_put(unflatten_dict(variables, sep="/"), replicated(data_mesh()))
    return Predictor(Run(config.classifier, placed, config.decision), config.name, config.history)


def _files_to_replace(directory: Path) -> set[str]:
    """Returns the files of an earlier package in the folder, or refuses other files.

    Hidden files, such as those of git, are kept. Config and card may be missing, because earlier
    versions wrote the files one by one and may have been interrupted.
    """
    names = {path.name for path in directory.iterdir() if not path.name.startswith(".")}
    if others := names - {*FILES}:
        raise UserError(
            f"{directory} holds {min(others)}, which is not part of a model package: give an empty "
            "folder by --out."
        )
    if names and not _is_package(directory):
        raise UserError(
            f"{directory} holds {', '.join(sorted(names))}, but not from a model package: give an "
            "empty folder by --out."
        )
    return names


def _is_package(directory: Path) -> bool:
    try:
        facts = read_json(directory / package_config.FILE, {}, package_config.MAX_BYTES)
    except (OSError, ValueError):
        facts = {}
    if facts.get("format") == package_config.FORMAT or "architecture" in facts:
        return True
    try:
        path = directory / formats.SAFETENSORS
        return bool(layout.project_variables(formats.read(path).tensors, str(path)))
    except UserError:
        return False
