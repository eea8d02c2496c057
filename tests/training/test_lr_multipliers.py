from __future__ import annotations

import numpy as np
import pytest

from se_resnet.errors import UserError
from se_resnet.training.lr_multipliers import (
    ALL_TRAINED,
    Rule,
    describe_rules,
    layer_decay_rules,
    multipliers,
    parse_rules,
)

PARAMS = {
    "stem": {"conv": {"kernel": np.zeros((7, 7, 3, 4))}},
    "stage1": {"block1": {"attention": {"bias": np.zeros(2)}, "conv1": {"kernel": np.zeros(6)}}},
    "stage10": {"block1": {"conv1": {"kernel": np.zeros(5)}}},
    "head": {"bias": np.zeros(1), "kernel": np.zeros((4, 1))},
}


def multipliers_of(text: str) -> dict[str, float]:
    return multipliers(parse_rules(text), PARAMS)


def test_a_pattern_is_a_path_or_its_beginning_up_to_a_slash():
    found = multipliers_of("stem=0 stage1=0.5 stage10=2 head/kernel=1 head/bias=1e-1")
    assert found == {
        "stem/conv/kernel": 0,
        "stage1/block1/attention/bias": 0.5,
        "stage1/block1/conv1/kernel": 0.5,
        "stage10/block1/conv1/kernel": 2,
        "head/kernel": 1,
        "head/bias": 0.1,
    }


def test_the_examples_of_the_docstring():
    attention_too = multipliers_of("head|.*/attention=1 (?!head|.*/attention).*=0")
    trained = {path for path, multiplier in attention_too.items() if multiplier}
    assert trained == {"head/kernel", "head/bias", "stage1/block1/attention/bias"}
    head_alone = multipliers_of("head=1 (?!head).*=0")
    assert {path for path, m in head_alone.items() if m} == {"head/kernel", "head/bias"}


def test_no_text_trains_all():
    assert parse_rules("") == parse_rules("  ") == ALL_TRAINED
    assert set(multipliers_of("").values()) == {1.0}


def test_the_multiplier_stands_after_the_last_sign():
    assert parse_rules("(?=head).*=2") == (Rule("(?=head).*", 2),)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("stage.*=0 head=1", "stem/conv/kernel is matched by no pattern"),
        ("stem|stage.*|head=1 head=2", "head/.* is matched by 'stem|stage.*|head' and 'head'"),
        (".*=1 stage2=0", "'stage2' matches no parameter"),
        (".*=0", "freezes every parameter"),
        ("stem", "'stem' is not a rule"),
        ("stem=fast", "'stem=fast' is not a rule"),
        ("st(em=0", r"'st\(em=0' is not a rule"),
        ("=1", "'=1' is out of range"),
        ("stem=-1", "'stem=-1' is out of range"),
        ("stem=nan", "'stem=nan' is out of range"),
        ("stem=inf", "'stem=inf' is out of range"),
    ],
)
def test_mistakes_are_named(text, words):
    with pytest.raises(UserError, match=f"config.optim.rules.*{words.replace('|', '.')}"):
        multipliers_of(text)


def test_layers_decay_from_the_head_down():
    rules = layer_decay_rules(("stem", "stage1", "stage10", "head"), 0.5)
    found = multipliers(rules, PARAMS)
    assert found["head/bias"] == 1 and found["stage10/block1/conv1/kernel"] == 0.5
    assert found["stage1/block1/conv1/kernel"] == 0.25 and found["stem/conv/kernel"] == 0.125


def test_the_table_counts_tensors_and_parameters():
    table = describe_rules(parse_rules("stem|stage.*=0 head=0.25"), PARAMS)
    assert [line.split() for line in table.splitlines()] == [
        ["pattern", "multiplier", "tensors", "parameters"],
        ["stem|stage.*", "frozen", "4", "601"],
        ["head", "0.25", "2", "5"],
    ]
