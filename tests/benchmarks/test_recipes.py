"""Nested trainings of recipes: the division, the features, whole runs, and the report."""

from __future__ import annotations

import json
import shutil
import sys

import numpy as np
import pytest

from benchmarks import recipe_arms, recipes, recipes_frozen, recipes_report
from benchmarks.recipe_arms import AVERAGED, BASE, DIHEDRAL, LAST, UNIFORM, Arm, Round
from benchmarks.recipes_report import LOGIT, PROBABILITY, Results, ensemble
from benchmarks.stage_features import views
from benchmarks.stage_training import FACTS, SETTINGS
from data.dataset import load_dataset
from se_resnet.errors import UserError
from se_resnet.metrics.predictions import (
    PREDICTIONS,
    Predictions,
    logit_of,
    probability_of,
)
from se_resnet.runs.run_files import EXCLUDED, TEST, TRAIN, VAL
from se_resnet.runtime.files import read_json, write_json
from se_resnet.training import step
from tests.helpers.last_stage import last_stage_config

FOLDS, MEMBERS = 2, 2


def sample():
    return load_dataset("sample", size=(32, 32))


def config_of(**fields):
    config = last_stage_config()
    config.epochs = 1
    config.update_from_flattened_dict(fields)
    return config


@pytest.mark.parametrize("members", [2, 3])
def test_no_patient_of_the_test_part_trains_or_validates(members):
    records, config = sample().records, config_of()
    used = np.zeros(len(records), bool)
    used[records.first_copies()] = True
    tested = np.zeros(len(records), int)
    for fold in range(FOLDS):
        every = [
            recipe_arms.roles_of(config, records, 1, fold, member, members)
            for member in range(members)
        ]
        test = every[0] == TEST
        tested += test
        validated = sum((roles == VAL).astype(int) for roles in every)
        assert (validated == (used & ~test)).all()  # each image by exactly one member
        for roles in every:
            assert ((roles == TEST) == test).all() and ((roles == EXCLUDED) == ~used).all()
            patients = {
                role: set(records.accession[roles == role].tolist()) for role in (TRAIN, VAL, TEST)
            }
            assert sum(map(len, patients.values())) == len(set.union(*patients.values()))
            for role in patients:
                assert set(records.label[roles == role]) == {0, 1}
    assert (tested == used).all()


def test_each_round_is_done_arm_by_arm_and_divided_over_processes():
    rounds = recipe_arms.rounds_of(seeds=2, members=3)
    whole = list(recipe_arms.jobs(rounds, 3))
    assert len(set(whole)) == len(whole) == 2 * 3 * 3 * len(recipe_arms.ARMS)
    assert {(arm, member) for arm, _, _, member in whole[:9]} == {(BASE, m) for m in range(3)}
    assert [arm for arm, *_ in whole[9:15]] == [recipe_arms.OTHERS[0]] * 3 + [
        recipe_arms.OTHERS[1]
    ] * 3
    parts = [list(recipe_arms.jobs(rounds, 3, (number, 2))) for number in (0, 1)]
    assert sorted(map(repr, whole)) == sorted(map(repr, [*parts[0], *parts[1]]))


def test_an_arm_changes_its_fields_only():
    base = config_of()
    for arm in recipe_arms.ARMS:
        changed, before = arm.config(base).to_dict(), base.to_dict()
        for path, value in arm.changes:
            section, name = path.split(".")
            assert changed[section][name] == value != before[section][name], path
            changed[section][name] = before[section][name]
        assert changed.pop("epochs") == arm.times_epochs * before.pop("epochs")
        assert changed == before


SMALL_ARMS = (BASE, Arm("plain", (("balance.method", "none"),), tiles=True))
SMALL = [Round(3, (0, 1), SMALL_ARMS)]


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """A folder of finished trainings."""
    folder = tmp_path_factory.mktemp("recipes") / "runs"
    recipes.measure(config_of(), folder, SMALL, MEMBERS)
    return folder


