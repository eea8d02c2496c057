"""Which image trains, validates and tests, and what a split leaks: ``python -m data.protocols``.

``roles``: the protocols and the roles they assign. ``split_file``: roles as a table, ``split.csv``.
``audit``: what training and test share. ``near_duplicates``: the same picture under two names.
``source_notebook``: the procedure behind a claimed accuracy of 98.29 %, reproduced.

A new protocol goes to ``roles``. Imports :mod:`data.dataset` and what it imports.
"""
