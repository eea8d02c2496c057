from __future__ import annotations

import gzip
import io
import os
import shutil
import struct
import tarfile
import time
import zlib

import cv2
import numpy as np
import pytest

from data.breakhis import decode, image_files
from data.breakhis.decode import ImageFacts, SourceImage
from data.problems import Problem
from se_resnet.errors import UserError
from tests.helpers.image_trees import encode, make_tree, make_unreadable, random_image

NAMES = (
    "SOB_B_A-14-22549AB-40-001.png",
    "SOB_B_A-14-22549AB-40-002.png",
    "SOB_M_DC-14-2523-40-010.png",
    "SOB_M_PC-15-190EF-400-003.png",
)
NESTINGS = (
    "",
    "BreaKHis_v1/histology_slides/breast",
    "BreaKHis_v1/BreaKHis_v1/histology_slides/breast",
)


def scan(path) -> tuple[dict[str, SourceImage], dict[str, str]]:
    """Usable images by file name, and reasons by path."""
    items = list(decode.scan(image_files.find(path), workers=2))
    images = {str(item.name): item for item in items if isinstance(item, SourceImage)}
    return images, {item.path: item.reason for item in items if isinstance(item, Problem)}


def pack(tree, archive, mode="w:gz"):
    with tarfile.open(archive, mode) as tar:
        tar.add(tree, arcname="BreaKHis_v1")
    return archive


@pytest.mark.parametrize("nesting", NESTINGS)
def test_a_tree_is_found_at_any_depth(tmp_path, nesting):
    base = make_tree(tmp_path, NAMES, nesting=nesting)
    assert image_files.find(tmp_path).path == base
    images, problems = scan(tmp_path)
    assert sorted(images) == sorted(NAMES)
    assert not problems


@pytest.mark.parametrize("nesting", NESTINGS)
@pytest.mark.parametrize(("suffix", "mode"), [(".tar.gz", "w:gz"), (".tgz", "w:gz"), (".tar", "w")])
def test_an_archive_gives_the_same_images_as_its_tree(tmp_path, nesting, suffix, mode):
    make_tree(tmp_path / "tree", NAMES, nesting=nesting)
    archive = pack(tmp_path / "tree", tmp_path / f"archive{suffix}", mode)
    from_tree, _ = scan(tmp_path / "tree")
    from_archive, problems = scan(archive)
    assert not problems
    assert {n: (i.data, i.facts) for n, i in from_archive.items()} == {
        n: (i.data, i.facts) for n, i in from_tree.items()
    }


def test_a_folder_may_hold_the_archive(tmp_path):
    make_tree(tmp_path / "tree", NAMES)
    (tmp_path / "downloads").mkdir()
    pack(tmp_path / "tree", tmp_path / "downloads" / "BreaKHis_v1.tar.gz")
    (tmp_path / "downloads" / "another.tar").write_bytes(b"")
    source = image_files.find(tmp_path / "downloads")
    assert source.is_archive
    assert source.path.name == "BreaKHis_v1.tar.gz"


def test_one_class_is_enough(tmp_path):
    make_tree(tmp_path, NAMES[:2])
    assert len(scan(tmp_path)[0]) == 2


def test_companions_of_the_images_are_ignored(tmp_path):
    base = make_tree(tmp_path, NAMES)
    for name in (".DS_Store", "Thumbs.db", "._SOB_B_A-14-22549AB-40-001.png", "README.txt"):
        (base / "benign" / name).write_bytes(b"anything")
    (base / "Folds.csv").write_text("fold")
    (base / "montage.png").write_bytes(b"outside the class folders")
    images, problems = scan(tmp_path)
    assert len(images) == 4
    assert not problems
    archived, problems = scan(pack(tmp_path, tmp_path / "a.tar.gz"))
    assert len(archived) == 4
    assert not problems


def test_pixels_not_bytes_decide_the_digest():
    image = random_image()
    fast = cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 0])[1].tobytes()
    small = cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 9])[1].tobytes()
    assert fast != small
    assert decode.inspect(fast) == decode.inspect(small)
    other = image.copy()
    other[0, 0, 0] ^= 1
    assert decode.inspect(encode(other)) != decode.inspect(fast)
    turned = decode.inspect(encode(image.reshape(70, 46, 3)))
    assert turned.digest != decode.inspect(fast).digest


