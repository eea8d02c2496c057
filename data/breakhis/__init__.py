"""BreaKHis itself: file names, official contents, image files, preparation.

``filenames``: the grammar of names. ``official`` and ``slides.csv``: 82 slides, 70 accessions, five
folds. ``image_files``, ``candidates`` and ``archive``: the images of a tree or a tar archive.
``decode``: decodes and validates them. ``beam``: the same on Apache Beam.
``summary``: complete or a subset, duplicates, missing slides. ``builder``: the TensorFlow Datasets
builder.

Another data set with its own names would be a package beside this one. Imports :mod:`data.records`,
:mod:`data.disk` and ``se_resnet``.
"""
