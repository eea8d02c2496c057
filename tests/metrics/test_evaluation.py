from __future__ import annotations

import dataclasses
import json
import time
import warnings

import numpy as np
import pytest
import sklearn.metrics as reference

from se_resnet.errors import UserError
from se_resnet.metrics import bootstrap, curves
from se_resnet.metrics.binary import METRIC_NAMES, binary_metrics
from se_resnet.metrics.evaluation import evaluate
from se_resnet.metrics.predictions import Predictions, probability_of
from tests.helpers.predictions import make, simulate


def by_scikit_learn(label, probability, predicted, weight=None):
    label, predicted = np.asarray(label).astype(int), np.asarray(predicted).astype(int)
    kw = {"sample_weight": weight}
    return {
        "accuracy": reference.accuracy_score(label, predicted, **kw),
        "balanced_accuracy": reference.balanced_accuracy_score(label, predicted, **kw),
        "precision": reference.precision_score(label, predicted, **kw),
        "recall": reference.recall_score(label, predicted, **kw),
        "specificity": reference.recall_score(label, predicted, pos_label=0, **kw),
        "f1": reference.f1_score(label, predicted, **kw),
        "roc_auc": reference.roc_auc_score(label, probability, **kw),
        "average_precision": reference.average_precision_score(label, probability, **kw),
        "mcc": reference.matthews_corrcoef(label, predicted, **kw),
        "brier": reference.brier_score_loss(label, probability, **kw),
    }


def values(figures):
    return {name: figures[name]["value"] for name in METRIC_NAMES}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("decimals", [1, 3])
@pytest.mark.parametrize("threshold", [0.5, 0.3])
def test_image_level_agrees_with_scikit_learn(seed, decimals, threshold):
    predictions = simulate(seed=seed, decimals=decimals)
    figures = evaluate(predictions, threshold, resamples=10)["image"]
    predicted = predictions.probability >= threshold
    expected = by_scikit_learn(predictions.label, predictions.probability, predicted)
    assert values(figures) == pytest.approx(expected, abs=1e-12)
    tn, fp, fn, tp = reference.confusion_matrix(predictions.label, predicted).ravel()
    assert figures["confusion"] == {"tp": tp, "fp": fp, "tn": tn, "fn": fn}
    assert figures["recognition_rate"] == figures["accuracy"]


def test_weighted_metrics_agree_with_scikit_learn():
    rng = np.random.default_rng(1)
    label = rng.random(200) < 0.6
    probability = np.round(np.clip(rng.normal(0.4 + 0.2 * label, 0.2), 0, 1), 1)
    predicted = probability >= 0.5
    weights = np.vstack([rng.random((4, 200)), rng.integers(0, 3, (4, 200))])
    found = binary_metrics(label, probability, predicted, np.arange(200), weights)
    for row, weight in enumerate(weights):
        expected = by_scikit_learn(label, probability, predicted, weight)
        assert {name: found[name][row] for name in found} == pytest.approx(expected, abs=1e-12)


def test_chunks_do_not_change_the_result(monkeypatch):
    predictions = simulate(images=100, accessions=8)
    whole = evaluate(predictions, resamples=50)
    monkeypatch.setattr(bootstrap, "_CHUNK", 300)
    assert evaluate(predictions, resamples=50) == whole


