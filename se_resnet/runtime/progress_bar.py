"""Progress bars on the screen, which are not part of a log."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm

from se_resnet.runtime.log import screen


def progress_bar(items: Iterable[Any] | None = None, **options: Any) -> tqdm:
    """Returns a bar on standard error, which is shown on a terminal only.

    Args:
        items: counted by the bar as they are taken; None for a bar that is updated by hand.
        **options: further arguments of :class:`tqdm.tqdm`.
    """
    return tqdm(items, file=screen(sys.stderr), disable=None, **options)
