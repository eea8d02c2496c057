from __future__ import annotations

import dataclasses
import json
import time

import numpy as np
import pytest
import sklearn.metrics as reference
from scipy import stats

from se_resnet.errors import UserError
from se_resnet.metrics import curves, ranking
from se_resnet.metrics.binary import METRIC_NAMES, binary_metrics
from se_resnet.metrics.cohort import Cohort
from se_resnet.metrics.evaluation import MOST_PARTS, evaluate
from se_resnet.metrics.intervals import newcombe_auc
from se_resnet.metrics.levels import all_metrics
from se_resnet.metrics.predictions import Predictions, in_folds, logit_of, probability_of
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
    figures = evaluate(predictions, threshold)["image"]
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
    whole = evaluate(predictions)
    monkeypatch.setattr(ranking, "_CHUNK", 300)
    assert evaluate(predictions) == whole


def without(predictions, name):
    return predictions.take(predictions.accession != name)


def test_auc_interval_equals_a_plain_loop_without_each_patient():
    predictions = simulate(images=120, accessions=9, seed=4, benign_share=0.3)
    metric = all_metrics(predictions, 0.5, Cohort.of(predictions))["image"]["roc_auc"]
    expected = [reference.roc_auc_score(predictions.label, predictions.probability)]
    names = np.unique(predictions.accession)
    for name in names:
        part = without(predictions, name)
        expected.append(reference.roc_auc_score(part.label, part.probability))
    np.testing.assert_allclose(metric.values, expected, atol=1e-12)
    malignant = np.array([predictions.label[predictions.accession == n][0] for n in names]) == 1
    variances, freedoms = [], []
    for chosen in (~malignant, malignant):
        change = metric.values[1:][chosen] - metric.values[0]
        variances.append((len(change) - 1) / len(change) * np.sum(change**2))
        sizes = [np.sum(predictions.accession == name) for name in names[chosen]]
        matched = 2 / (np.sum(change**4) / np.sum(change**2) ** 2 - 1 / len(change))
        kish = np.sum(sizes) ** 2 / np.sum(np.square(sizes))
        freedoms.append(max(1, min(matched, kish - 1)))
    freedom = np.sum(variances) ** 2 / np.sum(np.square(variances) / freedoms)
    auc = metric.values[0]
    width = stats.t.ppf(0.975, freedom) * np.sqrt(np.sum(variances)) / (auc * (1 - auc))
    logit = np.log(auc / (1 - auc))
    low, high = 1 / (1 + np.exp(-logit + width)), 1 / (1 + np.exp(-logit - width))
    floor = newcombe_auc(auc, 3 * np.sum(~malignant), 3 * np.sum(malignant))
    assert metric.bounds() == pytest.approx((min(low, floor[0]), max(high, floor[1])), abs=1e-9)


def test_folds_compare_images_of_one_network_only():
    rng = np.random.default_rng(0)
    parts = [simulate(images=90, accessions=9, seed=seed, decimals=9) for seed in range(3)]
    parts = [
        dataclasses.replace(
            part,
            accession=np.char.add(part.accession, f"-{fold}"),
            probability=probability_of(logit_of(part.probability.clip(1e-9, 1 - 1e-9)) + 3 * fold),
        )
        for fold, part in enumerate(parts)
    ]
    pooled = in_folds(parts)
    pooled = pooled.take(rng.permutation(len(pooled)))
    result = evaluate(pooled)
    pairs = [np.sum(part.label == 0) * np.sum(part.label == 1) for part in parts]
    each = [reference.roc_auc_score(part.label, part.probability) for part in parts]
    image = result["image"]
    assert image["roc_auc"]["value"] == pytest.approx(np.average(each, weights=pairs), abs=1e-12)
    everything = reference.roc_auc_score(pooled.label, pooled.probability)
    assert image["roc_auc_pooled"]["value"] == pytest.approx(everything, abs=1e-12)
    assert everything < image["roc_auc"]["value"] - 0.05
    patient = result["patient"]["mean_probability"]
    assert patient["roc_auc"]["value"] > patient["roc_auc_pooled"]["value"] + 0.05
    single = evaluate(dataclasses.replace(pooled, fold=np.full(len(pooled), 7)))
    assert "roc_auc_pooled" not in single["image"]
    assert single["image"]["roc_auc"]["value"] == pytest.approx(everything, abs=1e-12)


