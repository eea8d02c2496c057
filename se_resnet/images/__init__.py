"""Decodes one image file as a viewer shows it, or refuses it in a sentence.

``decode``: :func:`~se_resnet.images.decode.decode_image`, the one function that training,
prediction and the page share; it tells the format from the content, never from the suffix.
``png``, ``jpeg``, ``tiff``, ``bitmap`` (BMP and WebP): one module a format. ``pixels``: what they
share, such as transparency and depth. ``exif``: the orientation a camera noted.

A new format gets a module with ``decode(content)`` and a row in ``decode``; docs/images.md says
what is read. Imports only ``se_resnet``, ``se_resnet.errors`` and ``se_resnet.runtime.files``.
"""
