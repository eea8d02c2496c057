"""Initial weights: their sources, and how they are fitted to this project's network.

Start with ``pretrained``, which loads and saves weights. ``record``: weights with their facts.
``configured`` loads what ``config.model`` names. ``licences``: terms that a user has to accept.
``initialise``: a network's variables before training.

Sources: ``formats`` reads safetensors, HDF5 (``keras_hdf5``) and TensorFlow.js. ``hub`` downloads
from the Hugging Face Hub. ``shipped`` reads the weights in this folder.

Tensor names of other libraries: ``naming`` lists them and ``layout`` maps them. ``wrappers``
removes prefixes and heads. ``keras_numbering`` names the layers that Keras 2 only numbers.
``timm_format`` writes timm's names. ``trained_attention`` recognises attention modules.
``relatives`` describes networks that cannot be loaded.

Configuration files beside the weights: ``declaration`` and ``declared*`` read them. ``assumptions``
joins them with the tensors.

A new naming is an entry of ``NAMINGS`` in ``naming``. Imports :mod:`se_resnet.runs`,
:mod:`se_resnet.models` and their imports.
"""
