r"""Trains an SE-ResNet on BreaKHis and evaluates it on patients it never saw.

  python train.py --config=configs/quickstart.py --workdir=runs/quickstart
  python train.py --config=configs/breakhis.py --workdir=runs/200x \
      --config.data.dir=/path/to/BreaKHis_v1 --config.data.magnifications=200

Any field of the config file can be set as --config.FIELD=VALUE. The same command again resumes.
--config=RUN/config.json takes the configuration of a run, --print_config prints it, and --dry_run
tries the first step, prints estimates of time, memory and disk, and keeps nothing.
Exit codes: 0 finished; 2 a user error or a full disk, explained in one sentence; 75 after SIGTERM
and 130 after Ctrl-C, when the current step was finished and saved. A second signal ends the process
at once.
"""

from __future__ import annotations

import se_resnet  # noqa: F401  first: lets Ctrl-C end the imports quietly

# isort: split
from absl import flags

from configs import breakhis
from se_resnet.runtime import config_flag, launch
from se_resnet.runtime.cli import PATH, RESUMES, describe_fields, parse_flags, run_command

if __name__ == "__main__":  # before the imports that take seconds

    def _complete(content: dict) -> dict:
        from se_resnet.runs import run_files  # imports OpenCV: only for a file in JSON

        return run_files.of_this_version(content)

    _CONFIG = config_flag.ConfigFlag(breakhis.get_config, _complete)
    _WORKDIR = flags.DEFINE(PATH, "workdir", None, "Folder of the run.")
    _DRY_RUN = flags.DEFINE_bool(
        "dry_run",
        False,
        "Do everything up to the first step and evaluation batch, print estimates, keep nothing.",
    )
    launch.define_flags()
    flags.adopt_module_key_flags(launch)
    flags.adopt_module_key_flags(config_flag)
    parse_flags(
        epilogue=lambda: (
            "\nFields of the configuration, as configs/breakhis.py sets them:\n"
            + describe_fields(breakhis.get_config)
        ),
        config=_CONFIG,
        required=("workdir",),
    )

import json
import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

import eval as evaluation
from data import run_data
from data.config_check import check_data_config
from data.feed.batch_order import steps_per_epoch
from data.feed.choose import open_feed
from data.protocols.roles import number_of_folds
from data.reference.make import make_reference
from se_resnet.errors import UserError, one_line
from se_resnet.images.scale import configured_scale
from se_resnet.models import resnet
from se_resnet.models.classifier import Classifier
from se_resnet.runs import provenance
from se_resnet.runs.lock import locked
from se_resnet.runs.next_steps import next_steps
from se_resnet.runs.run_files import (
    ALL_FOLDS,
    FOLD,
    LAST,
    MEMBER,
    NO_FOLD,
    PROGRESS_FORM,
    REPEAT,
    last_evaluation,
)
from se_resnet.runs.run_folder import RunFolder
from se_resnet.runs.workdir import BEST_FORM, claim
from se_resnet.runtime import numerics, processes, software
from se_resnet.runtime.config_form import conformed
from se_resnet.runtime.files import user_cache_dir, write_json
from se_resnet.runtime.log import log
from se_resnet.runtime.mesh import batch_sharding, data_mesh, replicated
from se_resnet.runtime.paths import local_path
from se_resnet.runtime.times import duration
from se_resnet.tracking import test_results
from se_resnet.tracking.metric_log import MetricLog
from se_resnet.training import loop, optim, rehearsal
from se_resnet.training.augment import Augmentation, make_block_augmenter
from se_resnet.training.config import (
    check_config,
    fold_configs,
    make_augmentation,
    make_recipe,
    member_configs,
    plain,
    repeat_configs,
    without_paths,
)
from se_resnet.training.lr_multipliers import describe_rules, make_rules
from se_resnet.training.progress import Progress, Steps
from se_resnet.training.step import TrainState
from se_resnet.weights import configured, pretrained
from se_resnet.weights.record import Pretrained

# Fields that may change between two starts of the same run: where files lie, what is accepted, how
# often it saves.
_FREE_FIELDS = (
    "data.dir",
    "data.cache_dir",
    "data.placement",
    "split.allow_near_duplicates",
    "checkpoint_minutes",
    "eval_batch_size",
    "permutations",
    "bootstrap_resamples",  # of earlier versions, whose intervals came from a bootstrap
    "trackers",
    "profile_steps",
)


