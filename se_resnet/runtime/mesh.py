"""The device mesh of a run, and the sharding of arrays over the devices."""

from __future__ import annotations

from typing import Any

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from se_resnet.errors import UserError


def data_mesh() -> Mesh:
    """Returns a mesh of all devices along one axis, ``data``."""
    # Automatic axes: XLA chooses the sharding of values computed from a sharded batch.
    return jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))


def batch_sharding(mesh: Mesh, batch_size: int) -> NamedSharding:
    """Returns the sharding of a training batch: its first axis divided over the devices.

    Raises:
        UserError: the batch size is not a multiple of the device count.
    """
    if batch_size < 1 or batch_size % mesh.size:
        raise UserError(
            f"batches of {batch_size} (config.batch_size / config.optim.accumulate) cannot be "
            f"divided over {mesh.size} devices: use a positive multiple of {mesh.size}."
        )
    return first_axis_sharding(mesh)


def first_axis_sharding(mesh: Mesh) -> NamedSharding:
    """Returns the sharding that divides the first axis over the devices."""
    return NamedSharding(mesh, PartitionSpec("data"))


def replicated(mesh: Mesh) -> NamedSharding:
    """Returns the sharding that keeps the whole array on every device."""
    return NamedSharding(mesh, PartitionSpec())


def abstract_arrays(tree: Any, sharding: NamedSharding) -> Any:
    """Returns the shapes of ``tree`` with this sharding. Nothing is allocated."""
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), tree
    )
