"""Generates images with BreaKHis names, for measurements of time and memory."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from data.breakhis.filenames import parse
from data.breakhis.official import official_names


def names(count: int) -> list[str]:
    """Returns ``count`` names in the proportions of BreaKHis, spread over the official list.

    After 7,909 names the same slides follow with new accession numbers.
    """
    official = official_names()
    if count <= len(official):
        return [official[i] for i in np.linspace(0, len(official) - 1, count).astype(int)]
    copies = -(-count // len(official))
    return [
        re.sub(r"-(\d+)-(\d+)", rf"-\1-{copy or ''}\2", name, count=1)
        for copy in range(copies)
        for name in official
    ][:count]


def picture(seed: int, width: int, height: int) -> np.ndarray:
    """Returns a smooth colour field with grain: ``uint8 [height, width, 3]``."""
    rng = np.random.default_rng(seed)
    field = cv2.resize(rng.integers(60, 230, (12, 18, 3), np.uint8), (width, height))
    return field + rng.integers(0, 6, field.shape, np.uint8)


def write_tree(tree: Path, file_names: Sequence[str], width: int = 700, height: int = 460) -> None:
    """Writes PNG files in the official folders. At 700x460 each takes 0.5 MB, as in BreaKHis."""

    def write(index: int) -> None:
        folder = tree / parse(file_names[index]).folder
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / file_names[index]
        if not cv2.imwrite(str(path), picture(index, width, height)):
            raise OSError(f"{path} could not be written")

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        total = len(file_names)
        list(tqdm(pool.map(write, range(total)), total=total, desc="generating", disable=None))
