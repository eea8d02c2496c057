"""One training step and everything that determines it.

``step``: the jitted step, a pure function of state and batch; read this first. ``gradient``: the
gradient of a batch, or the sum over its parts. ``recipe``: the configured parts of a step:
``losses``, ``augment``, ``mixup``. ``optim`` (optimizers, schedules, phases) and ``lr_multipliers``
(per parameter, by regular expression). ``arguments`` makes the numbers of these parts arguments of
the compiled step. ``config``: validates a configuration and builds the recipe. ``loop``: all steps,
with log, validation and checkpoints. ``saving``: when to save. ``progress``: length and state of a
training. ``rehearsal``: estimates from one step. ``validation``: metrics after an epoch.
``display``: progress on the screen. ``divergence``, ``early_stopping`` and ``step_metrics`` watch
the steps. ``module_cost``: parameters and time of each attention module.

A new loss goes to ``losses``, a new configuration field is checked in ``config``. Imports
:mod:`se_resnet.models` and what it imports.
"""
