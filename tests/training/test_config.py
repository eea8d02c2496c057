"""Fields of a configuration that are checked before any work; see also tests/test_commands.py."""

from __future__ import annotations

import pytest

from configs import smoke
from se_resnet.errors import UserError
from se_resnet.images.scale import Scale, configured_scale
from se_resnet.training.config import check_config, plain, repeat_configs


@pytest.mark.parametrize(
    ("seeds", "expected"),
    [
        ("split", [(3, 7), (4, 7), (5, 7)]),
        ("training", [(3, 7), (3, 8), (3, 9)]),
        ("both", [(3, 7), (4, 8), (5, 9)]),
    ],
)
def test_the_named_seeds_count_up(seeds, expected):
    config = smoke.get_config()
    config.repeats, config.repeat_seeds, config.split.seed, config.seed = 3, seeds, 3, 7
    before = plain(config)
    configs = repeat_configs(config)
    assert [(one.split.seed, one.seed) for one in configs] == expected
    assert plain(config) == before
    for one in configs:
        one.repeats, one.split.seed, one.seed = 3, 3, 7
        assert plain(one) == before


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"repeats": 0}, "config.repeats = 0 is out of range: give 1 or more"),
        ({"repeats": 1001}, "config.repeats = 1001 is out of range: give at most 1,000"),
        ({"repeat_seeds": "all"}, "'all' is unknown: choose from split, training, both"),
        ({"repeats": 3, "split.seed": 2**32 - 2}, "config.split.seed = .* counts up to 4294967296"),
        (
            {"repeats": 3, "repeat_seeds": "training", "seed": 2**32 - 2},
            "config.seed = .* counts up to",
        ),
    ],
)
def test_wrong_repeats_are_refused_before_any_work(fields, words):
    config = smoke.get_config()
    config.update_from_flattened_dict(fields)
    with pytest.raises(UserError, match=words):
        check_config(config)


def test_a_seed_that_does_not_count_up_may_be_the_largest():
    config = smoke.get_config()
    config.repeats, config.seed = 3, 2**32 - 1
    check_config(config)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"um_per_px": 420.0}, "um_per_px = 420 is no plausible scale: .*, or 0 for no scale"),
        ({"um_per_px": -0.5}, "um_per_px = -0.5 is no plausible scale"),
        ({"um_per_px": float("nan")}, "um_per_px = nan is no plausible scale"),
        ({"field": (460, 700)}, "field = .* has no effect without config.data.um_per_px"),
        ({"um_per_px": 0.5, "field": (460,)}, "is no field: give .height, width."),
        ({"um_per_px": 0.5, "field": (0, 9)}, "is no field"),
        ({"um_per_px": 0.5, "resize": "crop"}, "'crop' has no effect: with config.data.um_per_px"),
        ({"um_per_px": 0.5, "field": (460, 700), "resize": "none"}, "'none' cannot bring tiles"),
    ],
)
def test_a_scale_that_cannot_be_meant_is_refused_before_any_work(fields, words):
    config = smoke.get_config()
    config.data.update(fields)
    with pytest.raises(UserError, match=words):
        check_config(config)


def test_a_notebook_of_whole_images_takes_no_scale():
    config = smoke.get_config()
    config.data.um_per_px, config.split.protocol = 0.5, "source"
    with pytest.raises(UserError, match="cannot be combined with protocol 'source'"):
        check_config(config)


def test_tiles_have_the_size_of_the_input_unless_a_field_is_set():
    config = smoke.get_config()
    assert configured_scale(config.data) is None
    config.data.um_per_px = 0.5
    check_config(config)
    assert configured_scale(config.data) == Scale(0.5, tuple(config.data.size))
    config.data.field, config.data.resize = (460, 700), "crop"
    check_config(config)
    assert configured_scale(config.data) == Scale(0.5, (460, 700))


@pytest.mark.parametrize("name", ["train_magnifications", "test_magnifications"])
@pytest.mark.parametrize(
    ("value", "changes", "message"),
    [
        ((100,), {"split.protocol": "random"}, "needs config.split.protocol = 'strict'"),
        ((100, 0), {}, "give whole numbers above 0"),
        (("100X",), {}, "give whole numbers above 0"),
        ((True,), {}, "give whole numbers above 0"),
        (
            (100, 300),
            {"data.magnifications": (40, 100)},
            r"has 300, which config.data.magnifications = \(40, 100\) leaves out",
        ),
        ((100,), {"data.magnifications": (200,)}, r"config.data.magnifications = \(200,\) leaves"),
    ],
)
def test_magnifications_are_checked_before_an_image_is_read(name, value, changes, message):
    config = smoke.get_config()
    config.update_from_flattened_dict({f"split.{name}": (100, 200)})
    check_config(config)  # of all magnifications
    config.data.magnifications = (40, 100, 200)
    check_config(config)
    config.update_from_flattened_dict({f"split.{name}": value} | changes)
    with pytest.raises(UserError, match=rf"config.split.{name} = .*{message}"):
        check_config(config)
