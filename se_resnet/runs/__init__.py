"""The folder of a run: its files, who may write there, and how it is read.

``run_folder``: :class:`~se_resnet.runs.run_folder.RunFolder`, every file with its path and reader;
open this first. ``evaluations``: the folder of one evaluation. ``run_files``: names and forms of
the small files. ``workdir``: claims a folder for a configuration, loads the chosen network of a
run. ``checkpoint``: states to resume from and the weights to evaluate. ``lock``: one process at a
time. ``integrity``: checksums of a checkpoint's files. ``image_source``: the data set of a run,
BreaKHis or a table. ``ensembles``: several networks of a run as one model. ``next_steps``: commands
after a training. ``provenance``: dates, durations, commands and commits of a training. ``state``:
steps done, finished or not. ``listing``: the runs below a folder; ``python -m se_resnet.runs``
prints it.

A new file of a run gets its form in ``run_files`` and its reader in ``run_folder``. Imports
:mod:`se_resnet.models`, :mod:`se_resnet.metrics` and what those import.
"""
