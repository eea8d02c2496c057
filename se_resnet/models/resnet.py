"""ResNet with bottleneck blocks and a slot for attention (He et al. 2016; Hu et al. 2018).

Variables are ``{'params': ..., 'batch_stats': ...}``. Parameters are nested by module:
``stem/{conv,norm}``, ``stage<i>/block<j>/{conv1,norm1,...,conv3,norm3,projection/{conv,norm}}``,
``head/{kernel,bias}``, and ``attention`` in every block or in every stage.
"""

# Read this first. A network is built from the outside in: ResNet, Stage, Bottleneck,
# Conv/BatchNorm.  images [B, H, W, 3] -> stem [H/4, W/4] -> stage1 [H/4] -> stage2 [H/8] -> stage3
# [H/16] -> stage4 [H/32] -> mean over pixels [B, C] -> head -> logits [B, num_outputs]  A
# Bottleneck computes relu(shortcut(x) + attention(norm3(conv3(...)))). It exists in three
# formulations with the same result: `plain` follows the paper line by line; `fast` and `fused` fuse
# the last normalisation, the gates and the addition, for a CPU and for a GPU. Attention modules
# come from se_resnet.attention by name. `create_model` checks all values and is the way to make a
# network; the classes below check nothing.

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.core import FrozenDict
from jax import lax

from se_resnet import attention as attention_modules
from se_resnet.attention import ChannelGate
from se_resnet.errors import UserError
from se_resnet.models import ops_fused
from se_resnet.models.layers import (
    FORMULATIONS,
    BatchNorm,
    Conv,
    add_relu,
    global_average_pool,
    is_fast,
    is_fused,
    max_pool,
)

VARIANTS = ("v1", "v1.5")
ATTENTION_POSITIONS = ("branch", "stage")
DTYPES = ("float32", "bfloat16")
EXPANSION = 4
# A ResNet152 has 50 blocks and 512 channels inside the last ones; files can ask for any number.
MAX_BLOCKS = 1000
MAX_CHANNELS = 2**20
PERTURBATIONS = "perturbations"