@pytest.mark.compiled
def test_every_member_predicts_all_its_images(measured):
    records = sample().records
    for arm in SMALL_ARMS:
        for fold in range(FOLDS):
            for member in range(MEMBERS):
                folder = measured / arm.name / "seed3" / f"fold{fold}" / f"member{member}"
                roles = recipe_arms.roles_of(config_of(), records, 3, fold, member, MEMBERS)
                for choice in (LAST, AVERAGED):
                    for role in (VAL, TEST):
                        found = Predictions.read_csv(folder / choice / role / PREDICTIONS)
                        assert found.file.tolist() == records.file[roles == role].tolist()
                facts = read_json(folder / FACTS)
                assert facts["changes"] == dict(arm.changes)
                assert facts["audit"]["straddling_accessions"] == 0
                counts = np.bincount(records.label[roles == TRAIN], minlength=2).tolist()
                assert facts["training_images"] == counts
                if arm is BASE:
                    assert min(facts["plan_rows"]) > min(counts)  # SMOTE
                else:
                    assert facts["plan_rows"] == counts
                assert (folder / DIHEDRAL).exists() == (arm is BASE and member == 0)


@pytest.mark.compiled
def test_members_and_weights_differ(measured):
    results = Results.open(measured)
    a, b = (results.tested(BASE, 3, member) for member in range(MEMBERS))
    last, turned = (results.tested(BASE, 3, 0, choice) for choice in (LAST, DIHEDRAL))
    assert len({run.probability.tobytes() for run in (a, b, last, turned)}) == 4


@pytest.mark.compiled
def test_only_a_missing_training_is_repeated_and_gives_the_same(measured, capsys):
    folder = measured / BASE.name / "seed3" / "fold1" / "member1"
    path = folder / AVERAGED / TEST / PREDICTIONS
    before = path.read_bytes()
    folder.rename(folder.with_name("member1.unfinished"))  # as a killed process leaves it
    recipes.measure(config_of(), measured, SMALL, MEMBERS)
    printed = capsys.readouterr().out
    assert printed.count(" member ") == 1 and "base seed 3 fold 1 member 1" in printed
    assert path.read_bytes() == before


@pytest.mark.compiled
def test_a_measurement_with_other_members_is_refused(measured):
    with pytest.raises(UserError, match="other settings .members.: give another folder"):
        recipes.measure(config_of(), measured, SMALL, MEMBERS + 1)


@pytest.mark.compiled
def test_copies_are_augmented_images_and_tiles_are_squares(tmp_path):
    off = {f"augment.{name}": 0.0 for name in ("translate", "zoom", "stain", "brightness")}
    turned = config_of(**off, **{"augment.contrast": 0.0})
    bank = recipes_frozen.Bank(turned, tiles=False, folder=tmp_path)
    images = bank.dataset.images
    assert bank.copies.shape[:2] == (len(images), recipes_frozen.COPIES)
    np.testing.assert_array_equal(bank.plain[:, 0], bank.frozen.compute(images))
    # Without colours, shift and zoom, every copy is a dihedral view.
    for number in (0, 5):
        features = bank.frozen.compute(views(images[number : number + 1])[0])
        for copy in bank.copies[number]:
            close = np.isclose(features, copy, rtol=2e-3, atol=2e-3).all(axis=(1, 2, 3))
            assert close.any()
    coloured = recipes_frozen.Bank(config_of(), tiles=True, folder=tmp_path)
    assert coloured.plain.shape[1] == 3 and len(list(tmp_path.iterdir())) == 4
    assert not np.isclose(coloured.copies[0], bank.plain[0], atol=2e-3).all(axis=(1, 2, 3)).any()
    tall = coloured.dataset.records.magnification == 100  # stored at 350x230 pixels
    first, middle, last = (coloured.plain[:, tile] for tile in range(3))
    assert (first[tall] != last[tall]).any(axis=(1, 2, 3)).all()
    np.testing.assert_array_equal(first[~tall][0], middle[~tall][0])


