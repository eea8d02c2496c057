"""Generated images for a cache of pixels."""

from __future__ import annotations

import dataclasses

import numpy as np

from tests.helpers.datasets import make_records
from tests.helpers.image_trees import encode, random_image


@dataclasses.dataclass
class GeneratedImages:
    """Prepared images without files, from which a cache is built."""

    num_images: int = 40
    size: tuple[int, int] = (70, 46)
    fingerprint: str = "generated"
    reads: int = 0

    def examples(self):
        self.reads += 1
        records = make_records(2, 2)
        # Not in the order of the file names, as prepared images need not be.
        for index in np.random.default_rng(0).permutation(self.num_images):
            row = {name: column[index].item() for name, column in records.columns().items()}
            del row["row"]
            yield {**row, "image": encode(random_image(self.size, int(index)))}