class ConvNorm(nn.Module):
    """A convolution followed by batch normalisation, without activation."""

    features: int
    size: int
    stride: int
    bn_epsilon: float
    formulation: str

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Maps ``[B, H, W, C]`` to ``[B, ceil(H / stride), ceil(W / stride), features]``."""
        x = Conv(self.features, self.size, self.stride, self.formulation, name="conv")(x)
        return BatchNorm(self.bn_epsilon, self.formulation, name="norm")(x, train)


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions with a shortcut; attention acts before the addition.

    Attributes:
        width: channels of the 3x3 convolution; the output has ``4 * width``.
        stride: stride of the first convolution in variant v1, of the 3x3 convolution in v1.5.
        project: whether the shortcut is a 1x1 convolution rather than the identity.
        variant: ``'v1'`` or ``'v1.5'``.
        bn_epsilon: added to the variances in batch normalisation.
        attention: name of the attention module in the residual branch, or ``'none'``.
        attention_options: options of the attention module.
        formulation: see :class:`ResNet`.
    """

    width: int
    stride: int
    project: bool
    variant: str
    bn_epsilon: float
    attention: str
    attention_options: Mapping[str, Any]
    formulation: str

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Maps ``[B, H, W, C]`` to ``[B, ceil(H / stride), ceil(W / stride), 4 * width]``."""
        strides = (self.stride, 1, 1) if self.variant == "v1" else (1, self.stride, 1)
        layers = zip(
            (self.width, self.width, EXPANSION * self.width), (1, 3, 1), strides, strict=True
        )
        residual = x
        for i, (features, size, stride) in enumerate(layers, start=1):
            residual = Conv(features, size, stride, self.formulation, name=f"conv{i}")(residual)
            norm = BatchNorm(self.bn_epsilon, self.formulation, name=f"norm{i}")
            if i < 3:
                residual = norm.rectified(residual, train)
        attend = attention_modules.create(
            self.attention, name="attention", **self.attention_options
        )
        if self.project:
            x = ConvNorm(
                EXPANSION * self.width,
                1,
                self.stride,
                self.bn_epsilon,
                self.formulation,
                name="projection",
            )(x, train)
        gate = attend if isinstance(attend, ChannelGate) else None
        by_channel = gate is attend  # or there is no attention
        if by_channel and is_fused(self.formulation):
            factor, offset, means = norm.coefficients(residual, train)
            gates = jnp.ones_like(means)
            if gate is not None:
                gates = attention_modules.channel_gates(gate, factor * means + offset)
            return ops_fused.scale_add_relu(residual, gates * factor, gates * offset, x)
        if by_channel and is_fast(self.formulation):
            # Between the barriers, gates of 1 change no bit, whatever XLA fuses around them.
            factor, offset, means = lax.optimization_barrier(norm.coefficients(residual, train))
            gates = jnp.ones_like(means)
            if gate is not None:
                gates = attention_modules.channel_gates(gate, factor * means + offset)
            factor, offset = lax.optimization_barrier((gates * factor, gates * offset))
            return ops_fused.scale_add_relu(residual, factor, offset, x)
        residual = norm(residual, train)
        if attend is not None:
            residual = attention_modules.attend(attend, residual)
        return add_relu(x, residual, self.formulation)


class Stage(nn.Module):
    """Bottlenecks of one width. The first may have a stride; see :class:`ResNet`."""

    blocks: int
    width: int
    stride: int
    variant: str
    bn_epsilon: float
    attention: str
    attention_position: str
    attention_options: Mapping[str, Any]
    formulation: str

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Maps ``[B, H, W, C]`` to ``[B, ceil(H / stride), ceil(W / stride), 4 * width]``."""
        in_branch = self.attention_position == "branch"
        for i in range(self.blocks):
            x = Bottleneck(
                width=self.width,
                stride=self.stride if i == 0 else 1,
                project=i == 0,
                variant=self.variant,
                bn_epsilon=self.bn_epsilon,
                attention=self.attention if in_branch else attention_modules.NONE,
                attention_options=self.attention_options if in_branch else FrozenDict(),
                formulation=self.formulation,
                name=f"block{i + 1}",
            )(x, train)
        if not in_branch:
            attend = attention_modules.create(
                self.attention, name="attention", **self.attention_options
            )
            if attend is not None:
                x = attention_modules.attend(attend, x)
        return x