def train_and_evaluate(config: ConfigDict, workdir: str | Path) -> dict[str, Any]:
    """Runs one experiment, or the rest of it.

    Args:
        config: as made by ``configs/breakhis.py``; with ``split.fold = 'all'`` the folds are
            trained one after another, each in ``W/fold0``, ``W/fold1``, ..., and their predictions
            for their test images are evaluated together. With ``repeats`` above 1 all of this is
            done for each repeat, with other seeds, in ``W/repeat0``, ``W/repeat1``, ... With
            ``ensemble.members`` above 1 every network is an ensemble of that many, in
            ``W/member0``, ``W/member1``, ...
        workdir: folder of the run, see :class:`se_resnet.runs.run_folder.RunFolder`; an interrupted
            run resumes there.

    Returns:
        The test metrics, as in ``W/eval/test/metrics.json``; with ``split.fold = 'none'`` the
        validation metrics, as in ``W/eval/val/metrics.json``.

    Raises:
        UserError: a value is out of range, the data is missing or broken, ``workdir`` belongs to
            another configuration or process, the disk is full, or a number is not finite.
        Interrupted: SIGINT or SIGTERM arrived during the training; the state was saved.
    """
    run = RunFolder(local_path(workdir, "--workdir ="))
    config = conformed(config, breakhis.get_config())
    check_config(config)
    with locked(run):
        check_data_config(config)
        weights = load_weights(config)
        claim(run, plain(config), free=_may_differ(config, run))
        with run.logged():
            return _train_claimed(config, run, weights)


def _train_claimed(config: ConfigDict, run: RunFolder, weights: Pretrained) -> dict[str, Any]:
    """Trains and evaluates a run in its locked folder: its parts, or its only network."""
    processes.require_shared(run.path)
    shared = json.dumps(without_paths(config), sort_keys=True)
    numeric = json.dumps(numerics.settings())
    processes.require_same({"configurations": shared, "settings of JAX": numeric})
    if config.repeats > 1:
        repeats = run.repeats(config.repeats)
        return _train_each(REPEAT, repeats, repeat_configs(config), config, run)
    if config.split.fold == ALL_FOLDS:
        count = number_of_folds(config.split.protocol, config.split.folds, config.split.name)
        return _train_each(FOLD, run.folds(count), fold_configs(config, count), config, run)
    if config.ensemble.members > 1:
        members = run.members(config.ensemble.members)
        return _train_each(MEMBER, members, member_configs(config), config, run)
    with _train(config, run, weights) as metric_log:
        make_reference(run)
        results = evaluation.evaluate_run(run.path)
        if config.split.fold != NO_FOLD:
            test_results.send(metric_log, results, run.evaluation())
    return results


def dry_run(config: ConfigDict, workdir: str | Path) -> rehearsal.Estimate:
    """Does everything up to one training step and one evaluation batch, and prints estimates.

    Nothing stays: the workdir is not made or changed. Only the caches keep decoded images and
    compiled programs, which the training then reads. Of several folds, repeats or members the
    first is tried.

    Args:
        config: see :func:`train_and_evaluate`.
        workdir: folder of the run.

    Returns:
        The estimate, of one network.

    Raises:
        UserError: as :func:`train_and_evaluate`; or several processes were started.
    """
    run = RunFolder(local_path(workdir, "--workdir ="))
    config = conformed(config, breakhis.get_config())
    check_config(config)
    if jax.process_count() > 1:
        raise UserError("--dry_run tries one process: start it alone, with --num_processes=1.")
    disk = _disk_of(run.path)
    check_data_config(config)
    weights = load_weights(config)
    claim(run, plain(config), free=_may_differ(config, run))
    tried, runs = repeat_configs(config)[0], config.repeats
    if config.split.fold == ALL_FOLDS:
        count = number_of_folds(config.split.protocol, config.split.folds, config.split.name)
        tried, runs = fold_configs(tried, count)[0], runs * count
    tried, runs = member_configs(tried)[0], runs * config.ensemble.members
    with tempfile.TemporaryDirectory() as folder:
        scratch = RunFolder(folder)
        scratch.checkpoints.rehearse()
        begun = run if run.has_begun else scratch
        data, training, state = _prepare(tried, begun, scratch, weights)
        done = max(run.checkpoints.steps("latest"), default=0)
        feed = open_feed(tried, data, data_mesh())
        estimate = rehearsal.measure(training, state, feed, len(data.validation), done)
    log("estimate", estimate.describe(runs, shutil.disk_usage(disk).free))
    log(
        "dry run",
        f"nothing was written to {run.path}; decoded images and compiled programs stay in "
        f"{user_cache_dir(config.data.cache_dir)}",
    )
    return estimate


