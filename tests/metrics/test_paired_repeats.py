"""``python -m se_resnet.metrics compare`` with two folders of repeats."""

from __future__ import annotations

import dataclasses
import json
import re

import numpy as np
import pytest

from configs import smoke
from se_resnet.metrics.__main__ import main
from se_resnet.metrics.predictions import in_folds
from se_resnet.metrics.seeds import compare_repeats
from se_resnet.training.config import plain
from tests.helpers.predictions import simulate


def with_noise(predictions, seed, amount=0.2):
    noise = np.random.default_rng(seed).normal(0, amount, len(predictions))
    probability = np.clip(predictions.probability + noise, 0, 1)
    return dataclasses.replace(predictions, probability=probability)


def write_repeats(folder, repeats, fold="0"):
    config = smoke.get_config()
    config.split.fold, config.repeats = fold, len(repeats)
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(plain(config)))
    config.repeats = 1
    for number, predictions in enumerate(repeats):
        config.split.seed = number
        repeat = folder / f"repeat{number}"
        predictions.write_csv(repeat / "eval" / "test" / "predictions.csv")
        (repeat / "config.json").write_text(json.dumps(plain(config)))
        for part in np.unique(predictions.fold) if fold == "all" else ():
            of_fold = dataclasses.replace(predictions.take(predictions.fold == part), fold=None)
            of_fold.write_csv(repeat / f"fold{part}" / "eval" / "test" / "predictions.csv")
    return str(folder)


@pytest.fixture
def runs():
    """Three repeats of a run A, and B, which is worse; each repeat tests other images."""
    images = simulate(images=240, accessions=24)
    b = [with_noise(images.take(np.arange(part, 240, 3)), part) for part in range(3)]
    a = [dataclasses.replace(run, probability=0.3 * run.label + 0.7 * run.probability) for run in b]
    return a, b


def test_repeats_are_paired_by_number(runs, tmp_path, capsys):
    a, b = (write_repeats(tmp_path / name, run) for name, run in zip("ab", runs, strict=True))
    main(["compare", a, b, f"--json={tmp_path / 'out.json'}"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == [f"A: {a}", f"B: {b}"]
    assert lines[2].startswith("means over 3 repeats, paired by repeat")
    found = json.loads((tmp_path / "out.json").read_text())
    assert found["differences"] == json.loads(json.dumps(compare_repeats(*runs)))
    difference = found["differences"]["image_roc_auc"]
    assert difference["mean"] > 0
    row = next(line for line in lines if line.startswith("image roc auc")).split()
    assert row[3:7] == [
        f"{found['repeats_a']['image_roc_auc']['mean']:.3f}",
        f"{found['repeats_b']['image_roc_auc']['mean']:.3f}",
        f"{difference['mean']:+.3f}",
        f"{difference['sd']:.3f}",
    ]
    assert row[7:] == [f"{difference['low']:+.3f}", "to", f"{difference['high']:+.3f}"]


def test_cross_validations_are_compared_within_folds(tmp_path, capsys):
    parts = [simulate(images=240, accessions=24).take(np.arange(k, 240, 2)) for k in range(2)]
    a = [in_folds([with_noise(part, 2 * n + k) for k, part in enumerate(parts)]) for n in range(2)]
    offset = [dataclasses.replace(run, probability=run.probability / (1 + run.fold)) for run in a]
    a, b = (
        write_repeats(tmp_path / name, run, "all")
        for name, run in zip("ab", (a, offset), strict=True)
    )
    main(["compare", a, b])
    printed = capsys.readouterr().out
    row = next(line for line in printed.splitlines() if line.startswith("image roc auc")).split()
    assert row[3] == row[4] and row[5] == "+0.000", "an offset of a fold changes no pair within it"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda b: [b[0], b[2], b[1]], "repeat 1 of .*/a and of .*/b tests other images"),
        (lambda b: b[:2], "a holds 3 repeats and .*b holds 2 repeats: compare two folders"),
        (lambda b: b[:1], "a holds 3 repeats and .*b holds no repeats: compare two folders"),
    ],
)
def test_repeats_that_are_no_pairs_are_refused(runs, tmp_path, change, words, capsys):
    a = write_repeats(tmp_path / "a", runs[0])
    b = write_repeats(tmp_path / "b", change(runs[1]))
    with pytest.raises(SystemExit) as ended:
        main(["compare", a, b])
    assert ended.value.code == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert re.search(words, message)


def test_other_folds_of_the_same_images_are_no_pairs(tmp_path, capsys):
    images = simulate(images=80, accessions=8)
    order = np.random.default_rng(0).permutation(80)
    a, b = (
        in_folds([images.take(np.sort(rows[:40])), images.take(np.sort(rows[40:]))])
        for rows in (np.arange(80), order)
    )
    a, b = (
        write_repeats(tmp_path / name, [run, run], "all")
        for name, run in zip("ab", (a, b), strict=True)
    )
    with pytest.raises(SystemExit):
        main(["compare", a, b])
    assert "repeat 0 of" in capsys.readouterr().err


def test_other_splits_of_repeats_are_refused(runs, tmp_path, capsys):
    a = write_repeats(tmp_path / "a", runs[0])
    with pytest.raises(SystemExit):
        main(["compare", a, a, "--split=val"])
    message = capsys.readouterr().err
    assert "compared on their test images only: leave out --split=val" in message
    assert f"for example {a}/repeat0" in message
