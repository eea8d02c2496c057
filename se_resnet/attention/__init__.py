"""Attention modules by name: each takes features ``[B, H, W, C]`` and returns the same shape.

=========  ============================  ==============================================
``se``     squeeze-and-excitation        :class:`se_resnet.attention.channel.SqueezeExcite`
``ese``    effective squeeze-excitation  :class:`se_resnet.attention.channel.EffectiveSqueezeExcite`
``eca``    efficient channel attention   :class:`se_resnet.attention.channel.EfficientChannel`
``cbam``   channel, then pixels          :class:`se_resnet.attention.spatial.ConvolutionalBlock`
``coord``  rows and columns              :class:`se_resnet.attention.spatial.Coordinate`
``gc``     global context                :class:`se_resnet.attention.context.GlobalContext`
``simam``  every value by itself         :class:`se_resnet.attention.simam.SimAM`
=========  ============================  ==============================================

A module of your own is named by file and class, ``config.model.attention = 'my_file:Mine'``, or
becomes ``'mine'`` wherever its file is imported, by one decorator::

    @register("mine")
    class Mine(nn.Module):
        @nn.compact
        def __call__(self, features): ...

If it multiplies channels by gates ``[B, C]``, ``self.sow("intermediates", "gates", gates)`` shows
them to :func:`se_resnet.explain.gates`; it costs nothing elsewhere. If they depend on the channels'
means alone, a subclass of :class:`ChannelGate` runs faster on a CPU.

``python -m se_resnet.attention`` tells what each module costs.
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
        refuse_unnamed,
        register,
    )

__all__ = [
    "NONE",
    "REGISTRY",
    "ChannelGate",
    "attend",
    "channel_gates",
    "create",
    "find",
    "refuse_unnamed",
    "register",
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