# The report, on simulated predictions. Noise belongs to the member, and the signal to the arm.
SIGNAL = {"base": 1.0, "strong": 2.0, "feigned": 1.0}
REPORTED = tuple(Arm(name, dihedral=name == "base") for name in SIGNAL)


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    folder = tmp_path_factory.mktemp("simulated")
    write_json(folder / SETTINGS, {"folds": FOLDS, "members": MEMBERS})
    records, config = sample().records, config_of()
    for seed in range(2):
        for fold in range(FOLDS):
            for member in range(MEMBERS):
                roles = recipe_arms.roles_of(config, records, seed, fold, member, MEMBERS)
                noise = np.random.default_rng((seed, fold, member)).normal(size=len(records))
                for arm in REPORTED:
                    simulate(folder, records, roles, arm.name, noise, seed, fold, member)
    return Results(folder, FOLDS, MEMBERS, REPORTED)


def simulate(folder, records, roles, name, noise, seed, fold, member):
    side = 2 * records.label - 1
    path = folder / name / f"seed{seed}" / f"fold{fold}" / f"member{member}"
    for choice, more in ((LAST, 0.0), (AVERAGED, 0.5), (DIHEDRAL, 1.0)):
        for role in (VAL, TEST):
            signal = SIGNAL[name] + more
            if name == "strong" and fold == 1 and role == VAL:
                signal = -3.0  # bad in the validation of fold 1, though best in its test
            chosen = roles == role
            values = 0.8 * signal * side[chosen] + 2 * noise[chosen]
            (path / choice / role).mkdir(parents=True)
            predictions = records.take(chosen).predictions(probability_of(values))
            predictions.write_csv(path / choice / role / PREDICTIONS)
    write_json(path / FACTS, {})


def test_an_ensemble_averages_logits_or_probabilities(simulated):
    runs = [simulated.tested(BASE, 0, member) for member in range(MEMBERS)]
    logits = np.mean([logit_of(run.probability) for run in runs], axis=0)
    np.testing.assert_allclose(ensemble(runs, LOGIT).probability, probability_of(logits))
    means = np.mean([run.probability for run in runs], axis=0)
    np.testing.assert_allclose(ensemble(runs, PROBABILITY).probability, means)
    with pytest.raises(ValueError, match="different images"):
        ensemble([runs[0], runs[1].take(np.arange(len(runs[1]))[::-1])])


def test_validation_alone_chooses_in_every_fold(simulated):
    chosen, rows = recipes_report.choice_rows(simulated)
    whole = [row for row in chosen if row["among"] == "ensembles of 2"]
    assert {row["candidates"] for row in whole} == {3}
    for row in whole:
        assert row["chosen"] == ("strong" if row["fold"] == 0 else "base"), row
    by_auc = next(
        row
        for row in rows
        if row["arm"] == "ensembles of 2, by validation AUC" and row["metric"] == "AUC"
    )
    # Fold 1 contributes nothing, because the base is chosen there.
    expected = []
    for seed in range(2):
        base, strong = (simulated.combined(arm, seed, (0, 1)) for arm in REPORTED[:2])
        mixed = np.where(base.fold == 0, strong.probability, base.probability)
        expected.append(auc_within(base, mixed) - auc_within(base, base.probability))
    assert float(by_auc["mean"]) == pytest.approx(np.mean(expected), abs=6e-4)
    assert np.mean(expected) > 0.01


def auc_within(predictions, probability):
    """Share of correctly ordered pairs of images of one fold."""
    right = pairs = 0.0
    for fold in np.unique(predictions.fold):
        malignant, benign = (
            probability[(predictions.fold == fold) & (predictions.label == label)]
            for label in (1, 0)
        )
        right += (malignant[:, None] > benign).sum() + 0.5 * (malignant[:, None] == benign).sum()
        pairs += len(malignant) * len(benign)
    return right / pairs


