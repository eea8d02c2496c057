"""Warnings about the cache of compiled programs."""

from __future__ import annotations

import warnings

from se_resnet.runtime.compilation_cache import _ignore_lost_entries


def test_an_entry_removed_by_another_process_is_no_warning():
    text = "Error writing persistent compilation cache entry for 'jit_step': "
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        _ignore_lost_entries()
        warnings.warn(f"{text}FileNotFoundError: [Errno 2] x-atime", UserWarning, stacklevel=1)
        warnings.warn(f"{text}OSError: [Errno 28] disk full", UserWarning, stacklevel=1)
    assert [str(one.message) for one in seen] == [f"{text}OSError: [Errno 28] disk full"]
