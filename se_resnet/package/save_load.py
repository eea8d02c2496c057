"""Writes and reads model packages: folders with weights, configuration and model card."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import safetensors.numpy
from flax.traverse_util import unflatten_dict

from se_resnet.errors import UserError
from se_resnet.input_gate.gate import InputGate
from se_resnet.models.classifier import Classifier
from se_resnet.package import config as package_config
from se_resnet.package.model_card import write_card
from se_resnet.predict.predictor import Predictor, load_run
from se_resnet.runs.run_folder import INPUT_REFERENCE
from se_resnet.runs.workdir import Run
from se_resnet.runtime.files import atomic_write, read_json, write_json
from se_resnet.runtime.folders import current, whole_folder
from se_resnet.runtime.mesh import data_mesh, replicated
from se_resnet.runtime.paths import local_path
from se_resnet.weights import formats, hub, layout, pretrained
from se_resnet.weights.record import inherited_terms
from se_resnet.weights.timm_format import timm_config, to_timm

NAMINGS = ("se_resnet", "timm")
CARD = "README.md"
_FILES = re.compile(r"(model|member\d+|input_reference)\.safetensors|README\.md|config\.json")
_HUB_NAME = r"[\w.-]+/[\w.-]+"


def save_pretrained(
    run: Predictor | str | Path,
    directory: str | Path,
    *,
    naming: str = "se_resnet",
    licence: str = "",
) -> Path:
    """Writes a model package: ``model.safetensors``, ``config.json`` and a model card.

    ``input_reference.safetensors`` is the input gate of a run that has one. The networks of an
    ensemble are in ``member0.safetensors``, ``member1.safetensors``, ...

    Args:
        run: the folder of a run of ``train.py``, or the result of :func:`se_resnet.load_run` or
            :func:`from_pretrained`.
        directory: folder of the package; an existing package is replaced.
        naming: naming of the tensors: ``'se_resnet'`` for :func:`from_pretrained` and
            ``config.model.pretrained``, ``'timm'`` for timm, see
            :mod:`se_resnet.weights.timm_format`.
        licence: SPDX identifier of the weights' licence. Empty: Apache-2.0, or the licence of the
            initial weights where it allows only non-commercial use.

    Returns:
        ``directory``.

    Raises:
        UserError: the run has no checkpoint, the folder cannot be written or holds other files, or
            timm cannot represent the network.

    >>> import se_resnet
    >>> package = se_resnet.save_pretrained("runs/smoke", "package")
    >>> sorted(path.name for path in package.iterdir())
    ['README.md', 'config.json', 'input_reference.safetensors', 'model.safetensors']
    """
    if naming not in NAMINGS:
        raise UserError(f"unknown naming {naming!r}: choose one of {', '.join(NAMINGS)}.")
    predictor = run if isinstance(run, Predictor) else load_run(run)
    directory = Path(local_path(directory, "the package's folder"))
    terms = inherited_terms(predictor.history["weights"])
    licence = licence or terms.get("licence") or "Apache-2.0"
    facts = package_config.describe(predictor, licence)
    names = package_config.tensor_files(facts)
    if naming == "timm":
        if len(names) > 1:
            raise UserError(
                f"timm has no ensembles: choose --naming=se_resnet for these {len(names)} "
                "networks, or give the folder of one network in the run."
            )
        classifier, variables = predictor.run.classifier, jax.device_get(predictor.run.variables)
        tensors, config = to_timm(classifier.model, variables), timm_config(classifier)
        card = write_card(facts, naming, config["architecture"])
    else:
        config, card = facts, write_card(facts, naming)
    gate = predictor.run.gate if naming == "se_resnet" else None
    reference = (INPUT_REFERENCE,) if gate else ()
    files = (*names, *reference, CARD, package_config.FILE)
    with whole_folder(
        directory, files, "give another folder by --out", lambda: _files_to_replace(directory)
    ) as new:
        if naming == "timm":
            with atomic_write(new / formats.SAFETENSORS, "wb") as file:
                file.write(safetensors.numpy.save(tensors, {"format": "pt"}))
        else:
            # Another licence is the author's decision, and then the author's responsibility.
            stated = terms if licence == terms.get("licence") else {"licence": licence}
            digests = [
                _write_network(predictor, member, stated, new / name)
                for member, name in zip(predictor.run.members, names, strict=True)
            ]
            config |= _digest_fields(digests)
            if gate:
                gate.write(new / INPUT_REFERENCE)
                config[package_config.REFERENCE_DIGEST] = _digest(new / INPUT_REFERENCE)
        with atomic_write(new / CARD) as file:
            file.write(card)
        write_json(new / package_config.FILE, config)
    return directory


def _write_network(
    predictor: Predictor, variables: Mapping[str, Any], terms: Mapping[str, Any], path: Path
) -> str:
    """Writes the tensors of one network under a licence; returns the SHA-256 of the file."""
    network = dataclasses.replace(predictor.run, members=(variables,))
    weights = pretrained.of_run(network, predictor.name)
    pretrained.save(dataclasses.replace(weights, **terms), path)
    return _digest(path)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _digest_fields(digests: list[str]) -> dict[str, Any]:
    if len(digests) == 1:
        return {package_config.WEIGHTS_DIGEST: digests[0]}
    return {package_config.MEMBER_DIGESTS: digests}


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
    folder = Path(local_path(source, "the package"))
    if not folder.is_dir():
        if folder.exists() or not re.fullmatch(_HUB_NAME, str(source)):
            raise UserError(
                f"there is no model package {str(source)!r}: give the folder that python -m "
                "se_resnet.package wrote, or ORGANISATION/NAME on the Hugging Face Hub."
            )
        folder = hub.fetch_package(str(source), (package_config.FILE,), revision)
        names = package_config.tensor_files(package_config.load(folder / package_config.FILE))
        facts = package_config.load(folder / package_config.FILE)
        reference = (INPUT_REFERENCE,) if package_config.REFERENCE_DIGEST in facts else ()
        hub.fetch_package(str(source), (*names, *reference), folder.name)
    config_path = current(folder / package_config.FILE)
    facts = package_config.load(config_path)
    if "architecture" in facts:
        raise UserError(
            f"{folder} is a package for timm: load it with timm.create_model, or make it again "
            "with --naming=se_resnet."
        )
    names = package_config.tensor_files(facts)
    read = [_read_network(current(folder / name)) for name in names]
    members, digests = [variables for variables, _ in read], [digest for _, digest in read]
    config = package_config.read(config_path, members, allow_own_attention)
    for field, found in _digest_fields(digests).items():
        if facts.get(field, found) != found:
            refused = current(folder / names[0])
            package_config.refuse(
                refused, f"its weights are not those that {config_path.name} describes"
            )
    placed = [
        jax.device_put(unflatten_dict(variables, sep="/"), replicated(data_mesh()))
        for variables in members
    ]
    gate = _read_reference(current(folder / INPUT_REFERENCE), facts, config.classifier)
    run = Run(config.classifier, tuple(placed), config.decision, gate)
    return Predictor(run, config.name, config.history)


def _read_reference(
    path: Path, facts: Mapping[str, Any], classifier: Classifier
) -> InputGate | None:
    """Returns the input gate that the package's ``config.json`` names, or None."""
    if package_config.REFERENCE_DIGEST not in facts:
        return None
    gate = InputGate.read(path)
    if gate is None or _digest(path) != facts[package_config.REFERENCE_DIGEST]:
        package_config.refuse(path, "it is not the one that config.json describes")
    if not gate.fits(classifier):
        package_config.refuse(path, "it belongs to another network")
    return gate


def _read_network(path: Path) -> tuple[dict[str, np.ndarray], str]:
    """Returns the variables by path of one network, and the SHA-256 of their file."""
    try:
        weights = formats.read(path)
        variables = layout.project_variables(weights.tensors, str(path))
    except formats.RefusedWeightsError as error:
        package_config.refuse(path, error.problem, error)
    if not variables:
        package_config.refuse(path, "its tensors have other names than this project's")
    return variables, weights.sha256


def _files_to_replace(directory: Path) -> set[str]:
    """Returns the files of an earlier package in the folder, or refuses other files.

    Hidden files, such as those of git, are kept. Config and card may be missing, because earlier
    versions wrote the files one by one and may have been interrupted.
    """
    names = {path.name for path in directory.iterdir() if not path.name.startswith(".")}
    if others := {name for name in names if not _FILES.fullmatch(name)}:
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
        networks = {*directory.glob("*.safetensors")} - {directory / INPUT_REFERENCE}
        path = min(networks, default=directory / formats.SAFETENSORS)
        return bool(layout.project_variables(formats.read(path).tensors, str(path)))
    except UserError:
        return False
