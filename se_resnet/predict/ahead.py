"""Decodes and prepares image files in threads, ahead of the network."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from se_resnet.errors import UserError
from se_resnet.images.decode import decode_image
from se_resnet.images.pixels import ImageError, digest

_AHEAD = 16  # images, as many as a batch
_BYTES_AHEAD = 2**26  # of their files; a larger file is decoded alone
_WORKERS = min(4, os.cpu_count() or 1)


def prepare_ahead(
    contents: Iterable[tuple[int, bytes | ImageError]],
    prepare: Callable[[int, Any], Any],
) -> Iterator[tuple[int, Any, str]]:
    """Yields number, prepared image and digest of the decoded pixels, in the order of the files.

    While the caller works on a batch, threads decode and prepare the images of the next batch. At
    most 16 images, or files of 64 MiB, are ahead.

    Args:
        contents: numbers and contents of files, see
            :func:`se_resnet.images.image_location.read_all`; taken in the calling thread.
        prepare: called with the number and the image ``uint8 [h, w, 3]``, in several threads at
            once.

    Yields:
        Number, result of ``prepare`` and digest. For a file that cannot be used, the exception
        (``ValueError`` or ``UserError``) takes the place of the result, and the digest is empty.
    """

    def work(number: int, content: bytes | ImageError) -> tuple[int, Any, str]:
        try:
            if isinstance(content, ImageError):
                raise content
            image = decode_image(content)
            return number, prepare(number, image), digest(image)
        except (ValueError, UserError) as error:
            return number, error, ""

    with ThreadPoolExecutor(_WORKERS, "decode") as pool:
        ahead: deque[tuple[int, Future]] = deque()
        size = 0
        for number, content in contents:
            length = 0 if isinstance(content, ImageError) else len(content)
            while ahead and (len(ahead) >= _AHEAD or size + length > _BYTES_AHEAD):
                first, future = ahead.popleft()
                size -= first
                yield future.result()
            ahead.append((length, pool.submit(work, number, content)))
            size += length
        while ahead:
            yield ahead.popleft()[1].result()
