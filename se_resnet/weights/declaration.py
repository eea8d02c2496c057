"""Facts about a network from files beside its weights, and checks of the fields that state them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Mapping
from typing import Any

from se_resnet.models.preprocessing import CAFFE, Preprocessing
from se_resnet.runtime.schema import misfit


@dataclasses.dataclass(frozen=True)
class Declaration:
    """Facts from files beside weights; a fact that no file states is None.

    Attributes:
        files: names of the files; empty if there is none.
        library: library of the network, ``'timm'``, ``'transformers'`` or ``'Keras'``.
        variant: position of the strides, ``'v1'`` or ``'v1.5'``.
        stage_sizes: bottlenecks in each stage.
        width: channels of the stem.
        attention: name of the attention module, or ``'none'``.
        classes: outputs of the classifier; 0 for none.
        bn_epsilon: added to the variances in batch normalisation.
        preprocessing: converts pixels to the network's input.
        interpolation: filter that resized the training images.
        input_size: height and width of the network's inputs in training.
        by_authors: True if the authors' preprocessing replaced that of the files.
        notes: remarks for people.
    """

    files: tuple[str, ...] = ()
    library: str | None = None
    variant: str | None = None
    stage_sizes: tuple[int, ...] | None = None
    width: int | None = None
    attention: str | None = None
    classes: int | None = None
    bn_epsilon: float | None = None
    preprocessing: Preprocessing | None = None
    interpolation: str | None = None
    input_size: tuple[int, int] | None = None
    by_authors: bool = False
    notes: tuple[str, ...] = ()

    def stated(self) -> dict[str, Any]:
        """Returns the facts that are not None, without their origin and notes."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        del values["files"], values["by_authors"], values["notes"]
        return {name: value for name, value in values.items() if value is not None}

    def corrected(self, pixels: Preprocessing, url: str) -> Declaration:
        """Returns the declaration with the authors' preprocessing instead of the files'.

        Args:
            pixels: preprocessing that the authors state.
            url: where they state it.
        """
        notes = (f"their authors state the mean and std of the pixels: {url}",)
        if self.preprocessing not in (None, pixels):
            notes = (
                f"in this copy {' and '.join(self.files)} gives "
                f"{describe_pixels(self.preprocessing)}; the run uses the values of the authors "
                f"instead, {describe_pixels(pixels)}: {url}",
            )
        return dataclasses.replace(self, preprocessing=pixels, by_authors=True, notes=notes)


def require_values(fields: Mapping[str, Any], allowed: Mapping[str, Collection[Any]]) -> None:
    """Validates that each given field holds a value that the network can have.

    Raises:
        ValueError: a field holds another value.
    """
    for name, values in allowed.items():
        value = fields.get(name)
        if value is not None and not any(type(value) is type(v) and value == v for v in values):
            raise ValueError(
                f"its {name} is {_short(value)}, which this network cannot have: only "
                f"{' or '.join(map(repr, values))} can be used"
            )


def require_known(fields: Mapping[str, Any], names: Collection[str], where: str = "") -> None:
    """Validates that every field has a known meaning.

    A field that is null, or whose name begins with ``_``, is ignored.

    Raises:
        ValueError: the meaning of a field is unknown.
    """
    unknown = sorted(
        name
        for name, value in fields.items()
        if name not in names and value is not None and not name.startswith("_")
    )
    if unknown:
        raise ValueError(
            f"its {where}{', '.join(unknown[:3])} is not understood; remove it if it changes "
            "nothing in the network or its input"
        )


def sizes(value: Any, name: str) -> tuple[int, ...]:
    """Returns a list of positive whole numbers as a tuple.

    Raises:
        ValueError: the value is something else.
    """
    if misfit(value, [int]) or not value or min(value) < 1:
        raise ValueError(f"its {name} is {_short(value)}, not a list of positive whole numbers")
    return tuple(value)


def standardisation(mean: Any, std: Any, scale: float) -> Preprocessing:
    """Returns the preprocessing of RGB pixels with the given means and standard deviations.

    Args:
        mean: three numbers, of pixels times ``scale``.
        std: three numbers, likewise.
        scale: factor on pixel values of 0..255.

    Raises:
        ValueError: mean or std is not three finite numbers, or such pixels cannot have them.
    """
    for name, value in (("mean", mean), ("std", std)):
        if misfit(value, [float]) or len(value) != 3:
            raise ValueError(f"its {name} is {_short(value)}, not three finite numbers")
    top = 255 * scale * (1 + 1e-6)
    if not all(0 <= v <= top for v in mean) or not all(0 < v <= top for v in std):
        raise ValueError(
            f"its mean {_short(mean)} and std {_short(std)} cannot be those of pixels from 0 to "
            f"{255 * scale:g}"
        )
    red, green, blue = map(float, mean)
    red_std, green_std, blue_std = map(float, std)
    return Preprocessing("RGB", (red, green, blue), (red_std, green_std, blue_std), scale)


def describe_pixels(preprocessing: Preprocessing) -> str:
    """Returns channel order, range, mean and standard deviation as text."""
    mean, std = (", ".join(f"{v:g}" for v in getattr(preprocessing, p)) for p in ("mean", "std"))
    scale = "0 to 255" if preprocessing.scale == CAFFE.scale else "0 to 1"
    return f"{preprocessing.channel_order} pixels of {scale} with mean {mean} and std {std}"


def positive(value: Any, name: str) -> float:
    """Returns a positive, finite number.

    Raises:
        ValueError: the value is something else.
    """
    if misfit(value, float) or not (value > 0 and math.isfinite(value)):
        raise ValueError(f"its {name} is {_short(value)}, not a positive number")
    return float(value)


def text(value: Any, name: str) -> str | None:
    """Returns a string, or None for None.

    Raises:
        ValueError: the value is something else.
    """
    if value is not None and not isinstance(value, str):
        raise ValueError(f"its {name} is {_short(value)}, not text")
    return value


def _short(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else shown[:57] + "..."