def test_every_fold_has_its_own_threshold():
    predictions = dataclasses.replace(
        make(list("aabb"), [1, 0, 1, 0], [0.4, 0.1, 0.9, 0.6]), fold=np.array([0, 0, 1, 1])
    )
    thresholds = np.array([0.3, 0.8])[predictions.fold]
    result = evaluate(predictions, thresholds)
    assert result["image"]["accuracy"]["value"] == 1
    assert evaluate(predictions, 0.5)["image"]["accuracy"]["value"] == 0.5
    assert result["threshold"] == pytest.approx(0.55)


def test_patient_level_by_hand():
    # a: benign, 1 of 1 correct. b: malignant, 1 of 4 correct, though its mean (0.54) is malignant.
    # c: malignant, 1 of 2 correct: a tied vote, and a mean of 0.35.
    predictions = make(
        list("abbbbcc"),
        [0, 1, 1, 1, 1, 1, 1],
        [0.2, 0.96, 0.4, 0.4, 0.4, 0.6, 0.1],
    )
    result = evaluate(predictions)
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
    patient = evaluate(predictions)["patient"]
    assert patient["majority_vote"]["confusion"] == {"tp": 1, "fp": 1, "tn": 0, "fn": 0}
    assert patient["mean_probability"]["confusion"] == {"tp": 1, "fp": 1, "tn": 0, "fn": 0}


def test_a_patient_with_any_malignant_image_is_malignant():
    predictions = make(list("aab"), [0, 1, 0], [0.1, 0.2, 0.1])
    result = evaluate(predictions)
    assert [row["label"] for row in result["patient"]["patients"]] == [1, 0]
    assert result["patient"]["patients"][0]["patient_score"] == 0.5
    assert result["counts"]["accessions"] == {"all": 2, "benign": 1, "malignant": 1}


def test_magnifications_are_evaluated_on_their_own():
    predictions = simulate(seed=2)
    result = evaluate(predictions)
    assert list(result["by_magnification"]) == ["40", "100", "200", "400"]
    part = predictions.take(predictions.magnification == 100)
    alone = evaluate(part)
    found = result["by_magnification"]["100"]
    assert found.pop("patient_recognition_rate") == alone["patient"]["recognition_rate"]
    assert found == alone["image"]


def test_one_class_only():
    result = evaluate(make(list("aabbcc"), [1] * 6, [0.9, 0.8, 0.9, 0.2, 0.7, 0.6]))
    assert result["image"]["recall"]["value"] == pytest.approx(5 / 6)
    assert result["image"]["recall"]["low"] is not None
    for level in (result["image"], result["patient"]["mean_probability"]):
        for name in ("balanced_accuracy", "specificity", "roc_auc", "average_precision", "mcc"):
            assert level[name]["value"] is level[name]["low"] is level[name]["high"] is None
            assert "is benign" in level[name]["reason"]
    assert result["patient"]["recognition_rate_benign"]["reason"] == "no patient is benign"


def test_nothing_predicted_malignant():
    result = evaluate(make(list("abcd"), [1, 1, 0, 0], [0.1, 0.2, 0.1, 0.3]))
    assert result["image"]["precision"]["reason"] == "no image is predicted malignant"
    assert result["image"]["mcc"]["value"] is None
    assert result["image"]["f1"]["value"] == 0
    assert result["image"]["roc_auc"]["value"] == 0.375


def test_one_patient_has_values_but_no_interval():
    result = evaluate(make(list("aaa"), [1, 1, 1], [0.9, 0.8, 0.2]))
    for figure in (result["image"]["accuracy"], result["patient"]["recognition_rate"]):
        assert figure["value"] == pytest.approx(2 / 3)
        assert figure["low"] is figure["high"] is None
        assert figure["reason"] == "only one patient"


