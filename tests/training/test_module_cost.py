"""The table of what attention modules cost."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from se_resnet.training import module_cost
from tests.helpers import ROOT

SE_IN_TINY = (2 * 16 * 1 + 1 + 16) + (2 * 32 * 2 + 2 + 32)  # C = 16 and 32 with 1 and 2 hidden


@pytest.mark.compiled
def test_costs_of_a_tiny_network():
    sizes = {"stage_sizes": (1, 1), "timed_stage_sizes": (1,)}
    costs = module_cost.measure(
        ["se", "none"], size=16, batch=2, rounds=3, width=4, counted_size=32, **sizes
    )
    none, se = costs
    assert [cost.module for cost in costs] == ["none", "se"]
    assert [cost.parameters for cost in costs] == [0, SE_IN_TINY]
    assert none.flops == 0 and none.ratio == 1
    assert se.flops > 2 * SE_IN_TINY
    assert all(cost.seconds > 0 and cost.ratio > 0 for cost in costs)


def ask(*arguments):
    command = [sys.executable, "-X", "importtime", "-m", "se_resnet.attention", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60)


def test_help_and_mistakes_in_options_are_answered_at_once():
    help_, mistake = ask("--help"), ask("--batch=none")
    assert all(f"--{name}" in help_.stdout for name in ("size", "batch", "rounds", "modules"))
    assert mistake.returncode == 2
    assert "error: --batch: 'none' is not a whole number" in mistake.stderr
    for told in (help_, mistake):
        imported = set(re.findall(r"\| +([\w.]+)$", told.stderr, re.MULTILINE))
        assert "se_resnet.attention" in imported and not imported & {"jax", "flax"}
