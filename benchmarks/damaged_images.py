"""Images that are no tissue, and damaged images of tissue, made from a seed.

The photographs ship with scikit-learn and matplotlib. Nothing is downloaded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import matplotlib.cbook
import matplotlib.image
import numpy as np
import sklearn.datasets

SHAPE = (460, 700)  # of BreaKHis
_TEXT = "The sections show breast tissue of a patient, stained with haematoxylin and eosin. "


def blanks(rng: np.random.Generator) -> np.ndarray:
    """Returns an empty field: one colour with the noise of a sensor."""
    grey = rng.choice([0, 60, 128, 200, 240, 255])
    colour = np.clip(grey + rng.integers(-6, 7, 3), 0, 255)
    noise = rng.normal(0, rng.uniform(0, 3), (*SHAPE, 3))
    return np.clip(colour + noise, 0, 255).astype(np.uint8)


def photographs(rng: np.random.Generator) -> np.ndarray:
    """Returns a part of a photograph of a temple, a flower or a person."""
    photos = [*sklearn.datasets.load_sample_images().images]
    with matplotlib.cbook.get_sample_data("grace_hopper.jpg") as file:
        photos.append(np.asarray(matplotlib.image.imread(file)))
    photo = photos[rng.integers(len(photos))]
    side = rng.uniform(0.3, 1)
    return _part(photo, side, rng)


def texts(rng: np.random.Generator) -> np.ndarray:
    """Returns a scan of a printed page."""
    page = np.full((*SHAPE, 3), rng.integers(225, 256), np.uint8)
    size = rng.uniform(0.4, 1.2)
    for y in np.arange(30, SHAPE[0], 34 * size):
        start = rng.integers(len(_TEXT))
        line = (_TEXT * 3)[start:]
        cv2.putText(page, line, (8, int(y)), cv2.FONT_HERSHEY_SIMPLEX, size, (30, 30, 30), 1)
    return np.clip(page + rng.normal(0, 3, page.shape), 0, 255).astype(np.uint8)


def noises(rng: np.random.Generator) -> np.ndarray:
    """Returns noise, independent or smoothed, in colour."""
    noise = rng.normal(0, 60, (*SHAPE, 3)).astype(np.float32)
    if sigma := rng.choice([0, 1, 3]):
        noise = cv2.GaussianBlur(noise, (0, 0), float(sigma)) * 2 * sigma
    return np.clip(128 + noise, 0, 255).astype(np.uint8)


def blurred(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns the image out of focus: a Gaussian blur of 4 to 12 pixels."""
    return cv2.GaussianBlur(image, (0, 0), rng.uniform(4, 12))


def enlarged(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns a fifth to a third of the image, as from a stronger objective."""
    return _part(image, rng.uniform(0.2, 0.34), rng)


def reduced(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns the image mirrored at its edges and reduced by 3 to 5, as from a weaker objective."""
    factor = int(rng.integers(3, 6))
    small = cv2.resize(image, None, fx=1 / factor, fy=1 / factor, interpolation=cv2.INTER_AREA)
    height, width = image.shape[:2]
    row = np.hstack([small if k % 2 == 0 else small[:, ::-1] for k in range(factor + 1)])
    whole = np.vstack([row if k % 2 == 0 else row[::-1] for k in range(factor + 1)])
    return np.ascontiguousarray(whole[:height, :width])


def inverted(image: np.ndarray, _: np.random.Generator) -> np.ndarray:
    """Returns the image with inverted colours."""
    return 255 - image


# By name: without an image of tissue, and from one.
NO_TISSUE: dict[str, Callable[[np.random.Generator], np.ndarray]] = {
    "blank": blanks,
    "photograph": photographs,
    "text": texts,
    "noise": noises,
}
DAMAGED: dict[str, Callable[[np.ndarray, np.random.Generator], np.ndarray]] = {
    "blurred": blurred,
    "enlarged": enlarged,
    "reduced": reduced,
    "inverted": inverted,
}


def make(tissue: Sequence[np.ndarray], each: int, seed: int = 0) -> dict[str, list[np.ndarray]]:
    """Makes images of every kind.

    Args:
        tissue: real images ``uint8 [h, w, 3]``, which are damaged.
        each: number of images of a kind.
        seed: of all random choices.

    Returns:
        ``each`` images ``uint8 [h, w, 3]`` by kind.
    """
    rng = np.random.default_rng(seed)
    made = {name: [kind(rng) for _ in range(each)] for name, kind in NO_TISSUE.items()}
    for name, damage in DAMAGED.items():
        chosen = rng.choice(len(tissue), each, replace=len(tissue) < each)
        made[name] = [damage(tissue[index], rng) for index in chosen]
    return made


def _part(image: np.ndarray, side: float, rng: np.random.Generator) -> np.ndarray:
    """Returns a random part of an image, resized to the shape of BreaKHis."""
    height, width = (max(8, int(length * side)) for length in image.shape[:2])
    top = rng.integers(image.shape[0] - height + 1)
    left = rng.integers(image.shape[1] - width + 1)
    part = np.ascontiguousarray(image[top : top + height, left : left + width])
    return cv2.resize(part, SHAPE[::-1], interpolation=cv2.INTER_LINEAR)
