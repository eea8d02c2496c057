from __future__ import annotations

import numpy as np
import pytest

from se_resnet.errors import UserError
from se_resnet.metrics.predictions import Predictions
from se_resnet.runs.run_files import read_split

HEADER = "file,slide,accession,magnification,subtype,label,probability"
ROWS = (HEADER, "a.png,s,14-1,40,DC,1,0.25", "b.png,s,14-1,40,DC,0,1e-05")


def german(rows):
    return [row.replace(".25", "@25").replace(",", ";").replace("@", ",") for row in rows]


SAVED = {
    "mark": ("\ufeff" + "\r\n".join(ROWS) + "\r\n").encode(),
    "semicolons": ("\ufeff" + "\r\n".join(german(ROWS)) + "\r\n").encode(),
    "separator told": ("sep=;\r\n" + "\r\n".join(german(ROWS))).encode(),
    "spaces": "\n".join(ROWS).replace(",", " , ").encode(),
    "Macintosh": "\r".join(ROWS).encode(),
    "tabs": "\n".join(ROWS).replace(",", "\t").encode(),
    "Unicode text": "\r\n".join(ROWS).replace(",", "\t").encode("utf-16"),
    "empty columns": "".join(f"{row},,\n" for row in (*ROWS, ",,,,,,", ",,,,,,")).encode(),
    "empty lines": ("\n".join(ROWS) + "\n\n\r\n").encode(),
    "quoted": "\n".join(",".join(f'"{cell}"' for cell in row.split(",")) for row in ROWS).encode(),
}


@pytest.mark.parametrize("how", SAVED)
def test_predictions_saved_by_a_spreadsheet_are_read(tmp_path, how):
    (tmp_path / "p.csv").write_bytes(SAVED[how])
    read = Predictions.read_csv(tmp_path / "p.csv")
    assert read.file.tolist() == ["a.png", "b.png"]
    np.testing.assert_array_equal(read.probability, [0.25, 1e-05])


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_split_saved_by_a_spreadsheet_is_read(tmp_path, separator, encoding):
    text = "file,role,,\r\na.png,test,,\r\n,,,\r\n".replace(",", separator)
    (tmp_path / "split.csv").write_bytes(text.encode(encoding))
    assert read_split(tmp_path / "split.csv", ("file", "role")) == [
        {"file": "a.png", "role": "test"}
    ]


@pytest.mark.parametrize(
    "content",
    [
        f"{ROWS[0]}\n{ROWS[1].replace('0.25', '0_1')}".encode(),
        b"\xff\xfea",
        HEADER.encode() + b"\n\xd8\0",
        b"file;role\na.png,test\n",
    ],
)
def test_a_table_in_no_such_form_is_one_sentence(tmp_path, content):
    (tmp_path / "p.csv").write_bytes(content)
    with pytest.raises(UserError, match=r"p\.csv") as caught:
        Predictions.read_csv(tmp_path / "p.csv")
    assert "\n" not in str(caught.value)


def test_a_name_keeps_the_spaces_it_was_written_with(tmp_path):
    (tmp_path / "p.csv").write_text("\n".join(ROWS).replace("a.png", " a.png "))
    assert Predictions.read_csv(tmp_path / "p.csv").file.tolist() == [" a.png ", "b.png"]
