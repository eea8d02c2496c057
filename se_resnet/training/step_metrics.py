"""The figures of the training steps since the last line of the log."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import jax
import numpy as np


class StepMetrics:
    """Takes figures from the devices when they are asked for, and averages them.

    Args:
        step: steps done before.
        rows: loss and accuracy of those of them that no line of the log holds yet, as :meth:`rows`
            gave them.
        check: called with a name, a step and whether the named value of that step is finite.
    """

    def __init__(
        self,
        step: int,
        rows: Iterable[Sequence[float]],
        check: Callable[[str, int, bool], None],
    ):
        self._step = step
        self._rows = [np.array(row, np.float32) for row in rows]
        self._check = check
        self._unread: deque[Mapping[str, jax.Array]] = deque()

    def add(self, figures: Mapping[str, jax.Array]) -> int:
        """Adds what a training step, or several in one, returned; says how many there were."""
        self._unread.append(figures)
        return figures["loss"].size

    def read(self, leave: int) -> Iterator[float]:
        """Waits for figures, but for the last ``leave`` that were added, and yields each loss."""
        while len(self._unread) > leave:
            done = {name: np.atleast_1d(value) for name, value in self._unread.popleft().items()}
            for row, finite in zip(
                np.stack([done["loss"], done["accuracy"]], axis=1), done["finite"], strict=True
            ):
                self._step += 1
                self._check("the loss", self._step, bool(np.isfinite(row[0])))
                self._check("a gradient", self._step, bool(finite))
                self._rows.append(row)
                yield float(row[0])

    def rows(self) -> list[list[float]]:
        """Loss and accuracy of each step that was read since the last :meth:`take`, exactly."""
        return [row.tolist() for row in self._rows]

    def take(self) -> dict[str, float]:
        """``train/loss`` and ``train/accuracy``: the means over :meth:`rows`, which it clears."""
        loss, accuracy = np.mean(self._rows, axis=0)
        self._rows.clear()
        return {"train/loss": float(loss), "train/accuracy": float(accuracy)}
