from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from collections import Counter

import matplotlib
import numpy as np
import pytest

from se_resnet.metrics import calibration, selective
from se_resnet.metrics.decision import Decision
from se_resnet.metrics.evaluation import evaluate
from se_resnet.metrics.full import all_metrics
from se_resnet.metrics.predictions import Predictions
from se_resnet.report import gallery
from se_resnet.report.report import write_report
from se_resnet.runs.image_source import BREAKHIS, ImageSource
from tests.helpers.page import Page

HOSTILE = "<script>alert('x')</script>&\"\udcff"


def predictions(accession, label, probability):
    label = np.asarray(label)
    return Predictions(
        file=np.array([f"{HOSTILE}{i}.png" for i in range(len(label))]),
        slide=np.char.add("S-", np.asarray(accession, dtype=np.str_)),
        accession=np.asarray(accession, dtype=np.str_),
        magnification=np.resize([40, 200], len(label)),
        subtype=np.where(label == 1, "DC", "A"),
        label=label,
        probability=np.asarray(probability, dtype=np.float64),
    )


def both_classes():
    rng = np.random.default_rng(0)
    owner = rng.integers(0, 12, 200)
    label = (owner >= 5).astype(int)
    probability = np.clip(rng.normal(0.3 + 0.4 * label, 0.2), 0, 1)
    return predictions([f"14-{i:05d}" for i in owner], label, probability)


LOG = [
    {"step": 1, "epoch": 0, "train/loss": 0.7, "train/accuracy": 0.5},
    {"step": 2, "epoch": 0, "train/loss": float("nan"), "train/accuracy": 0.6},
    {"step": 3, "epoch": 1, "val/loss": 0.6, "val/accuracy": 0.7, "val/roc_auc": None},
    {"epoch": 1},
]
SPLIT = [{"role": "test", "class": "benign", "images": 1234, "slides": 7, "accessions": 5}]


@pytest.fixture
def write(tmp_path):
    def run(shown, **change):
        arguments = {
            "title": "A title",
            "predictions": shown,
            "metrics": evaluate(shown),
            "split_summary": SPLIT,
            "training_log": LOG,
            "config": {"seed": 3, "shape": (1, 2), "kind": np.float32},
            "command": "python train.py --config=configs/a.py --workdir=w",
            "warnings": [],
            "notes": [],
            "data_notes": [],
        } | change
        write_report(tmp_path / "new" / "report.html", **arguments)
        html = (tmp_path / "new" / "report.html").read_text(encoding="utf-8")
        return html, Page(html)

    return run


def test_a_whole_report(write):
    shown = both_classes()
    html, page = write(shown, warnings=["Beware of leaks."], notes=["Step 900."])
    for words in (
        "A title",
        "Read this first Beware of leaks.",
        "Step 900.",
        "200 images",
        "12 patients (5 benign, 7 malignant)",
        "Patient recognition rate",
        "40× 200×",
        "1,234 7 5",
        "python train.py --config=configs/a.py --workdir=w",
        '"seed": 3',
        "not a medical device",
    ):
        assert words in page.text, words
    # ROC, precision and recall, distribution, training, the legend of the strips and the strips.
    assert page.tags["svg"] == 5 + 4 + 12
    assert html.count("(AUC ") == html.count("(AP ") == 2
    assert "undefined" not in page.text
    for row in evaluate(shown)["patient"]["patients"]:
        assert f"{row['accession']} {row['correct']} of {row['images']}" in page.text


def test_figures_are_shown_with_their_intervals(write):
    shown = both_classes()
    metrics = evaluate(shown)
    metrics["patient"]["recognition_rate"] = {"value": 0.8768, "low": 0.8, "high": 0.95}
    metrics["image"]["roc_auc"] = {"value": 0.9876, "low": 0.9, "high": 1.0}
    metrics["image"]["confusion"] = {"tp": 3, "fp": 20, "tn": 80, "fn": 9}
    _, page = write(shown, metrics=metrics)
    assert "Recognition rate 87.7 % 95 %: 80.0–95.0" in page.text
    assert "ROC AUC 0.988 95 %: 0.900–1.000" in page.text
    matrix = "benign 80 right 80.0 % 20 wrong 20.0 % malignant 9 wrong 75.0 % 3 right 25.0 %"
    assert matrix in page.text


