"""The baseline: a logistic regression on features of a frozen ImageNet ResNet50.

    python -m benchmarks.frozen_features --data_dir=/path/to/BreaKHis_v1 --magnifications=200

Uses the images, splits and metrics of train.py, for every fold of the named protocols. The
validation images of train.py are training images here, because nothing is chosen on them; a
fine-tuned network therefore has fewer training patients. In the rows of all folds, ROC AUC counts
pairs within folds.
"""

from __future__ import annotations

import argparse
import time

import jax
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from data.dataset import load_dataset
from data.feed import host
from data.protocols import audit
from data.protocols.roles import assign_roles
from data.records import Records
from se_resnet import metrics
from se_resnet.metrics.labels import MAGNIFICATIONS
from se_resnet.metrics.predictions import Predictions, in_folds
from se_resnet.models import resnet
from se_resnet.models.layers import global_average_pool
from se_resnet.runs.run_files import TEST, TRAIN, VAL
from se_resnet.runtime.cli import exit_on_user_error
from se_resnet.runtime.files import write_json
from se_resnet.runtime.mesh import batch_sharding, data_mesh
from se_resnet.weights import pretrained

FOLDS = 5


def frozen_features(images: np.ndarray, records: Records, batch_size: int = 32) -> np.ndarray:
    """Returns pooled outputs of the last stage of the ImageNet network: ``float32 [N, 2048]``."""
    weights = pretrained.load("imagenet")
    model = resnet.create_model(
        attention="none", variant=weights.variant, bn_epsilon=weights.bn_epsilon
    )
    variables = pretrained.initial_variables(model, weights, jax.random.key(0))

    @jax.jit
    def forward(batch: jax.Array) -> jax.Array:
        inputs = weights.preprocessing(batch)
        _, stages = model.apply(variables, inputs, train=False, return_stages=True)
        return global_average_pool(stages["stage4"])

    batches = host.eval_batches(
        images,
        records.row,
        batch_size=batch_size,
        sharding=batch_sharding(data_mesh(), batch_size),
    )
    return np.concatenate(
        [np.asarray(forward(batch["image"]))[np.asarray(batch["mask"])] for batch in batches]
    )


def evaluate_fold(records: Records, features: np.ndarray, roles: np.ndarray) -> Predictions:
    test = roles == TEST
    fit = (roles == TRAIN) | (roles == VAL)
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    classifier.fit(features[fit], records.label[fit])
    tested = records.take(test)
    names = ("file", "slide", "accession", "magnification", "subtype", "label")
    return Predictions(
        **{name: getattr(tested, name) for name in names},
        probability=classifier.predict_proba(features[test])[:, 1],
    )


def show(estimate: dict) -> str:
    if estimate["value"] is None:
        return "undefined"
    if estimate["low"] is None:
        return f"{estimate['value']:.3f}"
    return f"{estimate['value']:.3f} ({estimate['low']:.3f}-{estimate['high']:.3f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data_dir", default="sample")
    parser.add_argument("--magnifications", type=int, nargs="+", default=MAGNIFICATIONS)
    parser.add_argument("--protocols", nargs="+", default=["strict", "random"])
    parser.add_argument("--cache_dir", default="")
    parser.add_argument("--out", help="JSON file to write")
    options = parser.parse_args()

    dataset = load_dataset(
        options.data_dir,
        magnifications=tuple(options.magnifications),
        cache_dir=options.cache_dir,
    )
    records = dataset.records
    print(dataset.description)
    start = time.monotonic()
    features = frozen_features(dataset.images, records)
    print(f"features of {len(records)} images in {time.monotonic() - start:.0f} s\n")

    print("| protocol | fold | images | patients (benign) | image AUC | image accuracy | ", end="")
    print("patient recognition rate | patient AUC |\n|---|---|---|---|---|---|---|---|")
    results = {}
    for protocol in options.protocols:
        parts = []
        for fold in range(FOLDS):
            roles = assign_roles(records, protocol, folds=FOLDS, fold=fold, val_folds=5, seed=0)
            audit.verify(records, roles, protocol)
            parts.append(evaluate_fold(records, features, roles))
        rows = list(enumerate(parts))
        # The authors' folds overlap: pooled, some images would count four times.
        pooled = [] if protocol == "official" else [("all folds", in_folds(parts))]
        for name, predictions in [*rows, *pooled]:
            result = metrics.evaluate(predictions)
            results[f"{protocol}/{name}"] = result
            patients = result["counts"]["accessions"]
            image, patient = result["image"], result["patient"]
            cells = [
                protocol,
                str(name),
                str(len(predictions)),
                f"{patients['all']} ({patients['benign']})",
                show(image["roc_auc"]),
                show(image["accuracy"]),
                show(patient["recognition_rate"]),
                show(patient["mean_probability"]["roc_auc"]),
            ]
            print(f"| {' | '.join(cells)} |")
    if options.out:
        write_json(options.out, results)


if __name__ == "__main__":
    with exit_on_user_error():
        main()
