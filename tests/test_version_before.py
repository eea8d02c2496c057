"""What version 0.1 wrote is still read: a run, a package, a cache, predictions.

``fixtures/version_0_1.tar.xz`` was written by commit ac2bfc3, with a tiny network and 28 generated
images, by these commands::

    python train.py --config=tiny.py --workdir=run
    python -m se_resnet.package --workdir=run --out=package
    python -m se_resnet.predict --workdir=run --input=tree --out=predictions --nooverlays
"""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

import eval as evaluation
import se_resnet
import train
from configs import breakhis
from se_resnet.errors import UserError
from se_resnet.runs.run_files import FIELDS_ADDED, NEAR_DUPLICATES
from se_resnet.runs.workdir import flatten
from tests.helpers import version_before

# Its numbers are those of programs that XLA optimised.
pytestmark = pytest.mark.full_optimisation


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("version")
    version_before.unpack(folder)
    return folder


@pytest.fixture
def there(written, monkeypatch):
    monkeypatch.chdir(written)
    return written


def values_of(results):
    """All metrics by name, without their intervals, which other formulas give today."""
    if "value" in results:
        return results["value"]
    parts = {name: part for name, part in results.items() if isinstance(part, dict)}
    return {name: values_of(part) for name, part in parts.items()}


def close(results):
    """Equals the metrics up to the rounding of the logits."""
    if isinstance(results, dict):
        return {name: close(part) for name, part in results.items()}
    return results if results is None else pytest.approx(results, rel=1e-6)


def test_the_run_is_evaluated_to_the_same_metrics(there):
    before = json.loads((there / "run" / "eval" / "test" / "metrics.json").read_text())
    cached = {path: path.stat().st_mtime_ns for path in (there / "cache").rglob("*")}
    assert cached
    found = json.loads(json.dumps(evaluation.evaluate_run("run")))
    for part in ("image", "patient", "by_magnification", "by_subtype"):
        assert values_of(found[part]) == close(values_of(before[part])), part
    chosen = "at_chosen_threshold"  # holds more parts today
    for part in before[chosen]:
        assert values_of(found[chosen][part]) == close(values_of(before[chosen][part])), part
    for part in ("counts", "threshold"):
        assert found[part] == before[part]
    for part in ("decision", "audit"):
        assert found[part].items() >= before[part].items()
    after = {path: path.stat().st_mtime_ns for path in (there / "cache").rglob("*")}
    assert after == cached, "the cache of the version before was not used"


def test_the_report_says_that_near_duplicates_were_not_checked(there, tmp_path):
    evaluation.evaluate_run("run", out=tmp_path / "out")
    report = (tmp_path / "out" / "report.html").read_text()
    assert report.count("<td>not checked</td>") == 2


def configuration_of_today(run):
    """The fields of today, with the values of the run for those that it knows."""
    config = breakhis.get_config()
    values = flatten(json.loads((run / "config.json").read_text()))
    assert values.pop("bootstrap_resamples") and not set(values) >= set(FIELDS_ADDED)
    tuples = {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
    config.update_from_flattened_dict(values | tuples)
    config.update_from_flattened_dict(FIELDS_ADDED)
    return config


def test_the_run_is_resumed_where_fields_that_it_lacks_are_as_before(there, capsys):
    config = configuration_of_today(there / "run")
    config.checkpoint.choose = "last"
    with pytest.raises(UserError, match=r"config.checkpoint.choose = 'best', but .* 'last'"):
        train.train_and_evaluate(config, "run")
    config.checkpoint.choose = "best"
    train.train_and_evaluate(config, "run")
    assert "from step 2 of 2" in capsys.readouterr().out
    counts = json.loads((there / "run" / "data.json").read_text())["audit"]
    assert [counts[name] for name in NEAR_DUPLICATES] == [0, 0], "they are checked now"


@pytest.mark.parametrize("what", ["run", "package"])
def test_run_and_package_predict_the_same_probabilities(there, what):
    load = se_resnet.load_run if what == "run" else se_resnet.from_pretrained
    with (there / "predictions" / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    found = load(what).predict([there / "tree" / row["file"] for row in rows])
    np.testing.assert_allclose(
        found, [float(row["calibrated_probability"]) for row in rows], rtol=1e-6
    )


def test_a_prediction_replaces_an_earlier_one(there):
    from se_resnet.predict.folder import predict_folder

    predictions = predict_folder(
        there / "run", there / "tree", there / "predictions", overlays=False
    )
    assert len(predictions) == 28