def test_the_file_needs_nothing_else(write):
    html, page = write(both_classes())
    assert page.tags["script"] == page.tags["link"] == page.tags["iframe"] == 0
    assert all(link.startswith("#") for link in page.links)
    assert "@import" not in html
    assert "default-src 'none'" in html


def test_the_navigation_has_every_section(write):
    shown = both_classes()
    metrics = all_metrics(shown, [Decision("accuracy", 0.5, 1.0, 0.1, "", 12, 30)], permutations=20)
    metrics |= {"folds": {"image_roc_auc": {"mean": 0.8, "sd": 0.1, "values": [0.7, 0.9]}}}
    groups = [{"label": 1, "correct": True, "total": 0, "pictures": []}]
    full = {"metrics": metrics, "gallery": groups, "gates": {"blocks": [], "stages": []}}
    for change in ({}, full | {"warnings": ["Beware."]}):
        html, _ = write(shown, **change)
        sections = re.findall(r'<h2 id="([^"]+)"', html)
        navigation = re.search(r'<nav class="contents".*?</nav>', html, re.S)[0]
        assert re.findall(r'href="#([^"]+)"', navigation) == sections
        assert html.count("<h2") == len(sections)
    assert len(sections) == 17


def test_a_fold_without_a_report_is_named_without_a_link(write):
    shown = dataclasses.replace(both_classes(), fold=np.arange(200) % 3)
    across = {"mean": 0.8, "sd": 0.1, "values": [0.7, 0.8, 0.9]}
    metrics = evaluate(shown) | {"folds": {"image_roc_auc": across}}
    links = ["../0.html", "", "../2.html"]
    html, page = write(shown, metrics=metrics, part_links=links, training_log=[])
    assert "Mean SD Fold 0 Fold 1 Fold 2" in page.text
    assert "Training curves are in the reports of fold 0 fold 2 ." in page.text
    for number in (0, 2):
        assert f'<a href="../{number}.html">Fold {number}</a>' in html
        assert f'<a href="../{number}.html#training">fold {number}</a>' in html
        assert f'<td><a href="../{number}.html">{number}</a></td>' in html  # of an error
    assert "<td>1</td>" in html and 'href=""' not in html
    _, page = write(shown, metrics=metrics, part_links=["", "", ""], training_log=[])
    assert "There is no training log." in page.text


def test_the_chosen_step_is_marked_in_the_training_curves(write):
    html, page = write(both_classes(), metrics=with_provenance(step=3, epoch=1.0))
    plots = re.findall(r'aria-label="Training curves.*?</svg>', html, re.S)
    assert len(plots) == 2 and all("chosen weights: step 3, epoch 1" in plot for plot in plots)
    assert "The evaluated weights are those of step 3 of 6 (epoch 1 of 2)" in page.text
    html, _ = write(both_classes())
    assert "chosen weights" not in html


def with_provenance(step, epoch):
    network = {
        "run": ".",
        "evaluated_step": step,
        "evaluated_epoch": epoch,
        "of_steps": 6,
        "of_epochs": 2,
        "finished": True,
        "stopped_early": False,
        "starts": [],
    }
    software = {"python": "3", "packages": {}, "system": "Linux", "cpus": 1, "devices": ["cpu"]}
    return evaluate(both_classes()) | {
        "provenance": {
            **{"date": "today", "seconds": 1.0, "command": "c", "commit": "", "banner": ""},
            "software": software,
            "networks": [network],
            "differs_from_default": {"seed": 3},
        }
    }


def test_differences_from_the_default_stand_before_the_full_configuration(write):
    html, page = write(both_classes(), metrics=with_provenance(3, 1.0))
    assert page.text.index("config.seed = 3") < page.text.index('"seed": 3')
    (details,) = re.findall(r"<details>\s*<summary>Full configuration.*?</details>", html, re.S)
    assert "&#34;seed&#34;: 3" in details


