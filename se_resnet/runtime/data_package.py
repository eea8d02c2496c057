"""Imports the package ``data`` of this project where another package of that name comes first.

Python looks for modules in the current folder, or in the folder of a notebook, before it looks
among the installed packages. A file ``data.py`` or a package ``data`` there hides the package of
this project. A folder ``data`` without ``__init__.py`` hides nothing.
"""

from __future__ import annotations

import importlib.util
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

_NAME = "data"
_INIT = Path(__file__).parents[2] / _NAME / "__init__.py"
_lock = threading.RLock()
_kept: dict[str, ModuleType] = {}  # modules of this project between two calls


def load_data(source: str, **options: Any) -> Any:
    """Loads images with their records and roles, as :func:`data.load` does.

    Works also where the current folder has a package ``data`` of its own. During the call that
    package is not importable, in all threads; afterwards it is as before.

    Args:
        source: images, see :func:`data.load`.
        options: the other arguments of :func:`data.load`.

    Returns:
        ``images`` (RGB ``uint8 [N, H, W, 3]``), ``records`` and ``roles`` (``str [N]``), a
        :class:`data.load_images.SplitImages`.

    Raises:
        UserError: as :func:`data.load`.

    >>> import se_resnet
    >>> images, records, roles = se_resnet.load_data("sample", size=(32, 32), magnifications=(100,))
    >>> images.shape
    (36, 32, 32, 3)
    """
    with _this_project() as package:
        return package.load(source, **options)


def other_package() -> str:
    """Returns the path of another ``data`` that Python finds first; empty text if there is none."""
    try:
        spec = importlib.util.find_spec(_NAME)
    except ValueError:  # a module that a program made, without a file
        return f"a module {_NAME} without a file"
    if spec is None or (spec.origin and Path(spec.origin).resolve() == _INIT.resolve()):
        return ""
    return str(spec.origin or next(iter(spec.submodule_search_locations or ()), _NAME))


@contextmanager
def _this_project() -> Iterator[Any]:
    """Yields the package ``data`` of this project, under that name while the block runs."""
    with _lock:
        if not other_package():
            yield importlib.import_module(_NAME)
            return
        others = _take_modules()
        sys.modules.update(_kept)
        try:
            yield sys.modules.get(_NAME) or _import()
        finally:
            _kept.update(_take_modules())
            sys.modules.update(others)


def _import() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        _NAME, _INIT, submodule_search_locations=[str(_INIT.parent)]
    )
    if spec is None or spec.loader is None:
        raise ImportError(f"{_INIT} cannot be imported")
    sys.modules[_NAME] = package = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(package)
    return package


def _take_modules() -> dict[str, ModuleType]:
    """Removes the package ``data`` and its modules from the imported modules, and returns them."""
    names = [name for name in sys.modules if name.partition(".")[0] == _NAME]
    return {name: sys.modules.pop(name) for name in names}
