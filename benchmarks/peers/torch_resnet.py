"""The network in torch, for eager mode and ``torch.compile``, with channels last."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from benchmarks.peers import EPSILON, LEARNING_RATE, Batch, Task, Work


class Gate(nn.Module):
    """Squeeze-and-excitation with gates ``2 * sigmoid``."""

    def __init__(self, channels: int):
        super().__init__()
        self.reduce = nn.Linear(channels, max(1, channels // 16))
        self.expand = nn.Linear(max(1, channels // 16), channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scales the channels of ``[B, C, H, W]``."""
        gates = 2 * torch.sigmoid(self.expand(F.relu(self.reduce(x.mean((2, 3))))))
        return x * gates[:, :, None, None]


class ConvNorm(nn.Module):
    """A convolution and a normalisation, with the names of stem and projection."""

    def __init__(self, inputs: int, outputs: int, size: int, stride: int, epsilon: float):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False)
        self.norm = nn.BatchNorm2d(outputs, epsilon)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps ``[B, inputs, H, W]`` to ``[B, outputs, H / stride, W / stride]``."""
        return self.norm(self.conv(x))


class Bottleneck(nn.Module):
    """Bottleneck of variant v1: the first convolution has the stride."""

    def __init__(self, inputs: int, width: int, stride: int, project: bool, epsilon: float):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 1, stride, bias=False)
        self.norm1 = nn.BatchNorm2d(width, epsilon)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(width, epsilon)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.norm3 = nn.BatchNorm2d(4 * width, epsilon)
        self.attention = Gate(4 * width)
        self.projection = ConvNorm(inputs, 4 * width, 1, stride, epsilon) if project else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps ``[B, inputs, H, W]`` to ``[B, 4 * width, H / stride, W / stride]``."""
        residual = F.relu(self.norm1(self.conv1(x)))
        residual = F.relu(self.norm2(self.conv2(residual)))
        residual = self.attention(self.norm3(self.conv3(residual)))
        return F.relu(residual + (x if self.projection is None else self.projection(x)))


class ResNet(nn.Module):
    """The whole network, from ``uint8 [B, H, W, 3]`` to logits ``[B]``."""

    def __init__(self, task: Task):
        super().__init__()
        self.register_buffer("mean", torch.tensor(task.mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(task.std)[:, None, None], persistent=False)
        self.stem = ConvNorm(3, task.width, 7, 2, task.bn_epsilon)
        self.num_stages = len(task.stage_sizes)
        channels = task.width
        for i, blocks in enumerate(task.stage_sizes):
            width, stage = task.width * 2**i, nn.Sequential()
            for j in range(blocks):
                stride = 2 if i > 0 and j == 0 else 1
                block = Bottleneck(channels, width, stride, j == 0, task.bn_epsilon)
                stage.add_module(f"block{j + 1}", block)
                channels = 4 * width
            self.add_module(f"stage{i + 1}", stage)
        self.head = nn.Linear(channels, 1)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Returns logits of malignant."""
        x = (pixels.permute(0, 3, 1, 2).float() - self.mean) / self.std
        x = F.max_pool2d(F.relu(self.stem(x)), 3, 2, 1)
        for i in range(self.num_stages):
            x = self.get_submodule(f"stage{i + 1}")(x)
        return self.head(x.mean((2, 3)))[:, 0]


def trainer(task: Task, compiled: bool = False) -> Work:
    """Returns a function that trains with the fused Adam, compiled or not."""
    model = _filled(task).train()
    # The fused Adam is the fastest of torch on a CPU, but not the default.
    optimizer = torch.optim.Adam(model.parameters(), LEARNING_RATE, eps=EPSILON, fused=True)
    forward = torch.compile(model) if compiled else model

    def work(batches: Iterable[Batch]) -> list[float]:
        losses = []
        for images, labels in batches:
            optimizer.zero_grad()
            with _precision(task):
                logits = forward(torch.from_numpy(images))
            loss = F.binary_cross_entropy_with_logits(logits.float(), torch.from_numpy(labels))
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        return losses

    return work


def predictor(task: Task, compiled: bool = False, frozen: bool = False) -> Work:
    """Returns a function that predicts; ``frozen`` lets the compiler fold and pack weights."""
    import torch._inductor.config

    model = _filled(task).eval()
    torch._inductor.config.freezing = frozen
    forward = torch.compile(model) if compiled else model

    def work(batches: Iterable[Batch]) -> np.ndarray:
        logits = []
        with torch.no_grad(), _precision(task):
            for images, _ in batches:
                logits.append(forward(torch.from_numpy(images)).float().numpy())
        return np.concatenate(logits)

    return work


def _filled(task: Task) -> ResNet:
    model = ResNet(task)
    names = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}
    state = {}
    for path, value in task.load().items():
        *place, name = path.split("/")[1:]
        order = {2: (1, 0), 4: (3, 2, 0, 1)}.get(value.ndim, (0,))
        state[".".join([*place, names.get(name, name)])] = torch.from_numpy(value.transpose(order))
    lacking = model.load_state_dict(state, strict=False)
    assert not lacking.unexpected_keys
    assert all(name.endswith("num_batches_tracked") for name in lacking.missing_keys)
    return model.to(memory_format=torch.channels_last)


def _precision(task: Task) -> torch.autocast:
    return torch.autocast("cpu", torch.bfloat16, enabled=task.dtype == "bfloat16")
