"""What a classifier looked at: class activation maps, occlusion, and the gates of its attention.

Every function here takes RGB pixels as a :class:`se_resnet.classifier.Classifier` does, runs the
network in evaluation mode and changes nothing. The single logit speaks for both classes: what
raises it is evidence for malignant, what lowers it is evidence for benign.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import cv2
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict

from se_resnet.classifier import Classifier
from se_resnet.errors import UserError
from se_resnet.metrics.predictions import probability_of
from se_resnet.resnet import PERTURBATIONS

CLASSES = ("benign", "malignant")
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_BATCH = 32
# Standard deviation of the blur, as a share of the image's longer side, that hides what an image
# shows: at 224 pixels it is wider than a nucleus at every magnification of BreaKHis.
_BLUR = 0.05


def grad_cam(
    classifier: Classifier,
    variables: Mapping[str, Any],
    images: np.ndarray,
    *,
    stage: str = "stage4",
    target: int | None = None,
) -> np.ndarray:
    """Grad-CAM (Selvaraju et al. 2017, "Grad-CAM: Visual explanations from deep networks").

    The feature maps are summed, each weighted by the mean over its pixels of the gradient of the
    target's logit; what is negative is set to 0.

    Args:
        classifier: the network and its preprocessing.
        variables: ``{'params', 'batch_stats'}`` of the network.
        images: RGB ``uint8 [B, H, W, 3]``, of any size.
        stage: whose output is explained: ``'stem'``, ``'stage1'``, ... Later stages say more about
            the class, earlier ones resolve more: a cell of ``'stage4'`` stands for 32 x 32 pixels.
        target: 0 for benign, 1 for malignant, None for each image's predicted class (malignant from
            probability 0.5).

    Returns:
        float32 ``[B, H, W]`` in [0, 1]. An image's largest value is 1, or 0 where nothing speaks
        for the target: maps of different images cannot be compared by their values.

    Raises:
        UserError: ``stage`` or ``target`` is unknown.
    """
    return _class_activation(classifier, variables, images, stage, target, plus_plus=False)


def grad_cam_plus_plus(
    classifier: Classifier,
    variables: Mapping[str, Any],
    images: np.ndarray,
    *,
    stage: str = "stage4",
    target: int | None = None,
) -> np.ndarray:
    """Grad-CAM++ (Chattopadhay et al. 2018), which finds several occurrences of a pattern better.

    As :func:`grad_cam`, but a feature map is weighted by the sum of its positive gradients, each
    taken with the weight that the exponential of the target's logit as score gives in closed form.
    """
    return _class_activation(classifier, variables, images, stage, target, plus_plus=True)


def _class_activation(
    classifier: Classifier,
    variables: Mapping[str, Any],
    images: np.ndarray,
    stage: str,
    target: int | None,
    plus_plus: bool,
) -> np.ndarray:
    stages = classifier.model.stage_names
    if stage not in stages:
        raise UserError(f"unknown stage {stage!r}: choose one of {', '.join(stages)}")
    _check_target(target)
    return np.asarray(_activation_maps(classifier, variables, images, stage, target, plus_plus))


@functools.partial(jax.jit, static_argnames=("classifier", "stage", "plus_plus"))
def _activation_maps(
    classifier: Classifier,
    variables: Mapping[str, Any],
    images: jax.Array,
    stage: str,
    target: int | None,
    plus_plus: bool,
) -> jax.Array:
    inputs = classifier.preprocessing(images)

    def run(variables: Mapping[str, Any]) -> Any:
        return classifier.model.apply(variables, inputs, train=False, return_stages=True)

    def score(added: jax.Array) -> tuple[jax.Array, jax.Array]:
        logits, stages = run({**variables, PERTURBATIONS: {stage: added}})
        # In evaluation mode an image's logit depends on no other image, so the gradient of the sum
        # holds the gradient of each.
        return (_sign(logits[:, 0], target) * logits[:, 0]).sum(), stages[stage]

    features = jax.eval_shape(run, variables)[1][stage]
    gradients, features = (
        values.astype(jnp.float32)
        for values in jax.grad(score, has_aux=True)(jnp.zeros(features.shape, features.dtype))
    )
    if plus_plus:
        # The paper's g^2 / (2 g^2 + sum(A) g^3) without g^2, which may underflow. Only g > 0
        # counts, and features are not negative after a ReLU, so the divisor is at least 2.
        gradients = jax.nn.relu(gradients)
        mass = jax.nn.relu(features).sum(axis=(1, 2), keepdims=True)
        weights = (gradients / (2 + mass * gradients)).sum(axis=(1, 2))
    else:
        weights = gradients.mean(axis=(1, 2))
    maps = jax.nn.relu(jnp.einsum("bhwc,bc->bhw", features, weights))
    maps = jax.image.resize(maps, images.shape[:3], "linear")
    peaks = maps.max(axis=(1, 2), keepdims=True)
    return maps / jnp.where(peaks > 0, peaks, 1)


def occlusion(
    classifier: Classifier,
    variables: Mapping[str, Any],
    images: np.ndarray,
    *,
    patch: int = 32,
    stride: int = 16,
    target: int | None = None,
    fill: Sequence[float] | None = None,
) -> np.ndarray:
    """How much the target's probability drops when a part is covered (Zeiler and Fergus 2014).

    A square is moved over the image. A pixel's value is the mean drop over the squares that covered
    it. For each image the network runs on as many covered ones as there are squares,
    ``(ceil((H - patch) / stride) + 1) * (ceil((W - patch) / stride) + 1)``, in batches of 32.

    Args:
        classifier: the network and its preprocessing.
        variables: ``{'params', 'batch_stats'}`` of the network.
        images: RGB ``uint8 [B, H, W, 3]``, of any size.
        patch: side of the square in pixels; cut to the image's size.
        stride: step of the square in pixels, at most ``patch``, so that every pixel is covered.
        target: 0 for benign, 1 for malignant, None for each image's predicted class.
        fill: RGB colour of the square, 0 to 255; None takes each image's own mean colour.

    Returns:
        float32 ``[B, H, W]`` in [-1, 1]; negative where covering speaks for the target.

    Raises:
        UserError: ``target`` is unknown, or not ``1 <= stride <= patch``.
    """
    _check_target(target)
    if not 1 <= stride <= patch:
        raise UserError(
            f"occlusion needs 1 <= stride <= patch, not stride {stride} and patch {patch}: "
            "choose a patch of at least the stride"
        )
    count, height, width = images.shape[:3]
    squares = [
        (slice(top, top + patch), slice(left, left + patch))
        for top, left in itertools.product(
            _offsets(height, patch, stride), _offsets(width, patch, stride)
        )
    ]

    def cover(image: np.ndarray, square: tuple[slice, slice]) -> np.ndarray:
        covered = image.copy()
        covered[square] = np.rint(image.mean(axis=(0, 1)) if fill is None else fill)
        return covered

    before = _logits(classifier, variables, images)
    sign = np.asarray(_sign(before, target))[:, None]
    after = _logits(
        classifier, variables, (cover(image, square) for image in images for square in squares)
    ).reshape(count, len(squares))
    drops = probability_of(sign * before[:, None]) - probability_of(sign * after)
    total, covers = np.zeros((count, height, width)), np.zeros((height, width))
    for square, drop in zip(squares, drops.T, strict=True):
        total[:, *square] += drop[:, None, None]
        covers[square] += 1
    return (total / covers).astype(np.float32)


def _offsets(length: int, patch: int, stride: int) -> list[int]:
    """Where squares start along an axis; the last one ends with the axis."""
    last = max(0, length - patch)
    return [*range(0, last, stride), last]


def gates(
    classifier: Classifier, variables: Mapping[str, Any], images: np.ndarray
) -> dict[str, np.ndarray]:
    """The factors by which attention multiplies the channels (Hu et al. 2018, section 7.2).

    Args:
        classifier: the network and its preprocessing.
        variables: ``{'params', 'batch_stats'}`` of the network.
        images: RGB ``uint8 [B, H, W, 3]``, of any size.

    Returns:
        float32 ``[B, C]`` for every module of attention that sows gates, in the network's order, by
        the name of the block (``'stage1/block2'``), or of the stage where attention sits there. A
        network without gates gives an empty dict, and so does attention that gates no whole
        channels: ``coord``, ``gc`` and ``simam``.
    """
    sown = flatten_dict(_gates(classifier, variables, images))
    found = {
        "/".join(path[:-2]): np.asarray(values[0])
        for path, values in sown.items()
        if path[-1] == "gates"
    }
    # A jitted function sorts its result's keys as text, where block10 comes before block2.
    return {
        name: found[name]
        for name in sorted(found, key=lambda name: [int(n) for n in re.findall(r"\d+", name)])
    }


@functools.partial(jax.jit, static_argnames="classifier")
def _gates(classifier: Classifier, variables: Mapping[str, Any], images: jax.Array) -> Any:
    inputs = classifier.preprocessing(images)
    _, state = classifier.model.apply(variables, inputs, train=False, mutable=["intermediates"])
    return state.get("intermediates", {})


def gate_summary(
    gates: Mapping[str, np.ndarray], label: np.ndarray, by: str = "stage"
) -> list[dict[str, Any]]:
    """How gate values are distributed in each stage or block, by class.

    Args:
        gates: what :func:`gates` returned.
        label: int ``[B]``, 0 benign and 1 malignant.
        by: ``'stage'`` pools the gates of a stage's blocks, ``'block'`` keeps them apart.

    Returns:
        A row for every stage or block and every class that has images: ``stage`` or ``block`` (its
        name), ``class``, ``images``, ``mean``, and the quantiles ``q05``, ``q25``, ``q50``, ``q75``
        and ``q95``.
    """
    parts: dict[str, list[np.ndarray]] = {}
    for name, values in gates.items():
        parts.setdefault(name.split("/")[0] if by == "stage" else name, []).append(values)
    rows = []
    for part, blocks in parts.items():
        for value, name in enumerate(CLASSES):
            chosen = np.asarray(label) == value
            if not chosen.any():
                continue
            pooled = np.concatenate([values[chosen] for values in blocks], axis=1)
            quantiles = np.quantile(pooled, QUANTILES)
            rows.append(
                {by: part, "class": name, "images": int(chosen.sum())}
                | {"mean": float(pooled.mean(dtype=np.float64))}
                | {f"q{100 * q:02.0f}": float(v) for q, v in zip(QUANTILES, quantiles, strict=True)}
            )
    return rows


def overlay(image: np.ndarray, heat: np.ndarray, opacity: float = 0.45) -> np.ndarray:
    """Lays a heat map over its image.

    The colours are matplotlib's inferno, whose lightness rises evenly, so that it reads alike under
    every colour blindness and in grey. The heat also makes them opaque: what has none stays as it
    is, and tissue is not tinted where the network did not look.

    Args:
        image: RGB ``uint8 [H, W, 3]``.
        heat: ``[H, W]``; values outside of [0, 1] are cut.
        opacity: of the hottest pixels, from 0 to 1.

    Returns:
        RGB ``uint8 [H, W, 3]``.
    """
    # Explaining in a training or prediction run must not cost the import of a plotting library.
    import matplotlib

    heat = np.clip(heat, 0, 1)
    colours = 255 * matplotlib.colormaps["inferno"](heat)[..., :3]
    share = (opacity * heat)[..., None]
    return np.rint((1 - share) * image + share * colours).astype(np.uint8)


def insertion_deletion(
    classifier: Classifier,
    variables: Mapping[str, Any],
    image: np.ndarray,
    heat: np.ndarray,
    steps: int = 20,
    target: int | None = None,
) -> dict[str, Any]:
    """How faithful a heat map is to the network (Petsiuk et al. 2018, "RISE").

    Pixels are taken by falling heat, an equal number at each step. Deletion replaces them by the
    image's mean colour, and a faithful map lets the target's probability fall early; insertion
    gives them back to a blurred image, and a faithful map lets it rise early.

    Args:
        classifier: the network and its preprocessing.
        variables: ``{'params', 'batch_stats'}`` of the network.
        image: RGB ``uint8 [H, W, 3]``.
        heat: ``[H, W]``; only its order matters. Equal values are taken from the top left on.
        steps: number of steps, at least 1.
        target: 0 for benign, 1 for malignant, None for the predicted class of the whole image.

    Returns:
        ``insertion`` and ``deletion``, the areas under the two curves, in [0, 1] (more is better
        for the first and less for the second), and ``curves``: ``fraction`` of the pixels taken,
        from 0 to 1, with the target's probability under ``insertion`` and ``deletion``, each
        float64 ``[steps + 1]``.

    Raises:
        UserError: ``target`` is unknown or ``steps`` is less than 1.
    """
    _check_target(target)
    if steps < 1:
        raise UserError(f"insertion and deletion need at least 1 step, not {steps}")
    sigma = _BLUR * max(image.shape[:2])
    blurred = cv2.GaussianBlur(image, (0, 0), sigma, borderType=cv2.BORDER_REFLECT)
    mean = np.broadcast_to(np.rint(image.mean(axis=(0, 1))).astype(np.uint8), image.shape)
    rank = np.empty(heat.size, int)
    rank[np.argsort(-heat, axis=None, kind="stable")] = np.arange(heat.size)
    fraction = np.linspace(0, 1, steps + 1)
    taken = [rank.reshape(heat.shape)[..., None] < round(f * heat.size) for f in fraction]
    logits = _logits(
        classifier,
        variables,
        itertools.chain(
            (np.where(mask, image, blurred) for mask in taken),
            (np.where(mask, mean, image) for mask in taken),
        ),
    ).reshape(2, -1)
    whole = logits[1, 0]
    insertion, deletion = probability_of(float(_sign(whole, target)) * logits)
    return {
        "insertion": float(np.trapezoid(insertion, fraction)),
        "deletion": float(np.trapezoid(deletion, fraction)),
        "curves": {"fraction": fraction, "insertion": insertion, "deletion": deletion},
    }


def _check_target(target: int | None) -> None:
    if target not in (None, 0, 1):
        raise UserError(
            f"unknown target {target!r}: choose 0 for benign, 1 for malignant or None for the "
            "predicted class"
        )


def _sign(logits: Any, target: int | None) -> Any:
    """The factor that makes the logit of malignant the target's own: -1 for benign, 1 otherwise."""
    if target is None:
        return jnp.where(logits >= 0, 1.0, -1.0)
    return jnp.full(jnp.shape(logits), 2.0 * target - 1)


# Building it anew would compile the network at every call.
@functools.cache
def _predict(classifier: Classifier) -> Any:
    return classifier.make_predict()


def _logits(
    classifier: Classifier, variables: Mapping[str, Any], images: Iterable[np.ndarray]
) -> np.ndarray:
    """The logit of malignant for each image, float64 ``[N]``, with few images at once in memory."""
    images = iter(images)

    def batches() -> Iterable[dict[str, np.ndarray]]:
        while chunk := list(itertools.islice(images, _BATCH)):
            padding = _BATCH - len(chunk)
            yield {
                "image": np.stack(chunk + padding * [chunk[-1]]),
                "mask": np.arange(_BATCH) < len(chunk),
            }

    return _predict(classifier)(variables, batches())
