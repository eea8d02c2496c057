"""How the processes of one run find each other, on JAX's own runtime.

They are started by Slurm, Open MPI or an indexed job of Kubernetes, whose variables JAX reads, or
by hand with the flags below.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from absl import flags

from se_resnet.errors import UserError

_REMEDY = (
    "start every process with the same --coordinator_address=HOST:PORT of process 0 and the same "
    "--num_processes, each with its own --process_id from 0, or by srun or mpirun"
)
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
    try:
        jax.distributed.initialize(
            address,
            given.num_processes,
            given.process_id,
            heartbeat_timeout_seconds=given.heartbeat_timeout_seconds,
            shutdown_timeout_seconds=given.heartbeat_timeout_seconds,
        )
    except (ValueError, RuntimeError) as error:
        told = " ".join(str(error).split())[:200].rstrip(".")
        raise UserError(
            f"the processes of this job cannot be joined ({told}): {_REMEDY}."
        ) from error
    if jax.process_index():
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115


def _are_several() -> bool:
    """Whether flags or environment tell of other processes."""
    if "coordinator_address" not in flags.FLAGS or flags.FLAGS.num_processes == 1:
        return False
    names = ("coordinator_address", "num_processes", "process_id")
    if any(flags.FLAGS[name].value is not None for name in names):
        return True
    count = {
        "SLURM_STEP_NODELIST": os.environ.get("SLURM_NTASKS"),  # set by srun alone
        "OMPI_COMM_WORLD_RANK": os.environ.get("OMPI_COMM_WORLD_SIZE"),
        "JOB_COMPLETION_INDEX": os.environ.get("KUBERNETES_SERVICE_HOST"),
        "JAX_COORDINATOR_ADDRESS": "several",
    }
    return any(name in os.environ and value not in (None, "1") for name, value in count.items())
