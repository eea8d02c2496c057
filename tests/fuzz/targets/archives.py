"""Archives that reach out, bend headers, or expand without end."""

from __future__ import annotations

import gzip
import io
import tarfile
import zlib
from collections.abc import Callable
from random import Random

from tests.fuzz.mutations import damage
from tests.fuzz.place import SECRET, Place
from tests.fuzz.targets.images import content
from tests.fuzz.targets.trees import file_name, read_all

_KINDS = (
    *(tarfile.REGTYPE,) * 8,
    tarfile.SYMTYPE,
    tarfile.LNKTYPE,
    tarfile.FIFOTYPE,
    tarfile.DIRTYPE,
    tarfile.CHRTYPE,
    tarfile.CONTTYPE,
    tarfile.GNUTYPE_SPARSE,
    b"Z",
)


def case(rng: Random, place: Place) -> Callable[[], object]:
    path = place.input / rng.choice(("BreaKHis_v1.tar.gz", "x.tgz", "x.tar"))
    what = rng.random()
    if what < 0.05:
        data = gzip.compress(rng.randbytes(rng.randrange(2000)))
    elif what < 0.15:
        data = _bomb(rng)
    else:
        data = _members(rng, place)
        if rng.random() < 0.6:
            data = _resealed(rng, damage(rng, data))
        if rng.random() < 0.5:
            data = gzip.compress(data, 1)
        if rng.random() < 0.2:
            data = damage(rng, data)
    path.write_bytes(data)
    target = rng.choice((path, place.input))
    return lambda: read_all(target)


def _members(rng: Random, place: Place) -> bytes:
    buffer = io.BytesIO()
    kind = rng.choice((tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT))
    outside = str(place.elsewhere)
    folders = ("benign", "x/malignant/y", "../../benign", "/benign", f"{outside}/benign", "other")
    with tarfile.open(fileobj=buffer, mode="w", format=kind, errors="surrogateescape") as tar:
        for _ in range(rng.randrange(1, 7)):
            member = tarfile.TarInfo(f"{rng.choice(folders)}/{file_name(rng)}")
            member.type = rng.choice(_KINDS)
            member.linkname = rng.choice(
                (f"{outside}/{SECRET}", "../x", member.name, "/etc/passwd")
            )
            if kind == tarfile.PAX_FORMAT and rng.random() < 0.4:
                member.pax_headers = _pax(rng)
            data = content(rng, ".png") if member.isreg() else b""
            member.size = len(data)
            try:
                tar.addfile(member, io.BytesIO(data))
            except (ValueError, UnicodeError):
                continue  # this format cannot say so
    return buffer.getvalue()


def _pax(rng: Random) -> dict[str, str]:
    values = ("0", "-1", "1", "99999999999999999999", "x", "1.5", "", "nan", "1" * 5000)
    keys = (
        "path",
        "size",
        "mtime",
        "linkpath",
        "hdrcharset",
        "GNU.sparse.major",
        "GNU.sparse.minor",
        "GNU.sparse.map",
        "GNU.sparse.size",
        "GNU.sparse.realsize",
        "GNU.sparse.name",
        "GNU.sparse.numblocks",
    )
    headers = {key: rng.choice(values) for key in rng.sample(keys, rng.randrange(1, 5))}
    return {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"} if rng.random() < 0.2 else headers


def _resealed(rng: Random, data: bytes) -> bytes:
    """The damaged archive with right checksums in its headers, so that they are believed."""
    changed = bytearray(data)
    for at in range(0, len(changed) - 511, 512):
        if changed[at + 257 : at + 262] == b"ustar" and rng.random() < 0.9:
            block = bytes(changed[at : at + 512])
            total = sum(block[:148]) + 256 + sum(block[156:])
            changed[at + 148 : at + 156] = b"%06o\0 " % total
    return bytes(changed)


def _bomb(rng: Random) -> bytes:
    """Little that expands to much: as an image, a name, an extended header, or behind the end."""
    size = rng.choice((2**26, 2**28, 2**30, 2**32))
    member = tarfile.TarInfo("benign/SOB_B_A-14-22549AB-40-001.png")
    member.size = size
    member.type = rng.choice((tarfile.REGTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, b"g"))
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    data = packer.compress(member.tobuf(tarfile.GNU_FORMAT))
    block = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    # From here on a mebibyte of zeros is always the same thousand bytes.
    again = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    return data + block + again * (size >> 20)
