"""The option ``--config`` of benchmarks that read images as a run of ``train.py`` does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from configs import breakhis
from se_resnet.runtime import config_flag


def define_config() -> config_flag.ConfigFlag:
    """Defines ``--config`` and ``--print_config``; without them ``configs/breakhis.py`` is used."""
    usual = Path(__file__).parents[1] / "configs" / "breakhis.py"
    return config_flag.ConfigFlag(breakhis.get_config, _complete, default=str(usual))


def _complete(content: dict[str, Any]) -> dict[str, Any]:
    from se_resnet.runs import run_files  # imports OpenCV: only for a file in JSON

    return run_files.of_this_version(content)
