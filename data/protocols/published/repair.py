"""Repairs a split with the fewest moves, so that all images of an accession have one role.

An accession whose slides have several roles is moved whole to one role. Test or not test is decided
once for all folds that have the same test set, so that these folds still test on the same images.
Among all choices that leave every role the classes it had, the choice that moves the fewest images
in all these folds is taken. Where choices move equally many, the accession goes to the test set
before the validation set and to the validation set before training, because patients are scarcer
there.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product

from data.protocols.published.slides import Slide
from se_resnet.runs.run_files import TEST, TRAIN, VAL

_SCARCEST_FIRST = (TEST, VAL, TRAIN)
_Fold = Mapping[str, str]  # the role of every slide, by name


def repair(
    folds: Sequence[_Fold], slides: Sequence[Slide], class_of: Callable[[Slide], str]
) -> tuple[_Fold, ...]:
    """Returns the folds with one role for every accession.

    The search tries all choices. An accession with several roles doubles their number: ten
    accessions of BreaKHis have several slides.

    Args:
        folds: the role of every slide, by name: ``train``, ``val`` or ``test``.
        slides: the slides.
        class_of: returns the class of a slide. A role keeps every class that it had.

    Raises:
        ValueError: every choice takes a class from a role.
    """
    of_test_set = defaultdict(list)
    for number, fold in enumerate(folds):
        of_test_set[frozenset(_with_role(fold, TEST))].append(number)
    repaired = dict[int, _Fold]()
    for numbers in of_test_set.values():
        together = _repair_together([folds[number] for number in numbers], slides, class_of)
        repaired |= zip(numbers, together, strict=True)
    return tuple(repaired[number] for number in range(len(folds)))


def _repair_together(
    folds: Sequence[_Fold], slides: Sequence[Slide], class_of: Callable[[Slide], str]
) -> list[_Fold]:
    """Repairs folds that have the same test set."""
    roles_of = _roles_of_accessions(folds[0], slides)
    leaking = [name for name, roles in roles_of.items() if TEST in roles and len(roles) > 1]
    best: tuple[int, list[_Fold]] | None = None
    for choice in product((True, False), repeat=len(leaking)):  # the test set first
        is_tested = dict(zip(leaking, choice, strict=True))
        options = [_best_fold(fold, slides, class_of, is_tested) for fold in folds]
        chosen = [option for option in options if option]
        if len(chosen) == len(folds):
            cost = sum(moved for moved, _ in chosen)
            if best is None or cost < best[0]:
                best = cost, [fold for _, fold in chosen]
    if best is None:
        raise ValueError("no repair leaves every role the classes it had")
    return best[1]


def _best_fold(
    fold: _Fold,
    slides: Sequence[Slide],
    class_of: Callable[[Slide], str],
    is_tested: Mapping[str, bool],
) -> tuple[int, _Fold] | None:
    """Returns the best repair of a fold and its moved images, given which accessions are tested.

    Of equally good repairs it is the first one.
    """
    classes = _classes(fold, slides, class_of)
    options = [
        (_moved(fold, candidate, slides), candidate)
        for candidate in _candidates(fold, slides, is_tested)
        if _classes(candidate, slides, class_of) == classes
    ]
    return min(options, key=lambda option: option[0], default=None)


def _candidates(
    fold: _Fold, slides: Sequence[Slide], is_tested: Mapping[str, bool]
) -> Iterator[_Fold]:
    """Yields the fold with each accession in one role, in all ways that ``is_tested`` allows.

    The scarcer roles come first.
    """
    options = {}
    for accession, roles in _roles_of_accessions(fold, slides).items():
        if accession in is_tested:
            roles = {TEST} if is_tested[accession] else roles - {TEST}
        options[accession] = [role for role in _SCARCEST_FIRST if role in roles]
    for choice in product(*options.values()):
        role_of = dict(zip(options, choice, strict=True))
        yield {slide.name: role_of[slide.accession] for slide in slides}


def _moved(fold: _Fold, candidate: _Fold, slides: Sequence[Slide]) -> int:
    """Returns the number of images that have another role in ``candidate``."""
    return sum(slide.images for slide in slides if fold[slide.name] != candidate[slide.name])


def _roles_of_accessions(fold: _Fold, slides: Sequence[Slide]) -> dict[str, set[str]]:
    roles_of = defaultdict[str, set[str]](set)
    for slide in slides:
        roles_of[slide.accession].add(fold[slide.name])
    return roles_of


def _classes(
    fold: _Fold, slides: Sequence[Slide], class_of: Callable[[Slide], str]
) -> set[tuple[str, str]]:
    """Returns the pairs of role and class that have a slide."""
    return {(fold[slide.name], class_of(slide)) for slide in slides}


def _with_role(fold: _Fold, role: str) -> list[str]:
    return [name for name, found in fold.items() if found == role]