class ResNet(nn.Module):
    """A ResNet with bottlenecks. Use :func:`create_model`, which checks the values.

    Attributes:
        attention: name of the attention module, see :mod:`se_resnet.attention`.
        attention_position: ``'branch'``, in every residual branch before the addition (Hu et al.),
            or ``'stage'``, once on the output of each stage.
        attention_options: options of the attention module.
        variant: ``'v1'`` strides in the first 1x1 convolution of a stage (He et al. 2016, Caffe and
            Keras weights), ``'v1.5'`` in its 3x3 convolution (torch weights).
        bn_epsilon: added to the variances in batch normalisation.
        stage_sizes: number of bottlenecks in each stage.
        width: channels of the stem; stage ``i`` has ``4 * width * 2**(i - 1)`` output channels.
        num_outputs: number of logits.
        formulation: operations that compute the network: ``'plain'``, those of XLA, ``'fast'``,
            rewritten for a CPU (:mod:`se_resnet.models.ops_fast`), ``'fused'``, for a GPU
            (:mod:`se_resnet.models.ops_fused`), or ``'auto'``, by platform.
        dtype: of the features between the layers, ``'float32'`` or ``'bfloat16'``. Parameters,
            statistics and logits are float32 with either.
        dropout: share of the pooled features that a training step sets to zero (Srivastava et al.
            2014), by the random numbers ``'dropout'``.
    """

    attention: str
    attention_position: str
    attention_options: Mapping[str, Any]
    variant: str
    bn_epsilon: float
    stage_sizes: tuple[int, ...]
    width: int
    num_outputs: int
    formulation: str
    dtype: str
    dropout: float

    @property
    def stage_names(self) -> list[str]:
        """Names of the parts from the input on: ``'stem'``, ``'stage1'``, ..."""
        return ["stem", *(f"stage{i + 1}" for i in range(len(self.stage_sizes)))]

    @nn.compact
    def __call__(
        self, images: jax.Array, train: bool, return_stages: bool = False
    ) -> jax.Array | tuple[jax.Array, dict[str, jax.Array]]:
        """Computes logits from preprocessed images.

        Args:
            images: float32 ``[B, H, W, 3]`` of any size, after the preprocessing of the weights.
            train: normalise by the statistics of the batch and update the running statistics
                (``mutable=['batch_stats']``), instead of normalising by the running statistics.
            return_stages: whether to also return the feature maps.

        Returns:
            Logits float32 ``[B, num_outputs]``. With ``return_stages`` a pair of logits and a dict
            of ``'stem'`` (after the max-pool, ``[B, ceil(H / 4), ceil(W / 4), width]``) and
            ``'stage1'``, ``'stage2'``, ... at a quarter, an eighth, ... of the image's size.
        """
        x = images.astype(self.dtype)
        x = ConvNorm(self.width, 7, 2, self.bn_epsilon, self.formulation, name="stem")(x, train)
        x = self._perturbed("stem", max_pool(nn.relu(x), self.formulation))
        stages = {"stem": x}
        for i, blocks in enumerate(self.stage_sizes):
            x = Stage(
                blocks=blocks,
                width=self.width * 2**i,
                stride=1 if i == 0 else 2,
                variant=self.variant,
                bn_epsilon=self.bn_epsilon,
                attention=self.attention,
                attention_position=self.attention_position,
                attention_options=self.attention_options,
                formulation=self.formulation,
                name=f"stage{i + 1}",
            )(x, train)
            x = self._perturbed(f"stage{i + 1}", x)
            stages[f"stage{i + 1}"] = x
        # A head of zeros makes the first loss of a binary classifier exactly ln 2. The first
        # gradients stop at the head instead of pulling pretrained features in random directions.
        head = nn.Dense(self.num_outputs, kernel_init=nn.initializers.zeros, name="head")
        pooled = nn.Dropout(self.dropout, deterministic=not train)(global_average_pool(x))
        logits = head(pooled)
        return (logits, stages) if return_stages else logits

    def _perturbed(self, stage: str, x: jax.Array) -> jax.Array:
        """Adds ``variables['perturbations'][stage]``, if given, for gradients by the features."""
        # `perturb` alone would make `init` return the collection, and would require every stage.
        return self.perturb(stage, x) if self.has_variable(PERTURBATIONS, stage) else x


