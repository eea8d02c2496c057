"""Flags and start-up for multi-process runs (``jax.distributed``).

Slurm, Open MPI or an indexed job of Kubernetes starts the processes, and JAX reads its variables.
A user can also start each process with the flags below.
"""

from __future__ import annotations

import os
import sys
import threading
from typing import Any

from absl import flags

from se_resnet.errors import UserError, one_line

_REMEDY = (
    "start every process with the same --coordinator_address=HOST:PORT of process 0 and the same "
    "--num_processes, each with its own --process_id from 0, or by srun or mpirun"
)
_CONNECTING = "connecting with other processes"
_SILENT_SECONDS = 5  # without a message
_WAIT_SECONDS = 300
_TIMEOUT = "xla_cpu_collective_timeout_seconds"


def define_flags() -> None:
    """Defines the flags of a command that several processes can run together."""
    flags.DEFINE_string("coordinator_address", None, "HOST:PORT of process 0.")
    flags.DEFINE_integer(
        "num_processes", None, "Number of processes of this run; 1: alone, also under srun.", 1
    )
    flags.DEFINE_integer("process_id", None, "Number of this process, from 0.", 0)
    flags.DEFINE_integer(
        "heartbeat_timeout_seconds", 100, "Silence after which a process ends the job.", 1
    )


def set_timeout() -> None:
    """Lets XLA on CPUs wait longer for other processes; to be called before JAX is imported.

    One process may compile a program for a minute that another finds compiled, and XLA waits only
    30 seconds. Connections and heartbeats still reveal a process that died.
    """
    xla_flags = os.environ.get("XLA_FLAGS", "")
    if _are_several() and _TIMEOUT not in xla_flags:
        os.environ["XLA_FLAGS"] = f"{xla_flags} --{_TIMEOUT}=1800".lstrip()


def join() -> None:
    """Connects this process with the other processes of the run, if there are any.

    To be called before the first computation. Only process 0 keeps its standard output.

    Raises:
        UserError: the processes cannot be joined with these flags or this environment.
    """
    if not _are_several():
        return
    options: Any = flags.FLAGS
    address = options.coordinator_address
    if address is not None and not address.rpartition(":")[2].isdecimal():
        raise UserError(f"--coordinator_address={address} has no port: {_REMEDY}.")
    import jax

    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    failures: list[Exception] = []

    def connect() -> None:
        try:
            jax.distributed.initialize(
                address,
                options.num_processes,
                options.process_id,
                initialization_timeout=_WAIT_SECONDS,
                heartbeat_timeout_seconds=options.heartbeat_timeout_seconds,
                shutdown_timeout_seconds=options.heartbeat_timeout_seconds,
            )
        except Exception as error:  # JAX asks launchers, which fail in many ways
            failures.append(error)

    # In a thread, because no signal reaches Python while JAX waits. After its timeout XLA ends the
    # process without a message.
    thread = threading.Thread(target=connect, daemon=True, name=_CONNECTING)
    thread.start()
    thread.join(_SILENT_SECONDS)
    if is_waiting():
        print(
            f"waiting for the other processes of this job ({_source_of_processes()}); "
            "--num_processes=1 runs alone.",
            file=sys.stderr,
        )
        thread.join(_WAIT_SECONDS - 2 * _SILENT_SECONDS)
    if is_waiting():
        failures.append(TimeoutError(f"not all of them joined within {_WAIT_SECONDS} seconds"))
    if failures:
        raise UserError(
            f"the processes of this job cannot be joined ({one_line(failures[0])}): {_REMEDY}; "
            "--num_processes=1 runs alone."
        ) from failures[0]
    if jax.process_index():
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115


def is_waiting() -> bool:
    """Returns whether :func:`join` still waits for other processes in its thread."""
    return any(thread.name == _CONNECTING for thread in threading.enumerate())


def _are_several() -> bool:
    """Returns whether flags or environment announce other processes."""
    return bool(_source_of_processes())


def _source_of_processes() -> str:
    """Returns the flags or variables that announce other processes, or an empty string."""
    if "coordinator_address" not in flags.FLAGS or flags.FLAGS.num_processes == 1:
        return ""
    names = ("coordinator_address", "num_processes", "process_id")
    if given_names := [name for name in names if flags.FLAGS[name].value is not None]:
        return " ".join(f"--{name}={flags.FLAGS[name].value}" for name in given_names)
    # A shell in an allocation of several tasks is one step with one task, despite SLURM_NTASKS.
    tasks = "SLURM_STEP_NUM_TASKS" if "SLURM_STEP_NUM_TASKS" in os.environ else "SLURM_NTASKS"
    count_of = {
        "SLURM_STEP_NODELIST": tasks,  # set by srun alone
        "OMPI_COMM_WORLD_RANK": "OMPI_COMM_WORLD_SIZE",
        "JOB_COMPLETION_INDEX": "KUBERNETES_SERVICE_HOST",
        "JAX_COORDINATOR_ADDRESS": "JAX_COORDINATOR_ADDRESS",
    }
    announcements = (
        f"{counted}={os.environ[counted]}"
        for name, counted in count_of.items()
        if name in os.environ and os.environ.get(counted, "") not in ("", "1")
    )
    return next(announcements, "")
