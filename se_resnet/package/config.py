"""The ``config.json`` of a model package: all facts that its tensors do not hold."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
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
from se_resnet.runs.run_files import MAX_MEMBERS
from se_resnet.runtime.files import read_json, reason
from se_resnet.runtime.schema import Between, Maybe, misfit
from se_resnet.weights import layout
from se_resnet.weights.formats import SAFETENSORS

FILE = "config.json"
# A package of an ensemble has version 2, which a version of this project without ensembles refuses.
FORMAT, VERSION, ENSEMBLE_VERSION = "se_resnet", 1, 2
WEIGHTS_DIGEST = "weights_sha256"  # of the file with the tensors; old packages lack it
REFERENCE_DIGEST = "input_reference_sha256"  # of the input gate's reference, if there is one
MEMBER_DIGESTS = "members_sha256"  # the same for each member of an ensemble
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
    "members": Maybe(Between(2, MAX_MEMBERS)),
    "members_sha256": Maybe([str]),
    "input_reference_sha256": Maybe(str),
}


@dataclasses.dataclass(frozen=True)
class PackageConfig:
    """The validated content of a package's ``config.json``.

    Attributes:
        name: name of the run.
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
    """Returns the content of ``config.json``, which :func:`read` reads back."""
    return {
        "format": FORMAT,
        "format_version": VERSION if len(predictor.run.members) == 1 else ENSEMBLE_VERSION,
        "name": predictor.name,
        "licence": licence,
        "classes": list(CLASS_NAMES),
        **predictor.run.classifier.as_dict(),
        "decision": dataclasses.asdict(predictor.run.decision),
        "history": dict(predictor.history),
        **({"members": members} if (members := len(predictor.run.members)) > 1 else {}),
    }


def tensor_files(facts: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns the names of the files with tensors: one, or one for each member of an ensemble.

    Args:
        facts: content of ``config.json``, which is not validated yet.
    """
    members = facts.get("members", 1)
    if type(members) is not int or not 2 <= members <= MAX_MEMBERS:
        return (SAFETENSORS,)
    return tuple(f"member{member}.safetensors" for member in range(members))


def read(
    path: Path, members: Sequence[Mapping[str, np.ndarray]], allow_own_attention: bool
) -> PackageConfig:
    """Reads and validates ``config.json``; the file may be broken or hostile.

    Args:
        path: the file.
        members: tensors by path of each network, which the network must have.
        allow_own_attention: True to import an attention module from outside this project.

    Raises:
        UserError: the file is missing or broken, a value is out of range, the tensors do not fit,
            or an attention module would have to be imported.
    """
    facts = load(path)
    expected = VERSION if len(members) == 1 else ENSEMBLE_VERSION
    if facts.get("format") != FORMAT or facts.get("format_version") != expected:
        refuse(path, f"its format is not {FORMAT!r} version {expected}: update se_resnet")
    if problem := misfit(facts, FORM):
        refuse(path, problem)
    if facts["classes"] != list(CLASS_NAMES):
        refuse(path, f"its classes are not {', '.join(CLASS_NAMES)}")
    name = facts["model"]["attention"]
    if ":" in name and not allow_own_attention:
        refuse(
            path,
            f"its attention module {name!r} is not part of this project, and importing it runs "
            "the file of that name: if you trust the file, pass allow_own_attention=True",
        )
    # Checked first, because tracing a network of the stated size might never end.
    stated = (tuple(facts["model"]["stage_sizes"]), facts["model"]["width"])
    for variables in members:
        if (actual := layout.architecture(variables)) != stated:
            refuse(path, f"it states stages and width {stated}, its tensors have {actual}")
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
    for variables in members:
        for tensor in sorted({*shapes, *variables}):
            wanted = shapes[tensor].shape if tensor in shapes else "nothing"
            shape = variables[tensor].shape if tensor in variables else "nothing"
            if wanted != shape:
                refuse(path, f"its network has {wanted} for {tensor}, the package {shape}")
    return config


def load(path: Path) -> dict[str, Any]:
    """Returns the JSON object in a file of a package.

    Raises:
        UserError: the file is missing, too large, or not a JSON object.
    """
    try:
        return read_json(path, {}, MAX_BYTES)
    except (OSError, ValueError) as error:
        refuse(path, f"it cannot be read ({reason(error)})", error)


def refuse(path: Path, problem: str, cause: Exception | None = None) -> NoReturn:
    """Raises the error for a package that cannot be used."""
    raise UserError(
        f"the model package's {path} cannot be used: {problem}; get the package again, or make it "
        "again with python -m se_resnet.package."
    ) from cause