def create_model(
    *,
    attention: str = "se",
    attention_position: str = "branch",
    attention_options: Mapping[str, Any] | None = None,
    variant: str = "v1",
    bn_epsilon: float = 1e-3,
    stage_sizes: Sequence[int] = (3, 4, 6, 3),
    width: int = 64,
    num_outputs: int = 1,
    formulation: str = "auto",
    dtype: str = "float32",
    dropout: float = 0.0,
) -> ResNet:
    """Creates a :class:`ResNet`, by default the SE-ResNet50 with one logit.

    ``variant`` and ``bn_epsilon`` belong to the weights: take them from the
    :class:`se_resnet.weights.record.Pretrained` that will fill the model.

    Raises:
        UserError: a value is unknown or out of range. The message names the value.

    >>> import jax
    >>> import numpy as np
    >>> import se_resnet
    >>> model = se_resnet.create_model(attention="eca", stage_sizes=(1,), width=8)
    >>> images = np.zeros((2, 32, 32, 3), np.float32)
    >>> initialise = lambda key: model.init_with_output(key, images, train=False)
    >>> logits, variables = jax.eval_shape(initialise, jax.random.key(0))
    >>> logits.shape, sorted(variables)
    ((2, 1), ['batch_stats', 'params'])
    """
    for field, value, allowed in (
        ("variant", variant, VARIANTS),
        ("attention_position", attention_position, ATTENTION_POSITIONS),
        ("formulation", formulation, FORMULATIONS),
        ("dtype", dtype, DTYPES),
    ):
        if value not in allowed:
            raise UserError(f"unknown {field} {value!r}: choose one of {', '.join(allowed)}")
    if not bn_epsilon > 0:
        raise UserError(f"bn_epsilon must be positive, not {bn_epsilon!r}")
    for field, values in (
        ("stage_sizes", stage_sizes),
        ("width", (width,)),
        ("num_outputs", (num_outputs,)),
    ):
        if not values or any(not isinstance(v, int) or v < 1 for v in values):
            raise UserError(f"{field} must hold whole numbers of at least 1, not {values!r}")
    if sum(stage_sizes) > MAX_BLOCKS or width * 2 ** len(stage_sizes) > MAX_CHANNELS:
        raise UserError(
            f"stage_sizes {tuple(stage_sizes)} and width {width} make a network of more than "
            f"{MAX_BLOCKS} blocks or {MAX_CHANNELS:,} channels: lower them"
        )
    # Lists from JSON become tuples: a model with a list has no hash and cannot be static in a jit.
    options: FrozenDict[str, Any] = FrozenDict(
        {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in (attention_options or {}).items()
        }
    )
    attention_modules.create(attention, **options)
    return ResNet(
        attention=attention,
        attention_position=attention_position,
        attention_options=options,
        variant=variant,
        bn_epsilon=float(bn_epsilon),
        stage_sizes=tuple(stage_sizes),
        width=width,
        num_outputs=num_outputs,
        formulation=formulation,
        dtype=dtype,
        dropout=dropout,
    )


def count_parameters(params: Any) -> int:
    """Returns the number of values in a tree of arrays or shapes."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))


@functools.lru_cache(maxsize=1)  # a training and its evaluation trace the function once
def initialiser(model: ResNet, image_size: tuple[int, int]) -> Callable[[jax.Array], Any]:
    """Returns a jitted function of a random key that initialises all variables.

    Args:
        model: the network.
        image_size: height and width in pixels.
    """
    # All formulations have the same variables; this one is traced in half the time.
    model = model.clone(formulation="plain")

    @jax.jit
    def initialise(key: jax.Array) -> Any:
        return model.init(key, jnp.zeros((1, *image_size, 3)), train=False)

    return initialise


def variable_shapes(model: ResNet, image_size: tuple[int, int]) -> dict[str, Any]:
    """Returns shapes and dtypes of ``{'params', 'batch_stats'}``. Nothing is allocated."""
    initialise = initialiser(model, image_size)
    return jax.eval_shape(lambda: initialise(jax.random.key(0)))


def flops(model: ResNet, image_size: tuple[int, int]) -> float:
    """Returns the floating-point operations of the forward pass of one image.

    A multiply-add counts as two. XLA counts the operations in the lowered program. Nothing is
    compiled or allocated.

    Args:
        model: the network.
        image_size: height and width in pixels.
    """
    # The fast formulation computes the same function with fewer operations.
    model = model.clone(formulation="plain")
    images = jax.ShapeDtypeStruct((1, *image_size, 3), jnp.float32)
    apply = jax.jit(lambda variables, x: model.apply(variables, x, train=False))
    analysis = apply.lower(variable_shapes(model, image_size), images).cost_analysis()
    assert analysis is not None
    return float(analysis["flops"])
