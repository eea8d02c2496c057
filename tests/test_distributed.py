"""Runs of the commands in several processes, and on several devices: `pytest -m distributed`."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import cv2
import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from flax.traverse_util import flatten_dict

from benchmarks.devices import compare
from data.protocols.roles import assign_roles
from se_resnet.images.scale import Scale
from se_resnet.metrics.predictions import Predictions
from tests.helpers import ROOT
from tests.helpers.datasets import make_records
from tests.helpers.image_trees import make_tree
from tests.helpers.run_folders import make_run_folder

pytestmark = pytest.mark.distributed

LEARNING_RATE = 1e-3
HEARTBEAT = 10  # seconds


@pytest.fixture(scope="module")
def config(place, tmp_path_factory) -> Path:
    """A file with a tiny configuration, which saves at every log line."""
    path = tmp_path_factory.mktemp("config") / "tiny.py"
    path.write_text(
        f"""
from pathlib import Path
from tests.helpers.configs import tiny_config

def get_config():
    config = tiny_config(Path({str(place[0])!r}), Path({str(place[1])!r}))
    config.epochs = 4
    config.checkpoint_minutes = 0.0
    config.balance.method = "class_weights"  # whose pixels are the same in both placements
    return config
"""
    )
    return path


@dataclasses.dataclass
class Job:
    """Processes of one command."""

    processes: list[subprocess.Popen]

    def end(self) -> list[tuple[int, str, str]]:
        """Exit code, output and errors of each process."""
        told = [process.communicate(timeout=500) for process in self.processes]
        codes = [process.returncode for process in self.processes]
        return [(code, *texts) for code, texts in zip(codes, told, strict=True)]


def start(script: str, each: list[list[str]], devices: int) -> Job:
    """One process for each list of flags, each with so many devices."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = []
    for number, arguments in enumerate(each):
        joined = [
            f"--coordinator_address=127.0.0.1:{port}",
            f"--num_processes={len(each)}",
            f"--process_id={number}",
            f"--heartbeat_timeout_seconds={HEARTBEAT}",
        ]
        processes.append(
            subprocess.Popen(
                [sys.executable, script, *arguments, *(joined if len(each) > 1 else [])],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                cwd=ROOT,
                env={
                    **os.environ,
                    "PYTHONPATH": str(ROOT),
                    "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
                },
            )
        )
    return Job(processes)


def train(config: Path, workdir: Path, processes: int, devices: int, *further: str) -> Job:
    arguments = [f"--config={config}", f"--workdir={workdir}", *further]
    return start("train.py", [arguments] * processes, devices)


def finish(job: Job) -> str:
    """The output of process 0 of a job that must succeed."""
    told = job.end()
    assert all(code == 0 for code, _, _ in told), told
    return told[0][1]


@pytest.fixture(scope="module")
def whole(config, tmp_path_factory) -> Path:
    """The run that the others must equal: one process, four devices."""
    workdir = tmp_path_factory.mktemp("whole") / "run"
    assert "on 4 cpu devices\n" in finish(train(config, workdir, 1, 4))
    return workdir


def assert_same_run(workdir: Path, whole: Path) -> None:
    """Losses to 1e-4 and parameters to 0.1 learning rates.

    The order in which the images of a batch are summed differs, by 1e-7 of a gradient; Adam moves a
    parameter by up to a learning rate per step in the direction of its gradient, however small that
    is, so that roundings grow over the 40 steps of this run.
    """
    logs = [
        [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
        for path in (workdir, whole)
    ]
    assert [line["step"] for line in logs[0]] == [line["step"] for line in logs[1]]
    for name in ("train/loss", "val/loss"):
        mine, theirs = ([line[name] for line in log if name in line] for log in logs)
        assert len(mine) >= 4
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-4)
    left, right = map(last_parameters, (workdir, whole))
    assert set(left) == set(right)
    for name, value in left.items():
        difference = np.abs(value - right[name]).max() / LEARNING_RATE
        assert difference < 0.1, (name, difference)
    tested = [Predictions.read_csv(path / "eval/test/predictions.csv") for path in (workdir, whole)]
    assert tested[0].file.tolist() == tested[1].file.tolist()
    np.testing.assert_allclose(tested[0].probability, tested[1].probability, rtol=0, atol=1e-3)


def last_parameters(workdir: Path) -> dict:
    step = max((workdir / "checkpoints" / "latest").glob("[0-9]*"), key=lambda path: int(path.name))
    path = (step / "tree").absolute()
    with ocp.PyTreeCheckpointer() as checkpointer:
        layout = checkpointer.metadata(path).item_metadata.tree
        as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), layout)
        return flatten_dict(checkpointer.restore(path, restore_args=as_numpy)["params"])


@pytest.mark.parametrize(
    ("dtype", "of_loss", "of_parameter"), [("float32", 2e-6, 0.02), ("float64", 1e-12, 1e-8)]
)
def test_the_number_of_devices_changes_roundings_only(dtype, of_loss, of_parameter):
    """Float32 rounds at 1e-7; float64, in which the same must hold to 1e-15, rules out the rest."""
    for row in compare([1, 2, 4, 8], steps=4, dtype=dtype):
        assert row["dtype"] == dtype
        assert row["largest difference of a loss"] < of_loss, row
        assert row["of a parameter, in learning rates"] < of_parameter, row


