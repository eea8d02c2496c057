"""Model packages: a folder with weights, configuration and model card, to give away.

``save_load``: :func:`~se_resnet.package.save_load.save_pretrained` and ``from_pretrained``.
``config``: the package's ``config.json``. ``model_card``: its README, from ``templates/``.
Command: ``python -m se_resnet.package``.

A new fact about a package gets a field in ``config``. Imports :mod:`se_resnet.predict`,
:mod:`se_resnet.weights` and what those import.
"""
