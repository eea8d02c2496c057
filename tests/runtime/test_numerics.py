from __future__ import annotations

import json

import jax
import pytest

from se_resnet.errors import UserError
from se_resnet.runtime import numerics


@pytest.fixture(autouse=True)
def clean(monkeypatch):
    for name in ("XLA_FLAGS", "NVIDIA_TF32_OVERRIDE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def x64():
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", False)


def test_a_run_resumes_with_the_settings_that_it_began_with(tmp_path):
    numerics.keep(tmp_path / "numerics.json", begun=False)
    numerics.keep(tmp_path / "numerics.json", begun=True)
    assert json.loads((tmp_path / "numerics.json").read_text()) == numerics.settings()


def test_double_precision_cannot_be_mixed_in(tmp_path, request):
    numerics.keep(tmp_path / "numerics.json", begun=False)
    request.getfixturevalue("x64")
    with pytest.raises(UserError, match="began with jax_enable_x64 = False, but now it is True"):
        numerics.keep(tmp_path / "numerics.json", begun=True)
    numerics.keep(tmp_path / "numerics.json", begun=False)  # nothing was computed: it begins anew


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("NVIDIA_TF32_OVERRIDE", "0", "NVIDIA_TF32_OVERRIDE = None, but now it is '0'"),
        ("XLA_FLAGS", "--xla_cpu_enable_fast_math=true", "XLA_FLAGS"),
    ],
)
def test_variables_that_change_numbers_cannot_be_mixed_in(tmp_path, monkeypatch, name, value, told):
    numerics.keep(tmp_path / "numerics.json", begun=False)
    monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=told):
        numerics.keep(tmp_path / "numerics.json", begun=True)


@pytest.mark.parametrize(
    "flags",
    [
        "--xla_dump_to=dump --xla_dump_hlo_as_text",
        "--xla_force_host_platform_device_count=4",
        "--xla_cpu_collective_timeout_seconds=1800",
    ],
)
def test_flags_that_change_no_number_may_change(tmp_path, monkeypatch, flags):
    numerics.keep(tmp_path / "numerics.json", begun=False)
    monkeypatch.setenv("XLA_FLAGS", flags)
    numerics.keep(tmp_path / "numerics.json", begun=True)


def test_an_older_run_gets_its_record_when_it_resumes(tmp_path):
    numerics.keep(tmp_path / "numerics.json", begun=True)
    assert (tmp_path / "numerics.json").exists()


@pytest.mark.parametrize("content", ["{", "[]"])
def test_a_damaged_record_is_named(tmp_path, content):
    (tmp_path / "numerics.json").write_text(content)
    with pytest.raises(UserError, match=r"numerics\.json cannot be read"):
        numerics.keep(tmp_path / "numerics.json", begun=True)
