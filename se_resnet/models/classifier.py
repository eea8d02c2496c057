"""A network together with all that turns pixels into its input: what a checkpoint must carry."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from se_resnet import attention
from se_resnet.errors import UserError
from se_resnet.images.resize import RESIZE_RULES
from se_resnet.models.folding import fold
from se_resnet.models.preprocessing import FORM as PREPROCESSING_FORM
from se_resnet.models.preprocessing import Preprocessing
from se_resnet.models.resnet import ResNet, count_parameters, create_model, flops
from se_resnet.runtime.files import reason
from se_resnet.runtime.processes import to_host
from se_resnet.runtime.schema import Between, misfit

MAX_SIDE = 4096  # pixels of a network's input
# What as_dict() makes, for se_resnet.runtime.schema.
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
}


@dataclasses.dataclass(frozen=True)
class Classifier:
    """Benign or malignant, from an image of any size.

    Attributes:
        model: the network, with one output: the logit of malignant.
        preprocessing: from RGB pixels of 0 to 255 to the network's input.
        size: height and width of the network's input in pixels.
        resize: how an image is brought to that size, see :func:`se_resnet.images.resize.resize`.
    """

    model: ResNet
    preprocessing: Preprocessing
    size: tuple[int, int]
    resize: str

    def as_dict(self) -> dict[str, Any]:
        """All of it as JSON knows it; :meth:`from_dict` reads it back."""
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
        }

    def describe(self, weights: str, params: Mapping, devices: int) -> str:
        """Size, cost and place of the network, for people."""
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
        """Rebuilds what :meth:`as_dict` described.

        Raises:
            ValueError: a value is missing, unknown, of another kind or out of range.
        """
        if problem := misfit(facts, FORM):
            raise ValueError(problem)
        if facts["resize"] not in RESIZE_RULES:
            raise ValueError(f"the resize rule {facts['resize']!r} is unknown")
        model = facts["model"]
        try:
            attention.find(model["attention"])  # what the user's own file raises stays as it is
        except UserError as error:
            raise ValueError(reason(error)) from error
        try:
            classifier = cls(
                create_model(**{**model, "stage_sizes": tuple(model["stage_sizes"])}),
                Preprocessing.from_dict(facts["preprocessing"]),
                (facts["size"][0], facts["size"][1]),
                facts["resize"],
            )
            hash(classifier.model)
        except Exception as error:  # the constructor of an attention module raises what it likes
            raise ValueError(reason(error)) from error
        return classifier

    def abstract_variables(self) -> dict[str, Any]:
        """Returns shapes and dtypes of ``{'params', 'batch_stats'}``; nothing is allocated.

        Raises:
            ValueError: the values make no network.
        """
        images = jax.ShapeDtypeStruct((1, *self.size, 3), jnp.float32)
        model = self.model
        try:
            return jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), images)
        except Exception as error:  # an attention module raises what it likes
            raise ValueError(f"they make no network: {reason(error)}") from error

    def make_predict(self) -> Callable[[Mapping, Iterable[Mapping]], np.ndarray]:
        """Builds the jitted forward pass over batches.

        Returns:
            ``(variables, batches) -> float64 [M]``, the logit of malignant for every image whose
            ``mask`` is true; a batch holds ``image uint8 [B, H, W, 3]`` and ``mask bool [B]``. A
            call first folds the variables (:func:`se_resnet.models.folding.fold`), which takes the
            time of one or two images: hand it many batches.
        """
        ready = jax.jit(lambda variables: fold(self.model, variables, self.size))

        @jax.jit
        def forward(variables: Mapping, images: jax.Array) -> jax.Array:
            logits: Any = self.model.apply(variables, self.preprocessing(images), train=False)
            return logits[:, 0]

        def predict(variables: Mapping, batches: Iterable[Mapping]) -> np.ndarray:
            folded = ready(variables)
            logits = [
                to_host(forward(folded, batch["image"]))[to_host(batch["mask"])]
                for batch in batches
            ]
            return np.concatenate(logits or [np.zeros(0)]).astype(np.float64)

        return predict
