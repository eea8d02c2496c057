"""Weights to start from: where they come from and how they fit this project's network.

``pretrained`` is the entry. ``formats`` reads safetensors, HDF5 (``keras_hdf5``) and TensorFlow.js;
``hub`` downloads and pins; ``shipped`` reads the weights that lie in this folder. ``naming``,
``layout``, ``wrappers`` and ``keras_numbering`` map other libraries' tensor names. ``declaration``
and ``declared*`` read the configuration files beside the weights, ``assumptions`` joins both.
``relatives`` names networks that cannot be loaded. ``trained_attention`` recognises attention
modules among the tensors. ``timm_format`` writes timm's names.

A new naming is an entry of ``NAMINGS`` in ``naming``. Imports :mod:`se_resnet.models` and what it
imports.
"""
