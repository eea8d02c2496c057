"""The evaluation of several repeats together, on folders that were written without training."""

from __future__ import annotations

import dataclasses
import itertools
import json
import shutil
import time
import urllib.parse

import numpy as np
import pytest

import eval as evaluation
from se_resnet.errors import UserError
from se_resnet.metrics.predictions import Predictions
from se_resnet.report.provenance import describe_evaluation
from se_resnet.report.publish import ALL_FILES
from se_resnet.report.repeats import publish_repeats
from se_resnet.runs.evaluations import EvaluationFolder
from se_resnet.runs.image_source import BREAKHIS
from se_resnet.runs.run_folder import RunFolder
from se_resnet.runs.workdir import load_best
from tests.helpers.browser import CHROMIUM, FAULTS, LEGIBILITY, SCHEMES, WIDTHS, Browser
from tests.helpers.page import Page
from tests.helpers.run_folders import make_repeats_folder

REPEATS = 3
BANNER = "A subset: 56 <images>."


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return make_repeats_folder(tmp_path_factory.mktemp("repeats") / "run", REPEATS)


@pytest.fixture
def workdir(original, tmp_path):
    return shutil.copytree(original, tmp_path / "a <run> #1%20")


def publish(workdir, out=None, **change):
    run = RunFolder(workdir)
    folder = EvaluationFolder(out) if out else run.evaluation()
    described = describe_evaluation(run, run.config(), {}, time.monotonic(), 56, BREAKHIS)
    provenance = described | {"command": "python eval.py <W>", "banner": BANNER}
    return publish_repeats(run, run.config() | change, "none", folder, provenance)


def page_of(workdir):
    return Page((workdir / "eval" / "test" / "report.html").read_text())


def accuracy_of(workdir, number):
    tested = RunFolder(workdir / f"repeat{number}").evaluation().predictions()
    return np.mean((tested.probability >= 0.5) == (tested.label == 1))


def test_metrics_are_given_by_repeat_with_mean_and_sd(workdir):
    metrics = publish(workdir)
    each = [accuracy_of(workdir, number) for number in range(REPEATS)]
    assert len(set(each)) > 1
    accuracy = metrics["repeats"]["image_accuracy"]
    assert accuracy["values"] == pytest.approx(each)
    assert accuracy["mean"] == pytest.approx(np.mean(each))
    assert accuracy["sd"] == pytest.approx(np.std(each, ddof=1))
    assert metrics["seeds"] == [
        {"repeat": f"repeat{number}", "split.seed": number, "seed": 0} for number in range(REPEATS)
    ]
    assert RunFolder(workdir).evaluation().repeats() == json.loads(json.dumps(metrics))
    names = {path.name for path in (workdir / "eval" / "test").iterdir()}
    assert names == {"metrics.json", "report.html"}


@pytest.mark.parametrize("elsewhere", [False, True])
def test_the_page_shows_the_repeats_and_links_their_reports(workdir, tmp_path, elsewhere, capsys):
    out = tmp_path / "other" / "folder" if elsewhere else workdir / "eval" / "test"
    reports = [run.evaluation().path / "report.html" for run in RunFolder(workdir).repeats(REPEATS)]
    for path in reports:
        path.write_text("<p><!--parent--><!--/parent--></p>")
    publish(workdir, out)
    for path in reports:
        assert ('href="../../../eval/test/report.html"' in path.read_text()) != elsewhere
    page = Page((out / "report.html").read_text())
    links = [link for link in page.links if not link.startswith("#")]
    assert len(links) == REPEATS
    assert not any(link.startswith("/") for link in links), "the folder may be moved"
    for number, link in enumerate(links):
        target = workdir / f"repeat{number}" / "eval" / "test" / "report.html"
        assert (out / urllib.parse.unquote(link)).resolve() == target.resolve()
    for words in (
        "a <run> #1%20: 3 repeats",
        "Protocol strict, fold 0.",
        "divides the patients anew",
        "python eval.py <W>",
        "Probabilities are not averaged",
        "ensemble of 3 networks",
        "Full configuration",
        *(f"{accuracy_of(workdir, number):.3f}" for number in range(REPEATS)),
    ):
        assert words in page.text, words
    assert "Read this first" not in page.text
    assert "image accuracy" in capsys.readouterr().out


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")
def test_the_page_is_drawn_and_can_be_read(workdir, tmp_path):
    publish(workdir)
    with Browser(tmp_path / "profile") as browser:
        for scheme, width in itertools.product(SCHEMES, WIDTHS):
            browser.prefer(scheme)
            browser.open(workdir / "eval" / "test" / "report.html", width)
            found = browser.evaluate(FAULTS) + browser.evaluate(LEGIBILITY)
            assert browser.messages + found == [], (scheme, width)


