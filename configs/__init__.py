"""Configurations: each file is one experiment, its docstring holds command and expected result."""
