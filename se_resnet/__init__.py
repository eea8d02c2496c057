"""SE-ResNet50 in JAX/Flax: everything that computes on arrays.

Importing this package imports neither TensorFlow nor the data room.
"""
