"""The ``config.json`` of a model package: all that its tensors do not tell."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from flax.traverse_util import flatten_dict

from se_resnet.errors import UserError
from se_resnet.metrics.decision import FORM as DECISION_FORM
from se_resnet.metrics.decision import Decision
from se_resnet.metrics.labels import CLASS_NAMES
from se_resnet.models.classifier import FORM as CLASSIFIER_FORM
from se_resnet.models.classifier import Classifier
from se_resnet.predict.predictor import Predictor
from se_resnet.predict.provenance import FORM as HISTORY_FORM
from se_resnet.runtime.files import read_json, reason
from se_resnet.runtime.schema import misfit
from se_resnet.weights import layout

FILE = "config.json"
FORMAT, VERSION = "se_resnet", 1
WEIGHTS_DIGEST = "weights_sha256"  # of the file with the tensors; packages of old lack it
MAX_BYTES = 2**24
FORM = {
    "format": str,
    "format_version": int,
    "name": str,
    "licence": str,
    "classes": [str],
    **CLASSIFIER_FORM,
    "decision": DECISION_FORM,
    "history": HISTORY_FORM,
}


@dataclasses.dataclass(frozen=True)
class PackageConfig:
    """What a package says of itself, checked.

    Attributes:
        name: of the run that it came from.
        licence: SPDX identifier.
        classifier: network, preprocessing, size and resize rule.
        decision: threshold and temperature.
        history: see :func:`se_resnet.predict.provenance.read_history`.
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
        "classes": list(CLASS_NAMES),
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
    if facts.get("format") != FORMAT or facts.get("format_version") != VERSION:
        refuse(path, f"its format is not {FORMAT!r} version {VERSION}: update se_resnet")
    if problem := misfit(facts, FORM):
        refuse(path, problem)
    if facts["classes"] != list(CLASS_NAMES):
        refuse(path, f"its classes are not {', '.join(CLASS_NAMES)}")
    name = facts["model"]["attention"]
    if ":" in name and not allow_own_attention:
        refuse(
            path,
            f"its attention module {name!r} is none of this project's, and to import it runs "
            "the file of that name: if you trust it, say allow_own_attention=True",
        )
    # The tensors are bounded by the file: a network as claimed might be endless to trace.
    found = layout.architecture(variables)
    claimed = (tuple(facts["model"]["stage_sizes"]), facts["model"]["width"])
    if found != claimed:
        refuse(path, f"it tells of stages and width {claimed}, its tensors of {found}")
    try:
        config = PackageConfig(
            facts["name"],
            facts["licence"],
            Classifier.from_dict(facts),
            Decision(**facts["decision"]),
            facts["history"],
        )
        shapes = flatten_dict(config.classifier.abstract_variables(), sep="/")
    except (TypeError, ValueError) as error:
        refuse(path, f"a value is unknown or out of range: {reason(error)}", error)
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
        return read_json(path, {}, MAX_BYTES)
    except (OSError, ValueError) as error:
        refuse(path, f"it cannot be read ({reason(error)})", error)


def refuse(path: Path, problem: str, cause: Exception | None = None) -> NoReturn:
    """Raises the error that says why a package cannot be used."""
    raise UserError(
        f"the model package's {path} cannot be used: {problem}; get the package again, or make it "
        "with python -m se_resnet.package."
    ) from cause
