"""Attention modules by name. Each maps features ``[B, H, W, C]`` to the same shape.

=========  ============================  ======================================
``se``     squeeze-and-excitation        :class:`.channel.SqueezeExcite`
``ese``    effective squeeze-excitation  :class:`.channel.EffectiveSqueezeExcite`
``eca``    efficient channel attention   :class:`.channel.EfficientChannelAttention`
``cbam``   channel, then pixels          :class:`.spatial.CBAM`
``coord``  rows and columns              :class:`.spatial.CoordinateAttention`
``gc``     global context                :class:`.context.GlobalContext`
``simam``  each value alone              :class:`.simam.SimAM`
=========  ============================  ======================================

To use your own module, name its file and class: ``config.model.attention = 'my_file:Mine'``. A
decorator gives the module a short name, ``'mine'``, after its file is imported::

    @register("mine")
    class Mine(nn.Module):
        @nn.compact
        def __call__(self, features): ...

If your module multiplies channels by gates ``[B, C]``, add
``self.sow("intermediates", "gates", gates)`` to make the gates visible to
:func:`se_resnet.explain.gates`. The call costs nothing elsewhere. If the gates depend only on the
means of the channels, a subclass of :class:`ChannelGate` runs faster on a CPU.

Files: ``channel``, ``spatial``, ``context`` and ``simam`` hold the modules; ``registry`` finds and
creates them. ``user_module`` imports your module. ``gate_options`` has the functions that gates
share. A new module is a class in one of the first four, with paper, formula and parameters. Imports
:mod:`se_resnet.errors` and :mod:`se_resnet.runtime`.

``python -m se_resnet.attention`` prints the cost of each module.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from se_resnet.attention.registry import (
        NONE,
        REGISTRY,
        ChannelGate,
        attend,
        channel_gates,
        create,
        find,
        register,
        require_trusted,
    )

__all__ = [
    "NONE",
    "REGISTRY",
    "ChannelGate",
    "attend",
    "channel_gates",
    "create",
    "find",
    "register",
    "require_trusted",
]


def __getattr__(name: str) -> Any:
    """Imports the modules at first use, so that ``--help`` does not wait for JAX."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    for part in ("channel", "spatial", "context", "simam"):
        importlib.import_module(f"{__name__}.{part}")
    value = getattr(importlib.import_module(f"{__name__}.registry"), name)
    globals()[name] = value
    return value
