"""Measures the effect of the protocol: one model, one budget, four divisions of the same images.

    python -m benchmarks.leakage --data_dir=SUBSET --workdir=runs/leakage

Trains and evaluates the network of ``configs/breakhis.py`` under every protocol, with and without
Squeeze-and-Excitation, and writes ``leakage.md``, ``leakage.json`` and ``leakage.png`` into the
workdir. Only ``split.protocol`` and ``model.attention`` differ between the runs. ``strict`` and
``random`` pool the test images of all folds; ``official`` has the authors' five test sets, which
overlap; ``source`` has the original notebook's single test set. The same command resumes an
interrupted measurement. It reads finished runs, so that ``--protocols`` can add rows to a table.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from benchmarks.experiments import METRICS, results_of, run_all, tested, with_interval
from benchmarks.measuring import table
from configs import breakhis
from se_resnet.runtime.cli import exit_on_user_error, path_argument, path_option
from se_resnet.runtime.files import atomic_write, write_json

PROTOCOLS = ("strict", "official", "random", "source")
ATTENTIONS = ("se", "none")


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
    """Returns one row for every evaluated combination."""
    rows = []
    for protocol in PROTOCOLS:
        for attention in ATTENTIONS:
            if results := results_of(folder / f"{protocol}-{attention}"):
                rows.append({"protocol": protocol, "attention": attention, **results})
    return rows


def in_words(row: dict[str, Any]) -> dict[str, str]:
    """Formats a row for the table, every metric with its 95 % interval."""
    audit = row["audit"]
    synthetic = audit.get("synthetic_test_images", 0)
    seen = audit["evaluated_images_of_seen_accessions"] / row["counts"]["images"]["all"]
    return {
        "protocol": row["protocol"],
        "attention": row["attention"],
        "tested": tested(row["counts"]) + (f" ({synthetic} images synthetic)" if synthetic else ""),
        "patient seen in training": f"{100 * seen:.0f} %",
        **{name: with_interval(row[name]) for name in METRICS},
    }


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Plots every combination as points with intervals, one panel per metric."""
    from matplotlib.figure import Figure

    colours = {"se": "#0072B2", "none": "#D55E00"}
    shown = ("image ROC AUC", "image accuracy", "patient recognition rate", "patient ROC AUC")
    picture = Figure(figsize=(11, 3.6), layout="constrained")
    panels = picture.subplots(1, len(shown), sharey=True)
    protocols = [name for name in PROTOCOLS if any(row["protocol"] == name for row in rows)]
    for axes, name in zip(panels, shown, strict=True):
        for row in rows:
            estimate = row[name]
            if estimate["value"] is None:
                continue
            height = protocols.index(row["protocol"]) + (
                0.13 if row["attention"] == "none" else -0.13
            )
            colour = colours[row["attention"]]
            if estimate["low"] is not None:
                axes.plot([estimate["low"], estimate["high"]], [height, height], color=colour)
            axes.plot(
                estimate["value"], height, "o" if row["attention"] == "se" else "s", color=colour
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
    parser.add_argument("--data_dir", type=path_option, required=True)
    parser.add_argument("--workdir", type=path_argument, required=True)
    parser.add_argument("--protocols", default=",".join(PROTOCOLS))
    parser.add_argument("--size", type=int, default=112, help="height and width in pixels")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--folds", type=int, default=3, help="folds of strict and random")
    options = parser.parse_args()
    configs = {
        f"{protocol}-{attention}": configure(options, protocol, attention)
        for protocol in options.protocols.split(",")
        for attention in ATTENTIONS
    }
    with exit_on_user_error():
        run_all(configs, options.workdir)
        rows = collect(options.workdir)
        text = table([in_words(row) for row in rows])
        print(f"\n{text}")
        with atomic_write(options.workdir / "leakage.md") as file:
            file.write(text + "\n")
        write_json(options.workdir / "leakage.json", rows)
        plot(rows, options.workdir / "leakage.png")


if __name__ == "__main__":
    main()
