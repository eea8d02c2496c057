"""Divides images into training, validation and test, and audits splits for leaks.

``python -m data.protocols`` audits a split.

``roles``: the protocols and the roles they assign. ``configured``: the roles of a configuration.
``magnifications``: training and testing at different magnifications. ``split_file``: roles as a
table, ``split.csv``. ``given_roles``: roles that a table of the user gives.
``audit``: what training and test share. ``audit_text``: the result of an audit as text.
``near_duplicates``: the same picture under two names, also mirrored or turned.
``source_notebook``: reproduces the procedure behind a claimed accuracy of 98.29 %.
``options``: the command line.

A new protocol goes to ``roles``. Imports :mod:`data.dataset` and what it imports.
"""
