"""Tables for a journal: counts are counted again, answers follow the files, pages are whole."""

from __future__ import annotations

import csv
import json
import re
import shutil
import statistics
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from data.breakhis.summary import summarise
from data.problems import Problem
from se_resnet.errors import UserError
from se_resnet.metrics.full import all_metrics
from se_resnet.metrics.predictions import Predictions
from se_resnet.report import __main__ as command
from se_resnet.report.reporting import checklist, flow, wording
from se_resnet.report.reporting.answers import ANSWERS
from se_resnet.report.reporting.folder import FILES, PAGE, write_reporting
from se_resnet.report.reporting.study import Study
from se_resnet.runs.evaluations import REPORT
from se_resnet.runs.run_files import NEAR_DUPLICATES, ROLES
from se_resnet.runs.run_folder import RunFolder
from se_resnet.runtime.folders import whole_folder
from tests.helpers import ROOT, version_before
from tests.helpers.browser import FAULTS
from tests.helpers.run_folders import DECISION, make_run_folder

TRIPOD, CLAIM = checklist.GUIDELINES
NEAR = dict(zip(NEAR_DUPLICATES, (6, 2), strict=True))
PREVALENCE = {"prevalence": 0.5, "prevalence_given": False}
HOSTILE = "</text><script>document.title='owned'</script>"


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    folder = make_run_folder(tmp_path_factory.mktemp("reporting") / "run")
    (folder / "eval" / "test" / REPORT).write_text("report")
    return folder


@pytest.fixture
def run(made, tmp_path) -> Path:
    """A finished run that the test may change."""
    return Path(shutil.copytree(made, tmp_path / "run"))


