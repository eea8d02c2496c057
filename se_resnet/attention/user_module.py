"""Imports the attention module of a user, by its name in a configuration."""

from __future__ import annotations

import importlib
import os
import sys

from flax import linen as nn

from se_resnet.errors import UserError


def import_module_class(name: str) -> type[nn.Module]:
    """Imports the class that ``'my_package.my_file:MyAttention'`` names.

    Searches the module path of Python and last the current folder, which ``python train.py`` would
    not search. An exception in the file keeps its traceback.

    Raises:
        UserError: the name has another form, there is no such file, or it has no such Flax module.
    """
    setting = f"config.model.attention = {name!r}"
    path, _, attribute = name.partition(":")
    if not all(part.isidentifier() for part in [*path.split("."), attribute]):
        raise UserError(
            f"{setting} is not the name of a class: write it as 'my_package.my_file:MyAttention', "
            "without slashes and without .py."
        )
    if not {"", os.getcwd()} & set(sys.path):
        sys.path.append(os.getcwd())
    importlib.invalidate_caches()
    try:
        module = importlib.import_module(path)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{path}.".startswith(f"{error.name}."):
            raise  # the file was found, but an import inside the file failed
        raise UserError(
            f"{setting}: there is no module {path} in {os.getcwd()} nor in the module path of "
            "Python: start the command in the folder of the file, or add that folder to PYTHONPATH."
        ) from error
    found = getattr(module, attribute, None)
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        candidates = [
            key
            for key, value in vars(module).items()
            if isinstance(value, type)
            and issubclass(value, nn.Module)
            and value.__module__ == module.__name__
        ]
        problem = "is not a Flax module" if hasattr(module, attribute) else "does not exist"
        raise UserError(
            f"{setting}: {attribute} {problem} in {module.__file__}: give a subclass of "
            f"flax.linen.Module ({', '.join(candidates) or 'the file defines none'})."
        )
    return found
