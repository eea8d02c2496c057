from __future__ import annotations

import hashlib
import subprocess
import sys
from collections import Counter

import pytest

from data.breakhis.filenames import ImageName, parse
from data.breakhis.official import official_names, slide_table

# SHA-256 of the sorted names in the authors' fold files, joined by newlines.
OFFICIAL_SHA256 = "50b985e55b2354fe4310d6ab547ad50190a2922a2e00458d4e7bb7f6510539fe"


def test_official_names_are_those_of_the_authors_fold_files():
    names = official_names()
    assert len(names) == len(set(names)) == 7909
    assert hashlib.sha256("\n".join(names).encode()).hexdigest() == OFFICIAL_SHA256


def test_every_official_name_survives_a_round_trip():
    for name in official_names():
        assert str(parse(name)) == name


def test_official_counts():
    names = [parse(name) for name in official_names()]
    assert Counter((name.label, name.magnification) for name in names) == {
        (0, 40): 625, (0, 100): 644, (0, 200): 623, (0, 400): 588,
        (1, 40): 1370, (1, 100): 1437, (1, 200): 1390, (1, 400): 1232,
    }  # fmt: skip
    assert len({name.slide for name in names}) == 82
    assert len({name.accession for name in names}) == 70
    assert len({name.accession for name in names if name.label == 0}) == 16
    assert len({name.accession for name in names if name.label == 1}) == 54


def test_slide_table_agrees_with_the_names():
    counts = Counter((name.slide, name.magnification) for name in map(parse, official_names()))
    assert len(slide_table()) == 82
    for row in slide_table():
        name = parse(f"{row['slide']}-40-001.png")
        assert (row["subtype"], row["accession"]) == (name.subtype, name.accession)
        for magnification in (40, 100, 200, 400):
            assert counts[row["slide"], magnification] == int(row[f"n{magnification}"])
    for fold in range(1, 6):
        assert Counter(row[f"fold{fold}"] for row in slide_table()) == {"train": 54, "test": 28}


def test_parts_of_a_name():
    name = parse("SOB_B_A-14-22549AB-40-001.png")
    assert name == ImageName("B", "A", "14", "22549", "AB", 40, 1)
    assert name.slide == "SOB_B_A-14-22549AB"
    assert name.accession == "14-22549"
    assert name.label == 0
    assert name.folder == "benign/SOB/adenosis/SOB_B_A_14-22549AB/40X"
    malignant = parse("SOB_M_PC-15-190EF-400-012.png")
    assert malignant.label == 1
    assert malignant.folder == "malignant/SOB/papillary_carcinoma/SOB_M_PC_15-190EF/400X"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("SOB_B_DC-14-22549-40-001.png", "subtype"),
        ("SOB_M_A-14-22549-40-001.png", "subtype"),
        ("SOB_X_A-14-22549-40-001.png", "class"),
        ("SOB_B_A-14-22549-50-001.png", "magnification"),
        ("SOB_B_A-14-22549-040-001.png", "follow"),
        ("SOB_B_A-14-22549-40-000.png", "001"),
        ("SOB_B_A-14-22549-40-1.png", "follow"),
        ("SOB_B_A-14-22549-40-0001.png", "follow"),
        ("SOB_B_A_14-22549-40-001.png", "follow"),
        ("SOB_B_A-14-22549ab-40-001.png", "follow"),
        ("SOB_B_A-14-22549AB-40-001.tiff", "suffix is .tiff"),
        ("SOB_B_A-14-22549AB-40-001.jpg", "suffix is .jpg"),
        ("SOB_B_A-14-22549AB-40-001.png\n", "follow"),
        (" SOB_B_A-14-22549AB-40-001.png", "follow"),
        ("SOB_B_A-١٤-22549AB-40-001.png", "follow"),
        ("folder/SOB_B_A-14-22549AB-40-001.png", "follow"),
        ("SOB_B_A-14-22549AB-40-001 (1).png", "follow"),
        ("", "follow"),
    ],
)
def test_other_names_are_refused_with_a_reason(name, reason):
    with pytest.raises(ValueError, match=reason):
        parse(name)


def test_names_and_sources_do_not_need_tensorflow():
    code = (
        "import sys; sys.modules['tensorflow'] = sys.modules['tensorflow_datasets'] = None; "
        "from data.breakhis import decode, filenames, image_files, official, summary"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
