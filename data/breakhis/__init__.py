"""The data set BreaKHis: file names, official content, image files, preparation.

``filenames``: the grammar of names. ``official`` and ``slides.csv``: 82 slides, 70 accessions, five
folds. ``image_files``, ``candidates`` and ``archive``: the images of a tree or a tar archive.
``decode``: decodes and validates images. ``beam``: the same on Apache Beam. ``summary``: complete
or a subset, duplicates, missing slides. ``builder``: the TensorFlow Datasets builder.
``preparation``: runs the builder once and reads the result.

Another data set would be a package beside this one. Imports :mod:`data.records`,
:mod:`data.disk` and ``se_resnet``.
"""
