"""Damages files the ways that fuzzers do."""

from __future__ import annotations

import copy
import struct
from random import Random
from typing import Any

_NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**63 - 1)
HOSTILE_VALUES: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    2**31,
    2**63,
    10**30,
    0.5,
    -0.0,
    1e308,
    float("nan"),
    float("inf"),
    "",
    "x",
    "\0",
    "../../x",
    "/etc/passwd",
    "\ud800",
    "é" * 300,
    "a" * 5000,
    "<script>alert(1)</script>",
    "antigravity:x",
    [],
    [1],
    [[[]]],
    {},
    {"x": 1},
)


def damage(rng: Random, data: bytes, times: int | None = None) -> bytes:
    """``data`` after one or several small accidents."""
    changed = bytearray(data)
    for _ in range(times or rng.choice((1, 1, 1, 2, 3, 8))):
        rng.choice(_ACCIDENTS)(rng, changed)
    return bytes(changed)


def alter(rng: Random, tree: Any) -> Any:
    """A copy of a JSON value in which one or two parts are others, gone or new."""
    tree = copy.deepcopy(tree)
    for _ in range(rng.choice((1, 1, 2))):
        holder, key = rng.choice(_places(tree) or [({}, "x")])
        what = rng.random()
        if what < 0.15:
            del holder[key]
        elif what < 0.3 and isinstance(holder[key], (int, float)):
            holder[key] = holder[key] * rng.choice((-1, 2, 10, 1000, 10**9))
        elif what < 0.4:
            holder[key] = rng.choice((str(holder[key]), [holder[key]], {"a": holder[key]}))
        else:
            holder[key] = rng.choice(HOSTILE_VALUES)
    return tree


def _places(tree: Any) -> list[tuple[Any, Any]]:
    keys = list(tree) if isinstance(tree, dict) else range(len(tree))
    found: list[tuple[Any, Any]] = [(tree, key) for key in keys]
    for key in keys:
        if isinstance(tree[key], (dict, list)):
            found += _places(tree[key])
    return found


def _at(rng: Random, data: bytearray) -> int:
    """Headers lie at the beginning, so that half of all accidents happen there."""
    return (
        rng.randrange(len(data) + 1) if rng.random() < 0.5 else rng.randrange(65) % (len(data) + 1)
    )


def _flip(rng: Random, data: bytearray) -> None:
    if data:
        data[_at(rng, data) % len(data)] ^= 1 << rng.randrange(8)


def _overwrite(rng: Random, data: bytearray) -> None:
    at = _at(rng, data)
    size, order = rng.choice("BHIQ"), rng.choice("<>")
    mask = (1 << 8 * struct.calcsize(size)) - 1
    number = struct.pack(order + size, rng.choice(_NUMBERS) & mask)
    data[at : at + len(number)] = number


def _cut(rng: Random, data: bytearray) -> None:
    del data[rng.randrange(len(data) + 1) :]


def _remove(rng: Random, data: bytearray) -> None:
    at = _at(rng, data)
    del data[at : at + rng.randrange(1, 64)]


def _insert(rng: Random, data: bytearray) -> None:
    at = _at(rng, data)
    data[at:at] = rng.randbytes(rng.randrange(1, 64))


def _repeat(rng: Random, data: bytearray) -> None:
    at = _at(rng, data)
    data[at:at] = data[at : at + rng.randrange(1, 256)] * rng.choice((1, 1, 50))


def _zero(rng: Random, data: bytearray) -> None:
    at = _at(rng, data)
    data[at : at + 64] = bytes(len(data[at : at + 64]))


_ACCIDENTS = (_flip, _flip, _overwrite, _overwrite, _cut, _remove, _insert, _repeat, _zero)
