"""How a command sees that it is one of several processes; the runs are in test_distributed.py."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest
from absl import flags

from data.feed import batch_order, host
from se_resnet.errors import UserError
from se_resnet.runtime import launch
from se_resnet.runtime.mesh import batch_sharding, data_mesh
from se_resnet.runtime.processes import any_process, primary_first
from tests.helpers import ROOT

SLURM = {"SLURM_STEP_NODELIST": "node[1-2]", "SLURM_NTASKS": "2"}
STEP = "SLURM_STEP_NUM_TASKS"
KUBERNETES = {"JOB_COMPLETION_INDEX": "0", "KUBERNETES_SERVICE_HOST": "10.0.0.1"}


@pytest.fixture
def told(monkeypatch):
    """Sets environment and flags, and says what the command makes of them."""
    for name in (*SLURM, STEP, *KUBERNETES, "OMPI_COMM_WORLD_RANK", "JAX_COORDINATOR_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=1")
    holder = flags.FlagValues()
    monkeypatch.setattr(flags, "FLAGS", holder)
    for define in ("DEFINE_string", "DEFINE_integer"):
        original = getattr(flags, define)
        monkeypatch.setattr(
            flags, define, lambda *a, _f=original, **k: _f(*a, flag_values=holder, **k)
        )
    launch.define_flags()

    def tell(environment: dict[str, str], *arguments: str) -> bool:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        holder(["train.py", *arguments])
        launch.set_timeout()
        return "xla_cpu_collective_timeout_seconds=1800" in os.environ["XLA_FLAGS"]

    return tell


@pytest.mark.parametrize(
    "environment",
    [
        SLURM,
        {**SLURM, STEP: "2"},
        {"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2"},
        KUBERNETES,
        {"JAX_COORDINATOR_ADDRESS": "host:1234"},
    ],
)
def test_launchers_are_recognised_unless_told_otherwise(told, environment):
    assert told(environment)


def test_a_run_told_to_be_alone_is_so_under_slurm(told):
    assert not told(SLURM, "--num_processes=1")


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"SLURM_NTASKS": "2"},  # in a batch script, which is one process
        {**SLURM, "SLURM_NTASKS": "1"},
        {**SLURM, STEP: "1"},  # a shell in an allocation of several tasks
        {"OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_SIZE": "1"},
        {"KUBERNETES_SERVICE_HOST": "10.0.0.1"},
        {"JAX_COORDINATOR_ADDRESS": ""},
    ],
)
def test_one_process_stays_alone(told, environment):
    assert not told(environment)


def test_flags_that_join_nothing_are_refused_in_one_sentence(tmp_path):
    command = [sys.executable, "eval.py", f"--workdir={tmp_path}", "--num_processes=2"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.returncode == 2 and "coordinator_address should be defined" in done.stderr
    assert done.stderr.startswith("error: the processes of this job cannot be joined")
    assert "Traceback" not in done.stderr


@pytest.mark.compiled
def test_waiting_for_processes_is_reported_and_can_be_interrupted(tmp_path):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    flags_ = [f"--coordinator_address={address}", "--num_processes=2", "--process_id=0"]
    command = [sys.executable, "eval.py", f"--workdir={tmp_path}", *flags_]
    waiting = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    assert waiting.stderr is not None
    told = waiting.stderr.readline()
    assert told.startswith("waiting for the other processes of this job (--coordinator_address=")
    assert "--num_processes=1 runs alone" in told
    waiting.terminate()
    _, rest = waiting.communicate(timeout=60)
    # A signal that arrives while the message is written lets Python write the message again.
    assert waiting.returncode == 75 and rest.splitlines()[-1].startswith("interrupted: "), rest


def test_an_address_without_port_is_refused(told):
    assert told({}, "--coordinator_address=host", "--num_processes=2")
    with pytest.raises(UserError, match="--coordinator_address=host has no port"):
        launch.join()


def test_whatever_a_launcher_fails_with_is_told(told, monkeypatch):
    def fail(*_arguments, **_options):
        raise KeyError("SLURM_JOB_ID")

    monkeypatch.setattr(jax.distributed, "initialize", fail)
    before = jax.config.jax_cpu_collectives_implementation
    try:
        assert told(SLURM)
        with pytest.raises(UserError, match=r"cannot be joined \('SLURM_JOB_ID'\)"):
            launch.join()
    finally:
        jax.config.update("jax_cpu_collectives_implementation", before)


def test_a_process_alone_agrees_with_itself():
    assert primary_first(lambda: 3) == 3
    assert any_process(True) is True and any_process(False) is False


def test_batches_of_evaluations_are_filled_up_to_the_devices():
    assert [batch_order.padded(size, 8) for size in (1, 8, 9, 30)] == [8, 8, 16, 32]


def test_one_process_reads_all_rows_of_a_batch():
    own = host.local_positions(8, batch_sharding(data_mesh(), 8))
    np.testing.assert_array_equal(own, np.arange(8))
