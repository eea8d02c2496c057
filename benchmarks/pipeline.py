"""Compares the input pipeline with a torch DataLoader that does the same work.

    python -m benchmarks.pipeline [--data_dir=/path/to/BreaKHis_v1]

- ``cold``: from PNG files to the last batch of the first epoch. Our pipeline validates every file
  and builds the cache. The DataLoader decodes and resizes in its workers, in every epoch.
- ``warm``: from the memory-mapped cache, which both read, after the first batches. ``SMOTE`` blends
  the synthetic rows of the plan. ``augmented`` also flips, turns, shifts, zooms and jitters
  colours. Our pipeline augments the batch in one jitted function, the DataLoader each image in its
  workers.

Each run has a separate process, and the two take turns. Then a training loop measures the share of
its time that it waits for a batch: with the real step on this machine, and with a stand-in that
sleeps as long as a step on a GPU takes. The DataLoader needs torch (extra ``bench``). Without torch
its columns stay empty. Without ``--data_dir`` the images are generated.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.generate import names, write_tree
from benchmarks.gpu_step import AUGMENT
from benchmarks.measuring import finish, in_own_process, parser, table
from data import balance
from data.cache import Cache, open_cache
from se_resnet.runtime.cli import exit_on_user_error, path_option
from se_resnet.runtime.mesh import data_mesh, replicated

METHODS = {"plain": "none", "SMOTE": "smote", "SMOTE, augmented": "smote"}
WARM_UP = 5  # batches


def plan_of(cache: Cache, case: str) -> balance.Plan:
    return balance.make_plan(cache.records, cache.images, method=METHODS[case])


def our_batches(cache: Cache, plan: balance.Plan, batch_size: int, stop: int) -> Iterator[dict]:
    from data.feed import host
    from se_resnet.runtime.mesh import batch_sharding, data_mesh

    return host.train_batches(
        cache.images,
        plan,
        batch_size=batch_size,
        seed=0,
        start=0,
        stop=stop,
        sharding=batch_sharding(data_mesh(), batch_size),
    )


def our_cold(tree: str, folder: Path, batch_size: int) -> float:
    """Returns images per second of the first epoch, with validation and cache."""
    from data.breakhis import preparation  # noqa: F401  imports TensorFlow
    from data.dataset import load_dataset
    from data.feed.batch_order import steps_per_epoch

    start = time.monotonic()
    dataset = load_dataset(tree, cache_dir=tempfile.mkdtemp(dir=folder))
    plan = balance.make_plan(dataset.records, dataset.images, method="none")
    steps = steps_per_epoch(plan, batch_size)
    for batch in our_batches(dataset, plan, batch_size, steps):
        batch["image"].block_until_ready()
    return steps * batch_size / (time.monotonic() - start)


def our_warm(path: Path, case: str, batch_size: int, batches: int) -> float:
    import jax
    import jax.numpy as jnp

    from se_resnet.training.augment import Augmentation

    cache = open_cache(path)
    work = jax.jit(lambda key, image: image)
    if case.endswith("augmented"):
        augment = Augmentation(**AUGMENT)
        work = jax.jit(lambda key, image: augment(key, image.astype(jnp.float32)))
    key = jax.random.key(0)
    source = our_batches(cache, plan_of(cache, case), batch_size, WARM_UP + batches)
    return steady_rate(
        (
            work(jax.random.fold_in(key, i), b["image"]).block_until_ready()
            for i, b in enumerate(source)
        ),
        batch_size,
    )


def steady_rate(source: Iterator, batch_size: int) -> float:
    """Returns images per second after the first batches."""
    for _ in itertools.islice(source, WARM_UP):
        pass
    start = time.monotonic()
    count = sum(1 for _ in source)
    return count * batch_size / (time.monotonic() - start)


class Decoding:
    """The usual torch dataset: decodes and resizes an image at each access."""

    def __init__(self, files: list[str]):
        self.files = files

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> np.ndarray:
        image = cv2.cvtColor(cv2.imread(self.files[index]), cv2.COLOR_BGR2RGB)
        return cv2.resize(image, (224, 224), interpolation=cv2.INTER_AREA)


class Blending:
    """A torch dataset of the rows of a plan, from the mapped cache."""

    def __init__(self, path: Path, plan: balance.Plan, augmented: bool):
        from se_resnet.training.augment import _RGB_OF_HED

        self.images, self.plan = open_cache(path).images, plan
        self.augmented, self.rgb_of_hed = augmented, _RGB_OF_HED

    def __len__(self) -> int:
        return len(self.plan)

    def __getitem__(self, index: int):
        import torch

        image = np.array(self.images[self.plan.base[index]])
        if weight := np.float32(self.plan.weight[index]):
            other = self.images[self.plan.neighbour[index]]
            image = np.rint(image * (1 - weight) + other * weight).astype(np.uint8)
        pixels = torch.from_numpy(image)
        if self.augmented:
            pixels = _augmented(pixels, torch.from_numpy(self.rgb_of_hed))
        return pixels, self.plan.label[index]


def _augmented(image, rgb_of_hed):
    """Augments ``uint8 [H, W, 3]`` like ``se_resnet.training.augment``: ``float32 [3, H, W]``."""
    import torch
    import torch.nn.functional as F  # noqa: N812

    def uniform(limit: float, *shape: int):
        return (2 * torch.rand(shape) - 1) * limit

    pixels = image.permute(2, 0, 1).float()
    for axis in (1, 2):
        if torch.rand(()) < 0.5:
            pixels = pixels.flip(axis)
    if torch.rand(()) < 0.5:
        pixels = torch.rot90(pixels, dims=(1, 2))
    scale = 1 + uniform(AUGMENT["zoom"])
    theta = torch.zeros(1, 2, 3)
    theta[0, 0, 0] = theta[0, 1, 1] = scale
    theta[0, :, 2] = uniform(2 * AUGMENT["translate"], 2)  # the grid runs from -1 to 1
    grid = F.affine_grid(theta, [1, *pixels.shape], align_corners=False)
    pixels = F.grid_sample(pixels[None], grid, padding_mode="reflection", align_corners=False)[0]
    to_hed = torch.linalg.inv(rgb_of_hed)
    stains = torch.einsum("chw,cd->dhw", -torch.log((pixels + 1) / 256), to_hed)
    stains = stains * (1 + uniform(AUGMENT["stain"], 3, 1, 1))
    density = torch.einsum("dhw,dc->chw", stains, rgb_of_hed)
    pixels = 256 * torch.exp(-density) - 1
    mean = pixels.mean()
    pixels = mean + (pixels - mean) * (1 + uniform(AUGMENT["contrast"]))
    return (pixels + 255 * uniform(AUGMENT["brightness"])).clip(0, 255)


def torch_batches(dataset: Any, batch_size: int, order: np.ndarray) -> Iterator:
    from torch.utils.data import DataLoader

    workers = os.cpu_count() or 1
    return iter(DataLoader(dataset, batch_size, sampler=order, num_workers=workers))


def torch_cold(tree: str, batch_size: int) -> float:
    import torch.utils.data  # noqa: F401

    start = time.monotonic()
    dataset = Decoding(sorted(map(str, Path(tree).rglob("*.png"))))
    order = np.random.default_rng(0).permutation(len(dataset))
    for _ in torch_batches(dataset, batch_size, order):
        pass
    return len(dataset) / (time.monotonic() - start)


def torch_warm(path: Path, case: str, batch_size: int, batches: int) -> float:
    dataset = Blending(path, plan_of(open_cache(path), case), case.endswith("augmented"))
    rng, needed = np.random.default_rng(0), (WARM_UP + batches) * batch_size
    # One long epoch: a short one would measure the start of the workers.
    epochs = [rng.permutation(len(dataset)) for _ in range(-(-needed // len(dataset)))]
    return steady_rate(
        torch_batches(dataset, batch_size, np.concatenate(epochs)[:needed]), batch_size
    )


def waiting(path: Path, batch_size: int, steps: int, step: Callable[[dict], None]) -> dict:
    """Measures how long a loop waits for batches."""
    cache = open_cache(path)
    batches = our_batches(cache, plan_of(cache, "SMOTE"), batch_size, steps + 2)
    step(next(batches))  # compiles
    step(next(batches))
    waits, start = [], time.monotonic()
    for _ in range(steps):
        requested = time.monotonic()
        batch = next(batches)
        waits.append(time.monotonic() - requested)
        step(batch)
    total = time.monotonic() - start
    return {
        "seconds a step": total / steps,
        "waiting, %": 100 * sum(waits) / total,
        "median wait, ms": 1000 * statistics.median(waits),
    }


def waiting_beside_sleep(path: Path, batch_size: int, steps: int, seconds: float) -> dict:
    return waiting(path, batch_size, steps, lambda batch: time.sleep(seconds))


def waiting_beside_training(path: Path, batch_size: int, steps: int) -> dict:
    import jax

    from se_resnet.models import resnet
    from se_resnet.models.classifier import Classifier
    from se_resnet.runtime.compilation_cache import keep_compiled_programs
    from se_resnet.training.augment import Augmentation
    from se_resnet.training.optim import Adam, Phase
    from se_resnet.training.recipe import Recipe
    from se_resnet.training.step import TrainState, make_train_step
    from se_resnet.weights import pretrained

    keep_compiled_programs()
    weights = pretrained.load("none")
    model = resnet.create_model(attention="se", variant=weights.variant)
    classifier = Classifier(model, weights.preprocessing, (224, 224), "squash")
    variables = pretrained.initial_variables(model, weights, jax.random.key(0), (224, 224))
    phase = Phase(Adam(1e-4))
    state = TrainState.create(variables, [phase])
    state = jax.device_put(state, replicated(data_mesh()))
    recipe = Recipe(Augmentation(**AUGMENT), seed=0)
    train_step = make_train_step(classifier, recipe, phase)

    def step(batch: dict) -> None:
        nonlocal state
        state, metrics = train_step(state, batch)
        float(metrics["loss"])

    return waiting(path, batch_size, steps, step)


def rate_row(case: str, ours: list[float], theirs: list[float]) -> dict:
    mine, peer = statistics.median(ours), statistics.median(theirs) if theirs else None
    return {
        "case": case,
        "images/s": mine,
        "DataLoader, images/s": peer,
        "times": mine / peer if peer else None,
    }


def main() -> None:
    flags = parser(__doc__)
    flags.add_argument(
        "--data_dir", type=path_option, help="BreaKHis or a part of it; default: generated images"
    )
    flags.add_argument("--images", type=int, default=600, help="to generate")
    flags.add_argument("--batch_size", type=int, default=32)
    flags.add_argument("--batches", type=int, default=60, help="to time, when warm")
    flags.add_argument("--repeats", type=int, default=3)
    flags.add_argument("--gpu_step", type=float, default=0.02, help="seconds of the stand-in")
    flags.add_argument("--steps", type=int, default=5, help="real steps; 0 leaves them out")
    options = flags.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tree = options.data_dir or str(folder / "tree")
        if not options.data_dir:
            write_tree(folder / "tree", names(options.images))
        rows, waits = measure(tree, folder, options)
    notes = [] if importlib.util.find_spec("torch") else ["torch is not installed: no DataLoader."]
    finish(rows, options.out, *notes, waiting=waits)


def measure(tree: str, folder: Path, options: argparse.Namespace) -> tuple[list, list]:
    batch_size, batches = options.batch_size, options.batches
    with_torch = importlib.util.find_spec("torch") is not None
    cache = in_own_process(cache_path, tree, folder / "cache").value
    rows = []
    for case in ("cold", *METHODS):
        ours, theirs = [], []
        for _ in range(options.repeats):
            if case == "cold":
                ours.append(in_own_process(our_cold, tree, folder, batch_size).value)
                if with_torch:
                    theirs.append(in_own_process(torch_cold, tree, batch_size).value)
                continue
            arguments = (cache, case, batch_size, batches)
            ours.append(in_own_process(our_warm, *arguments).value)
            if with_torch:
                theirs.append(in_own_process(torch_warm, *arguments).value)
        rows.append(rate_row(case if case == "cold" else f"warm, {case}", ours, theirs))
        print(table(rows[-1:]), flush=True)
    arguments = (cache, batch_size, 100, options.gpu_step)
    waits = [{"step": "stand-in", **in_own_process(waiting_beside_sleep, *arguments).value}]
    if options.steps:
        arguments = (cache, batch_size, options.steps)
        waits.append({"step": "real", **in_own_process(waiting_beside_training, *arguments).value})
    return rows, waits


def cache_path(tree: str, folder: Path) -> Path:
    from data.dataset import load_dataset

    return Path(load_dataset(tree, cache_dir=str(folder)).images.filename).parent


if __name__ == "__main__":
    with exit_on_user_error():
        main()
