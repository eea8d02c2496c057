"""Collects the metrics of the training steps since the last line of the log."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import jax
import numpy as np


class StepMetrics:
    """Copies metrics from the devices on request, and averages them.

    Args:
        step: number of steps done before.
        rows: loss and accuracy of the last steps that no line of the log holds yet, from
            :meth:`rows`.
        check: is called with a name, a step and True if that value of the step is finite.
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
        self._unread: deque[tuple[Mapping[str, jax.Array], int]] = deque()

    def add(self, metrics: Mapping[str, jax.Array], steps: int) -> None:
        """Adds the metrics of one dispatch, of which the first ``steps`` values count."""
        self._unread.append((metrics, steps))

    def read(self, leave: int) -> Iterator[float]:
        """Waits for all but the last ``leave`` added metrics, and yields each loss."""
        while len(self._unread) > leave:
            of_dispatch, steps = self._unread.popleft()
            metrics = {name: np.atleast_1d(v)[:steps] for name, v in of_dispatch.items()}
            rows = np.stack([metrics["loss"], metrics["accuracy"]], axis=1)
            for row, finite in zip(rows, metrics["finite"], strict=True):
                self._step += 1
                self._check("the loss", self._step, bool(np.isfinite(row[0])))
                self._check("a gradient", self._step, bool(finite))
                self._rows.append(row)
                yield float(row[0])

    def rows(self) -> list[list[float]]:
        """Returns loss and accuracy of each step read since the last :meth:`take`, exactly."""
        return [row.tolist() for row in self._rows]

    def take(self) -> dict[str, float]:
        """Returns ``train/loss`` and ``train/accuracy``: means over :meth:`rows`; clears them."""
        loss, accuracy = np.mean(self._rows, axis=0)
        self._rows.clear()
        return {"train/loss": float(loss), "train/accuracy": float(accuracy)}
