"""The probe names patients that features carry, and no image takes part in its own answer."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
from scipy import stats

from benchmarks import identity
from benchmarks.pooled_features import of_run, pooled_features
from data.dataset import load_configured
from se_resnet.errors import UserError
from se_resnet.metrics.predictions import logit_of
from se_resnet.runs.run_folder import RunFolder
from tests.helpers.configs import tiny_config
from tests.helpers.datasets import make_records

WIDTH = 24


def identifying(records, patients, seed=0):
    """Features that carry the identity of these patients only: ``float32 [N, WIDTH]``."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(len(records), WIDTH))
    for patient in patients:
        features[records.accession == patient] += 4 * rng.normal(size=WIDTH)
    return features.astype(np.float32)


def test_a_probe_names_what_the_features_carry():
    records = make_records(4, 4, images=4)
    patients = np.unique(records.accession)
    features = identifying(records, patients)
    assert identity.probe(features, records.accession, records.accession, 3).mean() > 0.95
    by_scale = features + 8 * (records.magnification == 200)[:, None]
    named = identity.probe(by_scale, records.magnification, records.accession, 2)
    assert named.mean() > 0.95


def test_no_image_takes_part_in_its_own_answer():
    """Features that are unique to an image would be named rightly by a probe that has seen it."""
    records = make_records(5, 5, images=4)
    noise = np.random.default_rng(0).normal(size=(len(records), 400)).astype(np.float32)
    assert identity.probe(noise, records.accession, records.accession, 5).mean() < 0.2


@pytest.mark.parametrize("count", [4, 5, 9])
def test_every_patient_is_halved(count):
    patient = np.repeat(["a", "b", "c"], count)
    halves = [identity.halve(patient, np.random.default_rng(seed)) for seed in range(30)]
    sizes = {int(half[patient == name].sum()) for half in halves for name in "abc"}
    assert sizes == {count // 2, (count + 1) // 2}
    assert (np.mean(halves, axis=0) > 0.1).all() and (np.mean(halves, axis=0) < 0.9).all()


def test_known_and_new_patients_are_told_apart():
    """Two networks carry the identity of the patients that they were trained on, and no other."""
    records = make_records(6, 6, images=6)
    patients = np.unique(records.accession)
    known = {"a": {*patients[:6].tolist()}, "b": {*patients[6:].tolist()}}
    features = {
        identity.FROZEN: identifying(records, ()),
        **{name: identifying(records, sorted(known[name]), seed=1) for name in known},
    }
    results = identity.probe_networks(records, features, known, 2)
    assert [result.target for result in results] == ["patient", "magnification"]
    shares = results[0].shares
    assert results[0].chance == pytest.approx(1 / 12) and results[1].chance == 0.5
    assert len(shares[identity.NEW]) == len(shares[identity.KNOWN]) == 12
    assert shares[identity.KNOWN].mean() > 0.9 and shares[identity.NEW].mean() < 0.3
    rows = {row["difference"]: row for row in identity.difference_rows(results[:1])}
    row = rows[f"{identity.KNOWN} less {identity.NEW}"]
    assert row["patients"] == 12 and row["mean"].startswith("+0.")
    low, high = row["mean"].split("(")[1].rstrip(")").split(" to ")
    assert 0.5 < float(low) < float(high)


def test_a_single_run_has_no_pairs_of_known_and_new():
    records = make_records(4, 4, images=4)
    patients = np.unique(records.accession).tolist()
    features = {identity.FROZEN: identifying(records, ()), "run": identifying(records, patients)}
    results = identity.probe_networks(records, features, {"run": {*patients[:3]}}, 2)
    assert np.isfinite(results[0].shares[identity.KNOWN]).sum() == 3
    assert np.isfinite(results[0].shares[identity.NEW]).sum() == 5
    named = [row["difference"] for row in identity.difference_rows(results[:1])]
    assert len(named) == 2 and all(identity.FROZEN in name for name in named)
    frozen = identity.probe_networks(records, {identity.FROZEN: features["run"]}, {}, 2)
    assert len(identity.rows_of(frozen)) == 2 and not identity.difference_rows(frozen)


def test_the_interval_of_a_gain_is_that_of_a_t_test_and_has_a_width():
    gains = np.random.default_rng(0).normal(0.3, 0.4, 30)
    found = identity.mean_gain(gains)
    test = stats.ttest_1samp(gains, 0).confidence_interval()
    assert found["value"] == pytest.approx(gains.mean())
    # The interval has fewer degrees of freedom where few patients make up most of the variance.
    assert found["low"] <= test.low + 1e-9 and found["high"] >= test.high - 1e-9
    assert found["high"] - found["low"] < 1.2 * (test.high - test.low)
    same = identity.mean_gain(np.zeros(30))
    assert same["low"] < 0 < same["high"]


def test_the_head_on_pooled_features_is_the_network(run, place):
    """Features of a trained network, times its head, are the logits of its evaluation."""
    config = RunFolder(run).config()
    dataset = load_configured({**config["data"], "dir": str(place[0])})
    tested = RunFolder(run).tested()
    rows = [dataset.records.row[dataset.records.file == name][0] for name in tested.file]
    network = of_run(run)
    features = pooled_features(network, dataset.images, np.array(rows))
    head = network.variables["params"]["head"]
    logits = features @ np.asarray(head["kernel"])[:, 0] + np.asarray(head["bias"])
    np.testing.assert_allclose(logits, logit_of(tested.probability), atol=1e-5)


def test_the_command_prints_chance_and_writes_all_tables(run, place, tmp_path, monkeypatch, capsys):
    flags = ["--data_dir", str(place[0]), "--workdir", str(run), "--halvings", "1"]
    monkeypatch.setattr(sys, "argv", ["identity", *flags, "--out", str(tmp_path / "out.json")])
    monkeypatch.setattr(identity, "imagenet", lambda: of_run(run))
    identity.main()
    assert "chance" in capsys.readouterr().out
    written = json.loads((tmp_path / "out.json").read_text())
    assert {row["features"] for row in written["rows"]} == {
        identity.FROZEN,
        identity.NEW,
        identity.KNOWN,
    }
    for row in written["differences"]:
        assert row["mean"].startswith("+0.000")  # the same network


def test_too_few_images_are_refused(place, monkeypatch):
    monkeypatch.setattr(identity, "FEWEST_IMAGES", 1000)
    settings = tiny_config(*place).data
    with pytest.raises(UserError, match="0 patients have at least 1000 images"):
        identity.measure(settings, [], 1)
