"""Reads facts about a network from files beside its weights.

timm and transformers write ``config.json``; transformers also writes ``preprocessor_config.json``
or ``processor_config.json``. The header of a safetensors file may hold the same fields. A whole
Keras model holds the configuration of its layers. Each fact is followed exactly, or the weights are
refused.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from se_resnet.runtime.files import parse_json, read_json
from se_resnet.weights import declared_keras, declared_timm, declared_transformers
from se_resnet.weights.declaration import Declaration
from se_resnet.weights.formats import (
    KERAS_LAYERS,
    MODEL_JSON,
    PICKLE_SUFFIXES,
    SAFETENSORS,
    refused,
)

CONFIG = "config.json"
PREPROCESSORS = ("preprocessor_config.json", "processor_config.json")
OUR_FORMAT = "se_resnet"
MAX_BYTES = 2**22  # names of 21,843 classes take half a megabyte
_WEIGHT_SUFFIXES = (".safetensors", ".h5", *PICKLE_SUFFIXES)
_METADATA_FORMATS = ("pt", "tf", "flax", "np", "jax", "mlx")
_HEADER = "its safetensors header"


def read_beside(path: Path, metadata: Mapping[str, str], source: str) -> Declaration:
    """Returns the facts that files state about the weights at a path.

    Args:
        path: the file with the weights.
        metadata: header of that file.
        source: name of the weights in an error.

    Raises:
        UserError: a file is broken or contradicts another, or the network that it describes differs
            from :class:`se_resnet.models.resnet.ResNet`.
    """
    declarations = []
    for name in (CONFIG, *PREPROCESSORS):
        file = path.parent / name
        if not file.exists():
            continue
        _require_one_owner(path, name, source)
        try:
            fields = read_json(file, {}, MAX_BYTES)
        except (OSError, ValueError) as error:
            raise refused(source, f"{file} cannot be read ({error}): restore it") from error
        declarations.append(_parse(fields, name, source))
    if fields := _from_header(metadata, source):
        declarations.append(_parse(fields, _HEADER, source))
    if KERAS_LAYERS in metadata:
        declarations.append(_parse_keras_layers(metadata[KERAS_LAYERS], source))
    return _merge(declarations, source)


def package_facts(path: Path, source: str) -> dict[str, Any]:
    """Returns the facts in a model package's ``config.json``, or an empty dictionary.

    Args:
        path: the file with the weights.
        source: name of the weights in an error.

    Raises:
        UserError: there is a ``config.json``, but it cannot be read.
    """
    file = path.parent / CONFIG
    if path.name != SAFETENSORS or not file.exists():
        return {}
    try:
        fields = read_json(file, {}, MAX_BYTES)
    except (OSError, ValueError) as error:
        raise refused(source, f"{file} cannot be read ({error}): restore it") from error
    model = fields.get("model")
    if fields.get("format") != OUR_FORMAT or not isinstance(model, dict):
        return {}
    return {**model, "preprocessing": fields.get("preprocessing")}


def _require_one_owner(path: Path, name: str, source: str) -> None:
    """Refuses a configuration that may belong to several files of weights."""
    if path.name in (SAFETENSORS, MODEL_JSON):
        return  # the libraries write and read this name
    others = sorted(
        other.name
        for other in path.parent.iterdir()
        if other.suffix in _WEIGHT_SUFFIXES and other.stem != path.stem
    )
    if others:
        raise refused(
            source,
            f"{name} lies beside it and beside {others[0]}, and may describe either of them: move "
            "the weights and their configuration into a separate folder",
        )


def _parse(fields: dict[str, Any], file: str, source: str) -> Declaration:
    """Reads the fields of one file, or refuses the weights and names the file."""
    try:
        if file in PREPROCESSORS:
            declaration = declared_transformers.preprocessor(fields)
        elif fields.get("format") == OUR_FORMAT:
            raise ValueError(
                "it describes a model package of this project, but the tensors are not from one"
            )
        elif "architecture" in fields or "pretrained_cfg" in fields:
            declaration = declared_timm.config(fields)
        elif "model_type" in fields or "architectures" in fields:
            declaration = declared_transformers.config(fields)
        else:
            names = ", ".join(map(repr, sorted(fields)[:3])) or "nothing"
            raise ValueError(
                f"it holds {names}, but neither timm's 'architecture' nor the 'model_type' of "
                "transformers"
            )
    except ValueError as error:
        location = file if file == _HEADER else f"{file} beside it"
        raise refused(
            source,
            f"{location} cannot be followed ({error}): give weights of a ResNet50, 101 or 152, "
            "with or without SE blocks, such as timm/resnet50.a1_in1k; if that file belongs to "
            "other weights, move it to another folder",
        ) from error
    return dataclasses.replace(declaration, files=(file,))


def _parse_keras_layers(text: str, source: str) -> Declaration:
    try:
        declaration = declared_keras.topology(parse_json(text))
    except ValueError as error:
        raise refused(
            source,
            f"its configuration of layers cannot be followed ({error}): if that layer changes "
            "nothing, or is keras.applications.resnet.preprocess_input, save only the ResNet's "
            "weights, with model.get_layer('resnet50').save_weights('NAME.weights.h5')",
        ) from error
    return dataclasses.replace(declaration, files=("its configuration of layers",))


def _from_header(metadata: Mapping[str, str], source: str) -> dict[str, Any]:
    """Returns the fields of a header that describe a network; the others are an author's notes."""
    fields: dict[str, Any] = {}
    for name, text in metadata.items():
        try:
            fields[name] = parse_json(text)
        except (ValueError, TypeError):
            fields[name] = text
    for name in ("config", CONFIG):
        if isinstance(fields.get(name), dict):
            fields = {**fields, **fields.pop(name)}
    if fields.get("format") in _METADATA_FORMATS:
        del fields["format"]
    known = declared_timm.FIELDS | declared_transformers.FIELDS
    fields = {name: value for name, value in fields.items() if name in known}
    return fields if fields.keys() - declared_timm.NOTES else {}


def _merge(declarations: list[Declaration], source: str) -> Declaration:
    """Joins declarations, or refuses the weights if two of them disagree."""
    merged: dict[str, Any] = {}
    for declaration in declarations:
        for name, value in declaration.stated().items():
            if merged.setdefault(name, value) != value:
                names = " and ".join(declaration.files[0] for declaration in declarations)
                raise refused(
                    source,
                    f"{names} contradict each other about its {name}: correct or remove the wrong "
                    "file",
                )
    files = tuple(file for declaration in declarations for file in declaration.files)
    return Declaration(**merged, files=files)
