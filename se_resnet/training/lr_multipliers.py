"""Learning-rate multipliers of parameters by regular expression; a multiplier of 0 freezes.

The rules are one line of text, so that a flag can give them: ``'stem|stage[12]=0 stage3=0.1
stage4=0.3 head=1'``. A pattern matches the whole path of a parameter
(``stage1/block1/conv1/kernel``) or its beginning up to a slash. Exactly one rule must match each
parameter, so that no new module and no typing error trains or freezes a parameter unnoticed.

=================================================  =================================
``'stem|stage[12]=0 stage[34]|head=1'``            the first stages are frozen
``'head=1 (?!head).*=0'``                          the head alone is trained
``'head|.*/attention=1 (?!head|.*/attention).*=0'``  head and attention are trained
=================================================  =================================
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterable, Mapping, Sequence

import jax
from flax.traverse_util import flatten_dict
from ml_collections import ConfigDict

from se_resnet.errors import UserError
from se_resnet.runtime.text_table import text_table

_FIELD = "config.optim.rules"


@dataclasses.dataclass(frozen=True)
class Rule:
    """Multiplies the learning rate of the parameters whose path matches.

    Attributes:
        pattern: a regular expression for a path, or for its beginning up to a slash.
        multiplier: 0 or more; at 0 the parameters are frozen.
    """

    pattern: str
    multiplier: float

    def matches(self, path: str) -> bool:
        """Returns whether the rule applies to the parameter with this path."""
        return re.fullmatch(f"(?:{self.pattern})(?:/.*)?", path) is not None


ALL_TRAINED = (Rule(".*", 1.0),)


def parse_rules(text: str) -> tuple[Rule, ...]:
    """Parses ``'PATTERN=MULTIPLIER PATTERN=MULTIPLIER ...'``. Empty text trains all parameters.

    Raises:
        UserError: a rule has no multiplier, the multiplier is not a number of 0 or more, or the
            pattern is not a regular expression.
    """
    rules = []
    for rule in text.split():
        # From the right, because a lookahead (?=...) contains the sign too.
        pattern, _, number = rule.rpartition("=")
        try:
            multiplier = float(number)
            re.compile(pattern)
        except (ValueError, re.error) as error:
            raise UserError(
                f"{_FIELD}: {rule!r} is not a rule ({error}): give PATTERN=MULTIPLIER, for example "
                "stage1=0."
            ) from error
        if not pattern or not 0 <= multiplier < math.inf:
            raise UserError(
                f"{_FIELD}: {rule!r} is out of range: give a pattern and a finite multiplier of 0 "
                "or more."
            )
        rules.append(Rule(pattern, multiplier))
    return tuple(rules) or ALL_TRAINED


def layer_decay_rules(parts: Sequence[str], decay: float) -> tuple[Rule, ...]:
    """Returns rules of layer-wise decay (Howard & Ruder 2018): ``decay`` to the power of depth.

    Args:
        parts: parts of the network from the input on. The last part has the multiplier 1, the part
            before has ``decay``, and so on.
        decay: in (0, 1].
    """
    return tuple(Rule(re.escape(part), decay**depth) for depth, part in enumerate(reversed(parts)))


def make_rules(optim: ConfigDict, parts: Sequence[str]) -> tuple[Rule, ...]:
    """Returns the rules of the section ``optim`` of a configuration, for these parts."""
    if optim.layer_decay == 1:
        return parse_rules(optim.rules)
    return layer_decay_rules(parts, optim.layer_decay)


def multipliers(rules: Iterable[Rule], params: Mapping) -> dict[str, float]:
    """Returns the multiplier of each parameter by its path ``part/.../name``.

    Raises:
        UserError: no rule or several rules match a parameter, a rule matches no parameter, or all
            parameters are frozen.
    """
    rules = tuple(rules)
    multiplier_of = {}
    unused = {rule.pattern for rule in rules}
    for path in flatten_dict(params, sep="/"):
        matching = [rule for rule in rules if rule.matches(path)]
        if len(matching) != 1:
            patterns = " and ".join(repr(rule.pattern) for rule in matching) or "no pattern"
            raise UserError(
                f"{_FIELD}: the parameter {path} is matched by {patterns}: let exactly one "
                "pattern match."
            )
        multiplier_of[path] = matching[0].multiplier
        unused.discard(matching[0].pattern)
    if unused:
        raise UserError(
            f"{_FIELD}: {sorted(unused)[0]!r} matches no parameter: the paths are like "
            f"{next(iter(multiplier_of))}."
        )
    if not any(multiplier_of.values()):
        raise UserError(
            f"{_FIELD} freezes every parameter: give at least one parameter a multiplier above 0."
        )
    return multiplier_of


def describe_rules(rules: Iterable[Rule], params: Mapping) -> str:
    """Returns a table of each rule: pattern, multiplier, number of tensors and of values."""
    leaves: dict[str, jax.Array] = flatten_dict(params, sep="/")
    rows: list[tuple] = [("pattern", "multiplier", "tensors", "parameters")]
    for rule in rules:
        sizes = [leaf.size for path, leaf in leaves.items() if rule.matches(path)]
        multiplier = "frozen" if rule.multiplier == 0 else f"{rule.multiplier:.4g}"
        rows.append((rule.pattern, multiplier, len(sizes), sum(sizes)))
    return "\n".join(text_table(rows, "<>>>"))
