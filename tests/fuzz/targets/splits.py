"""``split.csv``, of a run and of a user's own, as evaluation, resume and audit read it."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import numpy as np

from data.protocols.roles import PROTOCOLS, assign_roles
from data.protocols.split_file import read_roles, user_roles, write_split
from data.records import Records
from se_resnet.runs.run_files import EXCLUDED, ROLES, read_split
from tests.fuzz.mutations import damage
from tests.fuzz.place import Place
from tests.helpers.datasets import make_records

RECORDS = make_records(3, 4, images=2, magnifications=(40,))


def case(rng: Random, place: Place) -> Callable[[], object]:
    path = place.input / "split.csv"
    roles = np.array(rng.choices((*ROLES, EXCLUDED), k=len(RECORDS)))
    write_split(path, RECORDS, roles)
    path.write_bytes(damage_table(rng, path.read_bytes()))

    def action() -> None:
        read_roles(path, RECORDS)
        lines = read_split(path, ("file", "role"))
        user_roles(lines, RECORDS, str(path))

    def assign() -> None:
        """The fold tables: folds of any number, of any part of the images."""
        assign_roles(_part(rng), rng.choice(PROTOCOLS), **_folds(rng))

    return rng.choice((action, action, action, assign))


def _part(rng: Random) -> Records:
    return RECORDS.take(np.array([rng.random() < 0.7 for _ in range(len(RECORDS))], bool))


def _folds(rng: Random) -> dict[str, int]:
    numbers = (-1, 0, 1, 2, 3, 5, 10**6)
    return {name: rng.choice(numbers) for name in ("folds", "fold", "val_folds")} | {
        "seed": rng.choice((0, 1, 2**32 - 1))
    }


def damage_table(rng: Random, text: bytes) -> bytes:
    """Accidents of bytes, and those that happen to tables."""
    what = rng.random()
    lines = text.splitlines(keepends=True)
    at = rng.randrange(len(lines))
    cells = lines[at].rstrip(b"\r\n").split(b",")
    cell = rng.randrange(len(cells))
    if what < 0.4:
        return damage(rng, text)
    if what < 0.5:
        del lines[at]
    elif what < 0.6:
        lines.append(lines[at])
    elif what < 0.65:
        lines[at] += rng.choice((b",,,\n", b"\n\n", b'"open\n', b"\0\n"))
    elif what < 0.7:
        lines = [line.replace(b",", b";") for line in lines]
    elif what < 0.75:
        return "".join(chr(byte) for byte in text).encode("utf-16")
    else:
        if rng.random() < 0.2:
            del cells[cell]
        values = (
            b"",
            b"-1",
            b"nan",
            b"1e400",
            b"9" * 30,
            b"\xff",
            b"a" * 200_000,
            b'"',
            b"2",
            b"inf",
        )
        if cell < len(cells):
            cells[cell] = rng.choice(values)
        lines[at] = b",".join(cells) + b"\n"
    return b"".join(lines)
