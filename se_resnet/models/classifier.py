"""A network with its preprocessing and input size: the unit that a checkpoint holds."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict

from se_resnet import attention
from se_resnet.errors import UserError
from se_resnet.images.resize import RESIZE_RULES
from se_resnet.images.scale import FORM as SCALE_FORM
from se_resnet.images.scale import Scale, scale_of_facts
from se_resnet.models.folding import fold
from se_resnet.models.layers import global_average_pool
from se_resnet.models.precision import full_float32
from se_resnet.models.preprocessing import FORM as PREPROCESSING_FORM
from se_resnet.models.preprocessing import Preprocessing
from se_resnet.models.resnet import (
    ResNet,
    count_parameters,
    create_model,
    flops,
    variable_shapes,
)
from se_resnet.runtime.files import reason
from se_resnet.runtime.parallel import parallel_map
from se_resnet.runtime.processes import to_host
from se_resnet.runtime.schema import Between, Maybe, misfit

Array: TypeAlias = jax.Array | np.ndarray
MAX_SIDE = 4096  # pixels of a network's input
_PARTS = min(4, os.cpu_count() or 1)  # of a batch that a CPU computes at the same time
# The form of as_dict(), for se_resnet.runtime.schema.
FORM = {
    "model": {
        **dict.fromkeys(("attention", "attention_position", "variant"), str),
        "bn_epsilon": float,
        "width": int,
        "attention_options": {str: object},
        "stage_sizes": [int],
    },
    "preprocessing": PREPROCESSING_FORM,
    "size": [Between(1, MAX_SIDE), Between(1, MAX_SIDE)],
    "resize": str,
    "scale": Maybe(SCALE_FORM),
}


@dataclasses.dataclass(frozen=True)
class Classifier:
    """Classifies an image of any size as benign or malignant.

    Attributes:
        model: the network, with one output: the logit of malignant.
        preprocessing: maps RGB pixels of 0 to 255 to the input of the network.
        size: height and width of the input of the network in pixels.
        resize: rule that brings an image, or a tile of an image, to that size, see
            :func:`se_resnet.images.resize.resize`.
        scale: scale of the images and field of a tile; None if whole images of any scale are
            resized.
    """

    model: ResNet
    preprocessing: Preprocessing
    size: tuple[int, int]
    resize: str
    scale: Scale | None = None

    def as_dict(self) -> dict[str, Any]:
        """Returns the classifier as JSON values; :meth:`from_dict` reads them back."""
        names = ("attention", "attention_position", "variant", "bn_epsilon", "width", "dtype")
        return {
            "model": {
                **{name: getattr(self.model, name) for name in names},
                "attention_options": dict(self.model.attention_options),
                "stage_sizes": list(self.model.stage_sizes),
            },
            "preprocessing": self.preprocessing.as_dict(),
            "size": list(self.size),
            "resize": self.resize,
            **({"scale": self.scale.as_dict()} if self.scale else {}),
        }

    def describe(self, weights: str, params: Mapping, devices: int) -> str:
        """Returns a line about architecture, weights, cost and devices, for the log."""
        height, width = self.size
        processes = jax.process_count()
        return (
            f"ResNet{3 * sum(self.model.stage_sizes) + 2}, attention {self.model.attention}, "
            f"weights {weights}: {count_parameters(params):,} parameters, "
            f"{flops(self.model, self.size) / 1e9:.2f} GFLOPs an image of {height}x{width}, on "
            f"{devices} {jax.default_backend()} device{'s' if devices > 1 else ''}"
            + (f" of {processes} processes" if processes > 1 else "")
        )

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> Classifier:
        """Builds a classifier from the values of :meth:`as_dict`.

        Raises:
            ValueError: a value is missing, unknown, of another kind or out of range.
        """
        if problem := misfit(facts, FORM):
            raise ValueError(problem)
        if facts["resize"] not in RESIZE_RULES:
            raise ValueError(f"the resize rule {facts['resize']!r} is unknown")
        model = facts["model"]
        try:
            attention.find(model["attention"])  # other exceptions of a user's file pass
        except UserError as error:
            raise ValueError(reason(error)) from error
        try:
            classifier = cls(
                create_model(**{**model, "stage_sizes": tuple(model["stage_sizes"])}),
                Preprocessing.from_dict(facts["preprocessing"]),
                (facts["size"][0], facts["size"][1]),
                facts["resize"],
                scale_of_facts(facts.get("scale")),
            )
            hash(classifier.model)
        except Exception as error:  # the constructor of an attention module may raise any error
            raise ValueError(reason(error)) from error
        return classifier

    def abstract_variables(self) -> dict[str, Any]:
        """Returns shapes and dtypes of ``{'params', 'batch_stats'}``. Nothing is allocated.

        Raises:
            ValueError: the values do not form a network.
        """
        try:
            return variable_shapes(self.model, self.size)
        except Exception as error:  # an attention module may raise any error
            raise ValueError(f"they do not form a network: {reason(error)}") from error

    def make_predict(self, keeps_folded: bool = False) -> Forward:
        """Returns the jitted forward pass over batches; see :class:`Forward`."""
        return Forward(self, keeps_folded)


class Forward:
    """The jitted forward pass over batches, for one network or several.

    All networks share one compiled program and one pass over the batches. A call first folds the
    variables (:func:`se_resnet.models.folding.fold`), which takes the time of one or two images:
    pass many batches in one call, or keep the folded variables. Features of float32 are computed in
    full float32 on every platform (:mod:`se_resnet.models.precision`).

    On a CPU the parts of a batch run at the same time, each in a thread of its own. XLA divides
    every operation over the cores too, but then all cores wait for the slowest after each one.

    Args:
        classifier: the network and its preprocessing.
        keeps_folded: True to fold the variables of a network in its first call only. This is for
            networks that do not change any more: they and their folded variables stay in memory.
    """

    def __init__(self, classifier: Classifier, keeps_folded: bool = False):
        self._fold, self._forward = _programs(classifier)
        self._compiled: set[tuple[int, ...]] = set()  # shapes of images
        self._keeps_folded = keeps_folded
        # By identity; the variables are kept too, so that no other object has the same identity.
        self._kept: dict[int, tuple[Mapping, Mapping]] = {}

    def __call__(self, members: Sequence[Mapping], batches: Iterable[Mapping]) -> np.ndarray:
        """Returns the logit of malignant by each of K networks, ``float64 [K, M]``.

        Args:
            members: variables of each network; a single network is an ensemble of one.
            batches: dicts of ``image uint8 [B, H, W, 3]`` and ``mask bool [B]``; M images have a
                mask that is true.
        """
        return self._outputs(members, batches, wants_features=False)[0]

    def with_features(
        self, members: Sequence[Mapping], batches: Iterable[Mapping]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns the result of a call, and the pooled features of the first network.

        The features are those before the last layer, ``float32 [M, D]``, of the same pass.
        """
        return self._outputs(members, batches, wants_features=True)

    def with_maps(
        self, members: Sequence[Mapping], batch: Mapping
    ) -> tuple[np.ndarray, np.ndarray, tuple[Array, ...]]:
        """Returns the result of :meth:`with_features` for one batch, and the last feature maps.

        The maps are those of the last stage by each network, ``[B, h, w, D]`` of the same pass,
        with those of images whose mask is false.
        """
        maps: list[Array] = []
        logits, features = self._outputs(members, [batch], wants_features=True, maps=maps)
        return logits, features, tuple(maps)

    def gates(self, variables: Mapping, batch: Mapping) -> dict[str, np.ndarray]:
        """Returns the channel factors of the attention modules for one batch, ``float32 [M, C]``.

        The key is the path of the module, such as ``'stage1/block2/attention'``.
        """
        (outputs,) = self._forward_parts([self._folded(variables)], batch["image"])
        mask = to_host(batch["mask"])
        return {path: to_host(values)[mask] for path, values in outputs.gates.items()}

    def _folded(self, variables: Mapping) -> Mapping:
        if not self._keeps_folded:
            return self._fold(variables)
        if id(variables) not in self._kept:
            self._kept[id(variables)] = variables, self._fold(variables)
        return self._kept[id(variables)][1]

    def _outputs(
        self,
        members: Sequence[Mapping],
        batches: Iterable[Mapping],
        *,
        wants_features: bool,
        maps: list[Array] | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        folded = [self._folded(variables) for variables in members]
        logits, features = [np.zeros((len(members), 0))], []
        for batch in batches:
            outputs = self._forward_parts(folded, batch["image"])
            mask = to_host(batch["mask"])
            logits.append(np.stack([to_host(of_member.logits)[mask] for of_member in outputs]))
            if maps is not None:
                maps += [of_member.maps for of_member in outputs]
            if wants_features:
                features.append(to_host(outputs[0].features)[mask])
        nothing = np.zeros((0, 0), np.float32)
        return np.concatenate(logits, axis=1), np.concatenate(features or [nothing])

    def _forward_parts(self, folded: Sequence[Mapping], images: Array) -> list[_Outputs]:
        """Returns the outputs for a batch by each network."""
        count = _number_of_parts(len(images))
        if count == 1:
            return [self._forward(variables, images) for variables in folded]
        parts = np.split(np.asarray(images), count)
        tasks = [(variables, part) for variables in folded for part in parts]

        def compute(task: tuple[Mapping, np.ndarray]) -> Any:
            return jax.device_get(self._forward(*task))

        if parts[0].shape in self._compiled:
            outputs = list(parallel_map(compute, tasks, count))
        else:  # each thread would compile the program
            outputs = list(map(compute, tasks))
            self._compiled.add(parts[0].shape)
        by_network = (outputs[start : start + count] for start in range(0, len(tasks), count))
        return [jax.tree.map(lambda *parts: np.concatenate(parts), *parts) for parts in by_network]


def _number_of_parts(batch_size: int) -> int:
    """Returns into how many equal parts to divide a batch."""
    if jax.default_backend() != "cpu" or jax.device_count() > 1:
        return 1
    return max(parts for parts in range(1, _PARTS + 1) if batch_size % parts == 0)


class _Outputs(NamedTuple):
    """Outputs of one network for a batch, on the device or on the host."""

    logits: Array
    features: Array
    maps: Array
    gates: dict[str, Array]


@functools.lru_cache(maxsize=1)  # equal networks share the last programs, for example folds
def _programs(classifier: Classifier) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Returns the jitted functions that fold variables, and that compute the outputs."""
    model = classifier.model

    @full_float32
    def fold_variables(variables: Mapping) -> Mapping:
        return fold(model, variables, classifier.size)

    @full_float32
    def forward(variables: Mapping, images: jax.Array) -> _Outputs:
        inputs = classifier.preprocessing(images)
        (logits, stages), sown = model.apply(
            variables, inputs, train=False, return_stages=True, mutable=["intermediates"]
        )
        maps = stages[model.stage_names[-1]]
        gates = {
            "/".join(path[:-1]): values[0].astype(jnp.float32)
            for path, values in flatten_dict(sown.get("intermediates", {})).items()
            if path[-1] == "gates" and values[0].ndim == 2
        }
        features = global_average_pool(maps).astype(jnp.float32)
        return _Outputs(logits[:, 0], features, maps, gates)

    return jax.jit(fold_variables), jax.jit(forward)
