"""Measures how well the features of a network name the patient and the magnification of an image.

    python -m benchmarks.identity --data_dir=/path/to/BreaKHis_v1 [--workdir=RUN]

A probe is a linear classifier on pooled features, which the network was not trained for. It is
trained on half of the images of every patient and names the patient, or the magnification, of the
other half, then the other way round, in several random halvings. All patients with at least four
images take part in one probe, so that patients the network was trained on and others are equally
hard to guess. A metric is the mean over patients of the share of right answers, with an interval
over patients (:func:`se_resnet.metrics.intervals.share_interval`).

``ImageNet`` is the network of the shipped weights, which saw no image here. ``fine-tuned`` is the
network of RUN: a run of train.py, or a cross-validation, in which each patient is new to one
network and known to others, so that both are compared within the patient. Known patients are those
of the training images. Under ``strict`` all of their images were training images, also those that
the probe holds out: the network may remember single images. Differences are paired: for each
patient, with Student's t over the patients.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression

from benchmarks.experiments import with_interval
from benchmarks.logistic_head import Inputs
from benchmarks.measuring import finish, parser
from benchmarks.pooled_features import imagenet, of_run, pooled_features
from configs import breakhis
from data.dataset import Dataset, load_configured
from data.records import Records
from se_resnet.errors import UserError
from se_resnet.metrics.intervals import (
    floor_of_difference,
    kish,
    ratio_of_sums,
    share_interval,
    students_t,
)
from se_resnet.runs.run_files import TRAIN
from se_resnet.runs.run_folder import RunFolder
from se_resnet.runtime.cli import exit_on_user_error, path_argument
from se_resnet.training.config import plain

FEWEST_IMAGES = 4  # of a patient, so that a half has two
FROZEN, NEW, KNOWN = "ImageNet", "fine-tuned, new patients", "fine-tuned, known patients"
TARGETS = ("patient", "magnification")


@dataclasses.dataclass(frozen=True)
class Probed:
    """The right answers of a probe by patient.

    Attributes:
        target: ``patient`` or ``magnification``.
        images: number of images.
        chance: expected share without features.
        shares: ``float64 [K]``, share of right answers of each patient, by features; NaN where
            a patient has no such network.
    """

    target: str
    images: int
    chance: float
    shares: Mapping[str, np.ndarray]


def probe(
    features: np.ndarray, target: np.ndarray, patient: np.ndarray, halvings: int
) -> np.ndarray:
    """Returns the share of right answers for each image, when the image is held out.

    The probe is a multinomial logistic regression on features that are standardised over its
    training images. The prior variance of a logit is 1, so that nothing is chosen.

    Args:
        features: ``float32 [N, D]``.
        target: ``[N]``, what the probe names, of any type.
        patient: ``str [N]``; every patient's images are halved.
        halvings: number of random halvings.

    Returns:
        ``float64 [N]``.
    """
    right = np.zeros(len(features))
    for number in range(halvings):
        half = halve(patient, np.random.default_rng(number))
        for trained in (half, ~half):
            inputs = Inputs.fit(features[trained])
            model = LogisticRegression(C=1 / features.shape[1], max_iter=10_000)
            model.fit(inputs.of(features[trained]), target[trained])
            named = model.predict(inputs.of(features[~trained]))
            right[~trained] += named == target[~trained]
    return right / halvings


def halve(patient: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Marks a random half of the images of each patient, ``bool [N]``; odd ones out at random."""
    half = np.zeros(len(patient), bool)
    for name in np.unique(patient):
        rows = rng.permutation(np.flatnonzero(patient == name))
        half[rows[: (len(rows) + int(rng.integers(2))) // 2]] = True
    return half


def probe_networks(
    records: Records,
    features: Mapping[str, np.ndarray],
    known: Mapping[str, set[str]],
    halvings: int,
) -> list[Probed]:
    """Probes the features of all networks for both targets.

    Args:
        records: N images.
        features: ``float32 [N, D]`` by network; ``FROZEN`` is one of them.
        known: for each other network the patients that it was trained on.
        halvings: number of random halvings.
    """
    patients, index = np.unique(records.accession, return_inverse=True)
    results = []
    for target in TARGETS:
        truth = records.accession if target == "patient" else records.magnification
        if len(np.unique(truth)) < 2:
            continue  # as for images of one magnification
        by_network = {
            name: _means(probe(values, truth, records.accession, halvings), index)
            for name, values in features.items()
        }
        shares = {FROZEN: by_network[FROZEN]}
        for title, wanted in ((NEW, False), (KNOWN, True)):
            marked = {
                name: np.array([patient in known[name] for patient in patients]) == wanted
                for name in known
            }
            shares[title] = _mean_where([by_network[name] for name in known], [*marked.values()])
        values, counts = np.unique(truth, return_counts=True)
        commonest = _means((truth == values[counts.argmax()]).astype(float), index)
        chance = 1 / len(patients) if target == "patient" else float(commonest.mean())
        results.append(Probed(target, len(records), chance, shares))
    return results


def _means(values: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Returns the mean of each patient, ``float64 [K]``."""
    return np.bincount(index, values) / np.bincount(index)


def _mean_where(shares: Sequence[np.ndarray], marks: Sequence[np.ndarray]) -> np.ndarray:
    """Returns the mean over the networks that are marked for a patient; NaN without any."""
    if not shares:
        return np.zeros(0)
    marked = np.array(marks)
    with np.errstate(invalid="ignore"):
        return np.where(marked, shares, 0.0).sum(axis=0) / marked.sum(axis=0)


def mean_share(shares: np.ndarray) -> dict[str, float]:
    """Returns the mean over patients, ``float64 [K]``, with its interval."""
    low, high = share_interval(shares, np.ones(len(shares)))
    return {"value": float(shares.mean()), "low": float(low), "high": float(high)}


def mean_gain(gains: np.ndarray) -> dict[str, float]:
    """Returns the mean of paired differences of patients, ``float64 [K]``, with its interval.

    Student's t with the variance between patients, which has the floor of
    :func:`se_resnet.metrics.intervals.floor_of_difference`.
    """
    ones = np.ones(len(gains))
    value, variance, freedom = ratio_of_sums(gains, ones, kish(ones))
    error = np.sqrt(max(float(variance), floor_of_difference(len(gains))))
    width = float(students_t(freedom)) * float(error)
    return {"value": float(value), "low": float(value) - width, "high": float(value) + width}


def rows_of(results: Sequence[Probed]) -> list[dict[str, Any]]:
    """Returns a row for each target and features: the mean over patients beside chance."""
    rows = []
    for result in results:
        for title, shares in result.shares.items():
            defined = shares[np.isfinite(shares)]
            if len(defined) < 2:
                continue
            rows.append(
                {
                    "probe names": result.target,
                    "features": title,
                    "patients": len(defined),
                    "right": with_interval(mean_share(defined)),
                    "chance": f"{result.chance:.3f}",
                }
            )
    return rows


def difference_rows(results: Sequence[Probed]) -> list[dict[str, Any]]:
    """Returns a row for each pair of features: the paired difference."""
    rows = []
    for result in results:
        for first, second in ((FROZEN, NEW), (FROZEN, KNOWN), (NEW, KNOWN)):
            a, b = result.shares[first], result.shares[second]
            if len(a) != len(b):
                continue
            gains = (b - a)[np.isfinite(b - a)]
            if len(gains) < 2:
                continue
            rows.append(
                {
                    "probe names": result.target,
                    "difference": f"{second} less {first}",
                    "patients": len(gains),
                    "mean": with_interval(mean_gain(gains), "+"),
                }
            )
    return rows


def measure(
    settings: Mapping[str, Any], runs: Sequence[RunFolder], halvings: int
) -> tuple[list[Probed], Dataset]:
    """Loads the images, computes the features of all networks and probes them.

    Args:
        settings: fields of ``config.data``.
        runs: runs of one network each.
        halvings: number of random halvings.

    Raises:
        UserError: images or a network are not available, or fewer than two patients have enough
            images.
    """
    dataset = load_configured(settings)
    records = dataset.records.take(dataset.records.first_copies())
    names, counts = np.unique(records.accession, return_counts=True)
    enough = names[counts >= FEWEST_IMAGES]
    if len(enough) < 2:
        raise UserError(
            f"{len(enough)} patients have at least {FEWEST_IMAGES} images, and a probe needs 2: "
            "give more images."
        )
    records = records.take(np.isin(records.accession, enough))
    features = {FROZEN: pooled_features(imagenet(), dataset.images, records.row)}
    known = {}
    for run in runs:
        name = str(run.path)
        features[name] = pooled_features(of_run(run.path), dataset.images, records.row)
        known[name] = run.patients(TRAIN)
    return probe_networks(records, features, known, halvings), dataset


def main() -> None:
    """The command."""
    flags = parser(__doc__)
    flags.add_argument("--data_dir", required=True)
    flags.add_argument(
        "--workdir", type=path_argument, help="run of train.py, of one network or of folds"
    )
    flags.add_argument("--size", type=int, help="height and width; default: as RUN, or 224")
    flags.add_argument("--magnifications", type=int, nargs="+", default=[])
    flags.add_argument("--halvings", type=int, default=10)
    options = flags.parse_args()
    with exit_on_user_error():
        settings, runs = plain(breakhis.get_config())["data"], []
        if options.workdir:
            run = RunFolder(options.workdir)
            settings = {**settings, **run.config()["data"]}
            runs = run.networks()
        settings |= {"dir": options.data_dir, "magnifications": options.magnifications}
        if options.size:
            settings["size"] = (options.size, options.size)
        results, dataset = measure(settings, runs, options.halvings)
        print(dataset.description)
        images = f"{results[0].images:,} images of patients with {FEWEST_IMAGES} images or more"
        differences = difference_rows(results)
        further = {"differences": differences} if differences else {}
        notes = (images, f"{options.halvings} halvings, images of {tuple(settings['size'])} pixels")
        finish(rows_of(results), options.out, *notes, **further)


if __name__ == "__main__":
    main()
