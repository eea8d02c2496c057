"""Agreement between the processes of one run; only process 0 writes files.

Every process runs the same command and computes every step, see :mod:`se_resnet.runtime.launch`.
Only process 0 prints and writes. The other processes read its files on a shared file system. In a
run of one process these functions do nothing.
"""

from __future__ import annotations

import hashlib
import itertools
import json
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

_WAIT_SECONDS = 24 * 3600  # longer than any work of process 0
_LEAVE_SECONDS = 5

_barriers = itertools.count()


@contextmanager
def exit_together() -> Iterator[None]:
    """If one process fails, exits immediately instead of hanging in a barrier.

    If all processes fail, as they do with the same user error, each ends in the usual way.
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
    """Returns whether this is process 0, which prints and writes."""
    return jax.process_index() == 0


def barrier() -> None:
    """Waits until every process is here. A process that dies meanwhile ends the job."""
    if jax.process_count() > 1:
        # Not by a collective, which on CPUs and GPUs cannot wait for hours.
        multihost.get_barrier_sync_fn()(
            key=f"barrier {next(_barriers)}", timeout_ms=1000 * _WAIT_SECONDS
        )


def primary_first(work: Callable[[], T]) -> T:
    """Runs ``work`` on process 0, then on the other processes, which find its files."""
    if not is_primary():
        barrier()
        return work()
    result = work()
    barrier()
    return result


def from_primary(work: Callable[[], T]) -> T:
    """Runs ``work`` on process 0; returns its result, a value for JSON, in all processes."""
    if jax.process_count() == 1:
        return work()
    result = json.dumps(work()).encode() if is_primary() else b""
    barrier()  # because a collective cannot wait for long work
    size = int(multihost_utils.broadcast_one_to_all(np.int64(len(result))))
    content = np.frombuffer(result, np.uint8) if is_primary() else np.zeros(size, np.uint8)
    return json.loads(multihost_utils.broadcast_one_to_all(content).tobytes())


def any_process(flag: bool) -> bool:
    """Returns whether ``flag`` is true in any process. All processes get the same answer."""
    if jax.process_count() == 1:
        return flag
    return bool(multihost_utils.process_allgather(np.bool_(flag)).any())


def require_same(facts: Mapping[str, Any]) -> None:
    """Checks that all processes are about to compute the same.

    Args:
        facts: texts or arrays, by a name for the message.

    Raises:
        UserError: a fact differs between processes.
    """
    if jax.process_count() == 1:
        return
    for name, fact in facts.items():
        content = fact.encode() if isinstance(fact, str) else np.ascontiguousarray(fact).tobytes()
        digest = np.frombuffer(hashlib.sha256(content).digest(), np.uint8)
        if (multihost_utils.process_allgather(digest) != digest).any():
            raise UserError(
                f"the processes of this job have different {name}: start the same command on the "
                "same images with the same library versions everywhere."
            )


def require_shared(folder: Path) -> None:
    """Checks that all processes see the files that process 0 writes.

    Raises:
        UserError: this process does not see them.
    """
    if jax.process_count() == 1:
        return
    # Process 0 chooses the name, so that no file of an earlier start is mistaken for the probe.
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
    """Distributes arrays over the devices of all processes. Each process has all the values."""
    if jax.process_count() == 1:
        return jax.device_put(tree, sharding)

    def put_leaf(leaf: Any) -> jax.Array:
        values = np.asarray(leaf)
        return jax.make_array_from_callback(values.shape, sharding, lambda index: values[index])

    return jax.tree.map(put_leaf, tree)


def to_host(array: Any) -> np.ndarray:
    """Returns all values of an array, also those on devices of other processes."""
    if isinstance(array, jax.Array) and not array.is_fully_addressable:
        return multihost_utils.process_allgather(array, tiled=True)
    return np.asarray(array)


def to_local_device(tree: Any) -> Any:
    """Returns replicated arrays as arrays on one device of this process."""
    if jax.process_count() == 1:
        return tree
    return jax.tree.map(lambda leaf: leaf.addressable_data(0), tree)
