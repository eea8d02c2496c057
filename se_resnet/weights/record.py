"""Weights with the facts that apply to them, and the two places that store those facts.

A run stores the facts in ``weights.json``. A file of weights stores them in its safetensors header.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from flax.core import FrozenDict
from flax.traverse_util import flatten_dict, unflatten_dict

from se_resnet import attention
from se_resnet.models.preprocessing import FORM as PREPROCESSING_FORM
from se_resnet.models.preprocessing import Preprocessing
from se_resnet.runs.run_files import WEIGHTS_FORM, read_optional
from se_resnet.runtime.files import parse_json, write_json
from se_resnet.runtime.schema import Maybe, misfit
from se_resnet.weights import layout
from se_resnet.weights.formats import refused
from se_resnet.weights.licences import Licence

METADATA = "se_resnet"  # key in the safetensors header


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """The weights of a backbone, with the facts that a network using them must match.

    Attributes:
        name: argument of :func:`se_resnet.weights.pretrained.load`.
        params: nested float32 arrays of stem and stages, in the layout of
            :mod:`se_resnet.models.resnet`; they include attention modules if the weights were
            trained with any. None for random initialisation.
        batch_stats: running means and variances that belong to ``params``, or None.
        variant: position of the strides, ``'v1'`` or ``'v1.5'``.
        bn_epsilon: added to the variances in batch normalisation.
        preprocessing: converts RGB pixels to the network's input.
        licence: SPDX identifier of the weights' licence, or an empty string.
        licence_url: address of the licence's text or of the authors' terms, or an empty string.
        non_commercial: True if the authors allow only non-commercial use.
        accepted_licence: the licence that the user accepted by ``config.model.accept_licence``, or
            an empty string.
        source: address where the weights were published, or an empty string.
        sha256: checksum of the file with the weights, or an empty string.
        revision: commit of the repository with the weights, or an empty string.
        interpolation: filter that resized the training images of the weights, or an empty string.
            It is for information only: :mod:`se_resnet.images.resize` resizes all images alike.
        input_size: height and width of the inputs that the weights were trained on; None if no file
            states them. They are for information only: ``config.data`` decides.
        attention: name of the attention module that the weights were trained with, or ``'none'``.
        attention_position: position of the module, see :class:`se_resnet.models.resnet.ResNet`.
        attention_options: options of the module.
        head: ``kernel`` and ``bias`` of the classifier that the file holds, or None.
        assumed: facts that neither the tensors nor the files beside them state. They follow the
            library whose tensor names the file uses.
        notes: changes that were made to the tensors, and other remarks.
    """

    name: str
    params: dict[str, Any] | None
    batch_stats: dict[str, Any] | None
    variant: str
    bn_epsilon: float
    preprocessing: Preprocessing
    licence: str = ""
    source: str = ""
    sha256: str = ""
    revision: str = ""
    interpolation: str = ""
    attention: str = attention.NONE
    attention_position: str = "branch"
    attention_options: Mapping[str, Any] = FrozenDict()
    head: dict[str, np.ndarray] | None = None
    licence_url: str = ""
    non_commercial: bool = False
    accepted_licence: str = ""
    input_size: tuple[int, int] | None = None
    assumed: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def facts(self) -> dict[str, Any]:
        """Returns all fields except the arrays, as values that JSON can hold."""
        return {
            "name": self.name,
            **{field: getattr(self, field) for field in _FACTS},
            "preprocessing": self.preprocessing.as_dict(),
            "attention_options": dict(self.attention_options),
            **{field: getattr(self, field) for field in _TERMS},
            "accepted_licence": self.accepted_licence,
            "input_size": self.input_size and list(self.input_size),
            **{field: list(getattr(self, field)) for field in _REMARKS},
        }

    def terms(self) -> Licence:
        """Returns the licence of the weights."""
        return Licence(self.licence, self.licence_url, self.non_commercial)

    def remarks(self, size: Sequence[int] = ()) -> list[str]:
        """Returns what a user should know about the weights, one sentence per remark.

        Args:
            size: height and width of the images to come, ``config.data.size``; empty if not known.
        """
        assumed = self.assumed and [
            "ASSUMED, because neither the tensors nor a config.json beside them say it: "
            + "; ".join(self.assumed)
        ]
        sizes = []
        if self.input_size and size and _differ(self.input_size, size):
            sizes.append(
                "they were trained on inputs of {}x{} pixels, and config.data.size is {}x{}: "
                "features may suit another scale".format(*self.input_size, *size)
            )
        return [*assumed, *self.notes, *sizes]

    def describe(self) -> str:
        """Returns name, source, revision, checksum, licence and variant in one line."""
        parts = [self.name, self.source, self.revision and f"revision {self.revision}"]
        parts += [self.sha256 and f"sha256 {self.sha256}", self.licence]
        return ", ".join([*filter(None, parts), f"ResNet {self.variant}"])

    def for_attention(self, name: str, position: str) -> Pretrained:
        """Returns the weights for a network with the given attention.

        Trained attention modules stay if name and position match. Otherwise they are removed.
        """
        if (name, position) == (self.attention, self.attention_position):
            return self
        kept: dict[str, Any] = {}
        for part in ("params", "batch_stats"):
            flat = flatten_dict(getattr(self, part) or {})
            flat = {path: leaf for path, leaf in flat.items() if "attention" not in path}
            kept[part] = None if self.params is None else unflatten_dict(flat)
        return dataclasses.replace(
            self, **kept, attention=attention.NONE, attention_options=FrozenDict()
        )


_FACTS = (
    "variant",
    "bn_epsilon",
    "licence",
    "source",
    "sha256",
    "revision",
    "interpolation",
    "attention",
    "attention_position",
)
# Fields that files of earlier versions lack.
_TERMS = {"licence_url": str, "non_commercial": bool}
_LATER = {**_TERMS, "input_size": (None, [int, int])}
_REMARKS = ("assumed", "notes")
_LARGE_RATIO = 1.5  # of two sides; timm tests its own weights at up to 1.29 times the size
_METADATA_FORM = {
    **dict.fromkeys(_FACTS, str),
    "bn_epsilon": float,
    "preprocessing": PREPROCESSING_FORM,
    "attention_options": {str: object},
    **{field: Maybe(form) for field, form in _LATER.items()},
}


def _differ(trained: Sequence[int], size: Sequence[int]) -> bool:
    """Returns True if a side differs by more than the ratio :data:`_LARGE_RATIO`."""
    return any(max(a, b) > _LARGE_RATIO * min(a, b) for a, b in zip(trained, size, strict=True))


def keep_facts(weights: Pretrained, path: Path, begun: bool) -> None:
    """Writes the facts of a run's initial weights, or compares them when the run resumes.

    Args:
        weights: initial weights of the run.
        path: the JSON file with the facts.
        begun: whether the run resumes.

    Raises:
        UserError: the weights have changed since the run started.
    """
    facts = json.loads(json.dumps(weights.facts()))
    if not begun:
        write_json(path, facts)
        return
    recorded = read_optional(path, WEIGHTS_FORM) or {}
    # A run may resume offline, where a configuration is not available.
    for field in (*_REMARKS, "input_size"):
        recorded.pop(field, None)
    if changed := [field for field in recorded if recorded[field] != facts.get(field)]:
        raise refused(
            weights.name,
            f"its {changed[0]} is no longer what {path} says: restore the weights, or choose "
            "another --workdir",
        )


def inherited_terms(facts: Mapping[str, Any] | None) -> dict[str, Any]:
    """Returns licence fields for weights that were trained from others: the same restrictions.

    Args:
        facts: content of ``weights.json`` of the training; None if there is none.

    Returns:
        ``licence``, ``licence_url`` and ``non_commercial``; empty if the initial weights allow
        commercial use.
    """
    if not facts or not facts.get("non_commercial"):
        return {}
    return {
        "licence": facts.get("licence", ""),
        "licence_url": facts.get("licence_url", ""),
        "non_commercial": True,
    }


def read_metadata(
    metadata: Mapping[str, str], variables: Mapping[str, np.ndarray], name: str
) -> dict[str, Any]:
    """Returns the facts in a safetensors header, checked against the tensors.

    Args:
        metadata: header written by :func:`se_resnet.weights.pretrained.save`.
        variables: arrays by path.
        name: name of the weights in an error.

    Raises:
        UserError: the header lacks the facts, or the tensors belong to another network.
    """
    try:
        written = parse_json(metadata[METADATA])
        if problem := misfit(written, _METADATA_FORM):
            raise ValueError(problem)
        attention.require_trusted(written["attention"], name)
        facts = {
            **{field: written[field] for field in _FACTS},
            "preprocessing": Preprocessing.from_dict(written["preprocessing"]),
            "attention_options": FrozenDict(written["attention_options"]),
            **{field: written[field] for field in _TERMS if field in written},
            "input_size": tuple(written["input_size"]) if written.get("input_size") else None,
            **{field: tuple(map(str, written.get(field, ()))) for field in _REMARKS},
        }
        model = ("variant", "bn_epsilon", "attention", "attention_position", "attention_options")
        layout.check(variables, name, **{field: facts[field] for field in model})
        return facts
    except (KeyError, ValueError, TypeError) as error:
        raise refused(
            name,
            "its tensors have this project's names, but its header does not say how they were "
            "trained: write it with se_resnet.weights.pretrained.save, or use 'imagenet' for the "
            "weights that ship",
        ) from error