def test_one_benign_patient_gives_specificity_no_interval():
    result = evaluate(make(list("aabbcc"), [0, 0, 1, 1, 1, 1], [0.1, 0.6, 0.7, 0.8, 0.3, 0.9]))
    specificity = result["image"]["specificity"]
    assert specificity["value"] == 0.5
    assert specificity["low"] is specificity["high"] is None
    assert specificity["reason"] == "benign images of one patient only"
    assert specificity["patients"] == {"all": 1, "benign": 1, "malignant": 0}
    assert result["image"]["recall"]["low"] is not None
    assert result["image"]["recall"]["remark"] == "too few patients to tell"


def test_estimates_say_which_patients_they_rest_on():
    predictions = make(
        [*"aaaaaabcd", *"efghi"], [0] * 9 + [1] * 5, np.r_[np.full(9, 0.2), np.full(5, 0.7)]
    )
    image = evaluate(predictions)["image"]
    assert image["specificity"]["patients"] == {"all": 4, "benign": 4, "malignant": 0}
    assert image["specificity"]["effective_patients"]["benign"] == pytest.approx(81 / 39, abs=0.05)
    assert image["roc_auc"]["patients"] == {"all": 9, "benign": 4, "malignant": 5}
    assert image["recall"]["effective_patients"]["malignant"] == 5
    assert "remark" not in image["specificity"]
    scarce = evaluate(predictions.take(predictions.accession != "d"))["image"]
    assert scarce["specificity"]["remark"] == scarce["roc_auc"]["remark"]
    assert "remark" not in scarce["recall"]


def test_everything_is_json_without_nan():
    for predictions in (
        simulate(images=60, accessions=6),
        make(["a"], [0], [0.0]),
        make(list("ab"), [1, 0], [1.0, 1.0]),
    ):
        text = json.dumps(evaluate(predictions, permutations=20), allow_nan=False)
        assert json.loads(text)["resamples"] == 20


def test_intervals():
    few = evaluate(simulate(images=600, accessions=8, seed=3))
    many = evaluate(simulate(images=600, accessions=100, seed=3))

    def width(result):
        figure = result["image"]["accuracy"]
        assert figure["low"] < figure["value"] < figure["high"]
        return figure["high"] - figure["low"]

    assert width(few) > 1.5 * width(many)


@pytest.mark.parametrize("accessions", [2, 8, 44])
def test_no_interval_has_zero_width(accessions):
    """Perfect and useless predictions, and predictions that are all alike."""
    predictions = simulate(images=200, accessions=accessions)
    for probability in (
        predictions.label.astype(float),
        1.0 - predictions.label,
        np.full(200, 0.9),
        np.full(200, 0.1),
    ):
        result = evaluate(dataclasses.replace(predictions, probability=probability))
        for level in (result["image"], *result["patient"].values()):
            for estimate in level.values() if isinstance(level, dict) else ():
                if isinstance(estimate, dict) and estimate.get("low") is not None:
                    assert estimate["low"] < estimate["high"]
                    assert estimate["low"] <= estimate["value"] <= estimate["high"]


def test_full_data_set_is_evaluated_in_seconds():
    predictions = simulate(images=7909, accessions=70, decimals=9)
    start = time.process_time()
    evaluate(predictions)
    assert time.process_time() - start < 5


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
    found = evaluate(predictions)["by_subtype"]
    assert list(found) == ["A", "PT", "DC", "LC"]
    assert found["DC"]["images"] == 3
    assert found["DC"]["accessions"] == 2
    assert found["DC"]["accuracy"]["value"] == pytest.approx(2 / 3)
    assert found["DC"]["patient_recognition_rate"]["value"] == pytest.approx(3 / 4)
    assert 0 < found["DC"]["accuracy"]["low"] < 0.2  # two patients tell little
    assert 0.9 < found["DC"]["accuracy"]["high"] < 1
    assert found["DC"]["accuracy"]["remark"] == "too few patients to tell"
    assert found["PT"]["accuracy"]["value"] == 0.5
    assert found["PT"]["accuracy"]["reason"] == "only one patient"
    at_another = evaluate(predictions, threshold=0.85)["by_subtype"]
    assert at_another["DC"]["accuracy"]["value"] == pytest.approx(1 / 3)


