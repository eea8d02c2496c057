"""A user's own attention module, imported by the name that a configuration gives it."""

from __future__ import annotations

import importlib
import os
import sys

from flax import linen as nn

from se_resnet.errors import UserError


def import_module_class(name: str) -> type[nn.Module]:
    """The class that ``'my_package.my_file:MyAttention'`` names.

    The file is looked for where Python looks for modules and last in the current directory, which
    ``python train.py`` would not search. An exception in the file itself keeps its traceback.

    Raises:
        UserError: the name has another form, there is no such file, or it has no such Flax module.
    """
    told = f"config.model.attention = {name!r}"
    path, _, attribute = name.partition(":")
    if not all(part.isidentifier() for part in [*path.split("."), attribute]):
        raise UserError(
            f"{told} is no name of a class: write it as 'my_package.my_file:MyAttention', without "
            "slashes and without .py."
        )
    if not {"", os.getcwd()} & set(sys.path):
        sys.path.append(os.getcwd())
    importlib.invalidate_caches()
    try:
        module = importlib.import_module(path)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{path}.".startswith(f"{error.name}."):
            raise  # the file was found, and misses something itself
        raise UserError(
            f"{told}: there is no module {path} in {os.getcwd()} nor where Python looks: start the "
            "command in the folder that holds it, or name that folder in PYTHONPATH."
        ) from error
    found = getattr(module, attribute, None)
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        own = [
            key
            for key, value in vars(module).items()
            if isinstance(value, type)
            and issubclass(value, nn.Module)
            and value.__module__ == module.__name__
        ]
        what = "is no Flax module" if hasattr(module, attribute) else "does not exist"
        raise UserError(
            f"{told}: {attribute} {what} in {module.__file__}: give a subclass of "
            f"flax.linen.Module ({', '.join(own) or 'the file defines none'})."
        )
    return found