def test_every_error_is_listed_at_the_threshold_in_use(write):
    shown = both_classes()
    decision = Decision("accuracy", 0.7, 1.5, 0.1, "", 12, 30)
    html, page = write(shown, metrics=all_metrics(shown, [decision], permutations=20))
    wrong = (shown.probability >= 0.7) != (shown.label == 1)
    assert wrong.sum() != ((shown.probability >= 0.5) != (shown.label == 1)).sum()
    missed = int((wrong & (shown.label == 1)).sum())
    total = int(wrong.sum())
    sentence = f"Of 200 images, {total} are misclassified at the threshold 0.7: {missed} malignant"
    assert sentence in page.text
    table = re.search(r'<table class="listing">.*?</table>', html, re.S)[0]
    listed = re.findall(r'class="file">.*?(\d+)\.png</th>', table)
    assert {int(name) for name in listed} == {*np.flatnonzero(wrong).tolist()}


def test_identifiers_are_unique_and_found(write):
    html, page = write(both_classes())
    assert [name for name, count in Counter(page.ids).items() if count > 1] == []
    targets = re.findall(r"url\(#([^)]+)\)", html)
    targets += [link.removeprefix("#") for link in page.links]
    targets += re.findall(r'aria-labelledby="([^"]+)"', html)
    assert targets
    assert set(targets) <= set(page.ids)


def test_hostile_text_is_escaped(write):
    accession = [HOSTILE, HOSTILE, "b"]
    split = [{"role": HOSTILE, "class": HOSTILE, "images": 1, "slides": 1, "accessions": 1}]
    picture = {"file": HOSTILE, "accession": HOSTILE, "magnification": 40, "probability": 0.1}
    picture |= {"image": "data:,", "overlay": "data:,"}
    gallery = [{"label": 1, "correct": False, "total": 1, "pictures": [picture]}]
    html, page = write(
        predictions(accession, [1, 1, 0], [0.9, 0.8, 0.1]),
        title=HOSTILE,
        split_summary=split,
        config={HOSTILE: HOSTILE},
        command=HOSTILE,
        warnings=[HOSTILE],
        notes=[HOSTILE],
        data_notes=[HOSTILE],
        gallery=gallery,
    )
    assert page.tags["script"] == 0
    assert "<script" not in html
    assert page.text.count("<script>alert('x')</script>") == 13


def test_one_class_and_one_patient(write):
    shown = predictions(["a"] * 4, [1, 1, 1, 1], [0.9, 0.8, 0.1, 0.9])
    _, page = write(shown, training_log=[], split_summary=[])
    assert "1 image" not in page.text
    assert "4 images (0 benign, 4 malignant) from 1 slide of 1 patient (" in page.text
    assert "Recognition rate 75.0 % no interval: only one patient" in page.text
    assert "ROC AUC undefined: no image is benign" in page.text
    assert "ROC curve undefined" in page.text
    assert "Precision-recall curve undefined" in page.text
    assert "There is no training log." in page.text
    assert "belong to no split" in page.text
    assert page.tags["svg"] == 1 + 4 + 1


def test_a_log_without_validation(write):
    html, _ = write(both_classes(), training_log=LOG[:1])
    assert "training-loss" in html and "training-score" in html
    _, page = write(both_classes(), training_log=[{"step": 1, "train/loss": float("inf")}])
    assert "There is no training log." in page.text


def test_same_evaluation_same_file_whatever_matplotlibs_settings(write):
    first, _ = write(both_classes())
    with matplotlib.rc_context({"font.size": 30, "svg.fonttype": "path"}):
        second, _ = write(both_classes())
        assert matplotlib.rcParams["font.size"] == 30
    assert first == second


def test_importing_the_report_does_not_import_matplotlib():
    code = "import sys, se_resnet.report.report; sys.exit('matplotlib' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_full_data_set_makes_a_small_file(write):
    rng = np.random.default_rng(0)
    owner = rng.integers(0, 70, 7909)
    label = (owner >= 16).astype(int)
    html, _ = write(predictions([f"14-{i:05d}" for i in owner], label, rng.random(7909)))
    assert len(html) < 1_000_000


