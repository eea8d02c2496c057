"""The HTML report of an evaluation: one file without scripts, fonts or links to a network.

``report``: the page, from ``templates/``. ``plots``: its plots, each one SVG panel. ``style``:
palette and style of all plots. ``patient_strips``: one line per patient. ``gallery``: errors and
random correct calls, each with explanations. ``publish``: writes the files of an evaluation and
prints its headline. ``remarks``: sentences about an evaluation.

A new plot goes to ``plots`` and into ``templates/report.html.j2``. Imports
:mod:`se_resnet.explain`, :mod:`se_resnet.metrics` and what those import.
"""