def _disk_of(workdir: Path) -> Path:
    """Returns the folder that exists and in which the folder of a run would be made.

    Raises:
        UserError: nothing can be written there.
    """
    exists = next(path for path in (workdir, *workdir.absolute().parents) if path.exists())
    if not (exists.is_dir() and os.access(exists, os.W_OK | os.X_OK)):
        raise UserError(f"{workdir} cannot be written: choose another --workdir.")
    return exists


def _train_each(
    kind: str,
    parts: Sequence[RunFolder],
    configs: Sequence[ConfigDict],
    config: ConfigDict,
    run: RunFolder,
) -> dict[str, Any]:
    """Trains the parts that are not finished, and evaluates all of them together."""
    if processes.is_primary():
        write_json(run.config_path, plain(config))
    seconds: list[float] = []
    for number, (part, part_config) in enumerate(zip(parts, configs, strict=True)):
        if part.evaluation(last_evaluation(plain(part_config))).is_finished:
            log(kind, f"{number}: finished before")
            continue
        left = (len(parts) - number) * sum(seconds) / max(len(seconds), 1)
        estimate = f"; about {duration(left)} left for all" if seconds else ""
        log(kind, f"{number}, the {number + 1}. of {len(parts)}{estimate}")
        began = time.monotonic()
        train_and_evaluate(part_config, part.path)
        seconds.append(time.monotonic() - began)
    return evaluation.evaluate_run(run.path)


def _may_differ(config: ConfigDict, run: RunFolder) -> tuple[str, ...]:
    """Returns the fields that may differ from those of the run in the folder.

    A folder of repeats may be continued with more repeats, an ensemble with more members.
    """
    kind, begun = run.begun_parts()
    if kind == REPEAT and len(begun) <= config.repeats > 1:
        return (*_FREE_FIELDS, "repeats")
    if kind == MEMBER and len(begun) <= config.ensemble.members > 1:
        return (*_FREE_FIELDS, "ensemble.members")
    return _FREE_FIELDS


def _train(config: ConfigDict, run: RunFolder, weights: Pretrained) -> MetricLog:
    """Trains one network, from the last saved step of an earlier start in this folder."""
    if processes.is_primary():
        numerics.keep(run.numerics_path, begun=run.has_begun)
    run.checkpoints.rehearse()
    data, training, state = _prepare(config, run, run, weights)

    # --------------------------------------------------------------- folder of the run
    if processes.is_primary():
        run_data.save(run, data.dataset, data.roles, data.near, data.plan)
        write_json(run.config_path, plain(config))
    state, progress = _resume(config, run, state, training.steps)
    if processes.is_primary():
        software.keep(run.software_path, progress.step)

    # ----------------------------------------------------------------------- training
    feed = open_feed(config, data, data_mesh())
    steps = training.steps
    if progress.is_finished(steps):
        return loop.run(training, state, progress, feed)
    log("needs", rehearsal.describe_needs(state, shutil.disk_usage(run.path).free))
    provenance.begin_training(run, progress.step, steps.per_epoch, steps.total)
    try:
        metric_log = loop.run(training, state, progress, feed)
    except BaseException as error:
        is_signal = isinstance(error, KeyboardInterrupt)
        failure = provenance.FAILED + one_line(error)
        provenance.reach(run, ended=provenance.INTERRUPTED if is_signal else failure)
        raise
    provenance.reach(run, ended=provenance.FINISHED)
    return metric_log


