"""Tables of images as text: separators, encodings, Parquet and what is refused."""

from __future__ import annotations

import pytest

from se_resnet.errors import UserError
from se_resnet.images import image_table
from se_resnet.images.image_table import is_table, read_rows

ROWS = [(2, {"file": "a.png", "label": "1"}), (3, {"file": "b.png", "label": "0"})]


@pytest.mark.parametrize(
    "content",
    [
        b"file,label\na.png,1\nb.png,0\n",
        b"file;label\r\na.png;1\r\nb.png;0\r\n",
        b"\xef\xbb\xbffile\tlabel\na.png\t1\nb.png\t0\n",
        "file\tlabel\r\na.png\t1\r\nb.png\t0\r\n".encode("utf-16"),
        b"file , label\na.png , 1 \nb.png,0\n\n",
    ],
    ids=["commas", "semicolons", "tabs and byte order mark", "UTF-16", "spaces"],
)
def test_a_table_is_read_as_spreadsheet_programs_save_it(tmp_path, content):
    path = tmp_path / "images.csv"
    path.write_bytes(content)
    assert read_rows(path) == ROWS


def test_parquet_holds_the_same_text(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    columns = {
        "file": ["a.png", "b.png"],
        "label": [True, False],
        "magnification": [20.0, None],
        "um_per_px": [0.25, float("nan")],
    }
    parquet.write_table(pyarrow.table(columns), tmp_path / "images.parquet")
    assert read_rows(tmp_path / "images.parquet") == [
        (2, {"file": "a.png", "label": "1", "magnification": "20", "um_per_px": "0.25"}),
        (3, {"file": "b.png", "label": "0", "magnification": "", "um_per_px": ""}),
    ]
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 broken PAR1")
    with pytest.raises(UserError, match="no Parquet file"):
        read_rows(tmp_path / "broken.parquet")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "lacks the column 'file'"),
        (b"file,label\n", "has no row"),
        (b"name,label\na.png,1\n", "lacks the column 'file'; it has name, label"),
        (b"file,label,label\na.png,1,0\n", "has the column 'label' twice"),
        (b"file,,label\na.png,x,1\n", "a column has no name"),
        (b"file,label\na.png\n", "line 2: 1 values instead of 2"),
        (b"file,label\na.png,=1+1\n", r"line 2: the value of 'label' is the formula '=1\+1'"),
        (b'file,label\n"a\nb.png",1\n', "control character"),
        (b"file,label\na.png,\x00\n", "control character|NUL"),
        (b"file,label\n" + b"a" * 5000 + b",1\n", "longer than 4,096"),
        ("file,label\nd\u00e9.png,1\n".encode("latin-1"), "not text in UTF-8: save .*CSV UTF-8"),
    ],
)
def test_a_table_that_cannot_be_meant_is_refused(tmp_path, content, message):
    path = tmp_path / "images.csv"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_rows(path)


def test_a_missing_table_and_a_folder_are_refused(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        read_rows(tmp_path / "images.csv")
    with pytest.raises(UserError, match="does not exist"):
        read_rows(tmp_path / "images.parquet")
    (tmp_path / "folder.csv").mkdir()
    assert not is_table(tmp_path / "folder.csv")
    assert is_table(tmp_path / "IMAGES.CSV") and not is_table(tmp_path / "images.tar.gz")


def test_more_rows_than_the_limit_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(image_table, "MAX_ROWS", 2)
    path = tmp_path / "images.csv"
    path.write_text("file,label\na.png,1\nb.png,0\nc.png,0\n")
    with pytest.raises(UserError, match="line 4: the table has more than 2 rows"):
        read_rows(path)


def test_ten_million_rows_end_in_a_message_within_seconds(tmp_path):
    path = tmp_path / "images.csv"
    with path.open("wb") as file:
        file.write(b"file,label\n")
        for _ in range(100):
            file.write(b"a,1\n" * 100_000)
    with pytest.raises(UserError, match="more than 1,000,000 rows"):
        read_rows(path)