@pytest.fixture
def folds(made, tmp_path) -> Path:
    """A cross-validation of three folds, in which each patient is tested once."""
    workdir = tmp_path / "folds"
    rows = read_csv(made / "split.csv")
    patients = sorted({row["accession"] for row in rows})
    for fold in range(3):
        shutil.copytree(made, workdir / f"fold{fold}")
        for row in rows:
            row["role"] = ROLES[(patients.index(row["accession"]) + fold) % 3]
        write_csv(workdir / f"fold{fold}" / "split.csv", rows)
    config = json.loads((made / "config.json").read_text())
    config["split"]["fold"] = "all"
    (workdir / "config.json").write_text(json.dumps(config))
    evaluated = {
        name: np.array([row[name] for row in rows])
        for name in ("file", "slide", "accession", "subtype")
    }
    predictions = Predictions(
        **evaluated,
        magnification=np.array([int(row["magnification"]) for row in rows]),
        label=np.array([int(row["label"]) for row in rows]),
        probability=np.linspace(0, 1, len(rows)),
    )
    out = workdir / "eval" / "test"
    predictions.write_csv(out / "predictions.csv")
    metrics = all_metrics(predictions, [DECISION], permutations=20)
    metrics["audit"] = json.loads((made / "eval" / "test" / "metrics.json").read_text())["audit"]
    (out / "metrics.json").write_text(json.dumps(metrics))
    (out / REPORT).write_text("report")
    return workdir


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def write_csv(path: Path, rows: list[dict[str, str]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def change_json(path: Path, change) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def study(run: Path) -> Study:
    folder = RunFolder(run)
    evaluation = folder.evaluation()
    return Study.read(folder, evaluation.metrics(), evaluation.predictions())


def written(run: Path) -> Path:
    command.main([str(run)])
    return run / "eval" / "test" / "reporting"


def answers(run: Path, guideline: checklist.Guideline) -> dict[str, str]:
    return {row["item"]: row["answer"] for row in checklist.fill(guideline, study(run))}


def sizes(rows) -> tuple[str, str, str]:
    rows = list(rows)
    parts = (len(rows), len({r["slide"] for r in rows}), len({r["accession"] for r in rows}))
    return tuple(map(str, parts))


# ------------------------------------------------------------------------------- the items


@pytest.mark.parametrize(
    ("guideline", "numbers", "parts"),
    [(TRIPOD, 27, 52), (CLAIM, 44, 44)],
    ids=lambda v: str(v)[:30],
)
def test_all_items_are_there_in_their_order(guideline, numbers, parts):
    items = [item["item"] for item in checklist.items(guideline)]
    assert len(items) == len(set(items)) == parts
    found = [int(re.fullmatch(r"(\d+)[a-g]?", item)[1]) for item in items]
    assert list(dict.fromkeys(found)) == list(range(1, numbers + 1))
    assert items == sorted(items, key=lambda item: (int(re.match(r"\d+", item)[0]), item))


def test_every_answer_is_used_and_every_other_item_has_a_hint():
    items = [item for guideline in checklist.GUIDELINES for item in checklist.items(guideline)]
    assert {item["answer"] for item in items} - {""} == set(ANSWERS)
    for item in items:
        assert item["answer"] or item["author"], item
        assert item["asks"] and item["topic"] and item["section"]


def test_items_that_need_a_person_are_marked_author(run):
    for guideline, persons in (
        (TRIPOD, {"2", "3a", "8b", "17", "18a", "19", "25"}),
        (CLAIM, {"5", "11", "16", "18", "34", "41", "44"}),
    ):
        rows = {row["item"]: row for row in checklist.fill(guideline, study(run))}
        for item in persons:
            assert rows[item]["answered_by"] == checklist.AUTHOR
            assert rows[item]["answer"] == rows[item]["files"] == ""
        for row in rows.values():
            assert bool(row["answer"]) == (row["answered_by"] != checklist.AUTHOR)
            assert bool(row["author"]) == (row["answered_by"] != checklist.RUN)


@pytest.mark.parametrize("which", ["run", "folds"])
def test_every_file_that_an_answer_names_exists(which, request):
    workdir = request.getfixturevalue(which)
    for guideline in checklist.GUIDELINES:
        for row in checklist.fill(guideline, study(workdir)):
            for name in filter(None, row["files"].split(", ")):
                assert list(workdir.glob(name)), (row["item"], name)


def in_config(part: str, field: str, value):
    return lambda run: change_json(
        run / "config.json", lambda c: (c[part] if part else c).update({field: value})
    )


def in_metrics(change):
    return lambda run: change_json(run / "eval" / "test" / "metrics.json", change)


def in_image(change):
    """Changes the metrics of images at the threshold of the run."""
    return in_metrics(lambda metrics: change(metrics["at_chosen_threshold"]["image"]))


def drop_last_test_row(run: Path) -> None:
    rows = read_csv(run / "split.csv")
    test = [row for row in rows if row["role"] == "test"]
    test[-1]["role"] = "excluded"
    write_csv(run / "split.csv", rows)
    count_copies(run, 1)


def count_copies(run: Path, number: int) -> None:
    change_json(run / "data.json", lambda data: data["audit"].update(excluded_copies=number))


def describe(text: str):
    return lambda run: change_json(run / "data.json", lambda d: d.update(description=text))


def wrong_prediction(run: Path) -> None:
    path = run / "eval" / "test" / "predictions.csv"
    rows = read_csv(path)
    rows[0]["probability"] = "0.987" if rows[0]["label"] == "0" else "0.013"
    write_csv(path, rows)


@pytest.mark.parametrize(
    ("guideline", "item", "change", "words"),
    [
        (CLAIM, "25", in_config("optim", "learning_rate", 0.0123), "0.0123"),
        (CLAIM, "25", in_config("augment", "stain", 0.25), "stain strength of up to 25 %"),
        (CLAIM, "25", in_config("loss", "focal_gamma", 2.5), "focal exponent 2.5"),
        (CLAIM, "25", in_config("balance", "method", "none"), "classes were not balanced"),
        (CLAIM, "25", in_config("balance", "method", "adasyn"), "ADASYN"),
        (TRIPOD, "12a", in_config("split", "protocol", "random"), "Images were assigned"),
        (TRIPOD, "12a", in_config("split", "seed", 77), "seed 77"),
        (CLAIM, "24", in_config("model", "pretrained", "mine.h5"), "training started from"),
        (CLAIM, "26", in_config("", "checkpoint", {"choose": "last"}), "at the end of training"),
        (CLAIM, "9", in_config("data", "on_bad_image", "skip"), "left out and listed"),
        (CLAIM, "19", drop_last_test_row, "15 images"),
        (CLAIM, "35", drop_last_test_row, "1 left out (copy of another image: 1)"),
        (
            CLAIM,
            "26",
            lambda run: (run / "metrics.jsonl").write_text(
                '{"step": 2, "epoch": 1.0, "val/roc_auc": 0.8765}\n'
            ),
            "epoch 1 of 2, validation ROC AUC 0.876",
        ),
        (
            CLAIM,
            "23",
            lambda run: change_json(
                run / "software.json", lambda s: s["starts"][0]["packages"].update(jax="9.8.7")
            ),
            "jax 9.8.7",
        ),
        (
            TRIPOD,
            "13",
            lambda run: change_json(
                run / "data.json",
                lambda d: d.update(plan={"benign": 50, "malignant": 51, "synthetic": 17}),
            ),
            "an epoch had 101 images (50 benign and 51 malignant), 17 of them synthetic",
        ),
        (CLAIM, "7", describe("complete: 7,909 images, 81 slides, 81 accessions"), "the complete"),
        (
            CLAIM,
            "7",
            describe("subset: 9 of 7,909 images, 1 slides, 1 accessions\nnot in the official list"),
            "not all of them are images of BreaKHis",
        ),
        (CLAIM, "39", wrong_prediction, "probability 0.987"),
        (
            CLAIM,
            "29",
            in_image(lambda m: m["roc_auc"].update(method="jackknife of Obuchowski")),
            "jackknife of Obuchowski",
        ),
        (
            CLAIM,
            "38",
            in_image(
                lambda m: m["accuracy"].update(
                    value=0.5,
                    low=0.1,
                    high=0.9,
                    patients={"all": 4, "benign": 1, "malignant": 3},
                    effective_patients={"all": 3.21, "benign": 1.0, "malignant": 2.2},
                )
            ),
            "image accuracy 0.500 (95 % interval 0.100 to 0.900; 4 patients (1 benign, "
            "3 malignant), effectively 3.2)",
        ),
        (
            CLAIM,
            "21",
            in_image(
                lambda m: m["roc_auc"].update(
                    effective_patients={"all": 7.7, "benign": 3.3, "malignant": 4.4}
                )
            ),
            "7.7 patients with equal numbers of images (3.3 benign and 4.4 malignant)",
        ),
        (
            TRIPOD,
            "15",
            in_metrics(lambda m: m["decision"].update(benign_patients=11, malignant_patients=12)),
            "validation images of 11 benign patients and 12 malignant patients chose",
        ),
        (
            TRIPOD,
            "15",
            in_metrics(lambda m: m["decision"].update(threshold=0.5, reason="too few patients")),
            "a second threshold was not chosen: too few patients",
        ),
        (
            TRIPOD,
            "24",
            in_metrics(
                lambda m: m["calibration"]["before"].update(
                    intercept={"value": -0.46, "low": -1.0, "high": 0.1}
                )
            ),
            "calibration intercept -0.460 (95 % interval -1.000 to 0.100) before",
        ),
        (
            CLAIM,
            "28",
            in_metrics(lambda m: m["clinical"].update(prevalence=0.123, prevalence_given=True)),
            "at a prevalence of 12.3 % (a given value)",
        ),
        (
            CLAIM,
            "38",
            in_metrics(lambda m: m["clinical"]["ppv"].update(value=0.9, low=0.2, high=None)),
            "positive predictive value 0.900 (95 % interval 0.200 to infinite or undefined)",
        ),
        (
            CLAIM,
            "38",
            in_metrics(lambda m: m.update(clinical={**PREVALENCE, "reason": "one class"})),
            "predictive values are undefined: one class",
        ),
        (
            CLAIM,
            "21",
            in_metrics(lambda m: m["clinical"].update(patients_needed=4321)),
            "would need about 4,321 patients",
        ),
        (
            CLAIM,
            "29",
            in_metrics(lambda m: m["p_value"].update(image=0.0123, permutations=77)),
            "0.0123 for images",
        ),
        (
            CLAIM,
            "38",
            in_image(lambda m: m.update(roc_auc_pooled={"value": 0.7, "low": 0.6, "high": 0.8})),
            "image ROC AUC of all folds pooled 0.700 (95 % interval 0.600 to 0.800)",
        ),
        (
            CLAIM,
            "38",
            in_image(lambda m: m["accuracy"].update(remark="so few that nobody knows")),
            "so few that nobody knows",
        ),
        (
            TRIPOD,
            "15",
            in_metrics(
                lambda m: m.update(
                    decisions=[m["decision"] | {"threshold": number} for number in (0.2, 0.3)]
                )
            ),
            "0.200 to 0.300 (mean 0.400) was chosen for accuracy in each fold",
        ),
        (
            CLAIM,
            "40",
            in_metrics(lambda m: m["decision"].update(benign_patients=3, malignant_patients=12)),
            "chosen on validation images of only 3 benign patients and 12 malignant patients",
        ),
        (
            TRIPOD,
            "24",
            in_metrics(lambda m: m["decision"].update(temperature=1.0)),
            "no recalibration",
        ),
        (
            TRIPOD,
            "24",
            in_metrics(lambda m: m["calibration"]["before"]["ece"]["reference"].update(high=0.321)),
            "95 % below 0.321",
        ),
        (
            CLAIM,
            "20",
            in_metrics(
                lambda m: m["audit"].update(dict(zip(NEAR_DUPLICATES, (6, 2), strict=True)))
            ),
            "6 test images nearly the same as a training or validation image, "
            "2 of them of another patient",
        ),
        (
            CLAIM,
            "20",
            in_metrics(lambda m: m["audit"].update(straddling_accessions=5)),
            "5 test patients also had training",
        ),
    ],
)
def test_an_answer_changes_with_the_files(run, guideline, item, change, words):
    before = answers(run, guideline)[item]
    change(run)
    after = answers(run, guideline)[item]
    assert before != after
    assert words.lower() in after.lower() and words.lower() not in before.lower()


# ------------------------------------------------------------------- flow and characteristics


def test_the_flow_equals_the_split_counted_again(run):
    rows, split = read_csv(written(run) / "flow.csv"), read_csv(run / "split.csv")
    tested = read_csv(run / "eval" / "test" / "predictions.csv")
    groups = {("used", ""): split, ("evaluated", ""): tested}
    groups |= {("assigned", role): [r for r in split if r["role"] == role] for role in ROLES}
    seen = set()
    assert rows[0]["stage"] == "found"
    assert (rows[0]["images"], rows[0]["slides"], rows[0]["patients"]) == sizes(split)
    for row in rows:
        key = (row["stage"], row["role"])
        if key not in groups:
            continue
        label = {"benign": "0", "malignant": "1", "all": None}[row["class"]]
        chosen = [r for r in groups[key] if label in (None, r["label"])]
        assert (row["images"], row["slides"], row["patients"]) == sizes(chosen)
        seen.add((*key, row["class"]))
    assert len(seen) == 15


@pytest.mark.parametrize("copies", [0, 1, 2])
def test_found_images_minus_those_left_out_are_the_images_used(run, copies):
    split = read_csv(run / "split.csv")
    split[0]["role"] = split[3]["role"] = "excluded"
    write_csv(run / "split.csv", split)
    count_copies(run, copies)
    summary = summarise(
        {**{row["file"]: row["file"] for row in split}, "SOB_B_A-14-22549AB-100-001.png": "x"},
        [Problem("a.png", "truncated"), Problem("b.png", "truncated"), Problem("c", HOSTILE)],
    )
    left_out = "left out: 1 images of other magnifications than 40X, 200X (100X 1)"
    describe(f"{summary.describe()}\n{left_out}")(run)
    write_csv(
        run / "skipped_files.csv",
        [{"path": problem.path, "reason": problem.reason} for problem in summary.skipped],
    )
    folder = written(run)
    rows = read_csv(folder / "flow.csv")
    found, *_ = rows
    assert found["stage"] == "found" and found["images"] == str(len(split) + 1 + 3)
    reasons = {row["reason"]: int(row["images"]) for row in rows if row["stage"] == "left out"}
    assert reasons == {
        "unreadable (truncated)": 2,
        f"unreadable ({HOSTILE})": 1,
        flow.MAGNIFICATION: 1,
        **({flow.NOT_TAKEN: 2 - copies} if copies < 2 else {}),
        **({flow.COPY: copies} if copies else {}),
    }
    used = next(row for row in rows if row["stage"] == "used")
    assert int(found["images"]) - sum(reasons.values()) == int(used["images"]) == len(split) - 2
    for name in ("flow.svg", PAGE):
        assert "<script" not in (folder / name).read_text()
    root = ElementTree.parse(folder / "flow.svg").getroot()
    texts = " ".join(element.text or "" for element in root.iter() if element.tag.endswith("text"))
    assert "unreadable (truncated): 2" in texts
    assert f"copy of another image: {copies}" in texts or not copies


def test_a_cross_validation_tests_each_patient_once(folds):
    folder = written(folds)
    rows = read_csv(folder / "flow.csv")
    tested = [row for row in rows if (row["role"], row["class"]) == ("test", "all")]
    used = next(row for row in rows if row["stage"] == "used")
    assert [row["fold"] for row in tested] == ["0", "1", "2"]
    assert sum(int(row["patients"]) for row in tested) == int(used["patients"]) == 14
    assert "each patient is tested once" in (folder / "flow.svg").read_text()
    assert flow.times_tested(study(folds)) == {1: 14}
    methods = " ".join((folder / "methods.txt").read_text().split())
    assert "ranges over 3 folds; each patient was tested once" in methods
    assert "evaluated patients are among them" in methods


def test_patients_that_several_folds_test_are_counted(folds):
    rows = read_csv(folds / "fold1" / "split.csv")
    again = next(r for r in read_csv(folds / "fold0" / "split.csv") if r["role"] == "test")
    for row in rows:
        if row["accession"] == again["accession"]:
            row["role"] = "test"
    write_csv(folds / "fold1" / "split.csv", rows)
    assert flow.times_tested(study(folds)) == {1: 13, 2: 1}
    text = (written(folds) / "flow.svg").read_text()
    assert "13 patients in 1 fold and 1 patient in 2 folds" in text


def test_characteristics_equal_the_split_counted_again(run):
    split = read_csv(run / "split.csv")
    split[0]["role"] = split[-1]["role"] = split[-2]["role"] = "excluded"
    write_csv(run / "split.csv", split)
    split = [row for row in split if row["role"] != "excluded"]
    rows = read_csv(written(run) / "characteristics.csv")
    assert len(rows) == 4 * 3
    for row in rows:
        label = {"benign": "0", "malignant": "1", "all": None}[row["class"]]
        chosen = [
            r for r in split if label in (None, r["label"]) and row["role"] in ("all", r["role"])
        ]
        assert (row["images"], row["slides"], row["patients"]) == sizes(chosen)
        images = defaultdict(int)
        for image in chosen:
            images[image["accession"]] += 1
        assert float(row["images_per_patient_median"]) == statistics.median(images.values())
        assert int(row["images_per_patient_min"]) == min(images.values())
        assert int(row["images_per_patient_max"]) == max(images.values())
        for scale in (40, 200):
            expected = sum(image["magnification"] == str(scale) for image in chosen)
            assert int(row[f"images_{scale}x"]) == expected
        for subtype in ("A", "DC"):
            of_type = [image for image in chosen if image["subtype"] == subtype]
            assert row[f"images_{subtype}"] == sizes(of_type)[0]
            assert row[f"patients_{subtype}"] == sizes(of_type)[2]


def test_synthetic_images_are_counted_where_recorded(run):
    def of_training(rows):
        (row,) = [row for row in rows if (row["role"], row["class"]) == ("train", "all")]
        return row

    path = "characteristics.csv"
    assert of_training(read_csv(written(run) / path))["synthetic_images_an_epoch"] == "not recorded"
    plan = {"benign": 5, "malignant": 5, "synthetic": 3}
    change_json(run / "data.json", lambda data: data.update(plan=plan))
    split = read_csv(run / "split.csv")
    trained = [row for row in split if row["role"] == "train"]
    trained[0]["file"] = "synthetic-00001.png"
    write_csv(run / "split.csv", split)
    row = of_training(read_csv(written(run) / path))
    assert row["synthetic_images_an_epoch"] == "3" and row["synthetic_images_in_split"] == "1"
    assert "Synthetic are 1 of them" in answers(run, CLAIM)["7"]


# ------------------------------------------------------------------------ methods and versions


def test_the_methods_section_has_the_numbers_and_its_references(run):
    config = json.loads((run / "config.json").read_text())
    config["optim"] |= {"weight_decay": 0.05, "schedule": "cosine"}
    (run / "config.json").write_text(json.dumps(config))
    text = (written(run) / "methods.txt").read_text()
    assert max(map(len, text.splitlines())) <= 88
    flat = " ".join(text.split())
    split = read_csv(run / "split.csv")
    images, slides, patients = sizes(split)
    assert f"used {images} histology images of {slides} slides from {patients} patients" in flat
    assert "AdamW with a learning rate of 0.001 (cosine)" in flat
    assert "a weight decay of 0.05" in flat
    assert "threshold of 0.400 was chosen for accuracy" in flat
    assert "temperature 1.2," in flat
    assert "Chawla NV" in flat and "Guo C" in flat and "Han H" not in flat


def test_a_run_of_the_version_before_says_what_it_lacks(tmp_path):
    version_before.unpack(tmp_path)
    folder = written(tmp_path / "run")
    text = " ".join((folder / "methods.txt").read_text().split())
    assert f"Software versions and hardware are {wording.ABSENT}" in text
    assert f"synthetic or repeated images is {wording.ABSENT}" in text
    assert "percentile bootstrap over patients with 200 resamples" in text
    rows = {row["item"]: row for row in read_csv(folder / "claim.csv")}
    assert rows["23"]["files"] == ""


def test_other_images_are_not_called_internal(run):
    path = run / "eval" / "test" / "predictions.csv"
    rows = read_csv(path)
    for number, row in enumerate(rows):
        row["file"] = f"SOB_M_DC-15-9-40-{number:03d}.png"
    write_csv(path, rows)
    found = answers(run, CLAIM)
    assert f"{len(rows)} of {len(rows)} evaluated images are not in the division" in found["33"]
    assert "the division of the run does not list" in found["32"]
    assert "in no role of this run" in (written(run) / "flow.svg").read_text()


def test_metrics_of_another_form_are_refused(run):
    in_metrics(lambda m: m["decision"].pop("threshold"))(run)
    with pytest.raises(UserError, match=r"metrics.json .* decision.threshold.*run eval.py"):
        study(run)


# ----------------------------------------------------------------------------- files and pages


def test_the_command_writes_every_file_and_replaces_it(run, capsys):
    folder = written(run)
    assert {path.name for path in folder.iterdir()} == set(FILES)
    assert f"written to {folder}" in capsys.readouterr().out
    before = {name: (folder / name).read_bytes() for name in FILES}
    (folder / "methods.txt").write_text("old")
    written(run)
    assert {name: (folder / name).read_bytes() for name in FILES} == before
    command.main([str(run), f"--out={run.parent / 'paper'}"])
    assert (run.parent / "paper" / "flow.csv").read_bytes() == before["flow.csv"]
    assert "report.html" not in re.findall(
        'href="(.*?)"', (run.parent / "paper" / PAGE).read_text()
    )


def test_the_tables_can_be_written_with_the_evaluation(run):
    """In the block that writes an evaluation, before its own files are in place."""
    folder, evaluation = RunFolder(run), RunFolder(run).evaluation()
    metrics, predictions = evaluation.metrics(), evaluation.predictions()
    out = run / "eval" / "new"
    names = ("reporting", REPORT)
    old = [f"reporting/{name}" for name in FILES]
    with whole_folder(out, names, "give another folder", lambda: [*old, REPORT]) as new:
        write_reporting(new / "reporting", folder, metrics, predictions, evaluation="eval/new")
        (new / REPORT).write_text("report")
        assert not (out / "reporting").exists()
    assert {path.name for path in (out / "reporting").iterdir()} == set(FILES)
    assert "eval/new/metrics.json" in (out / "reporting" / "claim.csv").read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["{run}/nothing"], "is not the folder of a run"),
        (["{run}/eval"], "is not the folder of a run"),
        (["{run}", "--split=val"], "holds no evaluation: run eval.py"),
        (["{run}", "--split=../eval"], "--split=../eval is no name"),
        (["{run}", "--split=.."], "--split=.. is no name"),
        (["{run}", "--out={run}/config.json"], "give another folder by --out"),
        ([], "RUN"),
        (["{run}", "--speed"], "--speed"),
    ],
)
def test_a_wrong_folder_is_one_sentence(made, arguments, words, capsys):
    with pytest.raises(SystemExit) as ended:
        command.main([argument.format(run=made) for argument in arguments])
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and words in error


