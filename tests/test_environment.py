"""What a command makes of its environment; whole trainings run in a group of their own."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys

import jax
import pytest
from filelock import FileLock

from se_resnet.errors import UserError
from se_resnet.runs.lock import locked
from se_resnet.runs.run_folder import RunFolder
from se_resnet.runtime import environment, file_locks
from se_resnet.runtime.compilation_cache import keep_compiled_programs
from se_resnet.runtime.interpreter import with_utf8
from se_resnet.weights import hub
from tests.helpers import ROOT


@pytest.mark.parametrize(
    "name",
    [
        "JAX_ENABLE_X64",
        "JAX_DISABLE_JIT",
        "JAX_DEBUG_NANS",
        "JAX_DEFAULT_PRNG_IMPL",
        "JAX_THREEFRY_PARTITIONABLE",
        "JAX_RANDOM_SEED_OFFSET",
        "JAX_NUMPY_RANK_PROMOTION",
        "JAX_TRANSFER_GUARD",
        "JAX_SOMETHING_NEW",
        "EAGER_CONSTANT_FOLDING",
    ],
)
def test_variables_that_change_numbers_are_dropped_and_named(monkeypatch, capsys, name):
    monkeypatch.setenv(name, "1")
    environment.prepare()
    assert name not in os.environ
    assert f"warning: the environment variable {name}=1 is not used" in capsys.readouterr().err


@pytest.mark.parametrize(
    "name",
    [
        "JAX_PLATFORMS",
        "JAX_COMPILATION_CACHE_DIR",
        "JAX_ENABLE_COMPILATION_CACHE",
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS",
        "JAX_COORDINATOR_ADDRESS",
        "JAX_LOG_COMPILES",
        "JAX_DEFAULT_MATMUL_PRECISION",
    ],
)
def test_variables_for_devices_and_logging_are_kept(monkeypatch, capsys, name):
    monkeypatch.setenv(name, "1")
    environment.prepare()
    assert os.environ[name] == "1" and not capsys.readouterr().err


def test_sizes_that_are_no_numbers_are_kept_from_opencv():
    code = (
        "from se_resnet.runtime.cli import exit_on_user_error\n"
        "with exit_on_user_error(): import cv2\n"
        "import os; print(os.environ['OPENCV_IO_MAX_IMAGE_PIXELS'])\n"
    )
    sizes = {"OPENCV_IO_MAX_IMAGE_PIXELS": "many", "OPENCV_IO_MAX_IMAGE_WIDTH": "wide"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, **sizes},
    )
    assert done.returncode == 0 and done.stdout.strip() == str(8192**2)
    assert "OPENCV_IO_MAX_IMAGE_WIDTH=wide is not used: it is not a number." in done.stderr


@pytest.mark.parametrize("flags", ["--xla_of_old=1", "/dev/null/none"])
def test_a_flag_that_xla_does_not_know_is_told(monkeypatch, flags):
    monkeypatch.setenv("XLA_FLAGS", flags)
    with pytest.raises(UserError, match=rf"XLA cannot start .*{flags}.*unset .* XLA_FLAGS\."):
        environment.import_jax()


def test_flags_that_xla_knows_are_left_alone(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=2")
    environment.import_jax()


def test_figures_are_drawn_without_a_notebooks_backend(monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    environment.prepare()
    assert os.environ["MPLBACKEND"] == "agg"


def test_a_device_that_is_missing_is_told(monkeypatch):
    def fail():
        raise AssertionError

    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    monkeypatch.setattr(jax, "devices", fail)
    with pytest.raises(UserError, match=r"no device .*unset .* JAX_PLATFORMS=cuda\."):
        environment.require_devices()


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (MemoryError("Unable to allocate 3 GiB"), "memory ran out .*Unable to allocate 3 GiB"),
        (MemoryError(), "memory ran out"),
        (ImportError("x.so: failed to map segment from shared object"), "memory ran out"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "memory ran out"),
        (RuntimeError("can't start new thread"), "no more threads"),
        (OSError(errno.EMFILE, "Too many open files"), "no more files"),
        (ValueError("a bug"), "^$"),
    ],
)
def test_what_the_system_does_not_give_is_told(error, told):
    assert re.search(told, environment.shortage(error))


def test_a_shortage_while_modules_are_imported_is_one_sentence():
    code = (
        "from se_resnet.runtime.cli import exit_on_user_error\n"
        "with exit_on_user_error(): pass\n"
        "raise MemoryError('so much')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 2
    assert (
        done.stderr.startswith("error: memory ran out (so much)") and done.stderr.count("\n") == 1
    )


@pytest.mark.parametrize("code", ["ENOLCK", "EOPNOTSUPP", "ENOSYS", "EPERM", "EACCES"])
def test_without_locks_a_run_warns_and_programs_are_not_kept(tmp_path, monkeypatch, capsys, code):
    fcntl = pytest.importorskip("fcntl")

    def refuse(file, operation):
        raise OSError(getattr(errno, code), os.strerror(getattr(errno, code)))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with locked(RunFolder(tmp_path)):
        assert "has no locks" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    monkeypatch.setenv("SE_RESNET_CACHE", str(tmp_path))
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", None)
    try:
        keep_compiled_programs()
        assert jax.config.jax_compilation_cache_dir is None
    finally:
        jax.config.update("jax_compilation_cache_dir", before)
    assert "compiled programs are not kept" in capsys.readouterr().err


def test_a_lock_that_another_user_owns_is_one_sentence(tmp_path, monkeypatch):
    def refuse(*_arguments, **_options):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(FileLock, "acquire", refuse)
    told = r"lock cannot be locked \(Permission denied\): let"
    with pytest.raises(UserError, match=told), locked(RunFolder(tmp_path)):
        pass


def test_a_file_system_with_locks_is_known(tmp_path):
    assert file_locks.lock_error(tmp_path) == "" and not list(tmp_path.iterdir())


def test_file_names_are_utf8_and_the_terminal_keeps_its_encoding():
    told = with_utf8({"A": "b"})
    assert told["PYTHONUTF8"] == "1" and told["A"] == "b"
    assert told["PYTHONIOENCODING"] == f"{sys.stdout.encoding}:backslashreplace"
    assert with_utf8({"PYTHONIOENCODING": "ascii"})["PYTHONIOENCODING"] == "ascii"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ALL_PROXY", "socks5://127.0.0.1:9"),
        ("HF_ENDPOINT", "hf-mirror.com"),
        ("HF_HUB_DOWNLOAD_TIMEOUT", "soon"),
    ],
)
def test_a_download_that_the_environment_prevents_is_told(tmp_path, name, value):
    code = (
        "from se_resnet.weights import hub\n"
        "from se_resnet.runtime.cli import exit_on_user_error\n"
        f"with exit_on_user_error(): hub.fetch({next(iter(hub.KNOWN))!r})\n"
    )
    own = {**os.environ, name: value, "HF_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env=own
    )
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "it could not be downloaded" in done.stderr.splitlines()[-1]


RUN_AT_ALL = ["train.py", "--config=configs/smoke.py", "--config.epochs=1"]


@pytest.mark.environment
@pytest.mark.parametrize(
    ("variables", "code", "told"),
    [
        ("JAX_ENABLE_X64=1 PYTHONWARNINGS=error PYTHONOPTIMIZE=2", 0, "JAX_ENABLE_X64=1 is not"),
        ("JAX_PLATFORMS=cuda", 2, "error: JAX finds no device"),
        ("JAX_PLATFORMS=cpuu", 2, "error: JAX finds no device"),
        ("JAX_LOG_COMPILES=maybe", 2, "error: JAX cannot be imported"),
        ("LC_ALL=C PYTHONUTF8=0 PYTHONCOERCECLOCALE=0", 0, ""),
        ("SLURM_STEP_NODELIST=a SLURM_NTASKS=4 SLURM_STEP_NUM_TASKS=1", 0, ""),
        ("TMPDIR=/dev/null/none MPLBACKEND=module://nothing", 0, ""),
        ("HOME=/dev/null/none", 0, ""),
    ],
)
def test_a_training_runs_or_says_why_not(tmp_path, variables, code, told):
    own = {**os.environ, **dict(one.split("=", 1) for one in variables.split())}
    command = [sys.executable, *RUN_AT_ALL, f"--workdir={tmp_path / 'Größe'}"]
    done = subprocess.run(command, capture_output=True, cwd=ROOT, env=own, timeout=600)
    assert done.returncode == code, done.stderr.decode(errors="replace")
    assert told in done.stderr.decode() and b"Traceback" not in done.stderr


@pytest.mark.environment
@pytest.mark.parametrize(
    ("redirections", "code"), [(">&-", 0), ("2>&-", 0), ("<&- >&- 2>&-", 0), (">/dev/full", 2)]
)
def test_a_training_ends_well_without_its_streams(tmp_path, redirections, code):
    command = f"exec {sys.executable} {' '.join(RUN_AT_ALL)} --workdir={tmp_path}/run"
    shell = ["bash", "-c", f"{command} {redirections}"]
    assert subprocess.run(shell, cwd=ROOT, timeout=600, capture_output=True).returncode == code
    assert (tmp_path / "run" / "eval" / "test" / "report.html").exists()
