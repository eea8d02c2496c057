"""Lists the files of a data set that cannot be used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from se_resnet.errors import UserError, with_items

BAD_IMAGE_POLICIES = ("error", "skip")
_LISTED = 200


@dataclass(frozen=True)
class Problem:
    """An unusable file, with the reason."""

    path: str
    reason: str

    def __post_init__(self) -> None:
        # A file name need not be valid text, but the list of problems must be.
        readable = self.path.encode("utf-8", "backslashreplace").decode()
        object.__setattr__(self, "path", readable)


def check_policy(on_bad_image: str) -> None:
    """Raises a :class:`UserError` if this is no policy for unusable files."""
    if on_bad_image not in BAD_IMAGE_POLICIES:
        raise UserError(
            f"config.data.on_bad_image = {on_bad_image!r} is unknown: choose "
            f"{' or '.join(map(repr, BAD_IMAGE_POLICIES))}."
        )


def refusal(source: Path, problems: Sequence[Problem], total: int) -> UserError:
    """Returns the error that lists unusable files, each with its reason.

    Args:
        source: path of the data set.
        problems: at least one.
        total: number of files of the data set.
    """
    files = "file is" if len(problems) == 1 else "files are"
    if len(problems) < total:
        remedy = "repair or remove them, or leave them out with config.data.on_bad_image = 'skip'"
    else:  # nothing would be left
        remedy = "repair them, or give other images"
    sentence = f"{len(problems):,} of {total:,} image {files} unusable in {source}: {remedy}."
    items = [f"{problem.path}: {problem.reason}" for problem in problems]
    return UserError(with_items(sentence, items, _LISTED))
