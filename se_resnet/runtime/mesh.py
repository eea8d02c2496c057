"""The devices of a run as one row, and how arrays are laid out over them."""

from __future__ import annotations

from typing import Any

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from se_resnet.errors import UserError


def data_mesh() -> Mesh:
    """All devices in a row along the axis ``data``."""
    # Automatic axes: XLA works out how what is computed from a sharded batch is laid out.
    return jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))


def batch_sharding(mesh: Mesh, batch_size: int) -> NamedSharding:
    """Divides the first axis of a training batch over the devices.

    Raises:
        UserError: the batch size is no multiple of the device count.
    """
    if batch_size < 1 or batch_size % mesh.size:
        raise UserError(
            f"batches of {batch_size} (config.batch_size / config.optim.accumulate) cannot be "
            f"divided over {mesh.size} devices: use a positive multiple of {mesh.size}."
        )
    return divided(mesh)


def divided(mesh: Mesh) -> NamedSharding:
    """The first axis divided over the devices."""
    return NamedSharding(mesh, PartitionSpec("data"))


def replicated(mesh: Mesh) -> NamedSharding:
    """The whole array on every device."""
    return NamedSharding(mesh, PartitionSpec())


def on_devices(tree: Any, sharding: NamedSharding) -> Any:
    """The shapes of ``tree`` as arrays laid out by ``sharding``; nothing is allocated."""
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), tree
    )
