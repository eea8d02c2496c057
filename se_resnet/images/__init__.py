"""Decodes an image file as a viewer shows it, or refuses the file with a reason; resizes images.

``decode``: :func:`~se_resnet.images.decode.decode_image`, the function that training, prediction
and the page share. It detects the format from the content, never from the suffix. ``png``,
``jpeg``, ``tiff``, ``bitmap`` (BMP and WebP): one module per format. ``pixels``: steps that the
formats share, such as transparency and depth. ``exif``: the camera's orientation tag. ``resize``:
the network's input size, whole image or tiles. ``scale``: the network's scale in micrometres per
pixel, and tiles over an image of any size. ``image_table`` and ``image_location``: the rows of a
table that lists images, and the files and archive members that it names. ``data_uri``: an encoded
image for an HTML page.
image for an HTML page.

A new format gets a module with ``decode(content)`` and a row in ``decode``; docs/images.md lists
the formats. Imports only :mod:`se_resnet.errors` and :mod:`se_resnet.runtime`.
"""
