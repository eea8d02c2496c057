"""How the processes of one run find each other, on JAX's own runtime.

They are started by Slurm, Open MPI or an indexed job of Kubernetes, whose variables JAX reads, or
by hand with the flags below.
"""

from __future__ import annotations

import os
import sys
import threading
from typing import Any

from absl import flags

from se_resnet.errors import UserError

_REMEDY = (
    "start every process with the same --coordinator_address=HOST:PORT of process 0 and the same "
    "--num_processes, each with its own --process_id from 0, or by srun or mpirun"
)
_CONNECTING = "connecting with other processes"
_PATIENCE_SECONDS = 5
_WAIT_SECONDS = 300
_TIMEOUT = "xla_cpu_collective_timeout_seconds"


def define_flags() -> None:
    """The flags of a command that several processes can run together."""
    flags.DEFINE_string("coordinator_address", None, "HOST:PORT of process 0, of several.")
    flags.DEFINE_integer(
        "num_processes", None, "How many processes run this command; 1: alone, also under srun.", 1
    )
    flags.DEFINE_integer("process_id", None, "Which of them this is, from 0.", 0)
    flags.DEFINE_integer(
        "heartbeat_timeout_seconds", 100, "A process silent for so long ends the job.", 1
    )


def set_timeout() -> None:
    """Lets XLA on CPUs wait longer for the other processes; to be called before JAX is imported.

    What one of them compiles, or finds compiled, may take another a minute more than XLA's 30
    seconds. A process that died is noticed without, by its connections and heartbeats.
    """
    given = os.environ.get("XLA_FLAGS", "")
    if _are_several() and _TIMEOUT not in given:
        os.environ["XLA_FLAGS"] = f"{given} --{_TIMEOUT}=1800".lstrip()


def join() -> None:
    """Connects this process with the others, where there are any.

    To be called before the first computation. All processes but the first lose their standard
    output.

    Raises:
        UserError: they cannot be joined as the flags or the environment tell.
    """
    if not _are_several():
        return
    given: Any = flags.FLAGS
    address = given.coordinator_address
    if address is not None and not address.rpartition(":")[2].isdecimal():
        raise UserError(f"--coordinator_address={address} has no port: {_REMEDY}.")
    import jax

    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    failures: list[Exception] = []

    def connect() -> None:
        try:
            jax.distributed.initialize(
                address,
                given.num_processes,
                given.process_id,
                initialization_timeout=_WAIT_SECONDS,
                heartbeat_timeout_seconds=given.heartbeat_timeout_seconds,
                shutdown_timeout_seconds=given.heartbeat_timeout_seconds,
            )
        except Exception as error:  # JAX asks launchers, who fail in many ways
            failures.append(error)

    # In a thread, because no signal reaches Python while it waits. XLA ends the process without a
    # sentence when its own time is over.
    thread = threading.Thread(target=connect, daemon=True, name=_CONNECTING)
    thread.start()
    thread.join(_PATIENCE_SECONDS)
    if is_waiting():
        print(
            f"waiting for the other processes of this job ({_told_by()}); --num_processes=1 runs "
            "alone.",
            file=sys.stderr,
        )
        thread.join(_WAIT_SECONDS - 2 * _PATIENCE_SECONDS)
    if is_waiting():
        failures.append(TimeoutError(f"not all of them came within {_WAIT_SECONDS} seconds"))
    if failures:
        told = " ".join(str(failures[0]).split())[:200].rstrip(".") or type(failures[0]).__name__
        raise UserError(
            f"the processes of this job cannot be joined ({told}): {_REMEDY}; --num_processes=1 "
            "runs alone."
        ) from failures[0]
    if jax.process_index():
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115


def is_waiting() -> bool:
    """Whether :func:`join` has not found the other processes, and must be left without them."""
    return any(thread.name == _CONNECTING for thread in threading.enumerate())


def _are_several() -> bool:
    """Whether flags or environment tell of other processes."""
    return bool(_told_by())


def _told_by() -> str:
    """The flags or variables that tell of other processes, or an empty string."""
    if "coordinator_address" not in flags.FLAGS or flags.FLAGS.num_processes == 1:
        return ""
    names = ("coordinator_address", "num_processes", "process_id")
    if given := [name for name in names if flags.FLAGS[name].value is not None]:
        return " ".join(f"--{name}={flags.FLAGS[name].value}" for name in given)
    # A shell in an allocation of several tasks is a step of one task, of which SLURM_NTASKS tells
    # nothing.
    tasks = "SLURM_STEP_NUM_TASKS" if "SLURM_STEP_NUM_TASKS" in os.environ else "SLURM_NTASKS"
    count = {
        "SLURM_STEP_NODELIST": tasks,  # set by srun alone
        "OMPI_COMM_WORLD_RANK": "OMPI_COMM_WORLD_SIZE",
        "JOB_COMPLETION_INDEX": "KUBERNETES_SERVICE_HOST",
        "JAX_COORDINATOR_ADDRESS": "JAX_COORDINATOR_ADDRESS",
    }
    told = (
        f"{counted}={os.environ[counted]}"
        for name, counted in count.items()
        if name in os.environ and os.environ.get(counted, "") not in ("", "1")
    )
    return next(told, "")