def test_differences_are_paired_by_member_and_equal_arms_do_not_differ(simulated):
    rows = {(row["arm"], row["metric"]): row for row in recipes_report.arm_rows(simulated)}
    for metric in recipes_report.COMPARED:
        row = rows["feigned", metric]
        assert float(row["mean"]) == 0 and row["SD of seeds"] == 0
    strong = rows["strong", "AUC"]
    gains = [
        auc_within(a, b.probability) - auc_within(a, a.probability)
        for seed in range(2)
        for member in range(MEMBERS)
        for a, b in [[simulated.tested(arm, seed, member) for arm in REPORTED[:2]]]
    ]
    assert float(strong["mean"]) == pytest.approx(np.mean(gains), abs=6e-4)
    assert strong["differences"].count("(") == len(gains) == 4
    whole = rows["strong, ensembles of 2", "AUC"]
    ensembles = [
        auc_within(a, b.probability) - auc_within(a, a.probability)
        for seed in range(2)
        for a, b in [[simulated.combined(arm, seed, range(2)) for arm in REPORTED[:2]]]
    ]
    assert float(whole["mean"]) == pytest.approx(np.mean(ensembles), abs=6e-4)


def test_validation_pairs_are_of_one_member(simulated):
    strong, feigned = recipes_report.validation_rows(simulated)
    assert feigned["AUC, base"] == feigned["AUC, arm"] and feigned["of each"] == 4
    scores = []
    for seed in range(2):
        for fold in range(FOLDS):
            run = simulated.validated(REPORTED[1], seed, fold, range(MEMBERS))
            scores.append(auc_within(run, run.probability))
    assert strong["AUC, arm"] == pytest.approx(np.mean(scores), abs=1e-4)
    assert strong["AUC, base"] == feigned["AUC, base"]


def test_ensembles_gain_and_sizes_are_listed(simulated):
    rows, differences = recipes_report.ensemble_rows(simulated)
    base = [row for row in rows if row["arm"] == "base"]
    assert [(row["networks averaged"], row["by"]) for row in base] == [
        (1, ""),
        (2, LOGIT),
        (2, PROBABILITY),
    ]
    gain = {row["metric"]: row for row in differences if "less one" in row["arm"]}
    assert float(gain["AUC"]["mean"]) == pytest.approx(base[1]["AUC"] - base[0]["AUC"], abs=2e-3)
    assert float(gain["AUC"]["mean"]) > 0.01  # noise of members averages out


def test_a_member_that_lacks_a_fold_does_not_count(simulated, tmp_path):
    arm = REPORTED[1]
    path = simulated.workdir / arm.name / "seed1" / "fold1" / "member1" / FACTS
    moved = path.rename(tmp_path / FACTS)
    try:
        assert simulated.repeats(BASE, arm) == [(0, 0), (0, 1), (1, 0)]
        assert simulated.complete_seeds(arm) == [0] and simulated.complete_seeds(BASE) == [0, 1]
        rows = recipes_report.arm_rows(simulated)
        assert rows[0]["differences"].count("(") == 3
        chosen, _ = recipes_report.choice_rows(simulated)
        seeds = {row["seed"] for row in chosen if row["among"] == "ensembles of 2"}
        assert seeds == {0}
    finally:
        moved.rename(path)


