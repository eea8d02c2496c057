"""Loads and saves initial weights with their variant, epsilon and preprocessing.

``'imagenet'`` ships with the package: ResNet50 v1 as in Keras and Caffe, converted by
:mod:`se_resnet.convert`, which names source and licence. ``'none'`` is random initialisation. The
other sources are repositories of :data:`se_resnet.weights.hub.KNOWN`, files in any naming of
:data:`se_resnet.weights.naming.NAMINGS`, runs of ``train.py``, files written by :func:`save`, and
model packages (:mod:`se_resnet.package`).
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import safetensors.numpy
from flax.traverse_util import flatten_dict, unflatten_dict

from se_resnet.errors import UserError
from se_resnet.models.preprocessing import IMAGENET, Preprocessing
from se_resnet.runs.run_folder import RunFolder
from se_resnet.runs.workdir import Run, load_best
from se_resnet.runtime.files import atomic_write
from se_resnet.runtime.paths import local_path
from se_resnet.weights import assumptions, declared, formats, hub, record, shipped
from se_resnet.weights import layout as layouts
from se_resnet.weights.formats import RefusedWeightsError, refused
from se_resnet.weights.initialise import initial_variables as initial_variables
from se_resnet.weights.record import Pretrained
from se_resnet.weights.record import keep_facts as keep_facts

WEIGHTS_DIRECTORY = Path(__file__).parent
RECORDS = {"imagenet": "resnet50_v1_imagenet.json"}
NONE = "none"
_SETTING = "config.model.pretrained ="
# The architecture is that of 'imagenet', so that a comparison of the two isolates the weights. The
# input has about unit variance because running variances start at 1.
_RANDOM = Pretrained(NONE, None, None, variant="v1", bn_epsilon=1e-3, preprocessing=IMAGENET)


def load(
    name: str, directory: Path = WEIGHTS_DIRECTORY, pixels: Preprocessing | None = None
) -> Pretrained:
    """Loads a backbone.

    Args:
        name: ``'imagenet'``; ``'none'`` for random initialisation: variant v1, epsilon 1e-3, RGB
            standardised with ImageNet's means and standard deviations; a key of
            :data:`se_resnet.weights.hub.KNOWN`, downloaded once; or a path. The path leads to a
            file that :func:`se_resnet.weights.formats.read` accepts, or to the folder of a run of
            ``train.py`` or its ``checkpoints/best``.
        directory: folder of the shipped weights.
        pixels: the preprocessing that the user states, by ``config.model.mean`` and
            ``config.model.std``; it applies where no file states one.

    Raises:
        UserError: the name is unknown; a file is missing, broken, of an unknown layout or not the
            recorded file; or the weights have a preprocessing and ``pixels`` is another one. No
            part is loaded then.
    """
    if name == NONE:
        if not pixels:
            return _RANDOM
        return dataclasses.replace(_RANDOM, preprocessing=pixels, notes=(assumptions.CONFIGURED,))
    if name in RECORDS:
        if pixels:
            raise recorded_pixels(name)
        return _load_shipped(name, directory)
    if name in hub.KNOWN:
        return _load_published(name, pixels)
    check_name(name)
    path = Path(local_path(name, _SETTING))
    workdir = _workdir(path)
    if workdir and pixels:
        raise recorded_pixels(name)
    return _load_run(workdir, name) if workdir else _load_file(path, name, pixels)


def check_name(name: str) -> None:
    """Refuses a name that :func:`load` does not know, without reading or downloading weights.

    Raises:
        UserError: ``name`` is neither a known source nor an existing path.
    """
    sources = [NONE, *RECORDS, *hub.KNOWN]
    if name not in sources and not (name and Path(local_path(name, _SETTING)).exists()):
        raise refused(
            name, f"it is no file; choose one of {', '.join(sources)}, or give the path of weights"
        )


def recorded_pixels(name: str) -> RefusedWeightsError:
    """Returns the error for a configured preprocessing of weights with a recorded one."""
    return refused(
        name,
        "these weights carry the preprocessing that they were trained with: leave out "
        "config.model.mean and config.model.std",
    )


def load_head(name: str, directory: Path = WEIGHTS_DIRECTORY) -> dict[str, np.ndarray]:
    """Loads the classifier that a backbone was trained with, as ``params['head']`` of a model.

    Returns:
        ``kernel`` float32 ``[C, N]`` and ``bias`` float32 ``[N]``; for ``'imagenet'`` C is 2048 and
        N the 1000 classes of ILSVRC 2012 in the usual order (0 is the tench).

    Raises:
        UserError: :func:`load` fails, or the source holds no classifier.
    """
    if name in RECORDS:
        return shipped.read(directory / RECORDS[name], "head")[1]["params"]["head"]
    head = load(name, directory).head
    if head is None:
        raise refused(name, "it holds no classifier: give a file with its top")
    return head


def save(weights: Pretrained, path: Path) -> None:
    """Writes weights and their facts as a safetensors file that :func:`load` reads.

    Args:
        weights: of any source but ``'none'``, for example ``load('runs/breakhis')``.
        path: the file; an existing file is replaced.
    """
    params = {**(weights.params or {}), **({"head": weights.head} if weights.head else {})}
    tensors = flatten_dict({"params": params, "batch_stats": weights.batch_stats}, sep="/")
    content = safetensors.numpy.save(tensors, {record.METADATA: json.dumps(weights.facts())})
    with atomic_write(path, "wb") as file:
        file.write(content)


def of_run(run: Run, name: str) -> Pretrained:
    """Returns the weights of a trained network, for another training or for :func:`save`.

    Args:
        run: the network.
        name: name of the weights.
    """
    model = run.classifier.model
    variables = jax.device_get(run.variables)
    params = dict(variables["params"])
    return Pretrained(
        name=name,
        head=params.pop("head"),
        params=params,
        batch_stats=dict(variables["batch_stats"]),
        variant=model.variant,
        bn_epsilon=model.bn_epsilon,
        preprocessing=run.classifier.preprocessing,
        attention=model.attention,
        attention_position=model.attention_position,
        attention_options=model.attention_options,
    )


def _load_shipped(name: str, directory: Path) -> Pretrained:
    path = directory / RECORDS[name]
    facts, tree = shipped.read(path, "backbone")
    try:
        return Pretrained(
            name=name,
            params=tree["params"],
            batch_stats=tree["batch_stats"],
            variant=facts["variant"],
            bn_epsilon=facts["bn_epsilon"],
            preprocessing=Preprocessing.from_dict(facts["preprocessing"]),
            licence=facts["licence"],
            source=facts["source"]["package"],
            sha256=facts["files"]["backbone"]["sha256"],
        )
    except (KeyError, TypeError) as error:
        raise shipped.broken(path) from error


def _load_published(name: str, pixels: Preprocessing | None) -> Pretrained:
    known = hub.KNOWN[name]
    path, revision = hub.fetch(name)
    weights = _load_file(path, name, pixels, published=name)
    if known.sha256 not in (None, weights.sha256):
        raise refused(name, f"{path} is not the file that was published: delete it")
    return dataclasses.replace(
        weights,
        revision=revision,
        interpolation=weights.interpolation or known.interpolation,
    )


def _load_file(
    path: Path, name: str, pixels: Preprocessing | None = None, published: str | None = None
) -> Pretrained:
    """Loads a file.

    Args:
        path: the file.
        name: name of the weights.
        pixels: see :func:`load`.
        published: key of the file in ``hub.KNOWN``; None searches there for the checksum.
    """
    file = formats.read(path)
    published = published or hub.recognise(file.sha256)
    facts: dict[str, Any]
    if variables := layouts.project_variables(file.tensors, name):
        if pixels:
            raise recorded_pixels(name)
        facts = record.read_metadata(file.metadata, variables, name)
        _check_package(file.path, facts, name)
    else:
        layout = layouts.recognise(file.tensors, name)
        variables = layout.variables
        declaration = declared.read_beside(file.path, file.metadata, name)
        if published and (authors := hub.KNOWN[published].pixels):
            declaration = declaration.corrected(authors, hub.KNOWN[published].pixels_url)
        facts = assumptions.join_facts(layout, declaration, name, pixels)
    if published:
        licence = hub.KNOWN[published].licence
        facts |= {
            "licence": licence.name,
            "licence_url": licence.url,
            "non_commercial": licence.non_commercial,
            "source": f"https://huggingface.co/{published}",
        }
    tree = unflatten_dict(variables, sep="/")
    head = tree["params"].pop("head", None)
    return Pretrained(
        **{
            **facts,
            "name": name,
            "params": tree["params"],
            "batch_stats": tree["batch_stats"],
            "head": head,
            "sha256": file.sha256,
        }
    )


def _check_package(path: Path, facts: Mapping[str, Any], name: str) -> None:
    """Refuses a model package whose files contradict each other."""
    for field, stated in declared.package_facts(path, name).items():
        actual = facts.get(field, stated)
        actual = actual.as_dict() if isinstance(actual, Preprocessing) else actual
        actual = dict(actual) if isinstance(actual, Mapping) else actual
        if actual != stated:
            raise refused(
                name,
                f"its config.json says {field} {stated!r:.60}, its tensors were saved with "
                f"{actual!r:.60}: get the package again",
            )


def _workdir(path: Path) -> Path | None:
    """Returns the run's folder if the path is that folder or its chosen checkpoint, else None."""
    path = path.absolute()
    for workdir in (path, *path.parents[:2]):
        checkpoints = RunFolder(workdir).checkpoints.folder
        if path in (workdir, checkpoints, checkpoints / "best") and checkpoints.is_dir():
            return workdir
    return None


def _load_run(workdir: Path, name: str) -> Pretrained:
    try:
        run = load_best(workdir)
    except UserError as error:
        raise refused(name, str(error)) from error
    weights = of_run(run, name)
    terms = record.inherited_terms(RunFolder(workdir).weights_facts())
    return dataclasses.replace(weights, **terms)
