from __future__ import annotations

import sys

import jax
import numpy as np
import pytest

from se_resnet.runtime import memory

MEMINFO = "MemTotal:       24000000 kB\nMemFree:  1000 kB\nMemAvailable:   20000000 kB\n"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not report the peak")
def test_the_peak_grows_with_what_is_allocated():
    before = memory.peak_bytes()
    block = np.ones(50_000_000 + before // 8)  # larger than the process has ever been
    assert memory.peak_bytes() - before > block.nbytes - before > 0
    assert memory.describe_peak().startswith("memory so far ")


@pytest.mark.parametrize(
    ("limit", "used", "available"),
    [
        (None, None, 20_480_000_000),
        ("max", "5", 20_480_000_000),
        ("3000000000", "1000000000", 2_000_000_000),
        ("3000000000", "4000000000", 0),
        ("99000000000", "1", 20_480_000_000),
    ],
)
def test_the_limit_of_a_container_counts(tmp_path, limit, used, available):
    (tmp_path / "meminfo").write_text(MEMINFO)
    if limit is not None:
        (tmp_path / "memory.max").write_text(f"{limit}\n")
        (tmp_path / "memory.current").write_text(f"{used}\n")
    assert memory.available_bytes(tmp_path / "meminfo", tmp_path) == available


def test_memory_that_is_not_known_is_zero(tmp_path):
    assert memory.available_bytes(tmp_path / "none", tmp_path) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="needs the memory of glibc")
def test_freed_memory_is_returned_after_a_long_compilation(monkeypatch):
    returned = []
    monkeypatch.setattr(memory, "return_freed", lambda: returned.append(True))
    memory.return_after_compilations()
    event = "/jax/core/compile/backend_compile_duration"
    for name, seconds in ((event, 0.1), ("/jax/core/compile/jaxpr_trace_duration", 9.0)):
        jax.monitoring.record_event_duration_secs(name, seconds)
    assert not returned
    jax.monitoring.record_event_duration_secs(event, 9.0)
    assert returned == [True]


@pytest.mark.skipif(sys.platform != "linux", reason="needs the memory of glibc")
def test_freed_memory_goes_back_to_the_system():
    blocks = [b"x" * (100_000 + i) for i in range(2_000)]  # too small for a mapping of their own
    last = b"x" * 100_000  # keeps malloc from returning the others by itself
    with_blocks = resident_bytes()
    del blocks
    memory.return_freed()
    assert with_blocks - resident_bytes() > 150_000_000
    del last


def resident_bytes() -> int:
    import resource  # not on Windows

    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()
