"""The columns of a table of images: names, labels, patients and further values."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from data.table.columns import Reading, read_image_table
from se_resnet.errors import UserError


def table(folder: Path, text: str) -> Path:
    path = folder / "images.csv"
    path.write_text(text)
    return path


def read(folder: Path, text: str, **reading: str):
    return read_image_table(table(folder, text), Reading(**reading))


def test_known_columns_get_the_names_of_records_and_others_are_kept(tmp_path):
    found = read(
        tmp_path,
        "file,label,patient,magnification,um_per_px,subtype,site,scanner\n"
        'a.png,1,P1,20X,"0,5",DC,Paris,Leica\n'
        "b.png,0,P2,,,,,\n",
    )
    assert found.rows[0] == {
        "file": "a.png",
        "slide": "P1",
        "accession": "P1",
        "magnification": 20,
        "subtype": "DC",
        "label": 1,
        "um_per_px": "0.5",
        "site": "Paris",
        "scanner": "Leica",
    }
    assert found.rows[1]["magnification"] == 0 and found.rows[1]["um_per_px"] == ""
    assert found.shown == ("scanner",)
    assert found.locations[0].path == tmp_path / "a.png"


def test_class_names_are_labels_in_any_case(tmp_path):
    found = read(tmp_path, "file,label,patient\na.png,Benign,P1\nb.png,MALIGNANT,P2\n")
    assert [row["label"] for row in found.rows] == [0, 1]
    assert found.label_names == (("Benign",), ("MALIGNANT",))


def test_the_positive_label_is_named_and_a_single_other_is_benign(tmp_path):
    text = "file,label,patient\na.png,tumor,P1\nb.png,normal,P2\n"
    assert [row["label"] for row in read(tmp_path, text, positive="tumor").rows] == [1, 0]
    with pytest.raises(
        UserError, match=r"labels of .* are 'tumor', 'normal'.*config.data.positive"
    ):
        read(tmp_path, text)
    with pytest.raises(UserError, match="names the label 'tumour', which .* does not have"):
        read(tmp_path, text, positive="tumour")


def test_several_other_labels_must_be_named_too(tmp_path):
    text = "file,label,patient\n" + "".join(
        f"{number}.png,{label},P{number}\n"
        for number, label in enumerate(("Normal", "Benign", "InSitu", "Invasive"))
    )
    with pytest.raises(UserError, match=r"2 labels besides .*'Normal', 'Benign'.*data.negative"):
        read(tmp_path, text, positive="InSitu,Invasive")
    found = read(tmp_path, text, positive="InSitu, Invasive", negative="Normal,Benign")
    assert [row["label"] for row in found.rows] == [0, 0, 1, 1]
    with pytest.raises(UserError, match=r"line 2: the label 'Normal' is none of"):
        read(tmp_path, text, positive="InSitu,Invasive", negative="Benign")
    with pytest.raises(UserError, match="in both"):
        read(tmp_path, text, positive="InSitu", negative="InSitu")


def test_without_patients_the_remedies_are_named(tmp_path):
    text = "file,label,case\na.png,1,P1\nb.png,0,P2\n"
    with pytest.raises(UserError, match=r"lacks a column 'patient'.*config.data.patient=file"):
        read(tmp_path, text)
    assert read(tmp_path, text, patient="case").rows[0]["accession"] == "P1"
    assert read(tmp_path, text, patient="file").rows[0]["accession"] == "a.png"
    with pytest.raises(UserError, match="lacks the column 'person'"):
        read(tmp_path, text, patient="person")


def test_the_split_file_of_a_run_names_its_patients_accession(tmp_path):
    text = "file,slide,accession,magnification,subtype,label,role\na.png,s,14-1,200,DC,1,test\n"
    assert read(tmp_path, text).rows[0]["accession"] == "14-1"
    with pytest.raises(UserError, match="'accession' and 'patient', which both mean"):
        read(tmp_path, "file,label,patient,accession\na.png,1,P1,14-1\n")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("b.png,2,P2,20", "the label '2' is none of"),
        ("b.png,0,,20", r"the patient is missing \(''\)"),
        ("b.png,0,NaN,20", r"the patient is missing \('NaN'\)"),
        ("b.png,0,P2,2.5", "the magnification '2.5' is not a whole number"),
        ("b.png,0,P2,-20", "the magnification '-20'"),
        (",0,P2,20", "no file is named"),
        ("../b.png,0,P2,20", r"a path with '\.\.'"),
        ("https://example.org/b.png,0,P2,20", "an address"),
        ("a.png,1,P1,20", "a.png is listed on line 2 already"),
        ("a.png,0,P1,20", "a.png has the label 0, but 1 on line 2"),
        ("./a.png,1,P2,20", "a.png has the patient 'P2', but 'P1' on line 2"),
        ("synthetic-1.png,0,P2,20", "means a blend"),
    ],
)
def test_a_bad_row_is_named_by_line_and_reason(tmp_path, row, message):
    with pytest.raises(UserError, match=rf"(?s)1 of 2 rows of .*line 3: .*{message}"):
        read(tmp_path, f"file,label,patient,magnification\na.png,1,P1,20\n{row}\n")


@pytest.mark.parametrize("value", ["nan", "-1", "1e9", "abc", "inf"])
def test_a_scale_that_no_image_can_have_is_refused_unless_it_is_missing(tmp_path, value):
    text = f"file,label,patient,um_per_px\na.png,1,P1,{value}\n"
    if value == "nan":
        assert read(tmp_path, text).rows[0]["um_per_px"] == ""
        return
    with pytest.raises(UserError, match=r"line 2: um_per_px = .* micrometres per pixel"):
        read(tmp_path, text)


@pytest.mark.parametrize("name", ["digest", "row", "probability"])
def test_columns_that_runs_write_themselves_are_refused(tmp_path, name):
    with pytest.raises(UserError, match=f"has a column '{name}'"):
        read(tmp_path, f"file,label,patient,{name}\na.png,1,P1,x\n")


@pytest.mark.parametrize("name", ["Patient", "UM per px", "Magnification"])
def test_a_known_column_in_other_letters_is_not_passed_over(tmp_path, name):
    with pytest.raises(UserError, match=f"has a column '{name}': write its name as"):
        read(tmp_path, f"file,label,case,{name}\na.png,1,P1,20\n", patient="case")


def test_slides_of_one_name_and_several_patients_are_told_apart(tmp_path):
    found = read(tmp_path, "file,label,patient,slide\na.png,1,P1,1\nb.png,0,P2,1\nc.png,0,P2,2\n")
    assert [row["slide"] for row in found.rows] == ["P1/1", "P2/1", "P2/2"]


def test_two_spellings_of_the_same_letters_are_one_patient(tmp_path):
    found = read(tmp_path, "file,label,patient\na.png,1,Zo\u00e9\nb.png,1,Zoe\u0301\n")
    assert len({row["accession"] for row in found.rows}) == 1


def test_many_bad_rows_are_counted_and_a_few_are_listed(tmp_path):
    rows = "".join(f"{number}.png,7,P1\n" for number in range(100))
    with pytest.raises(UserError, match=r"(?s)labels of .* are '7'"):
        read(tmp_path, f"file,label,patient\n{rows}")
    with pytest.raises(UserError, match=r"(?s)100 of 101 rows.*and 80 more"):
        read(tmp_path, f"file,label,patient\na.png,1,P\n{rows}")


def test_eighty_thousand_rows_load_in_seconds(tmp_path):
    rows = "".join(f"{number:06d}.png,{number % 2},P{number // 50}\n" for number in range(80_000))
    path = table(tmp_path, f"file,label,patient\n{rows}")
    start = time.process_time()
    assert len(read_image_table(path).rows) == 80_000
    assert time.process_time() - start < 8