def test_pr_curve_agrees_with_scikit_learn():
    predictions = simulate(decimals=1)
    found = curves.pr_curve(predictions.label, predictions.probability)
    expected = reference.precision_recall_curve(predictions.label, predictions.probability)
    for mine, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(mine[::-1], theirs[: len(mine)], atol=1e-15)
    with pytest.raises(ValueError, match="malignant"):
        curves.pr_curve(np.zeros(3), np.linspace(0, 1, 3))


def test_bands_hold_the_curve_and_shrink_with_patients():
    widths = []
    for accessions in (8, 200):
        predictions = simulate(images=1000, accessions=accessions, seed=4, decimals=3)
        for band, y in ((curves.roc_band, "true_positive_rate"), (curves.pr_band, "precision")):
            found = band(predictions, points=11)
            low, curve, high = (np.array(found[name]) for name in ("low", y, "high"))
            assert (low <= curve).all() and (curve <= high).all()
            widths.append((high - low)[5])
            json.dumps(found, allow_nan=False)
    assert widths[0] > 2 * widths[2]
    assert widths[1] > 2 * widths[3]


def test_roc_band_reaches_from_corner_to_corner():
    predictions = simulate(images=400, accessions=44, decimals=9)
    found = curves.roc_band(predictions, points=11)
    assert found["low"][-1] == found["high"][-1] == 1  # nothing can vary here
    perfect = dataclasses.replace(predictions, probability=predictions.label.astype(float))
    found = curves.roc_band(perfect, points=11)
    assert found["true_positive_rate"] == [1.0] * 11
    assert found["low"][0] == 0 and 0.7 < found["low"][5] < 1


def test_bands_of_patients_are_exact():
    patients = make([f"{i}" for i in range(30)], [0] * 10 + [1] * 20, np.linspace(0, 1, 30))
    found = curves.pr_band(patients, points=5, exact=True)
    low, high = stats.binomtest(10, 10).proportion_ci(method="exact")
    assert (found["low"][2], found["high"][2]) == pytest.approx((low, high))


def test_the_area_under_precision_steps_is_average_precision():
    predictions = simulate(images=300)
    precision = curves.pr_band(predictions, points=20_001)["precision"]
    expected = reference.average_precision_score(predictions.label, predictions.probability)
    assert np.mean(precision) == pytest.approx(expected, abs=1e-3)


def test_bands_by_hand():
    # Falling: one benign; a tie of one benign and two malignant; the rest.
    predictions = make(list("abcdefg"), [0, 0, 1, 1, 0, 1, 0], [0.9, 0.7, 0.7, 0.7, 0.5, 0.4, 0.1])
    roc = curves.roc_band(predictions, points=9)["true_positive_rate"]
    assert roc == pytest.approx([0, 0, 0, 1 / 3, 2 / 3, 2 / 3, 1, 1, 1])
    # At recall 0 what the first malignant images bring, not the benign one above them.
    precision = curves.pr_band(predictions, points=4)["precision"]
    assert precision == pytest.approx([2 / 4, 2 / 4, 2 / 4, 3 / 6])
    tied = make(list("abcd"), [0, 1, 0, 1], [0.5] * 4)
    roc = curves.roc_band(tied, points=5)["true_positive_rate"]
    assert roc == pytest.approx([0, 0.25, 0.5, 0.75, 1])


