"""A run as a file for other runtimes, checked against the run: ``python -m se_resnet.export``."""
