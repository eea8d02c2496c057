"""A run as a file for other runtimes, checked against the run: ``python -m se_resnet.export``.

``exporting``: writes the file aside, checks it and moves it to its place. ``formats``: what each
format needs and how it is written. ``network``: the exported function, from pixels to
probabilities. ``tf_graph`` and ``tf_ops``: that function as TensorFlow operations. ``parity`` and
``runtimes``: the check, in a process without this project.

A new format is an entry of ``formats``. The only package of ``se_resnet`` that imports TensorFlow.
Imports every package before it.
"""