def test_facts_of_a_good_image():
    facts = decode.inspect(encode(random_image((70, 46))))
    assert isinstance(facts, ImageFacts)
    assert (facts.height, facts.width) == (46, 70)


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, pixels: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(pixels))
        + chunk(b"IEND", b"")
    )


GOOD = encode(random_image())
FLIPPED = bytearray(GOOD)
FLIPPED[len(GOOD) // 2] ^= 1
BAD = {
    "empty": (b"", "empty"),
    "text": (b"not an image at all", "not a PNG"),
    "jpeg": (cv2.imencode(".jpg", random_image())[1].tobytes(), "not a PNG"),
    "signature only": (GOOD[:8], "truncated"),
    "half a signature": (GOOD[:5], "truncated"),
    "half": (GOOD[: len(GOOD) // 2], "truncated"),
    "no end marker": (GOOD[:-12], "truncated"),
    "last byte missing": (GOOD[:-1], "truncated"),
    "a flipped bit": (bytes(FLIPPED), "broken"),
    "no pixels": (png(64, 64, b""), "broken"),
    "grayscale": (encode(random_image()[:, :, 0]), "grayscale"),
    "alpha": (encode(np.dstack([random_image(), random_image()[:, :, :1]])), "alpha"),
    "16-bit": (encode(random_image().astype(np.uint16)), "16-bit"),
    "16-bit gray": (encode(random_image().astype(np.uint16)[:, :, 0]), "16-bit"),
    "one pixel": (encode(random_image((1, 1))), "1x1"),
    "bomb": (png(2**31 - 1, 2**31 - 1, b""), "2147483647x"),
}


@pytest.mark.parametrize("case", BAD)
def test_unusable_images_get_a_reason(case, capfd):
    data, reason = BAD[case]
    problem = decode.inspect(data)
    assert isinstance(problem, str)
    assert reason in problem
    if case != "no pixels":  # whole container, hostile content: OpenCV comments on that one
        assert capfd.readouterr() == ("", "")


def test_every_problem_names_its_file(tmp_path):
    base = make_tree(tmp_path, NAMES)
    folder = base / "benign/SOB/adenosis/SOB_B_A_14-22549AB/40X"
    (folder / NAMES[0]).write_bytes(b"")
    (folder / "SOB_B_A-14-22549AB-40-1.png").write_bytes(GOOD)
    (folder / "holiday.jpg").write_bytes(GOOD)
    (folder / "SOB_M_LC-14-12204-40-034.png").write_bytes(GOOD)
    (folder / "SOB_B_A-14-22549AB-40-009.png").symlink_to(tmp_path / "nowhere")
    (base / "malignant" / NAMES[2]).write_bytes(GOOD)
    images, problems = scan(tmp_path)
    assert sorted(images) == sorted(NAMES[1:])
    reasons = {path.rsplit("/", 1)[-1]: reason for path, reason in problems.items()}
    assert "empty" in reasons[NAMES[0]]
    assert "follow" in reasons["SOB_B_A-14-22549AB-40-1.png"]
    assert "follow" in reasons["holiday.jpg"]
    assert reasons["SOB_M_LC-14-12204-40-034.png"].startswith("the name says malignant")
    assert "cannot be read" in reasons["SOB_B_A-14-22549AB-40-009.png"]
    assert reasons[NAMES[2]].startswith("the same file name as malignant/")
    assert len(problems) == 6


def test_a_name_filed_in_the_other_class_is_a_problem(tmp_path):
    base = make_tree(tmp_path, NAMES)
    os.rename(base / "benign/SOB", base / "malignant/moved")
    images, problems = scan(tmp_path)
    assert sorted(images) == sorted(NAMES[2:])
    assert set(problems.values()) == {"the name says benign, but the folder does not"}


def test_too_large_files_are_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(image_files, "MAX_FILE_BYTES", 1000)
    make_tree(tmp_path, NAMES[:1])
    (reason,) = scan(tmp_path)[1].values()
    assert "an image of BreaKHis has at most" in reason
    (reason,) = scan(pack(tmp_path, tmp_path / "a.tar.gz"))[1].values()
    assert "an image of BreaKHis has at most" in reason


def test_loops_of_links_end(tmp_path):
    base = make_tree(tmp_path, NAMES)
    (base / "benign" / "loop").symlink_to(base / "benign")
    (base / "loop").symlink_to(base)
    images, problems = scan(tmp_path)
    assert len(images) == 4
    assert not problems
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with pytest.raises(UserError, match=r"does not exist|cannot be read"):
        image_files.find(tmp_path / "a")


def test_a_hostile_archive_touches_no_file(tmp_path):
    secret = tmp_path / "secret.png"
    secret.write_bytes(GOOD)
    archive = tmp_path / "hostile.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:

        def add(name, kind=tarfile.REGTYPE, target="", data=GOOD):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, target
            member.size = len(data) if kind == tarfile.REGTYPE else 0
            tar.addfile(member, io.BytesIO(data))

        add(f"../../benign/{NAMES[0]}")
        add(f"/benign/{NAMES[1]}")
        add(f"benign/{NAMES[0]}")
        add("malignant/SOB_M_DC-14-2523-40-011.png", tarfile.SYMTYPE, str(secret))
        add("malignant/SOB_M_DC-14-2523-40-012.png", tarfile.LNKTYPE, str(secret))
        add("malignant/SOB_M_DC-14-2523-40-013.png", tarfile.FIFOTYPE)
        add("benign/", tarfile.DIRTYPE)
    before = sorted(tmp_path.rglob("*"))
    images, problems = scan(archive)
    assert sorted(tmp_path.rglob("*")) == before
    assert sorted(images) == sorted(NAMES[:2])
    assert problems == {
        f"benign/{NAMES[0]}": f"the same file name as ../../benign/{NAMES[0]}",
        "malignant/SOB_M_DC-14-2523-40-011.png": "a link inside the archive",
        "malignant/SOB_M_DC-14-2523-40-012.png": "a link inside the archive",
    }


@pytest.mark.parametrize("keep", [0.3, 0.7, 0.99])
@pytest.mark.parametrize(("suffix", "mode"), [(".tar.gz", "w:gz"), (".tar", "w")])
def test_a_truncated_archive_is_refused(tmp_path, keep, suffix, mode):
    make_tree(tmp_path / "tree", NAMES)
    archive = tmp_path / f"a{suffix}"
    with tarfile.open(archive, mode) as tar:
        for path in sorted((tmp_path / "tree").rglob("*.png")):
            tar.add(path, arcname=path.relative_to(tmp_path).as_posix())
    data = archive.read_bytes().rstrip(b"\0")
    archive.write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(UserError, match="damaged or incomplete"):
        scan(archive)


def test_an_archive_that_ends_between_two_images_is_refused(tmp_path):
    make_tree(tmp_path / "tree", NAMES)
    archive = pack(tmp_path / "tree", tmp_path / "a.tar.gz")
    archive.write_bytes(archive.read_bytes()[:-8])  # every image is whole, the checksum is gone
    with pytest.raises(UserError, match="damaged or incomplete"):
        scan(archive)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "does not exist"),
        (lambda path: path.mkdir(), "no folder benign/"),
        (lambda path: path.write_bytes(b""), "neither a folder nor a tar archive"),
        (lambda path: path.write_bytes(GOOD), "neither a folder nor a tar archive"),
        (lambda path: os.mkfifo(path), "neither a folder nor a tar archive"),
    ],
)
def test_a_wrong_path_is_one_sentence(tmp_path, make, message):
    make(tmp_path / "x")
    with pytest.raises(UserError, match=message) as caught:
        image_files.find(tmp_path / "x")
    assert "\n" not in str(caught.value)
    assert str(tmp_path / "x") in str(caught.value)


