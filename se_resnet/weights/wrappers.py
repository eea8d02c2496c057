"""Finds a ResNet's tensors in a larger model: under a prefix, or beside an unknown head."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np

from se_resnet.weights.formats import refused
from se_resnet.weights.naming import KERAS_LEAVES, NAMINGS, Naming

# Usual names of modules after a ResNet's pooling; the last two are SimCLR's of Lightning Bolts and
# SwAV's.
_HEADS = (
    *("fc", "head", "heads", "classifier", "linear", "last_linear", "logits", "projector"),
    *("projection_head", "proj_head", "output", "projection", "prototypes"),
)


def without_prefix(
    tensors: Mapping[str, np.ndarray], source: str
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Removes a prefix of all names of a network, such as ``model.backbone.``.

    Args:
        tensors: arrays by name.
        source: name of the file in an error.

    Returns:
        The tensors under the library's names, and notes about the changes.

    Raises:
        UserError: the file holds several networks.
    """
    if any(example in tensors for naming in NAMINGS for example in naming.examples):
        return dict(tensors), []
    prefixes = {
        name.removesuffix(example)
        for naming in NAMINGS
        if naming.separator == "."
        for example in naming.examples
        for name in tensors
        if name.endswith(f".{example}")
    }
    # 'x.resnet.encoder' yields two prefixes: with and without the enclosing module.
    prefixes = {p for p in prefixes if p.removesuffix("resnet.") not in prefixes - {p}}
    if not prefixes:
        return dict(tensors), []
    if len(prefixes) > 1:
        raise refused(
            source,
            f"it holds several networks, under {' and '.join(map(repr, sorted(prefixes)[:3]))}: "
            "save the tensors of one of them",
        )
    (prefix,) = prefixes
    shared = _common_prefix(prefix, [name for name in tensors if not name.startswith(prefix)])
    renamed = {
        name.removeprefix(prefix if name.startswith(prefix) else shared): value
        for name, value in tensors.items()
    }
    if len(renamed) < len(tensors):
        raise refused(
            source, f"it holds tensors twice, with and without {prefix!r}: save them once"
        )
    return renamed, [f"the prefix {prefix!r} of their names was removed"]


def without_head(
    tensors: Mapping[str, np.ndarray], naming: Naming, channels: int
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Removes an unknown head, which other code has added after the network's pooling.

    Args:
        tensors: arrays by name.
        naming: naming of the other layers.
        channels: channels of the network's last stage.

    Returns:
        The tensors without the head, and notes about the changes. All tensors are kept if the
        naming knows them all, or if the unknown ones may be more than a head.
    """
    head = [name for name in tensors if naming.path_of(name) is None]
    if head and naming.leaves is KERAS_LEAVES:
        head += [
            name for name in tensors if (naming.path_of(name) or "").startswith("params/head/")
        ]
        is_head = _dense_chain(tensors, head, channels)
    else:
        is_head = all(name.split(".")[0] in _HEADS and tensors[name].ndim <= 2 for name in head)
    if not head or not is_head:
        return dict(tensors), []
    kept = {name: value for name, value in tensors.items() if name not in head}
    named = ", ".join(sorted(head)[:3]) + (", ..." if len(head) > 3 else "")
    return kept, [f"the classifier on top of them ({named}) was left out"]


def _dense_chain(tensors: Mapping[str, np.ndarray], names: list[str], channels: int) -> bool:
    """Returns True for dense layers that start from ``channels`` and never lead back."""
    kernels, biases = [], []
    for name in names:
        layer, _, leaf = name.rpartition("/")
        shape = tensors[name].shape
        if leaf == "kernel" and len(shape) == 2:
            kernels.append(shape)
        elif leaf == "bias" and len(shape) == 1 and f"{layer}/kernel" in names:
            biases.append(shape)
        else:
            return False
    # The last layer of a gate returns to the number of channels.
    if any(outputs == channels for _, outputs in kernels):
        return False
    reached: set[int] = set()
    for _ in kernels:
        reached |= {
            outputs for inputs, outputs in kernels if inputs % channels == 0 or inputs in reached
        }
    return all(inputs % channels == 0 or inputs in reached for inputs, _ in kernels)


def _common_prefix(prefix: str, names: list[str]) -> str:
    """Returns the longest part of ``prefix``, up to a dot, with which all names begin."""
    parts = [match.end() for match in re.finditer(r"\.", prefix)]
    return next(
        (prefix[:i] for i in reversed(parts) if all(n.startswith(prefix[:i]) for n in names)), ""
    )
