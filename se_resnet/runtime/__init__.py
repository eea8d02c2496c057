"""Everything that a program needs around its work: start, processes, files, end.

Start: ``early_exit`` (Ctrl-C during imports), ``cli`` (flags, help, exit codes), ``flag_errors``,
``config_flag`` (``--config``), ``config_form`` (names and types of fields), ``interpreter`` (huge
pages, UTF-8), ``environment`` (variables and limits), ``numerics`` (JAX settings that change
results), ``memory``, ``software`` (versions and devices), ``streams`` (screen and pipes),
``compilation_cache``, ``lazy`` (imports at first use), ``data_package`` (the package ``data`` where
another hides it), ``version``, ``commands`` (the list of commands).
Several devices and processes: ``mesh``, ``launch`` (flags), ``processes`` (agreement). ``batches``:
batches of equal size. Files: ``files`` (one file), ``folders`` (several at once), ``paths`` (``~``
and ``$VAR``), ``walk``, ``schema`` (the form of a JSON value), ``tables`` and ``csv_dialect``,
``file_locks``, ``templates``. Work in threads: ``parallel``. Screen: ``log`` (also in
a file), ``progress_bar``, ``times``, ``text_table``. End: ``signals``.

Imports only :mod:`se_resnet.errors`. Code that would suit any other program belongs here. Code
that knows networks or images does not.
"""