@pytest.mark.parametrize("placement", ["host", "device"])
def test_two_processes_train_as_one_and_write_once(config, whole, tmp_path, placement):
    job = train(config, tmp_path / "run", 2, 2, f"--config.data.placement={placement}")
    (code, told, _), (other_code, other_told, _) = job.end()
    assert code == other_code == 0
    assert "on 4 cpu devices of 2 processes" in told and "written to" in told
    ours = r"^(data|split|balance|weights|model|trained|epoch) |written to"
    assert re.search(ours, told, re.MULTILINE)
    assert not re.search(ours, other_told, re.MULTILINE), "process 0 alone speaks"
    assert_same_run(tmp_path / "run", whole)
    assert len(list((tmp_path / "run" / "tensorboard").iterdir())) == 1
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        path.name for path in whole.iterdir()
    }


@pytest.mark.parametrize(("before", "after"), [((2, 2), (1, 4)), ((1, 4), (2, 2))])
def test_a_killed_job_ends_and_goes_on_in_the_other_layout(config, whole, tmp_path, before, after):
    workdir = tmp_path / "run"
    job = train(config, workdir, *before)
    # Others than those of digits alone are being written.
    while not any(path.name.isdecimal() for path in (workdir / "checkpoints").glob("latest/*")):
        assert all(process.poll() is None for process in job.processes), job.end()
        time.sleep(0.01)
    job.processes[-1].kill()
    killed = time.monotonic()
    codes = [code for code, _, _ in job.end()]
    assert all(codes) and time.monotonic() - killed < 4 * HEARTBEAT
    told = finish(train(config, workdir, *after))
    step, total = map(int, re.findall(r"resume +from step (\d+) of (\d+)", told)[0])
    assert 0 < step < total
    assert_same_run(workdir, whole)


def test_evaluation_counts_each_image_once_on_any_devices(whole, tmp_path):
    expected = Predictions.read_csv(whole / "eval" / "test" / "predictions.csv")
    for number, (processes, devices) in enumerate([(1, 3), (2, 1)]):
        out = tmp_path / str(number)
        finish(start("eval.py", [[f"--workdir={whole}", f"--out={out}"]] * processes, devices))
        found = Predictions.read_csv(out / "predictions.csv")
        assert found.file.tolist() == expected.file.tolist()
        np.testing.assert_allclose(found.probability, expected.probability, rtol=0, atol=1e-5)
        assert (out / "report.html").exists()


def test_a_batch_that_cannot_be_divided_is_refused_by_name(config, tmp_path):
    ((code, _, errors),) = train(config, tmp_path / "run", 1, 3).end()
    assert code == 2
    assert "batches of 8 (config.batch_size / config.optim.accumulate) cannot be divided" in errors
    assert "over 3 devices" in errors and "Traceback" not in errors


def test_processes_of_different_commands_are_refused(config, tmp_path):
    common = [f"--config={config}", f"--workdir={tmp_path / 'run'}"]
    told = start("train.py", [common, [*common, "--config.seed=1"]], 1).end()
    assert all(code == 2 for code, _, _ in told)
    assert all("have different configurations" in errors for _, _, errors in told)


def test_processes_refuse_a_near_duplicate_together(config, place, tmp_path):
    tree = tmp_path / "tree"
    shutil.copytree(place[0], tree)
    records = make_records(10, 14, images=3)
    roles = assign_roles(records, "strict", folds=5, fold=0, val_folds=5, seed=0)
    names = [records.file[roles == role][0].item() for role in ("test", "train")]
    paths = [next(tree.rglob(name)) for name in names]
    cv2.imwrite(str(paths[1]), cv2.imread(str(paths[0]))[::-1])
    common = [f"--config={config}", f"--config.data.dir={tree}", f"--workdir={tmp_path / 'run'}"]
    for code, _, errors in start("train.py", [common] * 2, 1).end():
        assert code == 2 and "Traceback" not in errors
        assert all(name in errors for name in names)


def test_a_workdir_that_is_not_shared_is_refused(config, tmp_path):
    each = [[f"--config={config}", f"--workdir={tmp_path / name}"] for name in ("a", "b")]
    (code, *_), (other_code, _, errors) = start("train.py", each, 1).end()
    assert code and other_code == 2
    assert "process 1 does not see in" in errors and "Traceback" not in errors


def test_tiles_are_averaged_alike_by_several_processes_and_devices(tmp_path):
    run = make_run_folder(tmp_path / "run", Scale(0.5, (24, 24)))
    records = make_records(2, 2, images=1, magnifications=(100, 200))
    tree = make_tree(tmp_path / "tree", records.file.tolist(), (160, 120))
    found = {}
    for processes, devices in ((1, 1), (1, 4), (2, 1)):
        out = tmp_path / f"{processes}-{devices}"
        arguments = [f"--workdir={run}", f"--data_dir={tree}", f"--out={out}"]
        finish(start("eval.py", [arguments] * processes, devices))
        found[processes, devices] = Predictions.read_csv(out / "predictions.csv")
    alone = found[1, 1]
    assert set(alone.extra["tiles"].tolist()) == {"6", "2"}
    for predictions in found.values():
        assert (predictions.file == alone.file).all()
        np.testing.assert_allclose(predictions.probability, alone.probability, atol=1e-6)
