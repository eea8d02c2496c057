"""Experiments, one per file. The docstring of a file has the command and the expected result."""