def test_bootstrap_equals_a_plain_loop_over_the_same_resamples():
    predictions = simulate(images=120, accessions=9, seed=4, benign_share=0.3)
    result = evaluate(predictions, resamples=150, seed=7)
    names = np.unique(predictions.accession)
    draws = {name: [] for name in METRIC_NAMES}
    rates, patient_auc = [], []
    for multiplicity in bootstrap.bootstrap_weights(len(names), 150, seed=7).astype(int):
        drawn = np.repeat(names, multiplicity)
        rows = [np.flatnonzero(predictions.accession == name) for name in drawn]
        part = predictions.take(np.concatenate(rows))
        predicted = part.probability >= 0.5
        rates.append(
            np.mean(
                [np.mean((predictions.probability[r] >= 0.5) == predictions.label[r]) for r in rows]
            )
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = by_scikit_learn(part.label, part.probability, predicted)
        both = len(set(part.label.tolist())) == 2
        defined = {
            "accuracy": True,
            "brier": True,
            "precision": predicted.any(),
            "recall": part.label.any(),
            "f1": part.label.any(),
            "specificity": not part.label.all(),
            "mcc": both and predicted.any() and not predicted.all(),
        }
        for name, value in found.items():
            if defined.get(name, both):
                draws[name].append(value)
        if both:
            patient_auc.append(
                reference.roc_auc_score(
                    [predictions.label[r[0]] for r in rows],
                    [predictions.probability[r].mean() for r in rows],
                )
            )
    assert len(draws["roc_auc"]) < 150, "some resamples must lack a class for this test to bite"
    for name in METRIC_NAMES:
        figure = result["image"][name]
        expected = np.quantile(draws[name], [0.025, 0.975])
        assert [figure["low"], figure["high"]] == pytest.approx(expected, abs=1e-12), name
    for figure, expected in [
        (result["patient"]["recognition_rate"], rates),
        (result["patient"]["mean_probability"]["roc_auc"], patient_auc),
    ]:
        expected = np.quantile(expected, [0.025, 0.975])
        assert [figure["low"], figure["high"]] == pytest.approx(expected, abs=1e-12)


def test_patient_level_by_hand():
    # a: benign, 1 of 1 correct. b: malignant, 1 of 4 correct, though its mean (0.54) is malignant.
    # c: malignant, 1 of 2 correct: a tied vote, and a mean of 0.35.
    predictions = make(
        list("abbbbcc"),
        [0, 1, 1, 1, 1, 1, 1],
        [0.2, 0.96, 0.4, 0.4, 0.4, 0.6, 0.1],
    )
    result = evaluate(predictions, resamples=100)
    patient = result["patient"]
    assert patient["recognition_rate"]["value"] == pytest.approx((1 + 1 / 4 + 1 / 2) / 3)
    assert patient["recognition_rate_benign"]["value"] == 1
    assert patient["recognition_rate_malignant"]["value"] == pytest.approx(3 / 8)
    assert result["image"]["recognition_rate"]["value"] == pytest.approx(3 / 7)
    assert patient["mean_probability"]["confusion"] == {"tp": 1, "fp": 0, "tn": 1, "fn": 1}
    assert patient["mean_probability"]["accuracy"]["value"] == pytest.approx(2 / 3)
    assert patient["mean_probability"]["roc_auc"]["value"] == 1
    assert patient["mean_probability"]["brier"]["value"] == pytest.approx(
        (0.2**2 + 0.46**2 + 0.65**2) / 3
    )
    assert patient["majority_vote"]["confusion"] == {"tp": 1, "fp": 0, "tn": 1, "fn": 1}
    assert patient["majority_vote"]["recall"]["value"] == 0.5
    assert patient["patients"][1] == {
        "accession": "b",
        "label": 1,
        "images": 4,
        "correct": 1,
        "patient_score": 0.25,
        "mean_probability": pytest.approx(0.54),
    }
    assert result["counts"] == {
        "images": {"all": 7, "benign": 1, "malignant": 6},
        "slides": {"all": 3, "benign": 1, "malignant": 2},
        "accessions": {"all": 3, "benign": 1, "malignant": 2},
    }


def test_vote_ties_and_threshold_probabilities_are_malignant():
    predictions = make(list("aabb"), [1, 1, 0, 0], [0.9, 0.1, 0.5, 0.5])
    patient = evaluate(predictions, resamples=1)["patient"]
    assert patient["majority_vote"]["confusion"] == {"tp": 1, "fp": 1, "tn": 0, "fn": 0}
    assert patient["mean_probability"]["confusion"] == {"tp": 1, "fp": 1, "tn": 0, "fn": 0}


def test_a_patient_with_any_malignant_image_is_malignant():
    predictions = make(list("aab"), [0, 1, 0], [0.1, 0.2, 0.1])
    result = evaluate(predictions, resamples=10)
    assert [row["label"] for row in result["patient"]["patients"]] == [1, 0]
    assert result["patient"]["patients"][0]["patient_score"] == 0.5
    assert result["counts"]["accessions"] == {"all": 2, "benign": 1, "malignant": 1}


def test_magnifications_are_evaluated_on_their_own():
    predictions = simulate(seed=2)
    result = evaluate(predictions, resamples=30)
    assert list(result["by_magnification"]) == ["40", "100", "200", "400"]
    part = predictions.take(predictions.magnification == 100)
    alone = evaluate(part, resamples=30)
    found = result["by_magnification"]["100"]
    assert found.pop("patient_recognition_rate") == alone["patient"]["recognition_rate"]
    assert found == alone["image"]


def test_one_class_only():
    result = evaluate(make(list("aabbcc"), [1] * 6, [0.9, 0.8, 0.9, 0.2, 0.7, 0.6]), resamples=50)
    assert result["image"]["recall"]["value"] == pytest.approx(5 / 6)
    assert result["image"]["recall"]["low"] is not None
    for level in (result["image"], result["patient"]["mean_probability"]):
        for name in ("balanced_accuracy", "specificity", "roc_auc", "average_precision", "mcc"):
            assert level[name]["value"] is level[name]["low"] is level[name]["high"] is None
            assert "is benign" in level[name]["reason"]
    assert result["patient"]["recognition_rate_benign"]["reason"] == "no patient is benign"


def test_nothing_predicted_malignant():
    result = evaluate(make(list("abcd"), [1, 1, 0, 0], [0.1, 0.2, 0.1, 0.3]), resamples=50)
    assert result["image"]["precision"]["reason"] == "no image is predicted malignant"
    assert result["image"]["mcc"]["value"] is None
    assert result["image"]["f1"]["value"] == 0
    assert result["image"]["roc_auc"]["value"] == 0.375


def test_one_patient_has_values_but_no_interval():
    result = evaluate(make(list("aaa"), [1, 1, 1], [0.9, 0.8, 0.2]), resamples=50)
    for figure in (result["image"]["accuracy"], result["patient"]["recognition_rate"]):
        assert figure["value"] == pytest.approx(2 / 3)
        assert figure["low"] is figure["high"] is None
        assert figure["reason"] == "only one accession"


def test_one_benign_patient_gives_specificity_no_interval():
    result = evaluate(make(list("aabbcc"), [0, 0, 1, 1, 1, 1], [0.1, 0.6, 0.7, 0.8, 0.3, 0.9]))
    assert result["image"]["specificity"] == {
        "value": 0.5,
        "low": None,
        "high": None,
        "reason": "benign images in one accession only",
    }
    assert result["image"]["recall"]["low"] is not None


def test_a_single_resample_in_which_a_metric_is_undefined():
    # Found by trying seeds: the only resample has no benign accession.
    predictions = make(list("abcd"), [0, 0, 1, 1], [0.1, 0.6, 0.7, 0.8])
    seed = next(s for s in range(999) if not bootstrap.bootstrap_weights(4, 1, s)[0, :2].any())
    figure = evaluate(predictions, resamples=1, seed=seed)["image"]["specificity"]
    assert figure["value"] == 0.5
    assert figure["low"] is None
    assert figure["reason"]


def test_everything_is_json_without_nan():
    for predictions in (
        simulate(images=60, accessions=6),
        make(["a"], [0], [0.0]),
        make(list("ab"), [1, 0], [1.0, 1.0]),
    ):
        text = json.dumps(evaluate(predictions, resamples=20), allow_nan=False)
        assert json.loads(text)["resamples"] == 20


def test_intervals():
    few = evaluate(simulate(images=600, accessions=8, seed=3), resamples=300)
    many = evaluate(simulate(images=600, accessions=100, seed=3), resamples=300)

    def width(result):
        figure = result["image"]["accuracy"]
        assert figure["low"] < figure["value"] < figure["high"]
        return figure["high"] - figure["low"]

    assert width(few) > 1.5 * width(many)


def test_bootstrap_is_centred_on_the_estimate_and_seeded():
    predictions = simulate(images=300, accessions=30)
    names, group = np.unique(predictions.accession, return_inverse=True)
    weights = bootstrap.bootstrap_weights(len(names), 2000, seed=0)
    assert (weights.sum(axis=1) == len(names)).all()
    predicted = predictions.probability >= 0.5
    draws = binary_metrics(
        predictions.label == 1, predictions.probability, predicted, group, weights
    )["accuracy"]
    result = evaluate(predictions, resamples=200)
    accuracy = result["image"]["accuracy"]["value"]
    assert abs(draws.mean() - accuracy) < draws.std() / 5
    assert evaluate(predictions, resamples=200) == result
    assert evaluate(predictions, resamples=200, seed=1) != result


def test_full_data_set_is_evaluated_in_seconds():
    predictions = simulate(images=7909, accessions=70, decimals=9)
    start = time.perf_counter()
    evaluate(predictions, resamples=2000)
    assert time.perf_counter() - start < 15


def test_roc_curve_agrees_with_scikit_learn():
    predictions = simulate(decimals=1)
    found = curves.roc_curve(predictions.label, predictions.probability)
    expected = reference.roc_curve(
        predictions.label, predictions.probability, drop_intermediate=False
    )
    for mine, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-15)
    with pytest.raises(ValueError, match="both classes"):
        curves.roc_curve(np.ones(3), np.linspace(0, 1, 3))


