"""Tables and text that a journal asks for, from the files of an evaluated run.

``folder``: :func:`~se_resnet.report.reporting.folder.write_reporting`, which writes all files.
``study``: the recorded facts of a run, read once. ``flow``: counts from the files found to the
evaluated images; ``flow_chart``: the same as a diagram. ``characteristics``: the table by role and
class. ``checklist``: TRIPOD+AI and CLAIM, whose items lie in ``tripod_ai.csv`` and ``claim.csv``;
``answers``: an answer for each item that the files can answer. ``methods``: a methods section.
``data_text``, ``model_text``, ``evaluation_text``, ``clinical_text``: sentences about a run that
answers and methods share. ``wording``: numbers and lists as text.

A new item goes to its CSV file, a new answer to ``answers``. An answer may only state what the
files hold. Imports what :mod:`se_resnet.report` imports.
"""
