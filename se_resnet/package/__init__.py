"""Model packages: a folder to share, with weights, configuration and model card.

``save_load``: :func:`~se_resnet.package.save_load.save_pretrained` and ``from_pretrained``.
``config``: the package's ``config.json``. ``model_card``: the package's README, from
``templates/``. Command: ``python -m se_resnet.package``.

A new fact about a package gets a field in ``config``. Imports :mod:`se_resnet.predict`,
:mod:`se_resnet.weights` and their imports.
"""
