"""se_resnet.load_data works where another package data comes first."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

import se_resnet
from data.load_images import load
from se_resnet.runtime.data_package import other_package
from tests.helpers import ROOT

MINE = "MINE = True\n"
SCRIPT = """
import sys
import se_resnet
from se_resnet.errors import UserError

{before}
for _ in range(2):
    loaded = se_resnet.load_data({tree!r}, size=(16, 16), cache_dir={cache!r})
    print(loaded.images.shape, len(loaded.records), sorted(set(loaded.roles.tolist())))
    import data
    assert data.MINE and "data.dataset" not in sys.modules
    import data.part
    assert data.part.MINE
try:
    se_resnet.load_data({tree!r}, size=(16, 16), cache_dir={cache!r}, fold=9)
except UserError as error:
    print("fold = 9" in str(error), data is sys.modules["data"])
print(type(loaded.records.at_magnifications((200,))).__name__)
"""


@pytest.mark.parametrize("before", ["", "import data.part"])
def test_images_are_loaded_beside_another_package(place, tmp_path, before):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "__init__.py").write_text(MINE)
    (tmp_path / "data" / "part.py").write_text(MINE)
    tree, cache = map(str, place)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(before=before, tree=tree, cache=cache)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    line = "(144, 16, 16, 3) 144 ['test', 'train', 'val']"
    assert done.stdout.splitlines() == [line, line, "True True", "Records"]


def test_without_another_package_nothing_is_swapped(place):
    tree, cache = map(str, place)
    assert other_package() == ""
    before = sys.modules["data"]
    found = se_resnet.load_data(tree, size=(16, 16), cache_dir=cache)
    wanted = load(tree, size=(16, 16), cache_dir=cache)
    assert type(found) is type(wanted) and sys.modules["data"] is before
    np.testing.assert_array_equal(found.images, wanted.images)


def test_a_folder_without_init_hides_nothing(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "notes.txt").touch()
    script = "import data; print(callable(data.load))"
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.stdout == "True\n", done.stderr


def test_a_module_made_by_a_program_is_another_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "data", type(sys)("data"))
    assert "without a file" in other_package()
