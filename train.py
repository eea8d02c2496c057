r"""Trains an SE-ResNet on BreaKHis and evaluates it on patients it never saw.

  python train.py --config=configs/quickstart.py --workdir=runs/quickstart
  python train.py --config=configs/breakhis.py --workdir=runs/200x \
      --config.data.dir=/path/to/BreaKHis_v1 --config.data.magnifications=200

Any field of the config file can be set as --config.FIELD=VALUE. The same command again resumes.
Exit codes: 0 finished, 2 a mistake or a full disk, told in one sentence; 75 after SIGTERM and 130
after Ctrl-C: the step that ran was finished and saved. A second signal ends the process at once.
"""

from __future__ import annotations

from absl import flags
from ml_collections import config_flags

from configs import breakhis
from se_resnet.runtime import launch
from se_resnet.runtime.cli import PATH, describe_fields, parse_flags, read_config, run_command

if __name__ == "__main__":  # before the imports that take seconds
    _CONFIG = config_flags.DEFINE_config_file("config", None, "The experiment.")
    _WORKDIR = flags.DEFINE(PATH, "workdir", None, "Folder of the run.", required=True)
    launch.define_flags()
    flags.adopt_module_key_flags(launch)
    parse_flags(
        epilogue=lambda: (
            "\nFields of the configuration, as configs/breakhis.py sets them:\n"
            + describe_fields(breakhis.get_config)
        )
    )

import dataclasses
import functools
import json
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict
from tqdm import tqdm

import eval as evaluation
from data import balance, run_data
from data.dataset import Dataset, load_configured
from data.feed import batch_order, device
from data.protocols import audit, source_notebook
from data.protocols.roles import SOURCE, assign_roles, number_of_folds
from se_resnet.metrics.decision import decide
from se_resnet.models import resnet
from se_resnet.models.classifier import Classifier
from se_resnet.runs.checkpoint import Checkpoints
from se_resnet.runs.lock import locked
from se_resnet.runs.run_files import CONFIG, PROGRESS_FORM, TRAIN, VAL, WEIGHTS, read_data
from se_resnet.runs.workdir import BEST_FORM, claim, flatten, fold_folders, has_begun
from se_resnet.runtime import numerics, processes
from se_resnet.runtime import signals as preemption
from se_resnet.runtime.files import write_json
from se_resnet.runtime.mesh import batch_sharding, data_mesh, replicated
from se_resnet.runtime.paths import local_path
from se_resnet.tracking import test_results, trackers
from se_resnet.tracking.metric_log import MetricLog
from se_resnet.tracking.profiling import Profiler
from se_resnet.training import divergence, optim
from se_resnet.training.augment import Augmentation, drawn_once
from se_resnet.training.config import ALL_FOLDS, ON_DEVICE, check_config, without_places
from se_resnet.training.early_stopping import EarlyStopping
from se_resnet.training.lr_multipliers import describe_rules, make_rules
from se_resnet.training.recipe import make_augmentation, make_recipe
from se_resnet.training.step import (
    Metrics,
    TrainState,
    all_finite,
    describe_epoch,
    make_train_step,
    make_train_steps,
    validation_metrics,
)
from se_resnet.training.step_metrics import StepMetrics
from se_resnet.weights import pretrained

# What may change between two starts of the same run: where things lie and how often it saves.
_FREE_FIELDS = (
    "data.dir",
    "data.cache_dir",
    "data.placement",
    "checkpoint_minutes",
    "eval_batch_size",
    "bootstrap_resamples",
    "trackers",
    "profile_steps",
)


