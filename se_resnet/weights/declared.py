"""Reads what files beside a library's weights say of the network that the tensors do not show.

``config.json`` is timm's or that of transformers, ``preprocessor_config.json`` and
``processor_config.json`` are of transformers; the header of a safetensors file may hold the same
fields, and a whole Keras model its layers. What they say is followed exactly or refused.
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


def beside(path: Path, metadata: Mapping[str, str], source: str) -> Declaration:
    """Returns what is said of the weights at a path.

    Args:
        path: of the weights' file.
        metadata: of its header.
        source: what to call the weights in an error.

    Raises:
        UserError: a file is broken, contradicts another, or says that the network differs from
            :class:`se_resnet.models.resnet.ResNet`.
    """
    found = []
    for name in (CONFIG, *PREPROCESSORS):
        file = path.parent / name
        if not file.exists():
            continue
        _require_one_owner(path, name, source)
        try:
            fields = read_json(file, {}, MAX_BYTES)
        except (OSError, ValueError) as error:
            raise refused(source, f"{file} cannot be read ({error}): restore it") from error
        found.append(_understood(fields, name, source))
    if fields := _from_header(metadata, source):
        found.append(_understood(fields, _HEADER, source))
    if KERAS_LAYERS in metadata:
        found.append(_of_layers(metadata[KERAS_LAYERS], source))
    return _merged(found, source)


def package_facts(path: Path, source: str) -> dict[str, Any]:
    """Returns what a model package's ``config.json`` says of weights, or an empty dictionary.

    Args:
        path: of the weights' file.
        source: what to call the weights in an error.

    Raises:
        UserError: there is a ``config.json``, which cannot be read.
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
    """Refuses to guess which of several files of weights a configuration belongs to."""
    if path.name in (SAFETENSORS, MODEL_JSON):
        return  # the name that the libraries write and read
    others = sorted(
        other.name
        for other in path.parent.iterdir()
        if other.suffix in _WEIGHT_SUFFIXES and other.stem != path.stem
    )
    if others:
        raise refused(
            source,
            f"{name} lies beside it and beside {others[0]}, so that it is unknown which of them it "
            "describes: move the weights into a folder of their own, with their own configuration",
        )


def _understood(fields: dict[str, Any], file: str, source: str) -> Declaration:
    try:
        if file in PREPROCESSORS:
            declaration = declared_transformers.preprocessor(fields)
        elif fields.get("format") == OUR_FORMAT:
            raise ValueError("it describes a model package of this project, the tensors are none")
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
        where = file if file == _HEADER else f"{file} beside it"
        raise refused(
            source,
            f"{where} cannot be followed ({error}): give weights of a ResNet50, 101 or 152, with "
            "or without SE blocks, such as timm/resnet50.a1_in1k, or, if that does not belong to "
            "them, put the weights into a folder of their own",
        ) from error
    return dataclasses.replace(declaration, files=(file,))


def _of_layers(text: str, source: str) -> Declaration:
    try:
        declaration = declared_keras.topology(parse_json(text))
    except ValueError as error:
        raise refused(
            source,
            f"its configuration of layers cannot be followed ({error}): where it changes nothing, "
            "or is keras.applications.resnet.preprocess_input, save the ResNet's weights alone, "
            "with model.get_layer('resnet50').save_weights('NAME.weights.h5')",
        ) from error
    return dataclasses.replace(declaration, files=("its configuration of layers",))


def _from_header(metadata: Mapping[str, str], source: str) -> dict[str, Any]:
    """The fields in a header that describe a network; others there are an author's own notes."""
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


def _merged(found: list[Declaration], source: str) -> Declaration:
    merged: dict[str, Any] = {}
    for declaration in found:
        for name, value in declaration.stated().items():
            if merged.setdefault(name, value) != value:
                raise refused(
                    source,
                    f"{' and '.join(d.files[0] for d in found)} contradict each other about its "
                    f"{name}: correct or remove the one that is wrong",
                )
    files = tuple(file for declaration in found for file in declaration.files)
    return Declaration(**merged, files=files)
