"""The training step: a pure function of a state and a batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from se_resnet.augment import Augmentation
from se_resnet.classifier import Classifier
from se_resnet.errors import UserError
from se_resnet.metrics import binary_metrics, probability_of

Batch = Mapping[str, jax.Array]
Metrics = dict[str, jax.Array]


@flax.struct.dataclass
class TrainState:
    """All that a step changes, and all that a resumed run needs.

    Attributes:
        step: ``int32 []``, optimizer steps done; names the position in the data and the random
            numbers of the next step.
        params: trained parameters, float32.
        batch_stats: running means and variances of the batch normalisations, float32.
        opt_state: the optimizer's moments.
    """

    step: jax.Array
    params: Any
    batch_stats: Any
    opt_state: optax.OptState

    @classmethod
    def create(cls, variables: Mapping, optimizer: optax.GradientTransformation) -> TrainState:
        """The state before the first step, from ``{'params', 'batch_stats'}``."""
        params = variables["params"]
        return cls(
            jnp.zeros((), jnp.int32), params, variables["batch_stats"], optimizer.init(params)
        )


def data_mesh() -> Mesh:
    """All devices in a row along the axis ``data``."""
    # Automatic axes: XLA works out how what is computed from a sharded batch is laid out.
    return jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))


def batch_sharding(mesh: Mesh, batch_size: int) -> NamedSharding:
    """Divides the first axis of a batch over the devices.

    Raises:
        UserError: the batch size is no multiple of the device count.
    """
    if batch_size < 1 or batch_size % mesh.size:
        raise UserError(
            f"batch size {batch_size} cannot be divided over {mesh.size} devices: use a positive "
            f"multiple of {mesh.size}."
        )
    return NamedSharding(mesh, PartitionSpec("data"))


def replicated(mesh: Mesh) -> NamedSharding:
    """The whole array on every device."""
    return NamedSharding(mesh, PartitionSpec())


def on_devices(tree: Any, sharding: NamedSharding) -> Any:
    """The shapes of ``tree`` as arrays laid out by ``sharding``; nothing is allocated."""
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), tree
    )


def make_train_step(
    classifier: Classifier,
    optimizer: optax.GradientTransformation,
    augment: Augmentation,
    seed: int,
) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
    """Builds the jitted step; the state passed in is donated and must not be used again.

    A batch holds ``image uint8 [B, H, W, 3]``, ``label float32 [B]`` and
    ``importance float32 [B]``. The loss is the mean over the batch of importance times binary
    cross-entropy. Under a sharded batch the statistics of batch normalisation, the loss and the
    gradient are those of the whole batch.

    Returns:
        ``(state, batch) -> (state, {'loss', 'accuracy'})``, both metrics ``float32 []``.
    """
    return jax.jit(_step(classifier, optimizer, augment, seed), donate_argnums=0)


def make_train_steps(
    classifier: Classifier,
    optimizer: optax.GradientTransformation,
    augment: Augmentation,
    seed: int,
    make_batch: Callable[[Any, jax.Array], Batch],
) -> Callable[[Any, TrainState, jax.Array], tuple[TrainState, Metrics]]:
    """Builds many steps in one jitted call, on batches that are made on the device.

    Args:
        classifier: as in :func:`make_train_step`, like ``optimizer``, ``augment`` and ``seed``.
        optimizer: see there.
        augment: see there.
        seed: see there.
        make_batch: ``(data, rows int32 [B]) -> batch``, pure.

    Returns:
        ``(data, state, rows int32 [k, B]) -> (state, {'loss', 'accuracy'})``, both metrics
        ``float32 [k]``; the state passed in is donated.
    """
    step = _step(classifier, optimizer, augment, seed)

    def steps(data: Any, state: TrainState, rows: jax.Array) -> tuple[TrainState, Metrics]:
        return jax.lax.scan(lambda s, chosen: step(s, make_batch(data, chosen)), state, rows)

    return jax.jit(steps, donate_argnums=1)


def _step(
    classifier: Classifier,
    optimizer: optax.GradientTransformation,
    augment: Augmentation,
    seed: int,
) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
    root = jax.random.key(seed)

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        key = jax.random.fold_in(root, state.step)
        inputs = classifier.preprocessing(augment(key, batch["image"].astype(jnp.float32)))

        def loss_fn(params):
            logits, updates = classifier.model.apply(
                {"params": params, "batch_stats": state.batch_stats},
                inputs,
                train=True,
                mutable=["batch_stats"],
            )
            losses = optax.sigmoid_binary_cross_entropy(logits[:, 0], batch["label"])
            return jnp.mean(batch["importance"] * losses), (logits[:, 0], updates["batch_stats"])

        (loss, (logits, batch_stats)), gradients = jax.value_and_grad(loss_fn, has_aux=True)(
            state.params
        )
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        metrics = {
            "loss": loss,
            "accuracy": jnp.mean((logits > 0) == (batch["label"] > 0.5)),
        }
        params = optax.apply_updates(state.params, updates)
        return TrainState(state.step + 1, params, batch_stats, opt_state), metrics

    return step


def validation_figures(label: np.ndarray, logits: np.ndarray) -> dict[str, Any]:
    """``val/loss``, ``val/accuracy`` and ``val/roc_auc`` of one epoch.

    Args:
        label: ``int [n]``, 0 or 1.
        logits: ``float64 [n]``, of malignant.

    Returns:
        The mean binary cross-entropy, the accuracy at the threshold 0.5 and the AUC, which is None
        where one class is missing.
    """
    one_group = np.zeros(len(label), int)
    probability = probability_of(logits)
    figures = binary_metrics(
        label == 1, probability, probability >= 0.5, one_group, np.ones((1, 1))
    )
    auc = float(figures["roc_auc"][0])
    return {
        "val/loss": float(np.logaddexp(0, -logits * (2 * label - 1)).mean()),
        "val/accuracy": float(figures["accuracy"][0]),
        "val/roc_auc": None if np.isnan(auc) else auc,
    }


@jax.jit
def all_finite(tree: Any) -> jax.Array:
    """Whether every value of the tree is finite: ``bool []``."""
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)]).all()
