"""The log of a run on the screen."""

from __future__ import annotations


def log(topic: str, text: str) -> None:
    """Prints a paragraph with its topic in front of the first line."""
    print(f"{topic:<10}" + text.replace("\n", "\n" + " " * 10), flush=True)
