"""Weights to start from, each with the variant, epsilon and preprocessing that it was trained with.

``'imagenet'`` ships with the package: ResNet50 v1 as Keras and Caffe have it, made by
:mod:`se_resnet.convert`, which names source and licence. ``'none'`` is random initialisation.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors import SafetensorError

from se_resnet.errors import UserError
from se_resnet.resnet import ResNet

WEIGHTS_DIRECTORY = Path(__file__).parent / "weights"
RECORDS = {"imagenet": "resnet50_v1_imagenet.json"}
NONE = "none"
CHANNEL_ORDERS = ("RGB", "BGR")


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """From pixels to network input: ``(scale * pixels - mean) / std`` in the weights' own order.

    Attributes:
        channel_order: order of the network's input channels, ``'RGB'`` or ``'BGR'``.
        mean: per channel, in the network's order and after scaling.
        std: per channel, in the network's order and after scaling.
        scale: factor on pixel values of 0..255.

    Raises:
        UserError: a value is of the wrong kind.
    """

    channel_order: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    scale: float

    def __post_init__(self) -> None:
        if self.channel_order not in CHANNEL_ORDERS:
            raise UserError(
                f"unknown channel order {self.channel_order!r}: choose one of "
                f"{', '.join(CHANNEL_ORDERS)}"
            )
        if len(self.mean) != 3 or len(self.std) != 3 or not all(s > 0 for s in self.std):
            raise UserError(
                f"preprocessing needs three means and three positive standard deviations, "
                f"not {self.mean!r} and {self.std!r}"
            )

    def __call__(self, images: jax.Array | np.ndarray) -> jax.Array:
        """Maps RGB images ``[B, H, W, 3]``, uint8 or float in 0..255, to float32 of that shape."""
        pixels = jnp.asarray(images).astype(jnp.float32)
        if self.channel_order == "BGR":
            pixels = pixels[..., ::-1]
        mean, std = jnp.asarray(self.mean), jnp.asarray(self.std)
        return (self.scale * pixels - mean) / std

    def as_dict(self) -> dict[str, Any]:
        """The attributes as JSON knows them; :meth:`from_dict` reads them back."""
        return {
            "channel_order": self.channel_order,
            "mean": list(self.mean),
            "std": list(self.std),
            "scale": self.scale,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Preprocessing:
        """Makes a preprocessing from :meth:`as_dict`'s values.

        Raises:
            UserError: a value is missing, unknown or of the wrong kind.
        """
        try:
            return cls(
                **{**values, "mean": tuple(values["mean"]), "std": tuple(values["std"])},
            )
        except (KeyError, TypeError) as error:
            raise UserError(
                "preprocessing needs channel_order, mean, std and scale, "
                f"not {dict(values)!r}: restore the file that it came from"
            ) from error


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """A backbone's weights and all that must hold where they are used.

    Attributes:
        name: the name to :func:`load` it by.
        params: nested float32 arrays of stem and stages, without attention and head, in the layout
            of :mod:`se_resnet.resnet`; None for random initialisation.
        batch_stats: the running means and variances that go with them, or None.
        variant: where the strides sit, ``'v1'`` or ``'v1.5'``.
        bn_epsilon: added to the variances in batch normalisation.
        preprocessing: how the network's input is made from RGB pixels.
        licence: SPDX identifier of the weights' licence, or an empty string.
        source: where the weights come from, or an empty string.
        sha256: checksum of the file that held them, or an empty string.
    """

    name: str
    params: dict[str, Any] | None
    batch_stats: dict[str, Any] | None
    variant: str
    bn_epsilon: float
    preprocessing: Preprocessing
    licence: str
    source: str
    sha256: str


# The architecture is that of 'imagenet', so that a comparison of the two isolates the weights. The
# input has about unit variance because running variances start at 1.
_RANDOM = Pretrained(
    name=NONE,
    params=None,
    batch_stats=None,
    variant="v1",
    bn_epsilon=1e-3,
    preprocessing=Preprocessing("RGB", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 1 / 255),
    licence="",
    source="",
    sha256="",
)


def load(name: str, directory: Path = WEIGHTS_DIRECTORY) -> Pretrained:
    """Loads a backbone by name.

    Args:
        name: ``'imagenet'``, or ``'none'`` for random initialisation: variant v1, epsilon 1e-3, RGB
            standardised with ImageNet's means and standard deviations.
        directory: where the weights' files lie.

    Raises:
        UserError: the name is unknown, or a file is missing, broken or not the recorded one.
    """
    if name == NONE:
        return _RANDOM
    record = _read_record(name, directory)
    try:
        file = record["files"]["backbone"]
        tree = _unflatten(_read_tensors(directory / file["name"], file["sha256"]))
        return Pretrained(
            name=name,
            params=tree["params"],
            batch_stats=tree["batch_stats"],
            variant=record["variant"],
            bn_epsilon=record["bn_epsilon"],
            preprocessing=Preprocessing.from_dict(record["preprocessing"]),
            licence=record["licence"],
            source=record["source"]["package"],
            sha256=file["sha256"],
        )
    except (KeyError, TypeError) as error:
        raise _broken(directory / RECORDS[name]) from error


def load_head(name: str, directory: Path = WEIGHTS_DIRECTORY) -> dict[str, np.ndarray]:
    """Loads the classifier that a backbone was trained with, as ``params['head']`` of a model.

    Returns:
        ``kernel`` float32 ``[2048, 1000]`` and ``bias`` float32 ``[1000]`` for ``'imagenet'``, the
        classes of ILSVRC 2012 in the usual order (0 is the tench).

    Raises:
        UserError: as :func:`load`.
    """
    record = _read_record(name, directory)
    try:
        file = record["files"]["head"]
        return _unflatten(_read_tensors(directory / file["name"], file["sha256"]))["params"]["head"]
    except (KeyError, TypeError) as error:
        raise _broken(directory / RECORDS[name]) from error


def initial_variables(
    model: ResNet,
    pretrained: Pretrained,
    key: jax.Array,
    image_size: tuple[int, int] = (224, 224),
) -> dict[str, Any]:
    """The model's variables before training: the pretrained backbone, the rest freshly initialised.

    Attention modules and head are initialised from ``key``; the head's weights are zero, see
    :class:`se_resnet.resnet.ResNet`.

    Args:
        model: the model to fill.
        pretrained: the weights; with params None everything is initialised from ``key``.
        key: a random key.
        image_size: height and width in pixels of the images to come.

    Returns:
        ``{'params': ..., 'batch_stats': ...}``, nested dicts of float32 arrays on the default
        device.

    Raises:
        UserError: variant or epsilon differ, a pretrained tensor does not fit the model, or the
            model's backbone has a tensor that the weights lack.
    """
    backbone: dict[str, np.ndarray] = {}
    if pretrained.params is not None:
        for field in ("variant", "bn_epsilon"):
            wanted, given = getattr(pretrained, field), getattr(model, field)
            if wanted != given:
                raise UserError(
                    f"weights {pretrained.name!r} need {field} {wanted}, the model has {given}: "
                    "take it from the weights"
                )
        backbone = flatten_dict(
            {"params": pretrained.params, "batch_stats": pretrained.batch_stats}, sep="/"
        )

    def initialise(key: jax.Array) -> dict[str, jax.Array]:
        variables = model.init(key, jnp.zeros((1, *image_size, 3)), train=False)
        return flatten_dict(variables, sep="/")

    shapes = {path: leaf.shape for path, leaf in jax.eval_shape(initialise, key).items()}
    _check_fit(pretrained.name, backbone, shapes)
    # Leaving the loaded tensors out of the jitted function's result spares computing them.
    fresh = jax.jit(lambda key: {k: v for k, v in initialise(key).items() if k not in backbone})(
        key
    )
    # A copy: the loaded arrays must survive a training step that reuses its arguments' memory.
    loaded = {path: jnp.array(value, copy=True) for path, value in backbone.items()}
    return _unflatten({path: fresh[path] if path in fresh else loaded[path] for path in shapes})


def _check_fit(
    name: str, backbone: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]]
) -> None:
    remedy = "use stage_sizes (3, 4, 6, 3) and width 64, or weights 'none'"
    for path, value in backbone.items():
        if value.shape != shapes.get(path):
            raise UserError(
                f"weights {name!r} do not fit the model: {path} has shape {value.shape} in the "
                f"weights and {shapes.get(path, 'no place')} in the model: {remedy}"
            )
    for path in shapes:
        new = "attention" in path.split("/") or path.startswith("params/head/")
        if backbone and path not in backbone and not new:
            raise UserError(f"weights {name!r} do not fit the model: they lack {path}: {remedy}")


def _read_record(name: str, directory: Path) -> dict[str, Any]:
    if name not in RECORDS:
        raise UserError(f"unknown weights {name!r}: choose one of {', '.join([NONE, *RECORDS])}")
    path = directory / RECORDS[name]
    try:
        return json.loads(_read(path))
    except ValueError as error:
        raise _broken(path) from error


def _read_tensors(path: Path, sha256: str) -> dict[str, np.ndarray]:
    content = _read(path)
    if hashlib.sha256(content).hexdigest() != sha256:
        raise _broken(path)
    try:
        tensors = safetensors.numpy.load(content)
    except SafetensorError as error:
        raise _broken(path) from error
    return {key: value.astype(np.float32) for key, value in tensors.items()}


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(
            f"cannot read the weights' file {path} ({error.strerror}): install the project again"
        ) from error


def _broken(path: Path) -> UserError:
    return UserError(
        f"{path} is broken or is not the file that was shipped: install the project again, or make "
        "it anew with python -m se_resnet.convert"
    )


def _unflatten(tensors: Mapping[str, Any]) -> dict[str, Any]:
    return unflatten_dict(dict(tensors), sep="/")
