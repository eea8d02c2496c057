"""The work of :mod:`benchmarks.gpu` in torch: channels last, autocast and ``torch.compile``."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from benchmarks.gpu_step import AUGMENT, Case
from se_resnet import pretrained
from se_resnet.augment import _RGB_OF_HED


class Bottleneck(nn.Module):
    """Variant v1, with squeeze-and-excitation whose gates are ``2 * sigmoid``."""

    def __init__(self, inputs: int, width: int, stride: int, project: bool, epsilon: float):
        super().__init__()
        outputs, hidden = 4 * width, max(1, width // 4)
        self.convolutions = nn.Sequential(
            nn.Conv2d(inputs, width, 1, stride, bias=False),
            nn.BatchNorm2d(width, epsilon),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width, epsilon),
            nn.ReLU(),
            nn.Conv2d(width, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs, epsilon),
        )
        self.gate = nn.Sequential(
            nn.Linear(outputs, hidden), nn.ReLU(), nn.Linear(hidden, outputs), nn.Sigmoid()
        )
        self.shortcut: nn.Module = nn.Identity()
        if project:
            convolution = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.shortcut = nn.Sequential(convolution, nn.BatchNorm2d(outputs, epsilon))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps ``[B, inputs, H, W]`` to ``[B, 4 * width, H / stride, W / stride]``."""
        residual = self.convolutions(x)
        gates = 2 * self.gate(residual.mean((2, 3)))
        return F.relu(residual * gates[:, :, None, None] + self.shortcut(x))


def network(case: Case, epsilon: float) -> nn.Module:
    """From preprocessed ``[B, 3, H, W]`` to logits ``[B, 1]``."""
    channels = case.width
    layers: list[nn.Module] = [
        nn.Conv2d(3, channels, 7, 2, 3, bias=False),
        nn.BatchNorm2d(channels, epsilon),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, 1),
    ]
    for stage, blocks in enumerate(case.stage_sizes):
        width = case.width * 2**stage
        for block in range(blocks):
            stride = 2 if stage and not block else 1
            layers.append(Bottleneck(channels, width, stride, not block, epsilon))
            channels = 4 * width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 1))


def augmented(pixels: torch.Tensor) -> torch.Tensor:
    """As ``se_resnet.augment``: ``float [B, 3, H, W]``, all that moves pixels in one resampling."""
    count, device = len(pixels), pixels.device

    def draw(limit: float, *shape: int) -> torch.Tensor:
        return (2 * torch.rand(count, *shape, device=device) - 1) * limit

    def coin(*shape: int) -> torch.Tensor:
        return torch.rand(count, *shape, device=device) < 0.5

    scale = (1 + draw(AUGMENT["zoom"], 1)) * torch.where(coin(2), -1.0, 1.0)
    axes = torch.where(
        coin(1, 1),
        torch.tensor([[0.0, 1.0], [-1.0, 0.0]], device=device),  # a quarter turn
        torch.eye(2, device=device),
    )
    shift = draw(2 * AUGMENT["translate"], 2, 1)  # the grid runs from -1 to 1
    theta = torch.cat([scale[:, :, None] * axes, shift], 2)
    grid = F.affine_grid(theta, list(pixels.shape), align_corners=False)
    pixels = F.grid_sample(pixels, grid, padding_mode="reflection", align_corners=False)
    from_stains = torch.from_numpy(_RGB_OF_HED).to(device)
    to_stains = torch.from_numpy(np.linalg.inv(_RGB_OF_HED).astype(np.float32)).to(device)
    change = (to_stains * (1 + draw(AUGMENT["stain"], 1, 3))) @ from_stains
    density = torch.einsum("bchw,bcd->bdhw", torch.log((pixels + 1) / 256), change)
    pixels = 256 * torch.exp(density) - 1
    mean = pixels.mean((1, 2, 3), keepdim=True)
    pixels = mean + (pixels - mean) * (1 + draw(AUGMENT["contrast"], 1, 1, 1))
    return (pixels + 255 * draw(AUGMENT["brightness"], 1, 1, 1)).clip(0, 255)


def theirs(case: Case) -> dict[str, Any]:
    """Seconds of a step and peak memory, with data and plan on the device as well."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("high")  # TF32, XLA's default on a GPU
    weights = pretrained.load("none")
    mean, std = (
        torch.tensor(values, device=device)[:, None, None]
        for values in (weights.preprocessing.mean, weights.preprocessing.std)
    )
    images = torch.from_numpy(case.pixels()).to(device)
    plan = {name: torch.from_numpy(column).to(device) for name, column in case.columns().items()}
    model = network(case, weights.bn_epsilon).to(device, memory_format=torch.channels_last).train()
    optimizer = torch.optim.Adam(model.parameters(), 1e-4, fused=True)

    def loss_of(rows: torch.Tensor) -> torch.Tensor:
        weight = plan["weight"][rows].float()[:, None, None, None]
        base, other = (images[plan[name][rows]].float() for name in ("base", "neighbour"))
        pixels = torch.round(base * (1 - weight) + other * weight).permute(0, 3, 1, 2)
        if case.augment:
            pixels = augmented(pixels)
        with torch.autocast(device, torch.bfloat16, enabled=case.dtype == "bfloat16"):
            logits = model((weights.preprocessing.scale * pixels - mean) / std)
        return F.binary_cross_entropy_with_logits(
            logits[:, 0].float(), plan["label"][rows].float(), plan["importance"][rows].float()
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
    run(blocks[:1])
    seconds = run(blocks) / (case.steps * case.dispatches)
    peak = torch.cuda.max_memory_allocated() if device == "cuda" else None
    return {"seconds": seconds, "peak_bytes": peak}
