"""The exception for user errors, and texts for messages."""

from __future__ import annotations

from collections.abc import Sequence


class UserError(Exception):
    """A missing file, a wrong path, a bad value: a problem that the user can solve.

    Its message is one sentence that names the problem and the remedy. The commands print that
    sentence and end with exit code 2. Any other exception keeps its traceback, because it is a bug.
    """


def one_line(error: BaseException, limit: int = 200) -> str:
    """Returns the message of an error on one line and without a full stop, for another message.

    Args:
        error: the error. The name of its type stands in for an empty message.
        limit: largest number of characters.
    """
    return " ".join(str(error).split())[:limit].rstrip(".") or type(error).__name__


def with_items(sentence: str, items: Sequence[str], most: int = 20) -> str:
    """Returns a message that lists items below a sentence, and counts those beyond ``most``."""
    more = len(items) - most
    lines = [sentence, *(f"  {item}" for item in items[:most])]
    return "\n".join([*lines, *([f"  and {more:,} more"] if more > 0 else [])])
