"""Any labelled images: a table with one row per image is a data set.

``python -m data.table`` writes such a table for a tree of class folders.

``class_folders``: rows for a tree of class folders. ``columns``: the columns of a table, validated
before an image is read. ``preparation``: decodes and hashes the images once, and reads them for the
image cache. ``beam``: the same on Apache Beam. ``summary``: counts and remarks for the log.
``options``: the command line.

A new column goes to ``columns``; docs/your-own-images.md lists them. Imports :mod:`data.records`,
:mod:`data.problems` and ``se_resnet``, and no TensorFlow.
"""
