"""The folder of a run: what lies in it, who may write there, and how it is read.

``run_files``: names, forms and readers of the small files. ``workdir``: whether a folder may be
used for a configuration; the best network of a run. ``checkpoint``: states to resume from and the
best weights. ``lock``: one process at a time. ``integrity``: checksums of a checkpoint's files.

A new file of a run gets its name and form in ``run_files``. Imports :mod:`se_resnet.models`,
:mod:`se_resnet.metrics` and what those import.
"""
