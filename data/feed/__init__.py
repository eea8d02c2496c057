"""Makes batches for the devices.

``choose``: the feed of a run, from the host or from device memory; open this first.
``batch_order``: which rows of the plan form which batch. ``host``: tf.data over memory-mapped
pixels. ``device``: images and plan in device memory, batches made inside the training step.

Imports :mod:`data.balance` and ``se_resnet``; only ``host`` imports TensorFlow.
"""
