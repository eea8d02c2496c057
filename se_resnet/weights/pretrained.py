"""Weights to start from, each with the variant, epsilon and preprocessing that it was trained with.

``'imagenet'`` ships with the package: ResNet50 v1 as Keras and Caffe have it, made by
:mod:`se_resnet.convert`, which names source and licence. ``'none'`` is random initialisation. The
other sources are repositories of :data:`se_resnet.weights.hub.KNOWN`, files in any naming of
:data:`se_resnet.weights.naming.NAMINGS`, runs of ``train.py``, files that :func:`save` wrote and
model packages (:mod:`se_resnet.package`).
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy
from flax.core import FrozenDict
from flax.traverse_util import flatten_dict, unflatten_dict

from se_resnet import attention
from se_resnet.errors import UserError
from se_resnet.models.preprocessing import FORM as PREPROCESSING_FORM
from se_resnet.models.preprocessing import IMAGENET, Preprocessing
from se_resnet.models.resnet import ResNet
from se_resnet.runs.run_files import WEIGHTS_FORM, read_optional
from se_resnet.runtime.files import atomic_write, parse_json, write_json
from se_resnet.runtime.schema import misfit
from se_resnet.weights import assumptions, declared, formats, hub, shipped
from se_resnet.weights import layout as layouts
from se_resnet.weights.formats import refused

if TYPE_CHECKING:
    from se_resnet.runs.workdir import Run  # imports this module

WEIGHTS_DIRECTORY = Path(__file__).parent
RECORDS = {"imagenet": "resnet50_v1_imagenet.json"}
NONE = "none"
_METADATA = "se_resnet"


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """A backbone's weights and all that must hold where they are used.

    Attributes:
        name: what :func:`load` was given.
        params: nested float32 arrays of stem and stages, with attention where the weights were
            trained with it, in the layout of :mod:`se_resnet.models.resnet`; None for random
            initialisation.
        batch_stats: the running means and variances that go with them, or None.
        variant: where the strides sit, ``'v1'`` or ``'v1.5'``.
        bn_epsilon: added to the variances in batch normalisation.
        preprocessing: how the network's input is made from RGB pixels.
        licence: SPDX identifier of the weights' licence, or an empty string.
        source: where the weights were published, or an empty string.
        sha256: checksum of the file that held them, or an empty string.
        revision: commit of the repository that they come from, or an empty string.
        interpolation: how the images were resized that the weights were trained with, or an empty
            string. It is a fact to know of: images are resized as :mod:`se_resnet.images.resize`
            does it, whatever the weights.
        attention: name of the attention module that the weights were trained with, or ``'none'``.
        attention_position: where it sits, see :class:`se_resnet.models.resnet.ResNet`.
        attention_options: its options.
        head: ``kernel`` and ``bias`` of the classifier that came with the weights, or None.
        assumed: what neither the tensors nor the files beside them say, and was taken to be as in
            the library that the tensors' names belong to.
        notes: what was done to the tensors or is otherwise good to know.
    """

    name: str
    params: dict[str, Any] | None
    batch_stats: dict[str, Any] | None
    variant: str
    bn_epsilon: float
    preprocessing: Preprocessing
    licence: str = ""
    source: str = ""
    sha256: str = ""
    revision: str = ""
    interpolation: str = ""
    attention: str = attention.NONE
    attention_position: str = "branch"
    attention_options: Mapping[str, Any] = FrozenDict()
    head: dict[str, np.ndarray] | None = None
    assumed: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def facts(self) -> dict[str, Any]:
        """All but the arrays, as JSON knows it."""
        return {
            "name": self.name,
            **{field: getattr(self, field) for field in _FACTS},
            "preprocessing": self.preprocessing.as_dict(),
            "attention_options": dict(self.attention_options),
            **{field: list(getattr(self, field)) for field in _REMARKS},
        }

    def remarks(self) -> list[str]:
        """Returns what a user should know of the weights, one sentence each."""
        assumed = self.assumed and [
            "ASSUMED, because neither the tensors nor a config.json beside them say it: "
            + "; ".join(self.assumed)
        ]
        return [*assumed, *self.notes]

    def describe(self) -> str:
        """Name, source, revision, checksum, licence and variant in one line."""
        parts = [self.name, self.source, self.revision and f"revision {self.revision}"]
        parts += [self.sha256 and f"sha256 {self.sha256}", self.licence]
        return ", ".join([*filter(None, parts), f"ResNet {self.variant}"])

    def for_attention(self, name: str, position: str) -> Pretrained:
        """The weights for a network with this attention: without their own, if that is another."""
        if (name, position) == (self.attention, self.attention_position):
            return self
        kept: dict[str, Any] = {}
        for part in ("params", "batch_stats"):
            flat = flatten_dict(getattr(self, part) or {})
            flat = {path: leaf for path, leaf in flat.items() if "attention" not in path}
            kept[part] = None if self.params is None else unflatten_dict(flat)
        return dataclasses.replace(
            self, **kept, attention=attention.NONE, attention_options=FrozenDict()
        )


_FACTS = (
    "variant",
    "bn_epsilon",
    "licence",
    "source",
    "sha256",
    "revision",
    "interpolation",
    "attention",
    "attention_position",
)
_REMARKS = ("assumed", "notes")
_WRITTEN = {
    **dict.fromkeys(_FACTS, str),
    "bn_epsilon": float,
    "preprocessing": PREPROCESSING_FORM,
    "attention_options": {str: object},
}
# The architecture is that of 'imagenet', so that a comparison of the two isolates the weights. The
# input has about unit variance because running variances start at 1.
_RANDOM = Pretrained(NONE, None, None, variant="v1", bn_epsilon=1e-3, preprocessing=IMAGENET)


def load(name: str, directory: Path = WEIGHTS_DIRECTORY) -> Pretrained:
    """Loads a backbone.

    Args:
        name: ``'imagenet'``; ``'none'`` for random initialisation: variant v1, epsilon 1e-3, RGB
            standardised with ImageNet's means and standard deviations; one of
            :data:`se_resnet.weights.hub.KNOWN`, downloaded once; or a path: of a file as
            :func:`se_resnet.weights.formats.read` takes it, or of the folder of a run of
            ``train.py`` or its ``checkpoints/best``.
        directory: where the shipped weights' files lie.

    Raises:
        UserError: the name is unknown, or a file is missing, broken, of no known layout or not the
            recorded one. Nothing is loaded in part.
    """
    if name == NONE:
        return _RANDOM
    if name in RECORDS:
        return _load_shipped(name, directory)
    if name in hub.KNOWN:
        known = hub.KNOWN[name]
        path, revision = hub.fetch(name)
        weights = _load_file(path, name)
        if known.sha256 not in (None, weights.sha256):
            raise refused(name, f"{path} is not the file that was published: delete it")
        return dataclasses.replace(
            weights,
            licence=known.licence,
            revision=revision,
            interpolation=weights.interpolation or known.interpolation,
            source=f"https://huggingface.co/{name}",
        )
    check_name(name)
    path = Path(name).expanduser()
    workdir = _workdir(path)
    return _load_run(workdir, name) if workdir else _load_file(path, name)


def check_name(name: str) -> None:
    """Refuses what :func:`load` knows no weights by, without reading or downloading any.

    Raises:
        UserError: ``name`` is neither that of a source nor an existing path.
    """
    sources = [NONE, *RECORDS, *hub.KNOWN]
    if name not in sources and not (name and Path(name).expanduser().exists()):
        raise refused(
            name, f"it is no file; choose one of {', '.join(sources)}, or give the path of weights"
        )


def load_head(name: str, directory: Path = WEIGHTS_DIRECTORY) -> dict[str, np.ndarray]:
    """Loads the classifier that a backbone was trained with, as ``params['head']`` of a model.

    Returns:
        ``kernel`` float32 ``[C, N]`` and ``bias`` float32 ``[N]``; for ``'imagenet'`` C is 2048 and
        N the 1000 classes of ILSVRC 2012 in the usual order (0 is the tench).

    Raises:
        UserError: as :func:`load`, or the source holds no classifier.
    """
    if name in RECORDS:
        return shipped.read(directory / RECORDS[name], "head")[1]["params"]["head"]
    head = load(name, directory).head
    if head is None:
        raise refused(name, "it holds no classifier: give a file with its top")
    return head


def save(weights: Pretrained, path: Path) -> None:
    """Writes weights, with all that must hold where they are used, as safetensors for :func:`load`.

    Args:
        weights: of any source but ``'none'``, for example ``load('runs/breakhis')``.
        path: of the file; one that is there is replaced.
    """
    params = {**(weights.params or {}), **({"head": weights.head} if weights.head else {})}
    tensors = flatten_dict({"params": params, "batch_stats": weights.batch_stats}, sep="/")
    content = safetensors.numpy.save(tensors, {_METADATA: json.dumps(weights.facts())})
    with atomic_write(path, "wb") as file:
        file.write(content)


def keep_facts(weights: Pretrained, path: Path, begun: bool) -> None:
    """Writes what a run starts from, or checks that a run that goes on still has it.

    Args:
        weights: of the run.
        path: of the JSON file.
        begun: whether the run goes on.

    Raises:
        UserError: the weights are no longer those of the run's start.
    """
    facts = json.loads(json.dumps(weights.facts()))
    if not begun:
        write_json(path, facts)
        return
    found = read_optional(path, WEIGHTS_FORM) or {}
    for field in _REMARKS:  # a run may go on where a configuration cannot be fetched again
        found.pop(field, None)
    if changed := [field for field in found if found[field] != facts.get(field)]:
        raise refused(
            weights.name,
            f"its {changed[0]} is no longer what {path} says: restore the weights, or choose "
            "another --workdir",
        )


def initial_variables(
    model: ResNet,
    pretrained: Pretrained,
    key: jax.Array,
    image_size: tuple[int, int] = (224, 224),
) -> dict[str, Any]:
    """The model's variables before training: the pretrained backbone, the rest freshly initialised.

    Attention modules and head are initialised from ``key``; the head's weights are zero, see
    :class:`se_resnet.models.resnet.ResNet`.

    Args:
        model: the model to fill.
        pretrained: the weights; with params None everything is initialised from ``key``.
        key: a random key.
        image_size: height and width in pixels of the images to come.

    Returns:
        ``{'params': ..., 'batch_stats': ...}``, nested dicts of float32 arrays on the default
        device.

    Raises:
        UserError: variant or epsilon differ, a pretrained tensor does not fit the model, or the
            model's backbone has a tensor that the weights lack.
    """
    backbone: dict[str, np.ndarray] = {}
    if pretrained.params is not None:
        carried = ("attention", "attention_position", "attention_options")
        for field in (
            "variant",
            "bn_epsilon",
            *(carried if pretrained.attention != attention.NONE else ()),
        ):
            wanted, given = getattr(pretrained, field), getattr(model, field)
            if wanted != given:
                raise UserError(
                    f"weights {pretrained.name!r} need {field} {wanted}, the model has {given}: "
                    "take it from the weights"
                )
        backbone = flatten_dict(
            {"params": pretrained.params, "batch_stats": pretrained.batch_stats}, sep="/"
        )

    def initialise(key: jax.Array) -> dict[str, jax.Array]:
        variables = model.init(key, jnp.zeros((1, *image_size, 3)), train=False)
        return flatten_dict(variables, sep="/")

    shapes = {path: leaf.shape for path, leaf in jax.eval_shape(initialise, key).items()}
    _check_fit(pretrained, backbone, shapes)
    # Leaving the loaded tensors out of the jitted function's result spares computing them.
    fresh = jax.jit(lambda key: {k: v for k, v in initialise(key).items() if k not in backbone})(
        key
    )
    # A copy: the loaded arrays must survive a training step that reuses its arguments' memory.
    loaded = {path: jnp.array(value, copy=True) for path, value in backbone.items()}
    return unflatten_dict(
        {path: fresh[path] if path in fresh else loaded[path] for path in shapes}, sep="/"
    )


def _load_shipped(name: str, directory: Path) -> Pretrained:
    path = directory / RECORDS[name]
    record, tree = shipped.read(path, "backbone")
    try:
        return Pretrained(
            name=name,
            params=tree["params"],
            batch_stats=tree["batch_stats"],
            variant=record["variant"],
            bn_epsilon=record["bn_epsilon"],
            preprocessing=Preprocessing.from_dict(record["preprocessing"]),
            licence=record["licence"],
            source=record["source"]["package"],
            sha256=record["files"]["backbone"]["sha256"],
        )
    except (KeyError, TypeError) as error:
        raise shipped.broken(path) from error


def _load_file(path: Path, name: str) -> Pretrained:
    file = formats.read(path)
    if variables := layouts.ours(file.tensors, name):
        facts = _read_metadata(file.metadata, variables, name)
        _check_package(file.path, facts, name)
    else:
        layout = layouts.recognise(file.tensors, name)
        variables = layout.variables
        said = declared.beside(file.path, file.metadata, name)
        facts = assumptions.facts(layout, said, name)
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
    for field, value in declared.package_facts(path, name).items():
        given = facts.get(field, value)
        given = given.as_dict() if isinstance(given, Preprocessing) else given
        given = dict(given) if isinstance(given, Mapping) else given
        if given != value:
            raise refused(
                name,
                f"its config.json says {field} {value!r:.60}, its tensors were saved with "
                f"{given!r:.60}: get the package again",
            )


def _read_metadata(
    metadata: Mapping[str, str], variables: Mapping[str, np.ndarray], name: str
) -> dict[str, Any]:
    """What :func:`save` wrote beside the tensors, which must be those of such a network."""
    try:
        written = parse_json(metadata[_METADATA])
        if problem := misfit(written, _WRITTEN):
            raise ValueError(problem)
        attention.require_trusted(written["attention"], name)
        facts = {
            **{field: written[field] for field in _FACTS},
            "preprocessing": Preprocessing.from_dict(written["preprocessing"]),
            "attention_options": FrozenDict(written["attention_options"]),
            **{field: tuple(map(str, written.get(field, ()))) for field in _REMARKS},
        }
        model = ("variant", "bn_epsilon", "attention", "attention_position", "attention_options")
        layouts.check(variables, name, **{field: facts[field] for field in model})
        return facts
    except (KeyError, ValueError, TypeError) as error:
        raise refused(
            name,
            "its tensors have our names, but it does not say what they were trained with: make it "
            "with se_resnet.weights.pretrained.save, or use 'imagenet' for the weights that ship",
        ) from error


def _workdir(path: Path) -> Path | None:
    """The folder of the run that this is, or whose best checkpoint this is."""
    path = path.absolute()
    for workdir in (path, *path.parents[:2]):
        checkpoints = workdir / "checkpoints"
        if path in (workdir, checkpoints, checkpoints / "best") and checkpoints.is_dir():
            return workdir
    return None


def _load_run(workdir: Path, name: str) -> Pretrained:
    from se_resnet.runs.workdir import load_best  # imports this module

    try:
        run = load_best(workdir)
    except UserError as error:
        raise refused(name, str(error)) from error
    return of_run(run, name)


def of_run(run: Run, name: str) -> Pretrained:
    """The weights of a trained network, to start another from or to :func:`save`.

    Args:
        run: the network.
        name: what to call them.
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


def _check_fit(
    pretrained: Pretrained,
    backbone: Mapping[str, np.ndarray],
    shapes: Mapping[str, tuple[int, ...]],
) -> None:
    stage_sizes, width = layouts.architecture(backbone)
    problem = f"weights {pretrained.name!r} do not fit the model"
    remedy = f"use stage_sizes {stage_sizes} and width {width}, or weights 'none'"
    for path, value in backbone.items():
        if value.shape != shapes.get(path):
            raise UserError(
                f"{problem}: {path} has shape {value.shape} in the "
                f"weights and {shapes.get(path, 'no place')} in the model: {remedy}"
            )
    for path in shapes:
        new = path.startswith("params/head/") or (
            "attention" in path.split("/") and pretrained.attention == attention.NONE
        )
        if backbone and path not in backbone and not new:
            raise UserError(f"{problem}: they lack {path}: {remedy}")
