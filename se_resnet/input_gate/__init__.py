"""The input gate: does an image look like the training images of a network?

``features``: simple features of tissue, sharpness, stain and scale. ``embedding``: the network's
pooled features. ``gate``: :class:`~se_resnet.input_gate.gate.InputGate`, which compares an image
with the training images, is made from them, and is kept in ``input_reference.safetensors``.

A new simple feature is an entry of ``FEATURES`` in ``features``. Imports :mod:`se_resnet.models`
and its imports.
"""
