"""What the protocol alone is worth: one model, one budget, four ways of dividing the same images.

    python -m benchmarks.leakage --data_dir=SUBSET --workdir=runs/leakage

Trains and evaluates the network of ``configs/breakhis.py`` under every protocol, with and without
Squeeze-and-Excitation, and writes ``leakage.md``, ``leakage.json`` and ``leakage.png`` into the
workdir. Only ``split.protocol`` and ``model.attention`` differ between the runs. ``strict`` and
``random`` pool the test images of all folds; ``official`` has the authors' five test sets, which
overlap; ``source`` has the original notebook's single test set. The same command again goes on
where it stopped; a finished run is read, not repeated, so that ``--protocols`` can add to a table.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

import train
from benchmarks.measuring import table
from configs import breakhis
from se_resnet import metrics
from se_resnet.cli import mistakes_told
from se_resnet.files import atomic_write, write_json
from se_resnet.workdir import read

PROTOCOLS = ("strict", "official", "random", "source")
ATTENTIONS = ("se", "none")
# What the table calls the figures of `metrics.headline`.
FIGURES = {
    "image ROC AUC": "image_roc_auc",
    "image accuracy": "image_accuracy",
    "balanced accuracy": "image_balanced_accuracy",
    "patient recognition rate": "patient_recognition_rate",
    "patient ROC AUC": "patient_roc_auc",
}


def configure(options: argparse.Namespace, protocol: str, attention: str) -> ConfigDict:
    config = breakhis.get_config()
    config.data.dir = options.data_dir
    config.data.size = (options.size, options.size)
    config.epochs = options.epochs
    config.batch_size = options.batch_size
    config.split.protocol = protocol
    config.split.folds = options.folds
    config.split.fold = "0" if protocol == "source" else "all"
    config.model.attention = attention
    return config


def collect(folder: Path) -> list[dict[str, Any]]:
    """One row for every combination that has been evaluated."""
    rows = []
    for protocol in PROTOCOLS:
        for attention in ATTENTIONS:
            path = folder / f"{protocol}-{attention}" / "eval" / "test" / "metrics.json"
            if not path.exists():
                continue
            results = read(path, ("image", "patient", "counts", "audit"))
            row: dict[str, Any] = {"protocol": protocol, "attention": attention}
            row |= {title: metrics.headline(results)[name] for title, name in FIGURES.items()}
            row |= {
                "images": results["counts"]["images"],
                "patients": results["counts"]["accessions"],
                "test images whose patient was seen": results["audit"][
                    "evaluated_images_of_seen_accessions"
                ],
                "synthetic test images": results["audit"].get("synthetic_test_images", 0),
            }
            rows.append(row)
    return rows


def in_words(row: dict[str, Any]) -> dict[str, str]:
    """A row as the table has it, every figure with its 95 % interval."""
    images, patients, synthetic = row["images"], row["patients"], row["synthetic test images"]
    seen = row["test images whose patient was seen"] / images["all"]
    return {
        "protocol": row["protocol"],
        "attention": row["attention"],
        "tested": f"{images['benign']} + {images['malignant']} images, "
        f"{patients['benign']} + {patients['malignant']} patients"
        + (f" ({synthetic} images synthetic)" if synthetic else ""),
        "patient seen in training": f"{100 * seen:.0f} %",
        **{name: _cell(row[name]) for name in FIGURES},
    }


def _cell(figure: dict[str, Any]) -> str:
    if figure["value"] is None:
        return "undefined"
    if figure["low"] is None:
        return f"{figure['value']:.3f}"
    return f"{figure['value']:.3f} ({figure['low']:.3f}–{figure['high']:.3f})"


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Every combination as points with intervals, one panel a figure."""
    from matplotlib.figure import Figure

    colours = {"se": "#0072B2", "none": "#D55E00"}
    shown = ("image ROC AUC", "image accuracy", "patient recognition rate", "patient ROC AUC")
    picture = Figure(figsize=(11, 3.6), layout="constrained")
    panels = picture.subplots(1, len(shown), sharey=True)
    protocols = [name for name in PROTOCOLS if any(row["protocol"] == name for row in rows)]
    for axes, name in zip(panels, shown, strict=True):
        for row in rows:
            figure = row[name]
            if figure["value"] is None:
                continue
            place = protocols.index(row["protocol"]) + (
                0.13 if row["attention"] == "none" else -0.13
            )
            colour = colours[row["attention"]]
            if figure["low"] is not None:
                axes.plot([figure["low"], figure["high"]], [place, place], color=colour)
            axes.plot(
                figure["value"], place, "o" if row["attention"] == "se" else "s", color=colour
            )
        axes.set_title(name, fontsize=10)
        axes.set_yticks(range(len(protocols)), protocols)
        axes.set_xlim(None, 1.01)
        axes.grid(axis="x", color="#E5E7EB")
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].invert_yaxis()
    for attention, label, marker in (("se", "with SE", "o"), ("none", "without", "s")):
        panels[0].plot([], [], marker, color=colours[attention], label=label)
    picture.legend(loc="outside lower center", ncols=2, frameon=False)
    picture.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data_dir", required=True)
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--protocols", default=",".join(PROTOCOLS))
    parser.add_argument("--size", type=int, default=112, help="height and width in pixels")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--folds", type=int, default=3, help="of strict and random")
    options = parser.parse_args()
    with mistakes_told():
        for protocol in options.protocols.split(","):
            for attention in ATTENTIONS:
                folder = options.workdir / f"{protocol}-{attention}"
                if (folder / "eval" / "test" / "report.html").exists():
                    continue
                print(f"\n=== {protocol}, attention {attention}", flush=True)
                train.train_and_evaluate(configure(options, protocol, attention), folder)
        rows = collect(options.workdir)
        text = table([in_words(row) for row in rows])
        print(f"\n{text}")
        with atomic_write(options.workdir / "leakage.md") as file:
            file.write(text + "\n")
        write_json(options.workdir / "leakage.json", rows)
        draw(rows, options.workdir / "leakage.png")


if __name__ == "__main__":
    main()