@pytest.mark.parametrize("path", ["", "\0", "~nobody-of-that-name/x"])
def test_a_path_that_is_none_is_a_users_mistake(path):
    with pytest.raises(UserError):
        image_files.find(path)


def test_gzip_of_something_else_is_refused(tmp_path):
    import gzip

    (tmp_path / "x.tar.gz").write_bytes(gzip.compress(b"not a tar archive" * 100))
    with pytest.raises(UserError, match="damaged"):
        scan(tmp_path / "x.tar.gz")
    with tarfile.open(tmp_path / "y.tar.gz", "w:gz") as tar:
        tar.add(__file__, arcname="benign/notes.txt")
    with pytest.raises(UserError, match="no image"):
        scan(tmp_path / "y.tar.gz")


def packed(member: tarfile.TarInfo, data: bytes = b"", **options) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", **options) as tar:
        member.size = len(data)
        tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def sparse(numbers: str) -> bytes:
    """A member that PAX headers call sparse, whose map is not one."""
    member = tarfile.TarInfo(f"benign/{NAMES[0]}")
    member.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}
    return packed(member, numbers.encode(), format=tarfile.PAX_FORMAT)


@pytest.mark.parametrize("numbers", ["", "x\n", "1" * 600])
def test_a_bent_header_is_damage(tmp_path, numbers):
    (tmp_path / "a.tar").write_bytes(sparse(numbers))
    with pytest.raises(UserError, match="damaged or incomplete"):
        scan(tmp_path / "a.tar")


