"""Formats the result of an audit as text for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from data.protocols.near_duplicates import HASH_BITS, NEAR_DISTANCE
from se_resnet.metrics.labels import magnification_name
from se_resnet.runtime.text_table import text_table

_SHOWN_PAIRS = 5
_LEVEL_NAMES = {"accession": "patient"}  # the result keeps the name of the column of split.csv


def describe(result: Mapping[str, Any]) -> str:
    """Returns lines of text that end with the verdict.

    Args:
        result: as :func:`data.protocols.audit.audit` returns it.
    """
    lines = [
        *text_table(_balance_rows(result["balance"])),
        "",
        *text_table(_overlap_rows(result)),
        *_pair_lines(result["near_duplicates"]["pairs"]),
        "",
    ]
    lines += [f"note: {note}" for note in result["notes"]]
    lines += [f"WARNING: {leak}" for leak in result["leaks"]]
    return "\n".join([*lines, f"verdict: {result['verdict']}"])


def _balance_rows(balance: list[dict[str, Any]]) -> list[list[Any]]:
    magnifications = list(dict.fromkeys(row["magnification"] for row in balance))
    columns = [magnification_name(scale) for scale in magnifications if scale is not None]
    if set(magnifications) == {0, None}:  # not known for any image
        columns, balance, magnifications = [], balance[1::2], [None]
    rows: list[list[Any]] = [["role", "class", *columns, "images", "slides", "patients"]]
    for start in range(0, len(balance), len(magnifications)):
        group = balance[start : start + len(magnifications)]
        total = group[-1]
        rows.append(
            [
                total["role"],
                total["class"],
                *(row["images"] for row in group),
                total["slides"],
                total["accessions"],
            ]
        )
    return rows


def _overlap_rows(result: Mapping[str, Any]) -> list[list[Any]]:
    overlap = result["overlap"]
    role_pairs = [" and ".join(row["roles"]) for row in next(iter(overlap.values()))]
    rows: list[list[Any]] = [["shared by", *role_pairs]]
    rows += [
        [_LEVEL_NAMES.get(level, level), *(row["shared"] for row in counts)]
        for level, counts in overlap.items()
    ]
    missing = ["-"] * (len(role_pairs) - 1)
    return [*rows, ["near-duplicates found", *missing, result["near_duplicates"]["test_images"]]]


def _pair_lines(pairs: list[dict[str, Any]]) -> list[str]:
    if not pairs:
        return []
    lines = [
        "",
        f"near-duplicates, in any of 8 views up to {NEAR_DISTANCE} of {HASH_BITS} bits apart:",
    ]
    lines += [
        f"  {pair['test_file']} (test) and {pair['file']} ({pair['role']}): {pair['distance']}"
        for pair in pairs[:_SHOWN_PAIRS]
    ]
    more = len(pairs) - _SHOWN_PAIRS
    return [*lines, *([f"  and {more:,} more pairs"] if more > 0 else [])]
