"""Fields of a configuration that are checked before any work; see also tests/test_commands.py."""

from __future__ import annotations

import pytest

from configs import smoke
from se_resnet.errors import UserError
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