def train_and_evaluate(config: ConfigDict, workdir: str | Path) -> dict[str, Any]:
    """Runs one experiment, or the rest of it.

    Args:
        config: as made by ``configs/breakhis.py``; with ``split.fold = 'all'`` the folds are
            trained one after another, each in ``W/fold0``, ``W/fold1``, ..., and what they predict
            for their test images is evaluated together.
        workdir: holds everything the run writes; a run that was interrupted there goes on.

    Returns:
        The test metrics, as in ``W/eval/test/metrics.json``.

    Raises:
        UserError: a value is out of range, the data is missing or broken, ``workdir`` belongs to
            another configuration or process, the disk is full, or a number is no longer finite.
        Interrupted: SIGINT or SIGTERM came while steps were done, and the state was saved.
    """
    workdir = Path(local_path(workdir, "--workdir ="))
    check_config(config)
    with locked(workdir):
        claim(workdir, json.loads(config.to_json()), free=_FREE_FIELDS)
        processes.require_shared(workdir)
        shared = json.dumps(without_places(config), sort_keys=True)
        numeric = json.dumps(numerics.settings())
        processes.require_same({"configurations": shared, "settings of JAX": numeric})
        if config.split.fold == ALL_FOLDS:
            _cross_validate(config, workdir)
            return evaluation.evaluate_run(workdir)
        with _train(config, workdir) as log:
            results = evaluation.evaluate_run(workdir)
            test_results.tell(log, results, workdir / "eval" / "test")
        return results


def _cross_validate(config: ConfigDict, workdir: Path) -> None:
    """Trains and evaluates the folds that are not finished."""
    if processes.is_primary():
        write_json(workdir / CONFIG, json.loads(config.to_json()))
    folds = number_of_folds(config.split.protocol, config.split.folds)
    for fold, folder in enumerate(fold_folders(workdir, folds)):
        if evaluation.is_evaluated(folder):
            _say("fold", f"{fold}: finished before")
            continue
        _say("fold", f"{fold}, the {fold + 1}. of {folds}")
        own = config.copy_and_resolve_references()
        own.split.fold = str(fold)
        train_and_evaluate(own, folder)