def test_the_command_writes_all_tables(simulated, tmp_path, monkeypatch, capsys):
    out = tmp_path / "report.json"
    monkeypatch.setattr(recipes_report, "ARMS", REPORTED)
    recipes_report.report(simulated, out)
    written = json.loads(out.read_text())
    capsys.readouterr()
    assert [row["arm"] for row in written["rows"]] == list(SIGNAL)
    weights = {row["metric"]: row for row in written["weights"]}
    assert float(weights["AUC"]["mean"]) > 0.02
    every = {row["metric"]: row for row in written["weights_of_all_arms"]}
    assert every["AUC"]["comparisons"] == 3 * 4
    turned = [row for row in written["views"] if row["metric"] == "AUC"]
    assert [row["arm"] for row in turned] == ["base"]
    assert all(float(row["mean"]) > 0 for row in turned)


def test_a_folder_without_results_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["recipes_report", str(tmp_path)])
    with pytest.raises(SystemExit) as stop:
        recipes_report.main()
    assert stop.value.code == 2 and f"{tmp_path} has no measurement" in capsys.readouterr().err
    write_json(tmp_path / SETTINGS, {"folds": 2, "members": 2})
    with pytest.raises(SystemExit) as stop:
        recipes_report.main()
    assert stop.value.code == 2 and "has finished all folds" in capsys.readouterr().err


def test_an_ensemble_is_compared_at_equal_cost(simulated, tmp_path):
    """One network of twice the epochs against the mean of two, by both averages of its weights."""
    folder = tmp_path / "equal"
    shutil.copytree(simulated.workdir, folder)
    for name in ("base", "strong"):
        for averaged in folder.glob(f"{name}/*/*/*/{AVERAGED}"):
            shutil.copytree(averaged, averaged.with_name(UNIFORM))
    twice = Arm("strong", times_epochs=2)
    results = Results(folder, FOLDS, MEMBERS, (REPORTED[0], twice, REPORTED[2]))
    rows = recipes_report.equal_cost_rows(results)
    titles = [f"2 networks less strong, {choice}" for choice in (AVERAGED, UNIFORM)]
    assert list(dict.fromkeys(row["arm"] for row in rows)) == titles
    auc = next(row for row in rows if row["metric"] == "AUC")
    gains = []
    for seed in range(2):
        one, two = results.tested(twice, seed, 0), results.combined(BASE, seed, (0, 1))
        gains.append(auc_within(two, two.probability) - auc_within(one, one.probability))
    assert float(auc["mean"]) == pytest.approx(np.mean(gains), abs=6e-4)
    weights, _ = recipes_report.weight_rows(results)
    same = [row for row in weights if row["arm"] == "uniform less averaged"]
    assert same and all(float(row["mean"]) == 0 for row in same)


@pytest.mark.compiled
def test_whole_networks_share_a_program_and_predict_all_their_images(tmp_path):
    config, folder = config_of(), tmp_path / "whole"
    config.epochs, config.optim.ema_decay = 3, 0.9
    arms = (BASE, Arm("fast", (("optim.learning_rate", 3e-2),)))
    turns = [Round(3, (0, 1), (BASE,)), Round(3, (0,), (arms[1],))]
    recipes.measure(config, folder, turns, MEMBERS, open_network=recipes.NETWORKS[recipes.WHOLE])
    records = sample().records
    for arm in arms:
        run = folder / arm.name / "seed3" / "fold1" / "member0"
        roles = recipe_arms.roles_of(config, records, 3, 1, 0, MEMBERS)
        found = {}
        for choice in (LAST, AVERAGED, UNIFORM):
            for role in (VAL, TEST):
                predicted = Predictions.read_csv(run / choice / role / PREDICTIONS)
                assert predicted.file.tolist() == records.file[roles == role].tolist()
                found[choice] = predicted.probability.tobytes()
        assert len(set(found.values())) == 3
        assert (run / DIHEDRAL).exists() == (arm is BASE)
        assert len(read_json(run / FACTS)["losses"]) == 3
    base, fast = (
        Predictions.read_csv(folder / arm.name / "seed3/fold0/member0/last/test" / PREDICTIONS)
        for arm in arms
    )
    assert not np.array_equal(base.probability, fast.probability)
    assert step._steps_program.cache_info().currsize == 1
