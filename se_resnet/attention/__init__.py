"""Attention modules by name: each takes features ``[B, H, W, C]`` and returns the same shape.

=========  ============================  ======================================
``se``     squeeze-and-excitation        :class:`.channel.SqueezeExcite`
``ese``    effective squeeze-excitation  :class:`.channel.EffectiveSqueezeExcite`
``eca``    efficient channel attention   :class:`.channel.EfficientChannelAttention`
``cbam``   channel, then pixels          :class:`.spatial.CBAM`
``coord``  rows and columns              :class:`.spatial.CoordinateAttention`
``gc``     global context                :class:`.context.GlobalContext`
``simam``  every value by itself         :class:`.simam.SimAM`
=========  ============================  ======================================

A module of your own is named by file and class, ``config.model.attention = 'my_file:Mine'``, or
becomes ``'mine'`` wherever its file is imported, by one decorator::

    @register("mine")
    class Mine(nn.Module):
        @nn.compact
        def __call__(self, features): ...

If it multiplies channels by gates ``[B, C]``, ``self.sow("intermediates", "gates", gates)`` shows
them to :func:`se_resnet.explain.gates`; it costs nothing elsewhere. If they depend on the channels'
means alone, a subclass of :class:`ChannelGate` runs faster on a CPU.

Files: ``channel``, ``spatial``, ``context`` and ``simam`` hold the modules; ``registry`` finds and
creates them; ``user_module`` imports yours; ``gate_options`` has the functions that gates share. A
new module is a class in one of the first four, with paper, formula and parameters. Imports
:mod:`se_resnet.errors` and :mod:`se_resnet.runtime`.

``python -m se_resnet.attention`` prints what each module costs.
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
    """Imports the modules at first use: ``--help`` of the command must not wait for JAX."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    for part in ("channel", "spatial", "context", "simam"):
        importlib.import_module(f"{__name__}.{part}")
    value = getattr(importlib.import_module(f"{__name__}.registry"), name)
    globals()[name] = value
    return value
