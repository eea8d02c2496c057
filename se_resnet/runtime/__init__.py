"""How a process starts, joins others, reads and writes files, and ends.

Start: ``cli`` (flags, help, exit codes), ``interpreter`` (huge pages, UTF-8), ``environment``
(variables and limits), ``numerics`` (JAX settings that change results), ``streams`` (screen and
pipes), ``compilation_cache``, ``lazy`` (imports at first use). Several devices and processes:
``mesh``, ``launch`` (flags), ``processes`` (agreement). ``batches``: batches of equal size. Files:
``files`` (one file), ``folders`` (several at once), ``paths`` (``~`` and ``$VAR``), ``walk``,
``schema`` (the form of a JSON value), ``tables`` and ``csv_dialect``, ``file_locks``,
``templates``. Screen: ``log``. End: ``signals``.

Imports only :mod:`se_resnet.errors`. Code that would suit any other program belongs here; code that
knows networks or images does not.
"""
