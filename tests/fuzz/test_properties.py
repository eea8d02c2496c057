"""Names, tables, flags and JSON values of any content, by structure rather than by bytes."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data.breakhis.filenames import SUBTYPES, parse
from data.protocols.split_file import read_roles, write_split
from data.records import Records
from se_resnet.errors import UserError
from se_resnet.metrics.predictions import Predictions
from se_resnet.runs.run_files import read_split
from se_resnet.runtime.schema import misfit
from tests.fuzz.targets import configs

often = settings(
    deadline=None,
    max_examples=100,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
# Every character that a file's name can hold, lone surrogates for bytes that are no UTF-8 among
# them; csv knows no line of NUL.
texts = st.text(st.characters(exclude_characters="\0"), max_size=20)
file_texts = st.binary(max_size=20).map(lambda raw: raw.replace(b"\0", b"").decode(
    "utf-8", "surrogateescape"
))  # fmt: skip


@st.composite
def names(draw):
    letter = draw(st.sampled_from("BM"))
    number = draw(st.integers(0, 10**9))
    section = draw(st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ", max_size=3))
    magnification = draw(st.sampled_from((40, 100, 200, 400)))
    return (
        f"SOB_{letter}_{draw(st.sampled_from(SUBTYPES[letter]))}-{draw(st.integers(0, 99)):02d}-"
        f"{number}{section}-{magnification}-{draw(st.integers(1, 999)):03d}.png"
    )


@often
@given(names())
def test_a_name_of_the_grammar_is_read_and_written_back(name):
    parsed = parse(name)
    assert str(parsed) == name
    assert parsed.slide in name and parsed.accession in parsed.slide


@often
@given(st.one_of(texts, names().flatmap(lambda n: st.sampled_from([n + "\n", n[:-4], f" {n}"]))))
def test_any_other_name_is_refused_in_a_sentence(name):
    try:
        assert str(parse(name)) == name
    except ValueError as error:
        assert str(error)


@often
@given(st.lists(st.tuples(file_texts, texts, st.floats(0, 1), st.integers(0, 1)), max_size=5))
def test_predictions_are_read_as_they_were_written(tmp_path, rows):
    columns = [np.array([row[i] for row in rows], np.str_) for i in (0, 1)]
    written = Predictions(
        file=columns[0],
        slide=columns[0],
        accession=columns[0],
        magnification=np.full(len(rows), 200),
        subtype=columns[0],
        label=np.array([row[3] for row in rows], int),
        probability=np.array([row[2] for row in rows], float),
    )
    written.write_csv(tmp_path / "predictions.csv")
    read = Predictions.read_csv(tmp_path / "predictions.csv")
    for name, column in written.columns().items():
        np.testing.assert_array_equal(read.columns()[name], column)


@often
@given(st.binary(max_size=300))
def test_any_bytes_are_predictions_or_a_mistake(tmp_path, content):
    path = tmp_path / "predictions.csv"
    header = b"file,slide,accession,magnification,subtype,label,probability\n"
    for data in (content, header + content):
        path.write_bytes(data)
        try:
            Predictions.read_csv(path)
        except UserError as error:
            assert str(path) in str(error)


@often
@given(st.lists(st.sampled_from(["train", "val", "test", "excluded"]), min_size=1, max_size=6))
def test_a_split_is_read_as_it_was_written(tmp_path, roles):
    rows = [
        {
            **dict.fromkeys(("slide", "accession", "subtype", "digest"), "x"),
            **{"magnification": 40, "label": 0, "row": i, "file": f"{i}.png"},
        }
        for i in range(len(roles))
    ]
    records = Records.from_rows(rows)
    write_split(tmp_path / "split.csv", records, np.array(roles))
    assert read_roles(tmp_path / "split.csv", records).tolist() == roles


@often
@given(st.lists(st.lists(texts, max_size=8), max_size=6), st.booleans())
def test_any_table_is_a_split_or_a_mistake(tmp_path, rows, with_header):
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerows([["file", "accession", "role"], *rows] if with_header else rows)
    path = tmp_path / "split.csv"
    path.write_bytes(text.getvalue().encode("utf-8", "surrogatepass"))
    try:
        read_split(path)
    except UserError as error:
        assert str(path) in str(error)


values = st.one_of(
    st.integers(),
    st.floats(),
    st.booleans(),
    st.text(max_size=10),
    st.tuples(st.integers(), st.integers()),
    st.lists(st.integers(), max_size=3).map(tuple),
    st.sampled_from(configs.VALUES),
)
fields = st.sampled_from(configs._fields(configs.smoke.get_config()))


@often
@given(st.dictionaries(fields, values, min_size=1, max_size=3))
def test_any_value_of_any_field_is_taken_or_refused(overrides):
    arguments = [f"--config.{name}={value}" for name, value in overrides.items()]
    try:
        configs.check(["train.py", f"--config={configs.FILE}", *arguments])
    except UserError as error:
        assert str(error)


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
FORM = {"a": int, "b": [float], "c": {str: str}}


@often
@given(json_values, st.sampled_from(sorted(FORM)))
def test_a_form_is_kept_or_the_misfit_is_named(value, field):
    good = {"a": 1, "b": [1.5, 2], "c": {"x": "y"}}
    assert misfit(good, FORM) == ""
    problem = misfit(json.loads(json.dumps(good | {field: value})), FORM)
    fits = {
        "a": type(value) is int and abs(value) < 2**63,
        "b": isinstance(value, list)
        and all(type(part) in (int, float) and abs(part) < 1e300 for part in value),
        "c": isinstance(value, dict) and all(type(part) is str for part in value.values()),
    }[field]
    assert (problem == "") == fits
    assert fits or problem.startswith(field)


@pytest.mark.parametrize("value", [None, [], 3, {"b": [], "c": {}}])
def test_what_is_missing_is_named(value):
    assert misfit(value, FORM) in ("it is None", "it is []", "it is 3", "it lacks a")
