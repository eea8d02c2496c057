"""Small generated BreaKHis trees: official names, random pixels."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np

from data.breakhis.filenames import parse


def random_image(size: tuple[int, int] = (70, 46), seed: int = 0) -> np.ndarray:
    """``uint8 [height, width, 3]`` for ``size`` (width, height)."""
    return np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)


def encode(image: np.ndarray) -> bytes:
    """PNG bytes of a grayscale, BGR or BGRA array."""
    ok, data = cv2.imencode(".png", image)
    assert ok
    return data.tobytes()


def make_tree(
    root: Path,
    names: Iterable[str],
    size: tuple[int, int] = (70, 46),
    seed: int = 0,
    nesting: str = "",
) -> Path:
    """Writes one PNG per official name and returns the folder that holds the class folders.

    Args:
        root: where to make the tree.
        names: file names; image i of the given order has pixels drawn from ``seed + i``.
        size: width and height in pixels.
        seed: of the first image.
        nesting: folders between ``root`` and ``benign/``, for example
            ``BreaKHis_v1/BreaKHis_v1/histology_slides/breast``.
    """
    base = root / nesting
    base.mkdir(parents=True, exist_ok=True)
    for index, name in enumerate(names):
        folder = base / parse(name).folder
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(encode(random_image(size, seed + index)))
    return base


def make_unreadable(monkeypatch, name: str) -> None:
    """Lets no folder of this name be listed, which root could list whatever its mode."""
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith(name):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
