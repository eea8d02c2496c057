"""Decodes one image file as a viewer shows it, or refuses it in one sentence; resizes it.

``decode``: :func:`~se_resnet.images.decode.decode_image`, the one function that training,
prediction and the page share; it finds the format from the content, never from the suffix.
``png``, ``jpeg``, ``tiff``, ``bitmap`` (BMP and WebP): one module per format. ``pixels``: what they
share, such as transparency and depth. ``exif``: the camera's orientation tag. ``resize``: the
network's input size, whole image or tiles. ``data_uri``: an encoded image for an HTML page.

A new format gets a module with ``decode(content)`` and a row in ``decode``; docs/images.md lists
what is read. Imports only :mod:`se_resnet.errors` and :mod:`se_resnet.runtime`.
"""
