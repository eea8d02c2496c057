"""How a process starts: the paths it is given, and what the environment may decide.

Imports nothing of the package but :mod:`se_resnet.errors` and :mod:`se_resnet.files`.
"""