def test_patients_are_sorted_by_class_and_every_image_marked(write):
    accession = ["m2", "b1", "m1", "m1", "b1", "m2"]
    label = [1, 0, 1, 1, 0, 1]
    html, page = write(predictions(accession, label, [0.9, 0.2, 0.3, 0.4, 0.6, 0.7]))
    rows = re.findall(
        r'<th scope="row" class="name">(\w+)</th>\s*<td class="scale">(.*?)</td>', html
    )
    assert [name for name, _ in rows] == ["b1", "m1", "m2"]
    marks = {
        name: [(mark, float(x)) for mark, x in re.findall(r'"#(\w+)" x="([\d.]+)%"', strip)]
        for name, strip in rows
    }
    assert marks == {
        "b1": [("dot", 20), ("cross", 60), ("mean", 40)],
        "m1": [("cross", 30), ("cross", 40), ("mean", 35)],
        "m2": [("dot", 70), ("dot", 90), ("mean", 80)],
    }
    assert "2 images, 1 misclassified, mean probability 0.400" in html
    assert "m1 0 of 2 0.0 % 0.350 ✗ wrong" in page.text
    assert "m2 2 of 2 100.0 % 0.800 ✓ right" in page.text


def test_the_bands_are_those_of_the_metrics(write):
    shown = both_classes()
    html, _ = write(shown)
    # The band of one patient of either class is refused, so that only curves are drawn.
    few, _ = write(predictions(["a", "b"] * 4, [0, 1] * 4, np.linspace(0.1, 0.9, 8)))
    assert "FillBetweenPolyCollection" in re.search(r'aria-label="ROC.*?</svg>', html, re.S)[0]
    assert "FillBetweenPolyCollection" in re.search(r'aria-label="Prec.*?</svg>', html, re.S)[0]
    assert "FillBetweenPolyCollection" not in few


def test_subtypes_have_names_and_intervals(write):
    shown = both_classes()
    metrics = evaluate(shown)
    metrics["by_subtype"]["DC"]["accuracy"] = {"value": 0.5, "low": 0.25, "high": 0.75}
    _, page = write(shown, metrics=metrics)
    part = metrics["by_subtype"]["DC"]
    words = f"DC ductal carcinoma {part['images']} {part['accessions']} 50.0 % 25.0–75.0"
    assert words in page.text


@pytest.mark.parametrize(
    ("reason", "sentence"),
    [
        ("", "were chosen by 12 benign and 30 malignant validation patients, for youden."),
        ("one patient is too few to choose", "1.50: one patient is too few to choose."),
    ],
)
def test_who_chose_threshold_and_temperature(write, reason, sentence):
    shown = both_classes()
    metrics = evaluate(shown)
    decision = Decision("youden", 0.5, 1.5, 0.1, reason, 12, 30)
    metrics["decision"] = dataclasses.asdict(decision)
    metrics["at_chosen_threshold"] = {name: metrics[name] for name in ("image", "patient")}
    metrics["calibration"] = calibration.describe(shown, 1.5)
    metrics["calibration"]["reliability"] = calibration.reliability_curve(shown)
    metrics["selective"] = selective.risk_coverage(shown)
    _, page = write(shown, metrics=metrics | {"decisions": [metrics["decision"]]})
    assert "Threshold 0.500 and temperature 1.50" in page.text
    assert sentence in page.text
    assert "Fold 0." not in page.text
    _, page = write(shown, metrics=metrics | {"decisions": [metrics["decision"]] * 3})
    assert "Fold 2. Threshold 0.500" in page.text


def test_the_report_says_which_patients_the_intervals_rest_on(write):
    shown = both_classes()
    metrics = evaluate(shown)
    _, page = write(shown, metrics=metrics)
    patients = metrics["image"]["accuracy"]["patients"]
    assert f"They rest on {patients['benign']} benign patients" in page.text
    assert "too few patients to tell" in page.text
    assert "bootstrap" not in page.text


def test_the_audit_is_shown_with_what_leaks(write):
    shown = both_classes()
    audit = {"protocol": "official", "straddling_accessions": 3, "excluded_copies": 5}
    metrics = evaluate(shown)
    _, page = write(shown, metrics=metrics | {"audit": audit}, data_notes=["A subset."])
    assert "Data, protocol and audit A subset. Audit Protocol official ." in page.text
    assert "in training or validation ⚠ 3" in page.text
    assert "excluded 5" in page.text
    assert "Synthetic" not in page.text
    audit["synthetic_test_images"] = 376
    _, page = write(shown, metrics=metrics | {"audit": audit})
    assert "Synthetic images in the test set ⚠ 376" in page.text


def test_folds_are_shown_with_mean_and_deviation(write):
    shown = both_classes()
    folds = {"image_roc_auc": {"mean": 0.8, "sd": 0.1, "values": [0.7, None, 0.9]}}
    _, page = write(shown, metrics=evaluate(shown) | {"folds": folds})
    assert "Fold 2 Image ROC AUC 0.800 0.100 0.700 – 0.900" in page.text