def test_help_needs_no_slow_imports():
    arguments = [sys.executable, "-X", "importtime", "-m", "se_resnet.report", "--help"]
    shown = subprocess.run(arguments, capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert shown.returncode == 0 and "--split" in shown.stdout and "--out" in shown.stdout
    imported = set(re.findall(r"\| +([\w.]+)$", shown.stderr, re.MULTILINE))
    assert not imported & {"jax", "matplotlib", "flax", "tensorflow"}


@pytest.mark.parametrize("width", [1200, 420])
@pytest.mark.parametrize("which", ["run", "folds"])
def test_the_pages_are_drawn_and_fit(browser, which, width, request):
    workdir = request.getfixturevalue(which)
    reasons = ["truncated " * 30, "x" * 300, HOSTILE]
    for path in workdir.rglob("split.csv"):
        write_csv(
            path.with_name("skipped_files.csv"),
            [{"path": f"{n}.png", "reason": reason} for n, reason in enumerate(reasons)],
        )
    folder = written(workdir)
    for name in (PAGE, "tripod_ai.html", "claim.html"):
        browser.open(folder / name, width)
        assert browser.messages + browser.evaluate(FAULTS) == [], name
    rows = "document.querySelectorAll('.items th.number').length"
    assert browser.evaluate(rows) == 44
    browser.open(folder / PAGE, width)
    assert browser.evaluate(rows) == 52 + 44
    assert browser.evaluate("document.title") == f"{workdir.name}, eval/test: reporting"


@pytest.mark.parametrize("width", [1200, 420])
def test_large_numbers_fit_into_the_diagram(browser, run, width, monkeypatch):
    def large(counted: flow.Count) -> flow.Count:
        return flow.dataclasses.replace(counted, sizes=flow.Sizes(15_429, 8_888, 5_454))

    counts = [large(counted) for counted in flow.count_flow(study(run))]
    monkeypatch.setattr("se_resnet.report.reporting.flow_chart.count_flow", lambda _: counts)
    browser.open(written(run) / PAGE, width)
    assert browser.evaluate(FAULTS) == []
    inside = """[...document.querySelectorAll('.flow text')].every(text => {
      const box = text.getBoundingClientRect();
      return [...document.querySelectorAll('.flow rect')].some(rect => {
        const frame = rect.getBoundingClientRect();
        return box.left >= frame.left && box.right <= frame.right && box.top >= frame.top - 1
          && box.bottom <= frame.bottom + 1;
      });
    })"""
    assert browser.evaluate(inside)


def across_magnifications(run: Path, train: int, test: int) -> None:
    """Makes a run one that trains at one magnification and tests at another."""
    split = {"train_magnifications": [train], "test_magnifications": [test]}
    change_json(run / "config.json", lambda config: config["split"].update(split))
    rows = read_csv(run / "split.csv")
    for row in rows:
        if row["magnification"] != str(test if row["role"] == "test" else train):
            row["role"] = "excluded"
    write_csv(run / "split.csv", rows)


def test_images_of_other_magnifications_are_no_copies(run):
    before = read_csv(run / "split.csv")
    across_magnifications(run, 40, 200)
    rows = read_csv(run / "split.csv")
    expected = sum(row["role"] == "excluded" for row in rows)
    assert expected == len(before) // 2
    # A copy at the magnification of its role is left out for another reason.
    copy = next(row for row in rows if row["role"] == "test")
    copy["role"] = "excluded"
    write_csv(run / "split.csv", rows)
    change_json(run / "data.json", lambda data: data["audit"].update(excluded_copies=1))
    folder = written(run)
    left_out = {
        row["reason"]: int(row["images"])
        for row in read_csv(folder / "flow.csv")
        if row["stage"] == "left out"
    }
    assert left_out == {flow.MAGNIFICATION_OF_ROLE: expected, flow.COPY: 1}
    methods = " ".join((folder / "methods.txt").read_text().split())
    assert f"{expected} images of magnifications that their role lacks" in methods
    assert "training and validation images at 40x only, test images at 200x only" in methods


def test_folds_use_an_image_in_the_role_that_takes_its_magnification(folds):
    for fold in folds.glob("fold*"):
        across_magnifications(fold, 40, 200)
    change_json(
        folds / "config.json",
        lambda config: config["split"].update(train_magnifications=[40], test_magnifications=[200]),
    )
    found = study(folds)
    rows = read_csv(folds / "fold0" / "split.csv")
    assert len(found.used) == len(rows) and found.first.with_role != found.used
    assert not found.copies.images and not found.excluded_by_magnification
    for fold in folds.glob("fold*"):
        across_magnifications(fold, 40, 40)
    change_json(folds / "config.json", lambda c: c["split"].update(test_magnifications=[40]))
    found = study(folds)
    assert found.excluded_by_magnification == sum(row["magnification"] == "200" for row in rows)
    assert not found.copies.images and not found.not_taken


def test_the_agreement_over_magnifications_is_stated(run):
    agreement = study(run).metrics["magnification_agreement"]["all_pairs"]["value"]
    text = ANSWERS["performance_by_part"](study(run)).text
    assert f"whose calls for a patient agree: {agreement:.3f}" in text
