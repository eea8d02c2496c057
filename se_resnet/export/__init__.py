"""Exports a run as a file for other runtimes: ``python -m se_resnet.export``.

``exporting``: writes the file to a temporary folder, checks it and moves it into place.
``formats``: requirements and writer of each format. ``network``: the exported function, from pixels
to probabilities. ``tf_graph`` and ``tf_ops``: that function as TensorFlow operations. ``parity``:
compares the file's probabilities with those of the run. ``runtimes``: runs the file in a process
that cannot import this project.

A new format is an entry of ``formats``. The only package of ``se_resnet`` that imports TensorFlow.
Imports every package before it.
"""