def test_gates_and_gallery_only_where_they_are_given(write):
    _, page = write(both_classes())
    assert "Gallery" not in page.text
    assert "ttention gates" not in page.text
    groups = [
        {"label": label, "correct": correct, "total": 0, "pictures": []}
        for correct in (False, True)
        for label in (1, 0)
    ]
    _, page = write(both_classes(), gallery=groups, gates={"blocks": [], "stages": []})
    assert "None: every malignant image was classified correctly" in page.text
    assert "None: every benign image was classified correctly" in page.text
    assert "No benign image was classified correctly" in page.text
    assert "This network has no attention gates for whole channels." in page.text


def test_the_agreement_over_magnifications_is_shown_by_pair(write):
    shown = both_classes()
    scales = np.array([40, 200, 400])[np.arange(200) % 3]
    patients = np.unique(shown.accession)
    scales[np.isin(shown.accession, patients[2:]) & (scales == 400)] = 0
    turned = np.isin(shown.accession, patients[4:7]) & (scales == 200)
    probability = np.where(turned, 1 - shown.probability, shown.probability)
    shown = dataclasses.replace(shown, magnification=scales, probability=probability)
    metrics = evaluate(shown)
    found = metrics["magnification_agreement"]
    assert 0 < found["by_pair"]["40-200"]["value"] < 1
    _, page = write(shown)
    table = page.text.split("Calls that agree", 1)[1]
    for name, estimate, patients in (
        ("40× and 200×", found["by_pair"]["40-200"], "12"),
        ("40× and 400×", found["by_pair"]["40-400"], "2"),
        ("All pairs mean over patients", found["all_pairs"], "12 with two or more"),
    ):
        row = table.split(name, 1)[1]
        assert row.startswith(f" {patients} {100 * estimate['value']:.1f} % ")


@pytest.mark.parametrize("scale", [0, 200])
def test_one_magnification_has_no_agreement(write, scale):
    shown = both_classes()
    shown = dataclasses.replace(shown, magnification=np.full(200, scale))
    assert "Agreement over magnifications" not in write(shown)[1].text


def test_a_report_of_metrics_without_agreement_is_written(write):
    metrics = evaluate(both_classes())
    del metrics["magnification_agreement"]
    assert "Agreement over" not in write(both_classes(), metrics=metrics)[1].text


TABLE = ImageSource("images.csv", (("normal",), ("in situ", "invasive")))


def of_table(**change):
    """Predictions for images of a table with the columns that ``change`` gives, and no others."""
    shown = both_classes()
    count = len(shown)
    fields = {"magnification": np.zeros(count, int), "subtype": np.full(count, "")}
    extra = {name: np.array(change.pop(name)) for name in list(change) if name not in fields}
    fields |= {name: np.array(values) for name, values in change.items()}
    return dataclasses.replace(shown, slide=shown.accession, **fields, extra=extra)


def test_a_table_without_parts_has_no_section_of_parts(write):
    html, page = write(of_table(), source=TABLE)
    assert 'id="parts"' not in html and 'href="#parts"' not in html
    for word in ("agnification", "ubtype", "BreaKHis names", "slide", "ccession"):
        assert word not in page.text, word
    assert "In images.csv, benign stands for 'normal', malignant for 'in situ' or 'invasive'." in (
        page.text
    )
    assert "All images that images.csv gives to one patient." in page.text


@pytest.mark.parametrize(
    ("columns", "title"),
    [
        ({"subtype": ["A", "other"] * 100}, "subtype"),
        ({"magnification": np.array([20, 0] * 100)}, "magnification"),
        ({"site": ["north", "", "south", "north"] * 50}, "site"),
        (
            {"site": ["a", "b"] * 100, "subtype": ["A", ""] * 100},
            "subtype and site",
        ),
    ],
)
def test_only_the_parts_that_a_table_has_are_shown(write, columns, title):
    html, page = write(of_table(**columns), source=TABLE)
    assert '<a href="#parts">Subgroups</a>' in html
    assert f"By {title} " in page.text
    for name in ("magnification", "subtype", "site"):
        assert (f'<h3 id="{name}">' in html) == (name in title), name
    # The letters of BreaKHis' types mean nothing in a table.
    assert "adenosis" not in page.text
    for name, unknown in (("magnification", 100), ("site", 50), ("subtype", 100)):
        if name in columns and ({0, ""} & {*np.array(columns[name]).tolist()}):
            assert f"Without {unknown} images of unknown {name}." in page.text
    assert " 0×" not in page.text


