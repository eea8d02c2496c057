"""Maps the tensors of a file to this network's variables, for all known namings."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict

from se_resnet.models.resnet import create_model
from se_resnet.weights import keras_numbering, relatives, trained_attention, wrappers
from se_resnet.weights.formats import refused
from se_resnet.weights.naming import NAMINGS, TORCH_LEAVES, Naming

# PyTorch's count of batches, which only averages without momentum use.
_IGNORED = "num_batches_tracked"
_PROJECT_PREFIXES = ("params/", "batch_stats/")
# Remedy for a model that holds more than the network, by the separator of its names.
_SAVE_BACKBONE = {
    ".": (
        "save only the state_dict of the ResNet, with safetensors.torch.save_file, or give "
        "weights of ResNet50, 101 or 152, with or without SE blocks"
    ),
    "/": (
        "save only the ResNet, with model.get_layer('resnet50').save_weights('NAME.weights.h5'), "
        "or, if the model holds its layers directly, with keras.Model(model.input, model.get_layer("
        "'conv5_block3_out').output).save_weights('NAME.weights.h5')"
    ),
}


@dataclasses.dataclass(frozen=True)
class Layout:
    """A file's tensors as variables of this project's network.

    Attributes:
        naming: the naming of the file.
        variables: float32 arrays by path: ``params/stem/conv/kernel``,
            ``batch_stats/stem/norm/mean``, ...; also ``params/head/...`` if the file has a
            classifier.
        attention: ``'se'`` or ``'coord'`` if the blocks hold trained gates, else ``'none'``.
        attention_options: options of the gates, or empty.
        notes: changes that were made to the tensors, for people.
        biased: True if convolutions have biases although the library of this naming uses none.
    """

    naming: Naming
    variables: dict[str, np.ndarray]
    attention: str
    attention_options: dict[str, Any]
    notes: tuple[str, ...] = ()
    biased: bool = False


def recognise(tensors: Mapping[str, np.ndarray], source: str) -> Layout:
    """Finds the naming that fits a file's tensors, and maps them to this network's variables.

    The bias of a convolution moves into the running mean of the normalisation after it. This is
    exact: in training the mean of the batch cancels the bias, and in evaluation ``x + b - mean``
    stays the same.

    Args:
        tensors: arrays by name, see :class:`Naming`. Kernels are HWIO under Keras' names and OIHW
            under the others; dense layers likewise.
        source: name of the file in an error.

    Raises:
        UserError: no naming fits, or a tensor is missing, unknown, of the wrong shape, or not
            finite.
    """
    tensors = {name: value for name, value in tensors.items() if not name.endswith(_IGNORED)}
    tensors, notes = wrappers.without_prefix(keras_numbering.name_layers(tensors), source)
    naming = max(NAMINGS, key=lambda naming: sum(map(bool, map(naming.path_of, tensors))))
    if not any(naming.path_of(naming.example) == naming.path_of(name) for name in tensors):
        _refuse_kind(tensors, source)
        expected = ", ".join(f"{naming.example!r} ({naming.title})" for naming in NAMINGS)
        raise refused(
            source,
            f"it holds {len(tensors)} tensors{_examples(list(tensors))}, which fit no ResNet with "
            f"bottlenecks: expected one of {expected}",
        )
    if naming.leaves is TORCH_LEAVES:
        _refuse_kind(tensors, source)
    tensors, left_out = wrappers.without_head(tensors, naming, _channels(tensors, naming))
    variables: dict[str, np.ndarray] = {}
    unknown = []
    for name, value in tensors.items():
        path = naming.path_of(name)
        if path in variables:
            raise refused(source, f"it holds {path} twice: save the tensors of one network")
        if path:
            variables[path] = _as_float32(name, _transpose(value, path, naming), source)
        else:
            unknown.append(name)
    if unknown:
        raise refused(
            source,
            f"its names are of {naming.title}, but it holds {len(unknown)} tensors"
            f"{_examples(unknown)} that a ResNet with bottlenecks does not have: "
            + _SAVE_BACKBONE[naming.separator],
        )
    biased = False
    for path in [p for p in variables if re.search(r"/conv\d?/bias$", p)]:
        bias = variables.pop(path)
        norm = path.replace("params/", "batch_stats/").replace("conv", "norm")
        mean = norm.replace("/bias", "/mean")
        if mean in variables and variables[mean].shape == bias.shape:
            variables[mean] = variables[mean] - bias
            biased = naming.leaves is TORCH_LEAVES
    attention, options = trained_attention.recognise(variables, naming.bn_epsilon)
    check(variables, source, attention=attention, attention_options=options)
    return Layout(naming, variables, attention, options, (*notes, *left_out), biased)


def _refuse_kind(tensors: Mapping[str, np.ndarray], source: str) -> None:
    """Refuses a network of another known kind."""
    if kind := relatives.describe(tensors):
        raise refused(
            source,
            f"{kind}: take weights of a plain ResNet50, 101 or 152 or of an SE-ResNet50, such as "
            "timm/resnet50.a1_in1k or timm/seresnet50.a2_in1k",
        )


def project_variables(tensors: Mapping[str, np.ndarray], source: str) -> dict[str, np.ndarray]:
    """Returns the tensors as float32 variables if they have this project's names, else empty.

    Raises:
        UserError: a tensor holds values that are not finite.
    """
    if not tensors or not all(name.startswith(_PROJECT_PREFIXES) for name in tensors):
        return {}
    return {name: _as_float32(name, value, source) for name, value in tensors.items()}


def check(variables: Mapping[str, np.ndarray], source: str, **model: Any) -> None:
    """Validates that variables fill a network exactly; a head is optional.

    Args:
        variables: arrays by path.
        source: name of the variables in an error.
        model: further arguments of :func:`se_resnet.models.resnet.create_model`.

    Raises:
        UserError: a tensor is missing, unknown or of the wrong shape.
    """
    stage_sizes, width = architecture(variables)
    if not stage_sizes or not width:
        raise refused(source, "it has no blocks, or nothing for params/stem/conv/kernel of HWIO")
    head = variables.get("params/head/bias")
    network = create_model(
        stage_sizes=stage_sizes,
        width=width,
        num_outputs=max(1, head.size) if head is not None else 1,
        **model,
    )
    images = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    abstract = jax.eval_shape(lambda x: network.init(jax.random.key(0), x, train=False), images)
    shapes = {path: leaf.shape for path, leaf in flatten_dict(abstract, sep="/").items()}
    if not any(path.startswith("params/head/") for path in variables):
        shapes = {path: shape for path, shape in shapes.items() if "/head/" not in path}
    # A missing tensor comes first, as it may be the cause of other shapes.
    for path in sorted({*shapes, *variables}, key=lambda path: (path in variables, path)):
        shape = variables[path].shape if path in variables else "nothing"
        if shape != shapes.get(path):
            raise refused(
                source,
                f"it should fill a ResNet with stages of {stage_sizes} blocks and width {width}, "
                f"but has {shape} for {path} of shape {shapes.get(path, 'unknown')}: give all "
                "weights of one network",
            )
        if path.endswith("/var") and (variables[path] < 0).any():
            raise refused(source, f"{path} holds negative variances: fetch the file again")


def architecture(variables: Mapping[str, np.ndarray]) -> tuple[tuple[int, ...], int]:
    """Returns the blocks of each stage and the channels of the stem, which are 0 if unknown."""
    blocks = {
        (int(match[1]), int(match[2]))
        for path in variables
        if (match := re.match(r"params/stage(\d{1,9})/block(\d{1,9})/", path))
    }
    sizes = tuple(count for _, count in sorted(Counter(stage for stage, _ in blocks).items()))
    stem = variables.get("params/stem/conv/kernel")
    return sizes, stem.shape[-1] if stem is not None and stem.ndim == 4 else 0


def _channels(tensors: Mapping[str, np.ndarray], naming: Naming) -> int:
    """Returns the number of channels of the last stage, or 0."""
    outputs = {
        path: _transpose(value, path, naming).shape[-1]
        for name, value in tensors.items()
        if (path := naming.path_of(name) or "").endswith("/conv3/kernel") and value.ndim == 4
    }
    return outputs[max(outputs)] if outputs else 0


def _transpose(value: np.ndarray, path: str, naming: Naming) -> np.ndarray:
    """Moves inputs before outputs, as in Keras and in this project."""
    if naming.leaves is not TORCH_LEAVES:
        return value
    if value.ndim == 4:
        value = value.transpose(2, 3, 1, 0)
        # A gate's 1x1 convolution acts on one pixel, so it is a dense layer here.
        return value[0, 0] if "/attention/" in path and value.shape[:2] == (1, 1) else value
    return value.T


def _as_float32(name: str, value: np.ndarray, source: str) -> np.ndarray:
    with np.errstate(over="ignore"):
        value = np.ascontiguousarray(value, np.float32)
    if not np.isfinite(value).all():
        raise refused(source, f"{name!r} holds values that are not finite: fetch the file again")
    return value


def _examples(names: list[str]) -> str:
    return f" such as {', '.join(map(repr, sorted(names)[:3]))}" if names else ""
