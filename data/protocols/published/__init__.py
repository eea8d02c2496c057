"""Published splits of BreaKHis as data: their leaks, and a minimal repair of each.

``python -m data.protocols --published`` prints the leaks and writes the splits. Protocol
``published`` of ``data.protocols.roles`` trains on a split.

A split is a JSON file with its source, named like the split: ``title``, ``source``, ``licence``,
``note``, ``magnifications``, ``tumour_types``, ``classes`` (``benign, malignant`` or
``tumour types``), ``published_images`` where the source gives numbers, and either
``columns_of_slides_csv`` or ``test`` with, optionally, one list of ``validation`` for each fold.
A file that does not give its published numbers of images is reported and cannot be trained on.

``slides``: the slides of BreaKHis. ``splits``: reads the files. ``repair``: moves accessions that
have several roles. ``assignment``: gives images the roles of a split. ``leak_table``: counts the
leaks. ``publish``: writes the table and the ``split.csv`` files.

A new split is a new JSON file here. Imports ``data.breakhis`` and ``data.records``.
"""