def bomb(kind: bytes, size: int) -> bytes:
    """An archive of a member of zeros, each mebibyte of which takes a kilobyte."""
    member = tarfile.TarInfo(f"benign/{NAMES[0]}")
    member.type, member.size = kind, size
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    head = packer.compress(member.tobuf(tarfile.GNU_FORMAT)) + packer.flush(zlib.Z_FULL_FLUSH)
    zeros = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    return head + zeros * (size >> 20)


@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE])
def test_an_archive_that_expands_without_end_is_refused_early(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(image_files, "MAX_FILE_BYTES", 1 << 20)
    (tmp_path / "a.tar.gz").write_bytes(bomb(kind, 1 << 32))
    began = time.process_time()
    with pytest.raises(UserError, match="damaged or incomplete"):
        scan(tmp_path / "a.tar.gz")
    assert time.process_time() - began < 2  # 4 GiB take longer


@pytest.mark.parametrize("size", [1 << 32, 1 << 62])
@pytest.mark.parametrize("suffix", [".tar", ".tar.gz"])
@pytest.mark.parametrize("format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_a_member_that_claims_more_than_there_is_ends_at_once(tmp_path, size, suffix, format):
    member = tarfile.TarInfo("benign/notes.txt")
    if format == tarfile.GNU_FORMAT:
        member.size = size
    else:
        member.pax_headers = {"size": str(size)}  # overrules the header
    header = member.tobuf(format)
    archive = tmp_path / f"a{suffix}"
    archive.write_bytes(gzip.compress(header) if suffix == ".tar.gz" else header)
    began = time.process_time()
    with pytest.raises(UserError, match="damaged or incomplete"):
        scan(archive)
    assert time.process_time() - began < 2  # reading on to the end takes minutes


def test_a_pipe_is_not_waited_for(tmp_path):
    base = make_tree(tmp_path, NAMES)
    os.mkfifo(base / "benign" / "SOB_B_A-14-22549AB-40-009.png")
    images, problems = scan(tmp_path)
    assert len(images) == 4
    assert list(problems.values()) == ["not a regular file"]


@pytest.mark.parametrize(("seed", "content"), [(0, "the same content"), (9, "other content")])
def test_two_trees_with_the_same_images_are_ambiguous(tmp_path, seed, content):
    make_tree(tmp_path / "one", NAMES)
    make_tree(tmp_path / "two", NAMES, seed=seed)
    with pytest.raises(UserError, match="2 BreaKHis trees") as caught:
        image_files.find(tmp_path)
    assert f"4 file names are in several trees, for example {NAMES[0]}, with {content}" in str(
        caught.value
    )


def test_a_tree_of_another_data_set_beside_is_ambiguous(tmp_path):
    make_tree(tmp_path / "one", NAMES)
    (tmp_path / "other" / "benign").mkdir(parents=True)
    (tmp_path / "other" / "benign" / "ultrasound (1).png").write_bytes(GOOD)
    with pytest.raises(
        UserError, match="2 BreaKHis trees.*other has no image with a BreaKHis name"
    ):
        image_files.find(tmp_path)


def place_images(root, paths):
    for seed, path in enumerate(paths):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(encode(random_image(seed=seed)))


LAYOUTS = {
    "train and test": (
        f"BreaKHis 400X/train/benign/{NAMES[0]}",
        f"BreaKHis 400X/train/malignant/{NAMES[2]}",
        f"BreaKHis 400X/test/benign/{NAMES[1]}",
        f"BreaKHis 400X/test/malignant/{NAMES[3]}",
    ),
    "a tree for each magnification": (
        f"a/40X/benign/{NAMES[0]}",
        f"a/40X/benign/{NAMES[1]}",
        f"a/40X/malignant/{NAMES[2]}",
        f"a/400X/malignant/{NAMES[3]}",
    ),
    "magnifications in the class": (
        f"benign/40x/{NAMES[0]}",
        f"benign/40X/{NAMES[1]}",
        f"malignant/40X/{NAMES[2]}",
        f"malignant/400X/{NAMES[3]}",
    ),
    "capitals": tuple(
        f"{name}"
        for name in (
            f"Benign/{NAMES[0]}",
            f"BENIGN/{NAMES[1]}",
            f"Malignant/{NAMES[2]}",
            f"Malignant/{NAMES[3]}",
        )
    ),
    "flat": NAMES,
    "types only": (
        *(f"adenosis/{name}" for name in NAMES[:2]),
        *(f"b/{name}" for name in NAMES[2:]),
    ),
    "upper-case suffix": tuple(
        f"{folder}/{name.replace('.png', '.PNG')}"
        for folder, name in zip(("benign", "benign", "malignant", "malignant"), NAMES, strict=True)
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_other_layouts_are_read_from_folders_and_archives(tmp_path, layout):
    place_images(tmp_path / "in", LAYOUTS[layout])
    place_images(tmp_path / "in", ["__MACOSX/benign/._x.png"])
    for source in (tmp_path / "in", pack(tmp_path / "in", tmp_path / "a.tar.gz")):
        images, problems = scan(source)
        assert sorted(images) == sorted(NAMES), source
        assert not problems


def test_trees_that_are_read_together_are_told(tmp_path):
    place_images(tmp_path, LAYOUTS["train and test"])
    source = image_files.find(tmp_path)
    assert source.path == tmp_path / "BreaKHis 400X"
    assert image_files.describe_walk(source) == [
        "2 trees are read together, and their division is not used: test, train"
    ]


def test_a_tree_below_another_is_accounted_for(tmp_path):
    place_images(tmp_path, [f"benign/{NAMES[0]}", f"backup/benign/{NAMES[0]}"])
    source = image_files.find(tmp_path)
    assert source.files == (f"benign/{NAMES[0]}",)
    assert source.passed_over.describe() == (
        f"images outside the class folders 1 (backup/benign/{NAMES[0]})"
    )


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        (f"benign/400X/{NAMES[0]}", "the name says 40X, but the folder says 400X"),
        (f"400X/benign/{NAMES[0]}", "the name says 40X, but the folder says 400X"),
        (f"malignant/{NAMES[0]}", "the name says benign, but the folder does not"),
        (f"Malignant/{NAMES[0]}", "the name says benign, but the folder does not"),
        (
            f"benign/{NAMES[0].replace('.png', '.tif')}",
            "its suffix is .tif, but images",
        ),
    ],
)
def test_a_name_that_contradicts_its_place_is_a_problem(tmp_path, path, reason):
    place_images(tmp_path / "in", [path])
    for source in (tmp_path / "in", pack(tmp_path / "in", tmp_path / "a.tar.gz")):
        images, problems = scan(source)
        assert not images
        assert [found.startswith(reason) for found in problems.values()] == [True]


def test_a_suffix_in_capitals_makes_no_second_image(tmp_path):
    place_images(tmp_path, [f"benign/{NAMES[0]}", f"benign/{NAMES[0].replace('.png', '.PNG')}"])
    images, problems = scan(tmp_path)
    assert list(images) == [NAMES[0]]
    assert [reason[:18] for reason in problems.values()] == ["the same file name"]


def test_what_was_not_looked_at_is_told_of_folders_and_archives(tmp_path):
    place_images(tmp_path / "in", [*LAYOUTS["capitals"], "masks/mask.png", "Benign/.hidden.png"])
    for name in ("README.md", "Benign/Thumbs.db", "Folds.csv", "Malignant/notes.csv"):
        (tmp_path / "in" / name).write_text("anything")
    told = []
    for path in (tmp_path / "in", pack(tmp_path / "in", tmp_path / "a.tar")):
        source = image_files.find(path)
        list(decode.scan(source))
        told.append(source.passed_over.as_dict())
    for reasons in told:
        assert {reason: found["count"] for reason, found in reasons.items()} == {
            "hidden": 1,
            "images outside the class folders": 1,
            "other suffixes": 4,
        }
    assert image_files.describe_walk(source)[0].startswith("not looked at: ")


def test_a_folder_that_cannot_be_read_is_told(tmp_path, monkeypatch):
    base = make_tree(tmp_path, NAMES)
    (base / "benign" / "private").mkdir()
    make_unreadable(monkeypatch, "private")
    source = image_files.find(tmp_path)
    assert len(source.files) == 4
    assert "benign/private: Permission denied" in image_files.describe_walk(source)[0]


@pytest.mark.parametrize(
    ("start", "kind"),
    [(b"PK\3\4", "zip"), (b"BZh9", "bzip2"), (b"\xfd7zXZ\0", "xz"), (b"7z\xbc\xaf", "7-Zip")],
)
def test_another_archive_must_be_extracted(tmp_path, start, kind):
    (tmp_path / "archive.zip").write_bytes(start + bytes(600))
    with pytest.raises(UserError, match=f"{kind}.*extract it and give the folder"):
        image_files.find(tmp_path / "archive.zip")
    with pytest.raises(UserError, match=r"no folder benign/.*extract archive\.zip"):
        image_files.find(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_an_unreadable_folder_is_a_users_mistake(tmp_path):
    make_tree(tmp_path / "tree", NAMES)
    (tmp_path / "tree").chmod(0)
    try:
        with pytest.raises(UserError, match="cannot be read"):
            image_files.find(tmp_path / "tree")
    finally:
        (tmp_path / "tree").chmod(0o755)


def test_fingerprint_follows_the_files(tmp_path):
    base = make_tree(tmp_path / "one", NAMES)
    source = image_files.find(base)
    before = image_files.fingerprint(source)
    assert image_files.fingerprint(source) == before
    (base / "benign" / "notes.txt").write_text("no image")
    assert image_files.fingerprint(source) == before
    shutil.copytree(base, tmp_path / "two")  # keeps the times
    assert image_files.fingerprint(image_files.find(tmp_path / "two")) == before
    path = next((tmp_path / "two").rglob("*.png"))
    os.utime(path, ns=(1, 1))
    assert image_files.fingerprint(image_files.find(tmp_path / "two")) != before
    next((tmp_path / "two").rglob("*.png")).unlink()
    assert image_files.fingerprint(image_files.find(tmp_path / "two")) != before


def test_few_images_are_held_in_memory(tmp_path, monkeypatch):
    names = [f"SOB_B_A-14-22549AB-40-{i:03d}.png" for i in range(1, 30)]
    make_tree(tmp_path, names, size=(16, 16))
    read = []
    original = image_files.read_files

    def counting(source):
        for item in original(source):
            read.append(item[0])
            yield item

    monkeypatch.setattr(decode, "read_files", counting)
    consumed = 0
    for _ in decode.scan(image_files.find(tmp_path), workers=2):
        consumed += 1
        assert len(read) - consumed < 8
    assert consumed == 29