def test_subtypes_are_evaluated_on_their_own():
    predictions = dataclasses.replace(
        make(list("aabbcccd"), [0, 0, 0, 0, 1, 1, 1, 1], [0.1, 0.9, 0.2, 0.3, 0.9, 0.1, 0.1, 0.8]),
        subtype=np.array(["PT", "PT", "A", "A", "DC", "DC", "LC", "DC"]),
    )
    found = evaluate(predictions, resamples=100)["by_subtype"]
    assert list(found) == ["A", "PT", "DC", "LC"]
    assert found["DC"]["images"] == 3
    assert found["DC"]["accessions"] == 2
    assert found["DC"]["accuracy"]["value"] == pytest.approx(2 / 3)
    assert found["DC"]["patient_recognition_rate"]["value"] == pytest.approx(3 / 4)
    assert found["DC"]["accuracy"]["low"] == pytest.approx(1 / 2)
    assert found["DC"]["accuracy"]["high"] == 1
    assert found["PT"]["accuracy"]["value"] == 0.5
    assert found["PT"]["accuracy"]["reason"] == "only one accession"
    at_another = evaluate(predictions, threshold=0.85, resamples=10)["by_subtype"]
    assert at_another["DC"]["accuracy"]["value"] == pytest.approx(1 / 3)


