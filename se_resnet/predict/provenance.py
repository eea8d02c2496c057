"""The provenance of a trained network: data, configuration, initial weights and test metrics.

It can be published: it contains no folder of the training machine and no patient.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from se_resnet.report.provenance import describe_weights
from se_resnet.runs.ensembles import joined_data_facts
from se_resnet.runs.run_files import (
    CONFIG_FORM,
    DATA_CONFIG_FORM,
    METRICS_FORM,
    SPLIT_SUMMARY_FORM,
    TABLE_FORM,
    WEIGHTS_FORM,
    used_magnifications,
)
from se_resnet.runs.run_folder import RunFolder
from se_resnet.runtime.schema import Maybe
from se_resnet.weights import hub, pretrained

_PRIVATE = ("dir", "cache_dir", "placement")  # fields of config.data
_METRICS = (
    "image",
    "patient",
    "by_magnification",
    "counts",
    "threshold",
    "resamples",
    "seed",
    "at_chosen_threshold",
    "calibration",
    "audit",
)
# The form of read_history()'s result, for se_resnet.runtime.schema.
FORM = {
    "data": {
        "description": str,
        "sample": bool,
        "split": SPLIT_SUMMARY_FORM,
        "table": Maybe(TABLE_FORM),
    },
    "config": CONFIG_FORM
    | {"data": {name: form for name, form in DATA_CONFIG_FORM.items() if name not in _PRIVATE}},
    "weights": (None, WEIGHTS_FORM),
    "metrics": (None, METRICS_FORM),
    # Packages of versions before lack it.
    "training": Maybe(
        {
            "weights": [str],
            "evaluated": str,
            "software": str,
            "banner": str,
            "differs_from_default": {},
        }
    ),
}


def read_history(workdir: Path) -> dict[str, Any]:
    """Returns the provenance of a run of ``train.py``.

    Args:
        workdir: the run's folder.

    Returns:
        ``data``: ``description`` (one line), ``sample`` (True for the sample images of the
        project), ``split`` (images, slides and patients by role and class; of several networks the
        rows of each) and, for a table of
        images, ``table`` (see :mod:`se_resnet.runs.image_source`). ``config``: the
        run's configuration. ``weights``: the initial weights, see
        :meth:`se_resnet.weights.record.Pretrained.facts`, or None. ``metrics``: ``metrics.json`` of
        the test images without the rows of patients and curves, or None before an evaluation.
        ``training``, where the evaluation has provenance: ``weights`` (step of each network, and
        if its training has finished), ``evaluated`` (date), ``software`` (versions and commit),
        ``banner`` (a subset of BreaKHis, or empty) and ``differs_from_default`` (fields of the
        configuration).

    Raises:
        UserError: a file is missing or broken.
    """
    run = RunFolder(workdir)
    config, data = run.config(), joined_data_facts(run)
    weights = run.networks()[0].weights_facts()
    # Repeats are evaluated one by one, so that no metrics belong to all networks.
    metrics = run.evaluation().metrics_if_any() if config["repeats"] == 1 else None
    if weights:
        weights["name"] = _public(weights["name"])
    return {
        "data": {
            "description": (data["description"].splitlines() or [""])[0],
            "sample": config["data"]["dir"] == "sample",
            "split": data["split"],
            **{name: data[name] for name in ("table",) if name in data},
        },
        "config": {
            **config,
            "data": {
                **{k: v for k, v in config["data"].items() if k not in _PRIVATE},
                "magnifications": used_magnifications(config, data),
            },
            "model": {**config["model"], "pretrained": _public(config["model"]["pretrained"])},
        },
        "weights": weights,
        "metrics": metrics and {name: _short(metrics[name]) for name in _METRICS},
        **_training(metrics or {}),
    }


def _training(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the entry ``training`` from the provenance of an evaluation, if it has any."""
    facts = metrics.get("provenance")
    if not facts:
        return {}
    private = {f"data.{name}" for name in _PRIVATE} | {"split.file"}
    differs = {
        name: _public(value) if name == "model.pretrained" else value
        for name, value in facts["differs_from_default"].items()
        if name not in private
    }
    packages = facts["software"]["packages"]
    versions = [f"se-resnet {packages.get('se-resnet', 'not installed')}"]
    versions += [f"commit {facts['commit']}"] if facts["commit"] else []
    versions += [f"Python {facts['software']['python']}", f"JAX {packages.get('jax', 'not known')}"]
    return {
        "training": {
            "weights": [describe_weights(network) for network in facts["networks"]],
            "evaluated": facts["date"],
            "software": ", ".join(versions),
            "banner": facts["banner"],
            "differs_from_default": differs,
        }
    }


def _short(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    # The rows of all patients and the curve of reliability are left out.
    return {
        name: _short(part)
        for name, part in value.items()
        if name != "reliability" and not isinstance(part, list)
    }


def _public(name: str) -> str:
    """Returns the name of published weights, and a general term for a path."""
    return name if name in (pretrained.NONE, *pretrained.RECORDS, *hub.KNOWN) else "own weights"
