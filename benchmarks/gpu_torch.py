"""Does the work of :mod:`benchmarks.gpu` in torch: channels last, autocast, ``torch.compile``."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812

from benchmarks.gpu_step import AUGMENT, Case
from benchmarks.peers import Task
from benchmarks.peers.torch_resnet import ResNet
from se_resnet.training.augment import _RGB_OF_HED


def augmented(pixels: torch.Tensor) -> torch.Tensor:
    """Augments ``float [B, 3, H, W]`` like ``se_resnet.training.augment``, in one resampling."""
    count, device = len(pixels), pixels.device

    def uniform(limit: float, *shape: int) -> torch.Tensor:
        return (2 * torch.rand(count, *shape, device=device) - 1) * limit

    def coin(*shape: int) -> torch.Tensor:
        return torch.rand(count, *shape, device=device) < 0.5

    scale = (1 + uniform(AUGMENT["zoom"], 1)) * torch.where(coin(2), -1.0, 1.0)
    axes = torch.where(
        coin(1, 1),
        torch.tensor([[0.0, 1.0], [-1.0, 0.0]], device=device),  # a quarter turn
        torch.eye(2, device=device),
    )
    shift = uniform(2 * AUGMENT["translate"], 2, 1)  # the grid runs from -1 to 1
    theta = torch.cat([scale[:, :, None] * axes, shift], 2)
    grid = F.affine_grid(theta, list(pixels.shape), align_corners=False)
    pixels = F.grid_sample(pixels, grid, padding_mode="reflection", align_corners=False)
    from_stains = torch.from_numpy(_RGB_OF_HED).to(device)
    to_stains = torch.from_numpy(np.linalg.inv(_RGB_OF_HED).astype(np.float32)).to(device)
    change = (to_stains * (1 + uniform(AUGMENT["stain"], 1, 3))) @ from_stains
    density = torch.einsum("bchw,bcd->bdhw", torch.log((pixels + 1) / 256), change)
    pixels = 256 * torch.exp(density) - 1
    mean = pixels.mean((1, 2, 3), keepdim=True)
    pixels = mean + (pixels - mean) * (1 + uniform(AUGMENT["contrast"], 1, 1, 1))
    return (pixels + 255 * uniform(AUGMENT["brightness"], 1, 1, 1)).clip(0, 255)


def theirs(case: Case) -> Iterator[dict[str, Any]]:
    """Compiles the step; each further value is the measurement of a round.

    Data and plan are on the device, as for :func:`benchmarks.gpu_step.ours`.

    Yields:
        First the seconds of compilation; then the seconds of a step and the peak of memory, once
        for each round.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_float32_matmul_precision("high")  # TF32, XLA's default on a GPU
    images = torch.from_numpy(case.pixels()).to(device)
    plan = {name: torch.from_numpy(column).to(device) for name, column in case.columns().items()}
    # The initial weights of torch are enough: the tensors of the Task are not loaded.
    task = Task(case.batch, case.dtype, case.side, case.stage_sizes, case.width, Path())
    model = ResNet(task).to(device, memory_format=torch.channels_last).train()
    optimizer = torch.optim.Adam(model.parameters(), 1e-4, fused=True)

    def loss_of(rows: torch.Tensor) -> torch.Tensor:
        weight = plan["weight"][rows].float()[:, None, None, None]
        base, other = (images[plan[name][rows]].float() for name in ("base", "neighbour"))
        pixels = torch.round(base * (1 - weight) + other * weight).permute(0, 3, 1, 2)
        if case.augment:
            pixels = augmented(pixels)
        with torch.autocast(device, torch.bfloat16, enabled=case.dtype == "bfloat16"):
            logits = model(pixels.permute(0, 2, 3, 1))
        return F.binary_cross_entropy_with_logits(
            logits.float(), plan["label"][rows].float(), plan["importance"][rows].float()
        )

    compiled = torch.compile(loss_of)

    def run(blocks: list[np.ndarray]) -> float:
        start = time.monotonic()
        for rows in torch.from_numpy(np.concatenate(blocks)).to(device):
            optimizer.zero_grad()
            compiled(rows).backward()
            optimizer.step()
        if device == "cuda":
            torch.cuda.synchronize()
        return time.monotonic() - start

    blocks = case.blocks()
    start = time.monotonic()
    run([blocks[0][:1]])
    yield {"compile_seconds": time.monotonic() - start}
    # cuDNN compares its algorithms only now: another contender may have compiled at the same time.
    torch.backends.cudnn.benchmark = True
    run(blocks[:1])
    while True:
        seconds = run(blocks) / (case.steps * case.dispatches)
        peak = torch.cuda.max_memory_allocated() if device == "cuda" else None
        yield {"seconds": seconds, "peak_bytes": peak}