def test_pr_curve_agrees_with_scikit_learn():
    predictions = simulate(decimals=1)
    found = curves.pr_curve(predictions.label, predictions.probability)
    expected = reference.precision_recall_curve(predictions.label, predictions.probability)
    for mine, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(mine[::-1], theirs[: len(mine)], atol=1e-15)
    with pytest.raises(ValueError, match="malignant"):
        curves.pr_curve(np.zeros(3), np.linspace(0, 1, 3))


def step_precision(label, probability, recalls):
    precision, recall, _ = reference.precision_recall_curve(label, probability)
    precision, recall = precision[-2::-1], recall[-2::-1]
    reached = [recall > 0 if at == 0 else recall >= at - 1e-12 for at in recalls]
    return [precision[np.flatnonzero(one)[0]] for one in reached]


def upright_roc(label, probability, rates):
    fpr, tpr, _ = reference.roc_curve(label, probability, drop_intermediate=False)
    return np.interp(np.asarray(rates) + 1e-12, fpr, tpr)


@pytest.mark.parametrize(
    ("band", "x", "y", "curve"),
    [
        (curves.roc_band, "false_positive_rate", "true_positive_rate", upright_roc),
        (curves.pr_band, "recall", "precision", step_precision),
    ],
)
def test_bands_equal_a_plain_loop_over_the_same_resamples(band, x, y, curve, monkeypatch):
    monkeypatch.setattr(bootstrap, "_CHUNK", 1000)
    predictions = simulate(images=120, accessions=9, seed=4, benign_share=0.3, decimals=1)
    found = band(predictions, resamples=150, seed=7, points=11)
    names = np.unique(predictions.accession)
    curves = []
    for multiplicity in bootstrap.bootstrap_weights(len(names), 150, seed=7).astype(int):
        rows = [
            np.flatnonzero(predictions.accession == name) for name in np.repeat(names, multiplicity)
        ]
        part = predictions.take(np.concatenate(rows))
        if part.label.any() and (y == "precision" or not part.label.all()):
            curves.append(curve(part.label, part.probability, found[x]))
    np.testing.assert_allclose(found[x], np.linspace(0, 1, 11))
    np.testing.assert_allclose(
        found[y], curve(predictions.label, predictions.probability, found[x]), atol=1e-9
    )
    low, high = np.quantile(curves, [0.025, 0.975], axis=0)
    np.testing.assert_allclose(found["low"], low, atol=1e-9)
    np.testing.assert_allclose(found["high"], high, atol=1e-9)
    json.dumps(found, allow_nan=False)


