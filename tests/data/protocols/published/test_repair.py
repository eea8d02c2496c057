"""A repair gives each accession one role, moves the fewest images and keeps the classes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from itertools import product

import pytest

from data.protocols.published.repair import repair
from data.protocols.published.slides import Slide
from data.protocols.published.splits import all_splits, find

USABLE = [split.name for split in all_splits() if split.is_reproduced]


def slide(name: str, images: int, label: int = 0) -> Slide:
    """A slide of the accession before the dot."""
    return Slide(name, name.split(".")[0], "A" if label == 0 else "DC", label, images)


# Slides that keep both classes in every role, whatever happens to the others.
OTHERS = {
    slide(f"{role}{label}", 1, label): role for role in ("train", "val", "test") for label in (0, 1)
}


def class_of(one: Slide) -> str:
    return str(one.label)


def repaired(roles: Mapping[Slide, str], others: Mapping[Slide, str] = OTHERS) -> dict[str, str]:
    """The new roles of these slides, in a fold with other slides."""
    every = {**others, **roles}
    (fold,) = repair([{s.name: role for s, role in every.items()}], [*every], class_of)
    return {s.name: fold[s.name] for s in roles}


def moved(before: Mapping[str, str], after: Mapping[str, str], slides) -> int:
    return sum(s.images for s in slides if before[s.name] != after[s.name])


def test_the_smaller_part_is_moved():
    roles = {slide("a.1", 5): "train", slide("a.2", 4): "test"}
    assert repaired(roles) == {"a.1": "train", "a.2": "train"}
    roles = {slide("a.1", 5): "train", slide("a.2", 6): "test"}
    assert repaired(roles) == {"a.1": "test", "a.2": "test"}


@pytest.mark.parametrize(
    ("first", "second", "kept"),
    [("train", "test", "test"), ("val", "test", "test"), ("train", "val", "val")],
)
def test_a_tie_goes_to_the_scarcer_role(first, second, kept):
    for pair in ((first, second), (second, first)):
        roles = {slide(f"a.{n}", 5): role for n, role in enumerate(pair)}
        assert set(repaired(roles).values()) == {kept}


def test_three_roles_become_the_largest():
    for largest in ("train", "val", "test"):
        roles = {slide(f"a.{r}", 9 if r == largest else 4): r for r in ("train", "val", "test")}
        assert set(repaired(roles).values()) == {largest}


def test_a_role_keeps_its_only_images_of_a_class():
    others = {s: role for s, role in OTHERS.items() if s.name != "test0"}
    roles = {slide("a.1", 50): "train", slide("a.2", 4): "test"}
    assert set(repaired(roles, others).values()) == {"test"}
    # Of two accessions, the one is moved that costs less.
    roles |= {slide("b.1", 30): "train", slide("b.2", 4): "test"}
    assert repaired(roles, others) == {"a.1": "train", "a.2": "train", "b.1": "test", "b.2": "test"}


def test_a_class_that_no_choice_keeps_is_an_error():
    others = {s: role for s, role in OTHERS.items() if s.name not in ("test0", "train0", "val0")}
    with pytest.raises(ValueError, match="no repair"):
        repaired({slide("a.1", 5): "train", slide("a.2", 4): "test"}, others)


def test_folds_with_one_test_set_are_decided_together():
    """In one fold the test set would be cheaper, but not over both folds."""
    slides = [*OTHERS, slide("a.1", 6), slide("a.2", 5), slide("a.3", 5)]
    base = {s.name: role for s, role in OTHERS.items()} | {"a.1": "test"}
    apart = base | {"a.2": "train", "a.3": "val"}
    together = base | {"a.2": "train", "a.3": "train"}
    (alone,) = repair([apart], slides, class_of)
    assert alone["a.2"] == alone["a.3"] == "test", "10 images instead of 11"
    both = repair([apart, together], slides, class_of)
    # Tested: 10 + 10 images are moved; seen: 11 + 6.
    assert [fold["a.1"] for fold in both] == ["val", "train"]


@pytest.mark.parametrize("name", USABLE)
def test_every_accession_has_one_role_and_no_class_is_lost(name):
    split = find(name)
    for before, after in zip(split.folds, split.repaired_folds, strict=True):
        roles_of = defaultdict(set)
        for one in split.slides:
            roles_of[one.accession].add(after[one.name])
        assert {len(roles) for roles in roles_of.values()} == {1}
        assert before.keys() == after.keys()
        classes = [{(f[s.name], split.class_of(s)) for s in split.slides} for f in (before, after)]
        assert classes[0] == classes[1]


@pytest.mark.parametrize("name", USABLE)
def test_only_accessions_with_several_roles_are_moved(name):
    split = find(name)
    for before, after in zip(split.folds, split.repaired_folds, strict=True):
        for one in split.slides:
            group = [s.name for s in split.slides if s.accession == one.accession]
            if len({before[slide_name] for slide_name in group}) == 1:
                assert after[one.name] == before[one.name]


@pytest.mark.parametrize(("name", "fold"), [("eva", 0), *(("authors", fold) for fold in range(5))])
def test_no_repair_moves_fewer_images(name, fold):
    """All choices of a side for each accession, by their images."""
    split = find(name)
    before, after = split.folds[fold], split.repaired_folds[fold]
    images = defaultdict(lambda: defaultdict(int))
    for one in split.slides:
        images[one.accession][before[one.name]] += one.images
    straddling = {a: parts for a, parts in images.items() if len(parts) > 1}
    costs = [
        sum(sum(parts.values()) - parts[role] for parts, role in zip(found, choice, strict=True))
        for found in [[*straddling.values()]]
        for choice in product(("train", "test"), repeat=len(found))
    ]
    assert moved(before, after, split.slides) == min(costs)


def test_eva_is_repaired_by_81_images():
    split = find("eva")
    changed = {
        name: role for name, role in split.repaired_folds[0].items() if role != split.folds[0][name]
    }
    assert changed == {
        "SOB_B_F-14-23060CD": "train",
        "SOB_B_TA-14-16184CD": "train",
        "SOB_M_MC-14-18842": "test",
        "SOB_M_MC-14-19979C": "test",
    }
    assert moved(split.folds[0], split.repaired_folds[0], split.slides) == 81
    assert split.images(0, True) == {"train": 1149, "val": 0, "test": 322}


def test_the_repaired_audit_has_one_test_set_with_one_benign_patient():
    split = find("patient_audit")
    folds = split.repaired_folds
    tests = {frozenset(name for name, role in fold.items() if role == "test") for fold in folds}
    assert len(tests) == 1
    benign = {s.accession for s in split.slides if s.name in min(tests) and not s.label}
    assert benign == {"14-16184"}