def test_sites_have_rows_with_their_patients(write):
    shown = of_table(site=["north", "south", "south", "south"] * 50)
    metrics = evaluate(shown)
    _, page = write(shown, metrics=metrics, source=TABLE)
    north = metrics["by_site"]["north"]
    accuracy = 100 * north["accuracy"]["value"]
    assert f"north 50 {north['accessions']} {accuracy:.1f} %" in page.text


def test_a_column_with_many_values_is_named_and_not_shown(write):
    _, page = write(of_table(site=[f"s{i}" for i in range(200)]), source=TABLE)
    assert "The column site has 200 different values" in page.text


def test_the_caption_of_a_picture_has_the_columns_of_the_table(write):
    shown = of_table(site=["north"] * 200, age=["47"] * 199 + [""], note=["x" * 90] * 200)
    picture = {"file": "a.png", "accession": "case1", "magnification": 0, "probability": 0.1}
    picture |= {"image": "data:,", "overlay": "data:,", "extra": gallery.further_values(shown, 0)}
    groups = [{"label": 1, "correct": False, "total": 1, "pictures": [picture]}]
    _, page = write(shown, gallery=groups, source=TABLE)
    assert f"patient case1, site north, age 47, note {'x' * 39}…" in page.text
    assert gallery.further_values(shown, 199)["site"] == "north"
    assert "age" not in gallery.further_values(shown, 199)


def test_breakhis_is_named_for_its_images_only(write):
    html, page = write(both_classes(), source=BREAKHIS)
    assert page.text.count("accession") == 2 and "stands for the patient" in page.text
    assert '<a href="#parts">Subgroups</a>' in html
    assert "DC ductal carcinoma" in page.text and "slides of 12 patients" in page.text


def test_the_numbers_shown_first_are_those_of_the_threshold_in_use(write):
    shown = both_classes()
    decision = Decision("accuracy", 0.7, 1.5, 0.1, "", 12, 30)
    metrics = all_metrics(shown, [decision], permutations=20)
    accuracy = metrics["at_chosen_threshold"]["image"]["accuracy"]["value"]
    at_half = metrics["image"]["accuracy"]["value"]
    assert f"{100 * accuracy:.1f}" != f"{100 * at_half:.1f}"
    html, page = write(shown, metrics=metrics)
    assert "predicted malignant if the probability is at least 0.7" in page.text
    assert f"Accuracy (recognition rate) {100 * accuracy:.1f} %" in page.text
    assert f"{100 * at_half:.1f} %" in page.text.split("Threshold, calibration and uncertainty")[1]
    counts = metrics["at_chosen_threshold"]["image"]["confusion"]
    assert f"benign {counts['tn']} right" in page.text
    rows = metrics["at_chosen_threshold"]["patient"]["patients"]
    for row in rows:
        assert f"{row['accession']} {row['correct']} of {row['images']}" in page.text
    by_part = evaluate(shown, 0.7, permutations=20)["by_magnification"]
    assert metrics["at_chosen_threshold"]["by_magnification"] == by_part
    assert f'x1="{70:g}%"' in html and 'x1="50%"' not in html


def test_each_fold_keeps_its_threshold_in_the_lines_of_patients(write):
    shown = both_classes()
    fold = (np.unique(shown.accession, return_inverse=True)[1] >= 6).astype(int)
    shown = dataclasses.replace(shown, fold=fold)
    decisions = [Decision("accuracy", value, 1.5, 0.1, "", 12, 30) for value in (0.3, 0.7)]
    metrics = all_metrics(shown, decisions, permutations=20)
    html, page = write(shown, metrics=metrics)
    assert 'x1="30%"' in html and 'x1="70%"' in html
    assert "0.5 (mean of the folds, each of which has its own threshold)" in page.text
    for row in metrics["at_chosen_threshold"]["patient"]["patients"]:
        wrong = row["images"] - row["correct"]
        assert f"{row['images']} images, {wrong} misclassified" in html