def test_the_area_under_precision_steps_is_average_precision():
    predictions = simulate(images=300)
    precision = curves.pr_band(predictions, resamples=1, points=20_001)["precision"]
    expected = reference.average_precision_score(predictions.label, predictions.probability)
    assert np.mean(precision) == pytest.approx(expected, abs=1e-3)


def test_bands_by_hand():
    # Falling: one benign; a tie of one benign and two malignant; the rest.
    predictions = make(list("abcdefg"), [0, 0, 1, 1, 0, 1, 0], [0.9, 0.7, 0.7, 0.7, 0.5, 0.4, 0.1])
    roc = curves.roc_band(predictions, resamples=20, points=9)["true_positive_rate"]
    assert roc == pytest.approx([0, 0, 0, 1 / 3, 2 / 3, 2 / 3, 1, 1, 1])
    # At recall 0 what the first malignant images bring, not the benign one above them.
    precision = curves.pr_band(predictions, resamples=20, points=4)["precision"]
    assert precision == pytest.approx([2 / 4, 2 / 4, 2 / 4, 3 / 6])
    tied = make(list("abcd"), [0, 1, 0, 1], [0.5] * 4)
    roc = curves.roc_band(tied, resamples=20, points=5)["true_positive_rate"]
    assert roc == pytest.approx([0, 0.25, 0.5, 0.75, 1])


