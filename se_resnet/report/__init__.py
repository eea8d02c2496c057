"""The HTML report of an evaluation: a file without scripts, fonts or links to other places.

``report``: the page, from ``templates/``. ``page``: layout and navigation of all pages. ``theme``:
their colours, for light and dark screens. ``links``: links between the reports of a run and those
of its parts. ``plots``: the plots of the page, each an SVG element. ``style``: style of all plots.
``errors``: the list of misclassified images. ``patient_strips``: one line per patient. ``gallery``:
errors and random correct predictions, each with an explanation. ``publish``: writes the files of an
evaluation and prints the headline. ``folds`` and ``repeats``: evaluate the folds or the repeats of
a run together. ``remarks`` and ``scale_remarks``: sentences about an evaluation. ``provenance``:
its date, command, versions, and the state of the training. ``reporting/``: what a journal asks for;
``python -m se_resnet.report`` writes it.

A new plot goes to ``plots`` and into ``templates/report.html.j2``. Imports
:mod:`se_resnet.explain`, :mod:`se_resnet.metrics` and the packages before them.
"""