def _prepare(
    config: ConfigDict, begun: RunFolder, run: RunFolder, weights: Pretrained
) -> tuple[run_data.RunData, loop.Training, TrainState]:
    """Prepares everything that a training needs before its first step.

    Args:
        config: of the run.
        begun: folder whose run, if it has begun, must have the same images in the same roles.
        run: folder of the run, where the provenance of the weights is recorded.
        weights: the configured weights.
    """
    mesh = data_mesh()
    batch_sharding(mesh, config.batch_size // config.optim.accumulate)  # refuses other sizes

    # --------------------------- network; its mistakes are found before an image is read
    classifier, variables = build_model(config, run, weights)
    params = variables["params"]
    rules = make_rules(config.optim, (*classifier.model.stage_names, optim.HEAD))
    described = describe_rules(rules, params)

    # ------------------------------------------------------- images, split, balanced plan
    augment = make_augmentation(config)
    data = run_data.prepare(config, begun, make_block_augmenter(augment, config.seed))
    if data.is_augmented:
        augment = Augmentation(flip=False, rotate=False)

    # ------------------------------------------------------------------ optimizer, state
    log("model", classifier.describe(config.model.pretrained, params, mesh.size))
    log("trained", described)
    steps = Steps(steps_per_epoch(data.plan, config.batch_size), config.epochs)
    recipe = make_recipe(config, augment)
    length = {"epochs": steps.epochs, "epoch_steps": steps.per_epoch}
    phases = optim.make_phases(config.optim, rules, params, **length)
    state = TrainState.create(variables, phases, averaged=recipe.ema_decay > 0)
    state = processes.put(state, replicated(mesh))
    del variables, params, weights  # the first step takes their memory
    return data, loop.Training(classifier, recipe, phases, steps, config, run), state


def _resume(
    config: ConfigDict, run: RunFolder, state: TrainState, steps: Steps
) -> tuple[TrainState, Progress]:
    """Returns the last saved state and progress, or ``state`` before the first step."""
    restored = run.checkpoints.restore_latest(state, PROGRESS_FORM)
    if restored is None:
        return state, Progress.begin(config)
    for warning in restored.warnings:
        log("resume", f"WARNING: {warning}")
    step = int(restored.tree.step)
    progress = Progress.from_facts(config, step, restored.facts)
    chooses_last = config.checkpoint.choose == LAST
    is_chosen = progress.is_finished(steps) if chooses_last else bool(progress.best_score)
    if is_chosen:
        # Refuses chosen weights now that could not be evaluated after the training.
        run.checkpoints.best_facts(BEST_FORM)
    log("resume", f"from step {step} of {steps.total}")
    return restored.tree, progress


def load_weights(config: ConfigDict) -> Pretrained:
    """Loads the configured weights, and shows the licence of published weights before that.

    Raises:
        UserError: the weights cannot be used as configured, or their licence is not accepted.
    """
    if licence := configured.published_licence(config.model.pretrained):
        log("licence", f"of {config.model.pretrained}: {licence.describe()}")
    return configured.load(config.model)


def build_model(
    config: ConfigDict, run: RunFolder, loaded: Pretrained | None = None
) -> tuple[Classifier, dict[str, Any]]:
    """Builds the network and its variables before the first step, from the configured weights.

    The provenance of the weights is recorded in ``weights.json`` of the run.

    Args:
        config: as made by ``configs/breakhis.py``.
        run: the run's folder.
        loaded: result of :func:`load_weights`; None to load them.

    Raises:
        UserError: weights or network are not available as configured, or a resumed run began with
            other weights.
    """
    loaded = loaded or load_weights(config)
    if processes.is_primary():
        pretrained.keep_facts(loaded, run.weights_path, begun=run.has_begun)
    weights = loaded.for_attention(config.model.attention, config.model.attention_position)
    log("weights", loaded.describe())
    for remark in loaded.remarks(config.data.size):
        log("weights", remark)
    if weights.attention != loaded.attention:
        log(
            "weights",
            f"WARNING: they were trained with attention {loaded.attention} "
            f"({loaded.attention_position}), which config.model.attention and attention_position "
            "leave out: without it the network does not compute what it was trained to compute",
        )
    return new_network(config, weights)


def new_network(config: ConfigDict, weights: Pretrained) -> tuple[Classifier, dict[str, Any]]:
    """Returns the configured network and its variables before the first step.

    Args:
        config: as made by ``configs/breakhis.py``.
        weights: as :meth:`Pretrained.for_attention` returns them.
    """
    model = resnet.create_model(
        attention=config.model.attention,
        attention_position=config.model.attention_position,
        attention_options={
            **weights.attention_options,
            **config.model.attention_options.to_dict(),
        },
        variant=weights.variant,
        bn_epsilon=weights.bn_epsilon,
        stage_sizes=config.model.stage_sizes,
        width=config.model.width,
        formulation=config.model.formulation,
        dtype=config.model.dtype,
        dropout=config.model.dropout,
    )
    classifier = Classifier(
        model,
        weights.preprocessing,
        config.data.size,
        config.data.resize,
        configured_scale(config.data),
    )
    key = jax.random.key(config.seed)
    return classifier, pretrained.initial_variables(model, weights, key, classifier.size)


def main() -> None:
    """The command."""
    if _CONFIG.notes:
        log("config", "\n".join(_CONFIG.notes))
    if _DRY_RUN.value:
        dry_run(_CONFIG.value, str(_WORKDIR.value))
        return
    train_and_evaluate(_CONFIG.value, str(_WORKDIR.value))
    run = RunFolder(str(_WORKDIR.value))
    with run.logged():
        print(next_steps(run))


if __name__ == "__main__":
    run_command(main, RESUMES)