def test_bands_without_enough_patients():
    one_benign = make(list("aabbcc"), [0, 0, 1, 1, 1, 1], [0.1, 0.6, 0.7, 0.8, 0.3, 0.9])
    band = curves.roc_band(one_benign, resamples=50)
    assert band["low"] is band["high"] is None
    assert band["reason"] == "benign images in one accession only"
    assert curves.pr_band(one_benign, resamples=50)["low"] is not None
    one_class = make(list("ab"), [1, 1], [0.2, 0.8])
    with pytest.raises(ValueError, match="both classes"):
        curves.roc_band(one_class)
    assert curves.pr_band(one_class, resamples=50)["precision"] == [1.0] * 101
    with pytest.raises(ValueError, match="malignant"):
        curves.pr_band(make(list("ab"), [0, 0], [0.2, 0.8]))


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"predictions": make([], [], [])}, "no predictions"),
        ({"threshold": 1.5}, "1.5"),
        ({"threshold": float("nan")}, "nan"),
        ({"resamples": 0}, "resamples"),
    ],
)
def test_mistakes_are_named(change, word):
    arguments = {"predictions": make(["a"], [1], [0.5])} | change
    with pytest.raises(UserError, match=word):
        evaluate(**arguments)


@pytest.mark.parametrize(
    "change",
    [
        {"label": np.array([0, 2])},
        {"probability": np.array([0.1, np.nan])},
        {"probability": np.array([0.1, 1.1])},
        {"probability": np.array([0.1])},
    ],
)
def test_impossible_predictions_are_refused(change):
    with pytest.raises(ValueError, match=r"label|probability|length"):
        dataclasses.replace(make(list("ab"), [0, 1], [0.1, 0.9]), **change)


def test_csv_round_trip(tmp_path):
    predictions = simulate(images=50, accessions=5, decimals=17)
    names = predictions.file.copy().astype(object)
    names[:3] = ['a,"b".png', "zwei\nZeilen é.png", "\udcff.png"]
    predictions = dataclasses.replace(predictions, file=names.astype(np.str_))
    predictions.write_csv(tmp_path / "out" / "predictions.csv")
    again = Predictions.read_csv(tmp_path / "out" / "predictions.csv")
    for name, column in predictions.columns().items():
        np.testing.assert_array_equal(getattr(again, name), column)
    header = (tmp_path / "out" / "predictions.csv").read_bytes().splitlines()[0]
    assert header == b"file,slide,accession,magnification,subtype,label,probability"


def test_empty_csv_round_trip(tmp_path):
    make([], [], []).write_csv(tmp_path / "p.csv")
    assert len(Predictions.read_csv(tmp_path / "p.csv")) == 0


HEADER = "file,slide,accession,magnification,subtype,label,probability\n"
GOOD = "a.png,s,14-1,40,DC,1,0.5\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "line 1.*header"),
        ("file,probability\n", "line 1.*header"),
        (HEADER + GOOD + "a.png,s,14-1,40,DC,1\n", "line 3.*6 values"),
        (HEADER + "a.png,s,14-1,40X,DC,1,0.5\n", "line 2.*'40X'"),
        (HEADER + GOOD + GOOD + "a.png,s,14-1,40,DC,2,0.5\n", "line 4.*label '2'"),
        (HEADER + "a.png,s,14-1,40,DC,1,high\n", "line 2.*probability 'high'"),
        (HEADER + "a.png,s,14-1,40,DC,1,nan\n", "line 2.*probability 'nan'"),
        (HEADER + "a.png,s,14-1,40,DC,1,1.01\n", "line 2.*probability '1.01'"),
        (HEADER + '"a.png,s,14-1', "line 2"),
    ],
)
def test_malformed_csv_names_file_and_line(tmp_path, text, words):
    path = tmp_path / "broken.csv"
    path.write_text(text)
    with pytest.raises(UserError, match=f"broken.csv, {words}"):
        Predictions.read_csv(path)


def test_missing_csv_is_named(tmp_path):
    with pytest.raises(UserError, match=r"nowhere\.csv"):
        Predictions.read_csv(tmp_path / "nowhere.csv")


def test_probability_of_a_logit():
    with np.errstate(all="raise", under="ignore"):
        found = probability_of(np.array([-1e4, -2, 0, 2, 1e4], dtype=np.float32))
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, [0, 1 / (1 + np.e**2), 0.5, 1 / (1 + np.e**-2), 1])
