"""Runs the tour and keeps its outputs, which is how it reads on the web.

python -m notebooks.execute
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).parent.parent
TOUR = ROOT / "notebooks" / "tour.ipynb"


def execute(path: Path, folder: Path) -> nbformat.NotebookNode:
    """Runs every cell of a notebook in an empty folder.

    Args:
        path: the notebook.
        folder: where its files go; the kernel starts in ``folder/notebooks``.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed.
    """
    started = folder / "notebooks"
    started.mkdir()
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=300,
        kernel_name="python3",
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(started)}},
    )
    path_of_modules = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return client.execute(env={**os.environ, "PYTHONPATH": path_of_modules})


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        nbformat.write(execute(TOUR, Path(folder)), TOUR)