def _train(config: ConfigDict, workdir: Path) -> MetricLog:
    """Trains one network, from where an earlier start in this folder left off."""
    if processes.is_primary():
        numerics.keep(workdir, begun=has_begun(workdir))
    checkpoints = Checkpoints(workdir / "checkpoints")
    checkpoints.rehearse()

    # ------------------------------------------------------------------ data
    dataset = processes.primary_first(lambda: _load_images(config, workdir))
    images, records = dataset.images, dataset.records
    _say("data", dataset.description)
    roles = assign_roles(
        records,
        config.split.protocol,
        folds=config.split.folds,
        fold=int(config.split.fold),
        val_folds=config.split.val_folds,
        seed=config.split.seed,
    )
    audit.verify(records, roles, config.split.protocol)
    if has_begun(workdir):
        begun = read_data(workdir)
        run_data.check_kept(workdir, begun["fingerprint"], dataset, roles)
    folds = number_of_folds(config.split.protocol, config.split.folds)
    told = run_data.describe_split(config.split.protocol, config.split.fold, folds, records, roles)
    _say("split", told)
    validation = records.take(roles == VAL)
    if config.split.protocol == SOURCE:  # balanced and augmented before the split
        method, augment = "none", Augmentation(flip=False, rotate=False)
    else:
        method, augment = config.balance.method, make_augmentation(config)
    plan = balance.make_plan(
        records.take(roles == TRAIN),
        images,
        method=method,
        features=config.balance.features,
        within_magnification=config.balance.within_magnification,
        k_neighbors=config.balance.k_neighbors,
        seed=config.seed,
    )
    _say("balance", f"{method}: {plan.describe()}")
    processes.require_same({"images": dataset.fingerprint, "plans": plan.columns()})

    # ----------------------------------------------------------------- model
    classifier, variables = build_model(config, workdir)
    mesh = data_mesh()
    sharding = batch_sharding(mesh, config.batch_size // config.optim.accumulate)
    _say("model", classifier.describe(config.model.pretrained, variables["params"], mesh.size))

    # ----------------------------------------------------------------- steps
    epoch_steps = batch_order.steps_per_epoch(plan, config.batch_size)
    total_steps = config.epochs * epoch_steps
    recipe = make_recipe(config, augment)
    rules = make_rules(config.optim, (*classifier.model.stage_names, optim.HEAD))
    duration = {"epochs": config.epochs, "epoch_steps": epoch_steps}
    phases = optim.make_phases(config.optim, rules, variables["params"], **duration)
    _say("trained", describe_rules(rules, variables["params"]))
    predict = classifier.make_predict()
    state = TrainState.create(variables, phases, averaged=recipe.ema_decay > 0)
    state = processes.put(state, replicated(mesh))
    del variables  # the first step takes their memory

    # ------------------------------------------------------------ checkpoint
    if processes.is_primary():
        run_data.keep(workdir, dataset, roles)
        write_json(workdir / CONFIG, json.loads(config.to_json()))
    best_score: list[float] = []
    stopping, unlogged = EarlyStopping(**config.early_stopping), []
    if restored := checkpoints.restore_latest(state, PROGRESS_FORM):
        state, progress_facts, warnings = restored
        for warning in warnings:
            _say("resume", f"WARNING: {warning}")
        best_score, unlogged = progress_facts["best_score"], progress_facts["unlogged"]
        stopping = EarlyStopping(**config.early_stopping, **progress_facts["early_stopping"])
        if best_score:
            # Refuses now what could not be evaluated after the training.
            checkpoints.best_facts(BEST_FORM)
        _say("resume", f"from step {int(state.step)} of {total_steps}")

    # --------------------------------------------------------------- batches
    start = int(state.step)
    advance: list[Callable[..., tuple[TrainState, Metrics]]]  # by phase
    blocks: Iterator[Any]
    stop = start if stopping.stopped else total_steps
    order = {"seed": config.seed, "start": start, "stop": stop}
    layout = {"batch_size": config.batch_size, "sharding": sharding}
    if config.data.placement == ON_DEVICE:
        placed = device.place(images, plan, replicated(mesh))
        make_steps = functools.partial(make_train_steps, make_batch=device.make_batch)
        advance = [
            functools.partial(make_steps(classifier, recipe, phase), placed) for phase in phases
        ]
        blocks = device.row_blocks(plan, **order, **layout, pause=config.log_every_steps)
        eval_batches = functools.partial(device.eval_batches, placed.images)
    else:
        from data.feed import host  # TensorFlow, which the other placement does not need

        advance = [make_train_step(classifier, recipe, phase) for phase in phases]
        blocks = host.train_batches(images, plan, **order, **layout)
        eval_batches = functools.partial(host.eval_batches, images)

    # ------------------------------------------------------------------ loop
    def files_of_step(step: int) -> list[str]:
        seed = config.seed
        return batch_order.files_of_step(plan, records, config.batch_size, seed, step - 1)

    check = divergence.make_check(checkpoints, files_of_step)
    told_to = trackers.parse(config.trackers)
    log = MetricLog(workdir, start, epoch_steps, told_to, flatten(without_places(config)))
    profiler = Profiler(config.profile_steps, workdir / "tensorboard", start, total_steps)
    figures = StepMetrics(start, unlogged, check)
    last_save = time.monotonic()
    progress = tqdm(
        total=total_steps * config.batch_size,
        initial=start * config.batch_size,
        unit="image",
        desc="training",
        disable=None,
    )
    step, interrupted, alone = start, False, jax.process_count() == 1
    with preemption.deferred() as signals:
        for block in blocks:
            profiler.reach(step, state)
            phase = optim.phase_at(phases, step)
            state, of_block = advance[phase.number](state, block)
            step += figures.add(of_block)
            end_of_epoch = step % epoch_steps == 0
            pause = step % config.log_every_steps == 0 or end_of_epoch
            # Several processes agree on it where they wait for each other anyway.
            interrupted = (alone or pause) and processes.any_process(signals.signum is not None)
            # The devices work on one block meanwhile.
            for loss in figures.read(leave=0 if pause or interrupted else 1):
                progress.update(config.batch_size)
                progress.set_postfix(loss=f"{loss:.3f}", refresh=False)
            if not (pause or interrupted):
                continue
            check("the training state", step, bool(all_finite(state)))
            if pause:
                rate = {"train/learning_rate": phase.learning_rate(step - 1)}
                log.write(step, figures.take() | rate)
            if end_of_epoch:
                batches = {"batch_size": config.eval_batch_size, "sharding": sharding}
                logits = predict(state.variables, eval_batches(validation.row, **batches))
                check("a validation logit", step, bool(np.isfinite(logits).all()))
                scalars = validation_metrics(validation.label, logits)
                log.write(step, scalars)
                told = describe_epoch(step // epoch_steps, config.epochs, scalars)
                progress.write(f"{'epoch':<10}{told}")
                score = [scalars["val/roc_auc"] or 0.0, -scalars["val/loss"]]
                if not best_score or score > best_score:
                    best_score = score
                    chosen = decide(validation.label, logits, config.decision.target)
                    facts = {**classifier.as_dict(), "decision": dataclasses.asdict(chosen)}
                    checkpoints.save_best(step, state.variables, facts)
                if phase is phases[-1]:
                    stopping.update(scalars)
            elif not interrupted:
                since_save = time.monotonic() - last_save
                if not processes.any_process(since_save >= 60 * config.checkpoint_minutes):
                    continue
            log.sync()
            progress_facts = {
                "best_score": best_score,
                "early_stopping": stopping.progress(),
                "unlogged": figures.rows(),
            }
            checkpoints.save_latest(step, state, progress_facts)
            last_save = time.monotonic()
            if stopping.stopped or interrupted:
                break
    profiler.close()
    progress.close()
    if interrupted or signals.signum is not None:
        log.close()
        signum = signals.signum or signal.SIGTERM
        raise preemption.Interrupted(signum, f"saved after step {step} of {total_steps}")
    if stopping.stopped:
        _say("stop", stopping.describe())
    return log


def _load_images(config: ConfigDict, workdir: Path) -> Dataset:
    dataset = load_configured(config.data)
    if config.split.protocol != SOURCE:
        return dataset
    augment = drawn_once(make_augmentation(config), config.seed)
    return source_notebook.derive(dataset, workdir / SOURCE, augment, config.seed)


def build_model(config: ConfigDict, workdir: Path) -> tuple[Classifier, dict[str, Any]]:
    """The network and its variables before the first step, from the configured weights.

    What is known of the weights is kept in ``weights.json`` in ``workdir``.

    Raises:
        UserError: weights or network are not to be had as configured, or a run that goes on began
            with other weights.
    """
    loaded = pretrained.load(config.model.pretrained)
    if processes.is_primary():
        pretrained.keep_facts(loaded, workdir / WEIGHTS, begun=has_begun(workdir))
    weights = loaded.for_attention(config.model.attention, config.model.attention_position)
    _say("weights", loaded.describe())
    for remark in loaded.remarks():
        _say("weights", remark)
    if weights.attention != loaded.attention:
        _say(
            "weights",
            f"WARNING: they were trained with attention {loaded.attention} "
            f"({loaded.attention_position}), which config.model.attention and attention_position "
            "leave out: without it the network does not compute what it was trained to compute",
        )
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
    classifier = Classifier(model, weights.preprocessing, config.data.size, config.data.resize)
    key = jax.random.key(config.seed)
    return classifier, pretrained.initial_variables(model, weights, key, classifier.size)


def _say(topic: str, text: str) -> None:
    print(f"{topic:<10}" + text.replace("\n", "\n" + " " * 10), flush=True)


def main() -> None:
    """The command."""
    train_and_evaluate(read_config(_CONFIG.value), _WORKDIR.value)


if __name__ == "__main__":
    run_command(main)