def test_a_repeat_that_has_not_finished_is_shown_first(workdir):
    path = workdir / "repeat1" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"epochs": 75}))
    publish(workdir)
    sentence = "The training in repeat1 has not finished: it is at step 2 of 75."
    assert f"Read this first {sentence}" in page_of(workdir).text


def test_leaks_of_each_repeat_are_shown_first(workdir, capsys):
    path = workdir / "repeat1" / "eval" / "test" / "metrics.json"
    metrics = json.loads(path.read_text())
    metrics["audit"]["evaluated_images_seen"] = 7
    path.write_text(json.dumps(metrics))
    publish(workdir)
    sentence = "Repeat 1: 7 of the evaluated images were trained on"
    assert f"Read this first {sentence}" in page_of(workdir).text
    assert f"WARNING: {sentence}" in capsys.readouterr().out


def test_a_metric_that_no_repeat_defines_is_shown_as_a_dash(workdir):
    for number in range(REPEATS):
        path = workdir / f"repeat{number}" / "eval" / "test" / "predictions.csv"
        tested = Predictions.read_csv(path)
        dataclasses.replace(tested, label=np.ones_like(tested.label)).write_csv(path)
    metrics = publish(workdir)
    assert metrics["repeats"]["image_roc_auc"]["values"] == [None] * REPEATS
    assert "Image ROC AUC – –" in page_of(workdir).text


@pytest.mark.parametrize("seeds", ["training", "both"])
def test_the_page_says_what_the_seeds_change(workdir, seeds):
    publish(workdir, repeat_seeds=seeds)
    text = page_of(workdir).text
    assert "weights of new layers" in text
    assert ("divides the patients anew" in text) == (seeds == "both")


@pytest.mark.parametrize(
    ("protocol", "words"),
    [("random", "divides the images anew"), ("official", "changes the validation images only")],
)
def test_the_page_says_what_another_split_seed_divides(workdir, protocol, words):
    split = RunFolder(workdir).config()["split"]
    publish(workdir, split=split | {"protocol": protocol})
    assert words in page_of(workdir).text


def test_files_of_an_earlier_evaluation_are_replaced(workdir, tmp_path):
    shutil.copytree(workdir / "repeat0" / "eval" / "test", tmp_path / "out")
    for name in ALL_FILES:
        (tmp_path / "out" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "out" / name).touch()
    publish(workdir, tmp_path / "out")
    left = [path.name for path in (tmp_path / "out").iterdir()]
    assert sorted(left) == ["metrics.json", "report.html"]


def test_one_network_is_named_where_one_is_needed(workdir):
    for use in (
        lambda: evaluation.evaluate_run(workdir, "val"),
        lambda: evaluation.evaluate_run(workdir, prevalence=0.2),
    ):
        with pytest.raises(UserError, match=r"repeats.* --workdir=.*/repeat0\b"):
            use()


def test_an_unfinished_repeat_is_named(workdir):
    (workdir / "repeat0" / "eval" / "test" / "report.html").touch()
    with pytest.raises(UserError, match="repeat1 is not finished: run train.py .* resumes there"):
        evaluation.evaluate_run(workdir)


@pytest.mark.parametrize("content", ["[]", '{"repeats": {"x": {"values": 1}}}', '{"repeats": {}}'])
def test_damaged_metrics_are_named(workdir, content):
    publish(workdir)
    (workdir / "eval" / "test" / "metrics.json").write_text(content)
    with pytest.raises(UserError, match="metrics.json cannot be read"):
        RunFolder(workdir).evaluation().repeats()


def test_repeats_that_were_not_evaluated_together_have_no_decision(workdir):
    for use in (
        lambda: load_best(workdir),
        lambda: evaluation.evaluate_run(workdir, data_dir=str(workdir)),
    ):
        with pytest.raises(UserError, match=r"repeats without decision\.json"):
            use()
