"""The network: from pixels to a logit.

``resnet``: ResNet with bottleneck blocks and a slot for attention; read this first. ``layers``:
convolution, normalisation and pooling, from operations in ``ops_plain``, in ``ops_fused`` (for a
GPU) or in ``ops_fast`` (for a CPU), where ``winograd`` computes 3x3 convolutions. ``folding``:
variables prepared for many batches in evaluation mode. ``precision``: full float32 in programs that
predict. ``preprocessing``: normalisation of RGB pixels. ``classifier``: a network with its
preprocessing, the unit that checkpoints hold.

A new layer goes to ``layers``, a faster form of an operation to ``ops_fast``. Imports
:mod:`se_resnet.attention`, :mod:`se_resnet.images` and what those import.
"""
