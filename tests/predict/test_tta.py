from __future__ import annotations

import json

import jax.numpy as jnp
import numpy as np
import pytest

import eval as evaluation
from se_resnet.errors import UserError
from se_resnet.images.resize import TILE_RULES, TTA, resize
from se_resnet.metrics.predictions import Predictions, logit_of
from se_resnet.predict.tta import dihedral_views, mean_logits, resize_rules
from se_resnet.runs.workdir import load_best


def test_the_eight_views_are_distinct_and_closed_under_turns():
    image = np.arange(2 * 4 * 4 * 3).reshape(2, 4, 4, 3)
    views = [np.asarray(view) for view in dihedral_views(jnp.asarray(image))]
    np.testing.assert_array_equal(views[0], image)
    assert len({view.tobytes() for view in views}) == 8
    turned = {np.rot90(view, axes=(1, 2)).tobytes() for view in views}
    assert turned == {view.tobytes() for view in views}


def test_views_of_an_oblong_image_swap_its_sides():
    views = dihedral_views(jnp.zeros((1, 4, 6, 3)))
    assert [view.shape[1:3] for view in views] == [(4, 6), (6, 4)] * 4


def test_the_mean_is_over_views_without_the_padding():
    def predict(members, batches):  # the value of the upper left corner, times the member
        corners = np.concatenate(
            [np.asarray(batch["image"])[:, 0, 0, 0][batch["mask"]] for batch in batches]
        )
        return np.outer(members, corners.astype(float))

    image = np.zeros((2, 2, 2, 3))
    image[0, ..., 0] = [[1, 2], [3, 6]]
    batch = {"image": jnp.asarray(image), "mask": np.array([True, False])}
    # Each corner comes first in two of the eight views.
    assert mean_logits(predict, [1, 2], [batch], "dihedral") == pytest.approx(np.array([[3], [6]]))
    assert mean_logits(predict, [1, 2], [batch], "none") == pytest.approx(np.array([[1], [2]]))
    assert mean_logits(predict, [1, 2], [], "dihedral").shape == (2, 0)


def test_tiles_cover_a_long_image_at_the_scale_of_crop():
    image = np.zeros((460, 700, 3), np.uint8)
    image[:, :240], image[:, 240:460], image[:, 460:] = 10, 20, 30
    left, middle, right = (resize(image, (230, 230), rule) for rule in TILE_RULES)
    assert (left[0, 0, 0], left[0, -2, 0]) == (10, 20)
    assert (middle[0, 0, 0], middle[0, -1, 0]) == (10, 30)
    assert (right[0, 2, 0], right[0, -1, 0]) == (20, 30)
    tall = image.transpose(1, 0, 2)
    for rule in TILE_RULES:
        np.testing.assert_array_equal(
            resize(tall, (230, 230), rule), resize(image, (230, 230), rule).transpose(1, 0, 2)
        )


def test_only_tiles_need_other_pixels():
    assert [resize_rules(tta, "squash") for tta in TTA] == [
        ("squash",),
        ("squash",),
        TILE_RULES,
        TILE_RULES,
    ]


@pytest.mark.compiled
@pytest.mark.parametrize("tta", ["dihedral", "tiles", "both"])
def test_evaluation_averages_over_views(run, tta):
    results = evaluation.evaluate_run(run, tta=tta)
    out = run / "eval" / f"test-{tta}"
    assert json.loads((out / "metrics.json").read_text())["image"] == results["image"]
    plain = Predictions.read_csv(run / "eval" / "test" / "predictions.csv")
    averaged = Predictions.read_csv(out / "predictions.csv")
    assert averaged.file.tolist() == plain.file.tolist()
    assert (averaged.probability != plain.probability).any()
    assert f"--tta={tta}" in (out / "report.html").read_text()


def test_dihedral_evaluation_equals_eight_predictions_by_hand(run, place):
    from data.load_images import load

    evaluation.evaluate_run(run, tta="dihedral")
    averaged = Predictions.read_csv(run / "eval" / "test-dihedral" / "predictions.csv")
    best = load_best(run)
    dataset = load(str(place[0]), size=(16, 16), cache_dir=str(place[1]))
    row = dataset.records.row[dataset.records.file == averaged.file[0]][0]
    views = [
        np.rot90(image, turns)
        for image in (dataset.images[row], dataset.images[row][:, ::-1])
        for turns in range(4)
    ]
    batch = {"image": np.stack(views), "mask": np.ones(8, bool)}
    logits = best.predict(best.members, [batch])
    assert logit_of(averaged.probability[0]) == pytest.approx(logits.mean(), abs=1e-4)


def test_an_unknown_rule_is_refused():
    with pytest.raises(UserError, match="crop_start"):
        resize(np.zeros((4, 4, 3), np.uint8), (2, 2), "mosaic")
