"""Hostile and unlucky input: generated cases, one oracle for all, and the command that runs them.

``python -m tests.fuzz --seed S --count N``. Every file of ``targets/`` makes cases of one kind.
"""
