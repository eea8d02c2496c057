"""The ``config.json`` of a model package: all that its tensors do not tell."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from flax.traverse_util import flatten_dict

from se_resnet import layouts
from se_resnet.classifier import Classifier
from se_resnet.decision import Decision
from se_resnet.errors import UserError
from se_resnet.explain import CLASSES
from se_resnet.imaging import RESIZE_RULES
from se_resnet.predictor import Predictor

FILE = "config.json"
FORMAT, VERSION = "se_resnet", 1
MAX_BYTES = 2**24
_MAX_SIDE = 4096  # pixels of the network's input


@dataclasses.dataclass(frozen=True)
class PackageConfig:
    """What a package says of itself, checked.

    Attributes:
        name: of the run that it came from.
        licence: SPDX identifier.
        classifier: network, preprocessing, size and resize rule.
        decision: threshold and temperature.
        history: see :func:`se_resnet.history.read_history`.
    """

    name: str
    licence: str
    classifier: Classifier
    decision: Decision
    history: dict[str, Any]


def describe(predictor: Predictor, licence: str) -> dict[str, Any]:
    """All that a package says of itself, as JSON knows it; :func:`read` reads it back."""
    return {
        "format": FORMAT,
        "format_version": VERSION,
        "name": predictor.name,
        "licence": licence,
        "classes": list(CLASSES),
        **predictor.run.classifier.as_dict(),
        "decision": dataclasses.asdict(predictor.run.decision),
        "history": dict(predictor.history),
    }


def read(
    path: Path, variables: Mapping[str, np.ndarray], allow_own_attention: bool
) -> PackageConfig:
    """Reads what :func:`describe` made, from a source that may be broken or hostile.

    Args:
        path: of the file.
        variables: the package's tensors by path, which the network must have.
        allow_own_attention: whether an attention module outside of this project is imported.

    Raises:
        UserError: the file is missing or broken, a value is out of range, the tensors do not fit,
            or an attention module would have to be imported.
    """
    facts = load(path)
    try:
        if facts["format"] != FORMAT or facts["format_version"] != VERSION:
            refuse(path, f"its format is not {FORMAT!r} version {VERSION}: update se_resnet")
        if facts["classes"] != list(CLASSES):
            refuse(path, f"its classes are not {', '.join(CLASSES)}")
        name = facts["model"]["attention"]
        if not isinstance(name, str) or (":" in name and not allow_own_attention):
            refuse(
                path,
                f"its attention module {name!r} is none of this project's, and to import it runs "
                "the file of that name: if you trust it, say allow_own_attention=True",
            )
        # The tensors are bounded by the file: a network as claimed might be endless to trace.
        found = layouts.architecture(variables)
        claimed = (tuple(facts["model"]["stage_sizes"]), facts["model"]["width"])
        if found != claimed:
            refuse(path, f"it tells of stages and width {claimed}, its tensors of {found}")
        config = PackageConfig(
            str(facts["name"]),
            str(facts["licence"]),
            Classifier.from_dict(facts),
            Decision(**facts["decision"]),
            _history(facts["history"]),
        )
        _check_values(path, config)
        shapes = flatten_dict(config.classifier.abstract_variables(), sep="/")
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        refuse(path, f"a value is missing or of the wrong kind ({error!r})", error)
    for tensor in sorted({*shapes, *variables}):
        wanted = shapes[tensor].shape if tensor in shapes else "nothing"
        given = variables[tensor].shape if tensor in variables else "nothing"
        if wanted != given:
            refuse(path, f"its network has {wanted} for {tensor}, the package {given}")
    return config


def load(path: Path) -> dict[str, Any]:
    """The JSON object in a file of a package.

    Raises:
        UserError: the file is missing, too large, or no JSON object.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            refuse(path, f"it is larger than {MAX_BYTES:,} bytes")
        facts = json.loads(path.read_bytes(), parse_constant=_no_number)
    except OSError as error:
        refuse(path, f"it cannot be read ({error.strerror})", error)
    except (ValueError, RecursionError) as error:
        refuse(path, f"it is no JSON ({error})", error)
    if not isinstance(facts, dict):
        refuse(path, "it is no JSON object")
    return facts


def refuse(path: Path, problem: str, cause: Exception | None = None) -> NoReturn:
    """Raises the error that says why a package cannot be used."""
    raise UserError(
        f"the model package's {path} cannot be used: {problem}; get the package again, or make it "
        "with python -m se_resnet.package."
    ) from cause


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"it holds {name}")


def _history(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict) or {"data", "config", "weights", "metrics"} - value.keys():
        raise ValueError("history")
    return value


def _check_values(path: Path, config: PackageConfig) -> None:
    classifier = config.classifier
    if not all(isinstance(side, int) and 1 <= side <= _MAX_SIDE for side in classifier.size):
        refuse(path, f"its size {classifier.size} is not 1 to {_MAX_SIDE} pixels a side")
    if classifier.resize not in RESIZE_RULES:
        refuse(path, f"its resize rule {classifier.resize!r} is unknown")
