"""Features made elsewhere get the evaluation of a run, and wrong files are refused."""

from __future__ import annotations

import json
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import train
from benchmarks import embeddings
from benchmarks.feature_table import FeatureTable
from benchmarks.logistic_head import VARIANCES, fit_head
from configs import smoke
from data.dataset import load_configured
from data.protocols.configured import configured_roles
from se_resnet.errors import UserError
from se_resnet.metrics.__main__ import main as metrics_command
from se_resnet.metrics.comparison import compare
from se_resnet.runs.run_files import TEST, TRAIN, VAL
from se_resnet.runs.run_folder import RunFolder
from se_resnet.runtime.files import read_json, write_json
from se_resnet.training.config import plain
from tests.helpers import ROOT
from tests.helpers.datasets import make_records
from tests.helpers.own_images import own_table

NAMES = (Path("x.npy"), Path("x.csv"))


def make_config(place, protocol="strict", repeats=1):
    config = smoke.get_config()
    config.data.dir, config.data.cache_dir = map(str, place)
    config.data.size = (16, 16)
    config.split.protocol, config.split.fold, config.split.folds = protocol, "all", 2
    config.repeats, config.permutations = repeats, 20
    return config


def records_of(config):
    return load_configured(config.data).records


def make_features(records, signal=4.0, patients=0.0, seed=0):
    """Features of the class, of the patient, and noise: ``float32 [N, 12]``."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(len(records), 12)).astype(np.float32)
    features[:, 0] += signal * records.label
    index = np.unique(records.accession, return_inverse=True)[1]
    return features + patients * rng.normal(size=(index.max() + 1, 12))[index].astype(np.float32)


def make_table(records, features, order=slice(None)):
    return FeatureTable(*NAMES, records.file[order], features[order])


def write_table(folder, features, names):
    np.save(folder / "x.npy", features)
    (folder / "x.csv").write_text("file\n" + "".join(f"{name}\n" for name in names))
    return folder / "x.npy", folder / "x.csv"


@pytest.fixture(scope="module")
def evaluated(place, tmp_path_factory):
    """Two repeats of two folds, of features with and without a signal."""
    config = make_config(place, repeats=2)
    records = records_of(config)
    folder = tmp_path_factory.mktemp("embeddings")
    tables = {}
    for name, signal in (("good", 4.0), ("poor", 0.0)):
        features = make_features(records, signal)
        files = write_table(tmp_path_factory.mktemp(name), features, records.file)
        tables[name] = FeatureTable.read(*files)
        embeddings.evaluate_features(config, tables[name], folder / name)
    return folder, config, records, tables


def test_the_folder_is_that_of_a_run_and_divides_as_train_does(evaluated):
    folder, config, records, _ = evaluated
    run = RunFolder(folder / "good")
    assert run.evaluation().repeats()["repeats"]["image_roc_auc"]["mean"] > 0.9
    for seed, repeat in enumerate(run.repeats(2)):
        assert repeat.evaluation().metrics()["folds"]["image_roc_auc"]["values"]
        split = config.copy_and_resolve_references().split
        split.seed = seed
        for number, fold in enumerate(repeat.folds(2)):
            roles = configured_roles(records, split, number)
            for role in (VAL, TEST):
                evaluation = fold.evaluation(role)
                predicted = evaluation.predictions()
                assert predicted.file.tolist() == records.file[roles == role].tolist()
                assert evaluation.is_finished and evaluation.metrics()["audit"]
            assert fold.patients(TRAIN) == {*records.accession[roles == TRAIN].tolist()}
            head = read_json(fold.path / embeddings.HEAD)
            assert head["images"] == (roles == TRAIN).sum()
            assert f"{head['variance']:g}" == min(head["losses"], key=head["losses"].get)
    report = (repeat.folds(2)[0].evaluation().path / "report.html").read_text()
    assert "A logistic regression was trained" in report and "x.npy" in report


def test_compare_takes_the_folder_and_pairs_the_repeats(evaluated, tmp_path, capsys):
    folder, *_ = evaluated
    good, poor = str(folder / "good"), str(folder / "poor")
    metrics_command(["compare", good, poor, f"--json={tmp_path / 'out.json'}"])
    assert "paired by repeat" in capsys.readouterr().out
    found = json.loads((tmp_path / "out.json").read_text())["differences"]["image_roc_auc"]
    expected = [
        compare(*(RunFolder(f"{path}/repeat{number}").tested() for path in (good, poor)))
        for number in range(2)
    ]
    assert found["values"] == [pair["image"]["roc_auc"]["difference"]["value"] for pair in expected]
    assert min(found["values"]) > 0.2


def test_a_network_run_and_features_are_paired_image_by_image(run, place, tmp_path, capsys):
    config = embeddings.configuration_of(run)
    assert plain(config)["split"] == RunFolder(run).config()["split"]
    records = records_of(config)
    table = make_table(records, make_features(records))
    embeddings.evaluate_features(config, table, tmp_path / "features")
    metrics_command(["compare", str(run), str(tmp_path / "features")])
    tested = len(RunFolder(run).tested())
    assert f"{tested} images" in capsys.readouterr().out
    assert (
        RunFolder(tmp_path / "features").tested().file.tolist()
        == RunFolder(run).tested().file.tolist()
    )


def test_test_and_validation_images_take_no_part_in_the_head(place, tmp_path):
    config = make_config(place)
    config.split.fold = "0"
    records = records_of(config)
    roles = configured_roles(records, config.split, 0)
    features = make_features(records, signal=1.0)
    heads = {}
    for name, changed in (("none", ()), ("held out", (VAL, TEST)), ("trained", (TRAIN,))):
        values = features.copy()
        rows = np.isin(roles, changed)
        values[rows] = np.random.default_rng(1).normal(size=values[rows].shape)
        workdir = tmp_path / name
        embeddings.evaluate_features(config, make_table(records, values), workdir)
        heads[name] = read_json(workdir / embeddings.HEAD)
    assert heads["held out"] == heads["none"] != heads["trained"]


def test_the_order_of_the_rows_has_no_effect(place, tmp_path):
    config = make_config(place)
    config.split.fold = "0"
    records = records_of(config)
    features = make_features(records)
    order = np.random.default_rng(0).permutation(len(records))
    tables = [make_table(records, features), make_table(records, features, order)]
    found = []
    for number, table in enumerate(tables):
        embeddings.evaluate_features(config, table, tmp_path / str(number))
        found.append(RunFolder(tmp_path / str(number)).tested().probability)
    assert (found[0] == found[1]).all()
    assert tables[0].facts() == tables[1].facts()


def test_the_regularisation_is_chosen_for_new_patients():
    """Features that name the patient rank new patients by chance: the strongest penalty wins."""
    records = make_records(8, 8, images=4)
    index = np.unique(records.accession, return_inverse=True)[1]
    identity = np.eye(index.max() + 1, dtype=np.float32)[index]
    assert fit_head(records, identity, 0).variance == VARIANCES[0]
    signal = make_features(records, signal=3.0)
    assert fit_head(records, signal, 0).variance > 0.1


def test_too_few_patients_choose_nothing():
    records = make_records(1, 6, images=4)
    head = fit_head(records, make_features(records), 0)
    assert not head.losses and head.variance == 1.0
    assert "fewer than 2 patients of a class" in head.describe()
    probability = head.probability(make_features(records, seed=1))
    assert np.corrcoef(probability, records.label)[0, 1] > 0.8


def test_magnifications_of_the_run_select_rows_of_a_table_of_all(place, tmp_path):
    config = make_config(place)
    config.data.magnifications, config.split.fold = (200,), "0"
    everything = config.copy_and_resolve_references()
    everything.data.magnifications = ()
    records = records_of(everything)
    table = make_table(records, make_features(records))
    embeddings.evaluate_features(config, table, tmp_path / "run")
    assert set(RunFolder(tmp_path / "run").tested().magnification.tolist()) == {200}


def test_a_table_of_own_images_is_named_by_its_column(tmp_path):
    config = smoke.get_config()
    config.data.dir, config.data.cache_dir = (
        str(own_table(tmp_path / "own")),
        str(tmp_path / "cache"),
    )
    config.data.size, config.permutations = (16, 16), 20
    config.split.folds = config.split.val_folds = 3
    records = records_of(config)
    names = [f".\\{name}" for name in records.file]
    table = FeatureTable.read(*write_table(tmp_path, make_features(records), names))
    embeddings.evaluate_features(config, table, tmp_path / "run")
    run = RunFolder(tmp_path / "run")
    assert run.config()["features"]["dimensions"] == 12
    assert run.tested().file.tolist() == [row["file"] for row in run.split() if row["role"] == TEST]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x[:, 0], "has the shape"),
        (lambda x: x[None], "has the shape"),
        (lambda x: x[:, :0], "has the shape"),
        (lambda x: x.astype(int), "int64 instead of floating-point numbers"),
        (lambda x: x.astype(object), "Python objects"),
        (lambda x: x[:-1], "rows, and"),
        (lambda x: np.where(np.arange(12) == 3, np.nan, x), "row 0, column 3"),
        (lambda x: np.where(np.arange(12) == 4, np.inf, x), "row 0, column 4"),
        (lambda x: x.astype(np.float64) * 1e300, "no finite float32 number"),
    ],
)
def test_arrays_of_another_form_are_refused(change, message, tmp_path):
    records = make_records(2, 2)
    path, names = write_table(tmp_path, change(make_features(records)), records.file)
    with pytest.raises(UserError, match=message) as error:
        FeatureTable.read(path, names)
    assert str(path) in str(error.value)


def test_files_that_are_no_array_are_refused(tmp_path):
    records = make_records(2, 2)
    path, names = write_table(tmp_path, make_features(records), records.file)
    np.savez(tmp_path / "y.npz", x=make_features(records))
    (tmp_path / "empty.npy").touch()
    (tmp_path / "text.npy").write_text("1,2,3\n")
    (tmp_path / "pickled.npy").write_bytes(pickle.dumps(make_features(records)))
    for name, message in (
        ("y.npz", "several arrays"),
        ("empty.npy", "cannot be read"),
        ("text.npy", "cannot be read"),
        ("pickled.npy", "pickled"),
        ("absent.npy", "does not exist"),
        ("", "is not a file"),
    ):
        with pytest.raises(UserError, match=message):
            FeatureTable.read(tmp_path / name, names)
    with pytest.raises(UserError, match="does not exist"):
        FeatureTable.read(path, tmp_path / "absent.csv")
    names.write_text("image\n" + "\n".join(records.file))
    with pytest.raises(UserError, match="file"):
        FeatureTable.read(path, names)


def test_an_image_named_twice_is_refused(tmp_path):
    records = make_records(2, 2)
    names = [*records.file[:-1], records.file[0]]
    files = write_table(tmp_path, make_features(records), names)
    with pytest.raises(UserError, match=f"lines 2 and 41 .* both name {records.file[0]}"):
        FeatureTable.read(*files)


def test_missing_and_superfluous_rows_are_named(place, tmp_path):
    config = make_config(place)
    records = records_of(config)
    table = make_table(records, make_features(records))
    fewer = make_table(records, make_features(records), slice(2, None))
    with pytest.raises(UserError, match="2 of .* images have no row") as error:
        embeddings.evaluate_features(config, fewer, tmp_path / "run")
    assert records.file[0] in str(error.value) and records.file[2] not in str(error.value)
    more = FeatureTable(
        *NAMES, np.append(table.file, "other.png"), np.vstack([table.values, [[0] * 12]])
    )
    with pytest.raises(UserError, match="1 of .* rows of .* name no image") as error:
        embeddings.evaluate_features(config, more, tmp_path / "run")
    assert "other.png" in str(error.value)
    twice = FeatureTable(
        *NAMES,
        np.append(table.file, f"folder/{table.file[0]}"),
        np.vstack([table.values, table.values[:1]]),
    )
    with pytest.raises(UserError, match="in two folders"):
        embeddings.evaluate_features(config, twice, tmp_path / "run")


def test_divisions_without_features_or_repeats_are_refused(place, tmp_path):
    config = make_config(place, "source")
    table = FeatureTable(*NAMES, np.array([]), np.zeros((0, 1)))
    with pytest.raises(UserError, match="'source' derives images"):
        embeddings.evaluate_features(config, table, tmp_path)
    config = make_config(place)
    config.split.fold = "none"
    with pytest.raises(UserError, match="leaves no test image"):
        embeddings.evaluate_features(config, table, tmp_path)
    config = make_config(place, repeats=2)
    config.repeat_seeds = "training"
    with pytest.raises(UserError, match="no random weights"):
        embeddings.evaluate_features(config, table, tmp_path)


def test_a_folder_keeps_what_it_holds(evaluated, tmp_path):
    folder, config, records, tables = evaluated
    shutil.copytree(folder / "good", tmp_path / "run")
    with pytest.raises(UserError, match="another value of features.sha256"):
        embeddings.evaluate_features(config, tables["poor"], tmp_path / "run")
    changed = config.copy_and_resolve_references()
    changed.split.folds = 3
    with pytest.raises(UserError, match=r"another value of config\.split\.folds"):
        embeddings.evaluate_features(changed, tables["good"], tmp_path / "run")
    with pytest.raises(UserError, match=r"holds a run with config\."):
        train.train_and_evaluate(config, tmp_path / "run")


def test_a_network_is_not_overwritten(run, tmp_path):
    config = embeddings.configuration_of(run)
    records = records_of(config)
    table = make_table(records, make_features(records))
    before = RunFolder(run).tested().probability
    with pytest.raises(UserError, match="another value of config"):
        embeddings.evaluate_features(config, table, run)
    assert (RunFolder(run).tested().probability == before).all()


def test_like_takes_division_and_repeats(place, tmp_path):
    config = make_config(place, "random", repeats=3)
    config.repeat_seeds, config.split.seed = "both", 7
    config.data.magnifications = (200,)
    write_json(tmp_path / "config.json", plain(config))
    found = embeddings.configuration_of(tmp_path)
    assert found.split == config.split and found.data == config.data
    assert (found.repeats, found.repeat_seeds) == (3, "split")
    config.repeat_seeds = "training"
    write_json(tmp_path / "config.json", plain(config))
    with pytest.raises(UserError, match="3 trainings of one division"):
        embeddings.configuration_of(tmp_path)


@pytest.mark.compiled
def test_a_mistake_ends_in_a_sentence_and_code_2(tmp_path):
    records = make_records(2, 2)
    features = make_features(records)
    features[1, 2] = np.nan
    path, names = write_table(tmp_path, features, records.file)
    flags = [f"--features={path}", f"--files={names}", f"--workdir={tmp_path / 'run'}"]
    command = [sys.executable, "-m", "benchmarks.embeddings", *flags, "--config.data.dir=sample"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 2 and "row 1, column 2" in done.stderr
    assert done.stderr.count("\n") == 1 and "Traceback" not in done.stderr
    done = subprocess.run(
        [*command, f"--like={tmp_path}"], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 2 and "--config.data.dir sets it too" in done.stderr
