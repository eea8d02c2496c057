"""The files that version 0.1 wrote, see ``tests/test_version_before.py``."""

from __future__ import annotations

import tarfile
from pathlib import Path

from tests.helpers import ROOT


def unpack(folder: Path) -> None:
    """Unpacks run, package, cache and predictions of version 0.1 into a folder."""
    with tarfile.open(ROOT / "tests" / "fixtures" / "version_0_1.tar.xz") as archive:
        # Python before 3.11.4 has no filters.
        archive.extraction_filter = getattr(tarfile, "data_filter", lambda member, path: member)
        archive.extractall(folder)
