"""The provenance of an evaluation, for ``metrics.json`` and the report."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from se_resnet.runs.image_source import ImageSource
from se_resnet.runs.provenance import command_line, read_training
from se_resnet.runs.run_files import SYNTHETIC_PREFIX
from se_resnet.runs.run_folder import RunFolder
from se_resnet.runs.state import training_state
from se_resnet.runs.workdir import flatten
from se_resnet.runtime import software
from se_resnet.runtime.times import duration, now

BREAKHIS_IMAGES = 7909  # in the whole data set (Spanhol et al. 2016)
_SAMPLE = "sample"  # the value of config.data.dir for the images that ship


def describe_evaluation(
    run: RunFolder,
    config: Mapping[str, Any],
    default: Mapping[str, Any],
    began: float,
    images: int,
    source: ImageSource,
    data_dir: str | None = None,
) -> dict[str, Any]:
    """Returns the entry ``provenance`` of ``metrics.json``.

    All that differs between two evaluations of the same networks on the same images is in this
    entry.

    Args:
        run: the evaluated run.
        config: content of its ``config.json``.
        default: the default configuration, as JSON has it.
        began: ``time.monotonic()`` at the begin of the evaluation.
        images: number of images of the data set in use.
        source: the data set.
        data_dir: other images than those of the run, or None.

    Returns:
        Of the form :data:`se_resnet.runs.run_files.PROVENANCE_FORM`: ``date``, ``seconds``,
        ``command``, ``commit``, ``software`` (versions, system and devices of this process, see
        :func:`se_resnet.runtime.software.describe`), ``networks`` (name, state of the training, its
        ``starts`` where they are known), ``differs_from_default`` (fields with their values),
        ``images`` and ``banner`` (see :func:`subset_banner`).

    Raises:
        UserError: a file of the run is missing or broken.
    """
    facts = software.describe(0)
    del facts["step"]
    networks = []
    for network in run.networks():
        training = read_training(network)
        networks.append(
            {
                "run": network.path.relative_to(run.path).as_posix(),
                **training_state(network).as_dict(),
                "starts": training["starts"] if training else [],
            }
        )
    return {
        "date": now(),
        "seconds": round(time.monotonic() - began, 1),
        "command": command_line(),
        "commit": software.commit(),
        "software": facts,
        "networks": networks,
        "differs_from_default": differing_fields(flatten(config), flatten(default)),
        "images": images,
        "banner": subset_banner(images, source.is_breakhis, data_dir or config["data"]["dir"]),
    }


def differing_fields(config: Mapping[str, Any], default: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the fields of a configuration whose values are not the default.

    >>> differing_fields({"seed": 1, "epochs": 3}, {"seed": 0, "epochs": 3})
    {'seed': 1}

    Args:
        config: values by ``part.field``, as JSON has them.
        default: the same of the default configuration.

    Returns:
        The value of each field that differs or that the default lacks, by name.
    """
    missing = object()
    return {name: value for name, value in config.items() if default.get(name, missing) != value}


def count_images(run: RunFolder) -> int:
    """Returns the number of images of a run, with those of no role and without synthetic ones.

    Raises:
        UserError: ``split.csv`` is missing or broken.
    """
    rows = run.networks()[0].split()
    return sum(not row["file"].startswith(SYNTHETIC_PREFIX) for row in rows)


def subset_banner(images: int, is_breakhis: bool, data_dir: str) -> str:
    """Returns a sentence on images that are only a part of BreaKHis; empty for others.

    Args:
        images: number of images of the data set in use.
        is_breakhis: true for images of BreaKHis.
        data_dir: where they come from, as ``config.data.dir``.
    """
    if not is_breakhis or images >= BREAKHIS_IMAGES:
        return ""
    is_sample = data_dir == _SAMPLE
    name = "The sample that ships with the project" if is_sample else "A subset of BreaKHis"
    return f"{name}: {images:,} of {BREAKHIS_IMAGES:,} images. This is no result on BreaKHis."


def describe_weights(network: Mapping[str, Any]) -> str:
    """Returns a sentence on the evaluated weights of an entry of ``networks``.

    >>> describe_weights({"evaluated_step": 12, "evaluated_epoch": 2.0, "of_steps": 60,
    ...                   "of_epochs": 10, "finished": False, "stopped_early": False})
    'step 12 of 60 (epoch 2 of 10); the training has not finished'
    """
    step = network["evaluated_step"]
    if step is None:
        return "not known"
    text = f"step {step:,}"
    if network["of_steps"] is not None:
        text += f" of {network['of_steps']:,}"
        text += f" (epoch {network['evaluated_epoch']:g} of {network['of_epochs']:,})"
    if not network["finished"]:
        return f"{text}; the training has not finished"
    return f"{text}; the training {'was stopped early' if network['stopped_early'] else 'finished'}"


def table_of_provenance(provenance: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Returns the rows of the report: titles and texts."""
    facts = provenance["software"]
    packages = facts["packages"]
    rows = [
        ("Evaluated", f"{provenance['date']}, in {duration(provenance['seconds'])}"),
        ("Command", provenance["command"]),
    ]
    for network in provenance["networks"]:
        name = "" if network["run"] == "." else f" of {network['run']}"
        rows.append((f"Weights{name}", describe_weights(network)))
        if starts := network["starts"]:
            seconds = sum(start["seconds"] for start in starts)
            often = "" if len(starts) == 1 else f", in {len(starts)} starts"
            trained = f"{starts[0]['began']}, {duration(seconds)}{often}"
            rows.append((f"Training{name}", trained))
    rows += [
        ("Project", f"{packages.get('se-resnet', 'not installed')}{_commit(provenance)}"),
        ("Software", f"Python {facts['python']}, JAX {packages.get('jax', 'not known')}"),
        (
            "Machine",
            f"{facts['system']}, {facts['cpus']} CPU cores; devices: {', '.join(facts['devices'])}",
        ),
    ]
    return rows


def _commit(provenance: Mapping[str, Any]) -> str:
    return f", commit {provenance['commit']}" if provenance["commit"] else ""
