"""Draws and writes the pictures of a prediction below ``overlays``, in threads."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from se_resnet.images.data_uri import PNG, encode
from se_resnet.predict.views import OVERLAY, Views
from se_resnet.runtime.files import atomic_write

_LONGEST_NAME = 255  # bytes, of file systems
_WORKERS = min(4, os.cpu_count() or 1)


class PictureWriter:
    """Writes pictures as PNG while the network predicts the next images.

    Args:
        folder: the folder ``overlays``, created if missing.
        pool: threads that draw and write.
    """

    def __init__(self, folder: Path, pool: ThreadPoolExecutor):
        self._folder, self._pool = folder, pool
        self._pending: list[Future[None]] = []

    def write(self, views: Views) -> None:
        """Starts to write the pictures of the images predicted last.

        First waits for the pictures of the call before, so that those of one batch are in memory
        at most.

        Raises:
            OSError: a picture of the call before could not be written.
        """
        self.finish()
        self._pending = [
            self._pool.submit(self._write, file, ending, draw)
            for file, ending, draw in views.pictures()
        ]

    def finish(self) -> None:
        """Waits until all pictures are written; raises as :meth:`write`."""
        pending, self._pending = self._pending, []
        for future in pending:
            future.result()

    def _write(self, file: str, ending: str, draw: Callable[[], np.ndarray]) -> None:
        content = encode(draw(), PNG)
        with atomic_write(self._folder / overlay_name(file, ending), "wb") as target:
            target.write(content)


@contextmanager
def picture_writer(folder: Path) -> Iterator[PictureWriter]:
    """Yields a writer of pictures; at the end of the block all pictures are written.

    Args:
        folder: the folder ``overlays``, created if there are pictures.

    Raises:
        OSError: a picture could not be written.
    """
    with ThreadPoolExecutor(_WORKERS, "pictures") as pool:
        writer = PictureWriter(folder, pool)
        yield writer
        writer.finish()


def overlay_name(file: str, ending: str = OVERLAY) -> str:
    """Returns the path of an image's picture below ``overlays``: its name with an ending added.

    A name that is too long for file systems is cut, and a checksum keeps it unique.
    """
    encoded = os.fsencode(Path(file).name)
    if len(encoded) + len(ending) <= _LONGEST_NAME:
        return f"{file.lstrip('/')}{ending}"  # a table may name absolute paths
    digest = hashlib.sha256(encoded).hexdigest()[:16]
    return str(Path(file.lstrip("/")).with_name(f"{os.fsdecode(encoded[:200])}-{digest}{ending}"))