def test_bands_without_enough_patients():
    one_benign = make(list("aabbcc"), [0, 0, 1, 1, 1, 1], [0.1, 0.6, 0.7, 0.8, 0.3, 0.9])
    band = curves.roc_band(one_benign)
    assert band["low"] is band["high"] is None
    assert band["reason"] == "benign images of one patient only"
    assert curves.pr_band(one_benign)["low"] is not None
    one_class = make(list("ab"), [1, 1], [0.2, 0.8])
    with pytest.raises(ValueError, match="both classes"):
        curves.roc_band(one_class)
    assert curves.pr_band(one_class)["precision"] == [1.0] * 101
    with pytest.raises(ValueError, match="malignant"):
        curves.pr_band(make(list("ab"), [0, 0], [0.2, 0.8]))


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"predictions": make([], [], [])}, "no predictions"),
        ({"threshold": 1.5}, "1.5"),
        ({"threshold": float("nan")}, "nan"),
        ({"permutations": 0}, "permutations"),
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


def test_the_folds_of_a_cross_validation_are_in_the_file(tmp_path):
    predictions = in_folds([simulate(images=20, accessions=5, seed=seed) for seed in range(3)])
    predictions.write_csv(tmp_path / "predictions.csv")
    header = (tmp_path / "predictions.csv").read_bytes().splitlines()[0]
    assert header.endswith(b",probability,fold")
    again = Predictions.read_csv(tmp_path / "predictions.csv")
    np.testing.assert_array_equal(again.fold, np.repeat([0, 1, 2], 20))


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
        (HEADER[:-1] + ",fold\n" + GOOD[:-1] + ",first\n", "line 2.*fold 'first'"),
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


def with_parts(predictions, **change):
    extra = {name: change.pop(name) for name in list(change) if name == "site"}
    return dataclasses.replace(predictions, **change, extra=extra)


def test_images_of_unknown_magnification_or_subtype_are_no_part():
    predictions = simulate(seed=2)
    unknown = np.arange(len(predictions)) % 3 == 0
    scale = np.where(unknown, 0, predictions.magnification)
    subtype = np.where(unknown, "", predictions.subtype)
    result = evaluate(with_parts(predictions, magnification=scale, subtype=subtype))
    assert list(result["by_magnification"]) == ["40", "100", "200", "400"]
    assert list(result["by_subtype"]) == ["A", "DC"]
    part = predictions.take(~unknown & (predictions.magnification == 40))
    assert result["by_magnification"]["40"]["accuracy"] == evaluate(part)["image"]["accuracy"]
    assert sum(part["images"] for part in result["by_subtype"].values()) == (~unknown).sum()
    nothing = with_parts(predictions, magnification=0 * scale, subtype=np.full(len(scale), ""))
    result = evaluate(nothing)
    assert result["by_magnification"] == result["by_subtype"] == {}
    assert "by_site" not in result and "too_many_parts" not in result


def test_sites_are_evaluated_on_their_own():
    predictions = simulate(seed=2)
    site = np.where(predictions.probability > 0.7, "north", "south")
    site[:7] = ""
    found = evaluate(with_parts(predictions, site=site))["by_site"]
    assert list(found) == ["north", "south"]
    part = predictions.take(site == "south")
    alone = evaluate(part)
    south = found["south"]
    assert south.pop("images") == len(part)
    assert south.pop("accessions") == alone["counts"]["accessions"]["all"]
    assert south.pop("patient_recognition_rate") == alone["patient"]["recognition_rate"]
    assert south == alone["image"]
    assert "by_site" not in evaluate(with_parts(predictions, site=np.full(len(site), "")))


def test_a_column_of_names_is_counted_and_not_evaluated_by_value():
    predictions = simulate(seed=2)
    name = np.array([f"n{i % (MOST_PARTS + 1)}" for i in range(len(predictions))])
    result = evaluate(with_parts(predictions, site=name, subtype=name))
    assert result["too_many_parts"] == {"subtype": MOST_PARTS + 1, "site": MOST_PARTS + 1}
    assert result["by_subtype"] == {} and "by_site" not in result
    assert len(result["by_magnification"]) == 4
