"""One run by several processes: they agree, and leave all writing to the first.

Every process runs the same command and computes every step, see :mod:`se_resnet.runtime.launch`.
Process 0 alone prints and writes; the others see its files on a file system that all share. In a
run of one process nothing here does anything.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import sys
import traceback
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import NamedSharding
from orbax.checkpoint import multihost

from se_resnet.errors import UserError
from se_resnet.runtime import launch

T = TypeVar("T")

_WAIT_SECONDS = 24 * 3600  # longer than any work of one process that the others wait for
_LEAVE_SECONDS = 5

_barriers = itertools.count()


@contextmanager
def leaving_together() -> Iterator[None]:
    """Lets a process that fails end at once, not after waiting for those that wait for it.

    Where all fail alike, as at a mistake that each of them sees, they end in order.
    """
    try:
        yield
    except BaseException as error:
        if launch.is_waiting() or (jax.distributed.is_initialized() and not _all_leave()):
            code = error.code if isinstance(error, SystemExit) else 1
            if not isinstance(error, SystemExit):
                traceback.print_exc()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code if isinstance(code, int) else 1)
        raise


def _all_leave() -> bool:
    try:
        multihost.get_barrier_sync_fn()(key="leaving", timeout_ms=1000 * _LEAVE_SECONDS)
    except jax.errors.JaxRuntimeError:
        return False
    return True


def is_primary() -> bool:
    """Whether this is process 0, which prints and writes."""
    return jax.process_index() == 0


def barrier() -> None:
    """Waits until every process is here; a process that died meanwhile ends the job."""
    if jax.process_count() > 1:
        # Not by a collective: on CPUs and GPUs those are not made to wait for hours.
        multihost.get_barrier_sync_fn()(
            key=f"barrier {next(_barriers)}", timeout_ms=1000 * _WAIT_SECONDS
        )


def primary_first(work: Callable[[], T]) -> T:
    """What ``work`` returns, done by process 0 and then by the others, who find its files."""
    if not is_primary():
        barrier()
        return work()
    result = work()
    barrier()
    return result


def any_process(flag: bool) -> bool:
    """Whether ``flag`` is true in any process: all of them get the same answer."""
    if jax.process_count() == 1:
        return flag
    return bool(multihost_utils.process_allgather(np.bool_(flag)).any())


def require_same(facts: Mapping[str, Any]) -> None:
    """Checks that all processes are about to compute the same.

    Args:
        facts: by the name that a user knows them by, text or arrays.

    Raises:
        UserError: one of them is another than in process 0.
    """
    if jax.process_count() == 1:
        return
    for name, fact in facts.items():
        content = fact.encode() if isinstance(fact, str) else np.ascontiguousarray(fact).tobytes()
        own = np.frombuffer(hashlib.sha256(content).digest(), np.uint8)
        if (multihost_utils.process_allgather(own) != own).any():
            raise UserError(
                f"the processes of this job have different {name}: start the same command on the "
                "same images with the same library versions everywhere."
            )


def require_shared(folder: Path) -> None:
    """Checks that all processes see the files that process 0 writes.

    Raises:
        UserError: this one does not.
    """
    if jax.process_count() == 1:
        return
    # Named by process 0, so that what an earlier start left is not taken for it.
    name = multihost_utils.broadcast_one_to_all(np.frombuffer(uuid.uuid4().bytes, np.uint8))
    probe = folder / f".shared.{name.tobytes().hex()}"
    if is_primary():
        probe.touch()
    barrier()
    seen = probe.exists()
    barrier()
    if is_primary():
        probe.unlink()
    if not seen:
        raise UserError(
            f"process {jax.process_index()} does not see in {folder} what process 0 writes there: "
            "choose a --workdir on a file system that all machines share."
        )


def put(tree: Any, sharding: NamedSharding) -> Any:
    """Lays arrays out over the devices of all processes, each of which has all of their values."""
    if jax.process_count() == 1:
        return jax.device_put(tree, sharding)

    def one(leaf: Any) -> jax.Array:
        values = np.asarray(leaf)
        return jax.make_array_from_callback(values.shape, sharding, lambda index: values[index])

    return jax.tree.map(one, tree)


def to_host(array: Any) -> np.ndarray:
    """All values of an array, wherever they are."""
    if isinstance(array, jax.Array) and not array.is_fully_addressable:
        return multihost_utils.process_allgather(array, tiled=True)
    return np.asarray(array)


def to_own_device(tree: Any) -> Any:
    """Replicated arrays as a process alone can compute with them."""
    if jax.process_count() == 1:
        return tree
    return jax.tree.map(lambda leaf: leaf.addressable_data(0), tree)
