"""Compares two runs that were repeated with the same seeds, paired by repeat."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from se_resnet.errors import UserError
from se_resnet.metrics.comparison import signed
from se_resnet.metrics.predictions import Predictions
from se_resnet.metrics.seeds import across_repeats, compare_repeats
from se_resnet.runtime.text_table import text_table


def compare_pairs(
    names: tuple[str, str], a: Sequence[Predictions], b: Sequence[Predictions]
) -> dict[str, Any]:
    """Computes the differences A minus B of the headline metrics, repeat by repeat.

    Args:
        names: of run A and run B, for messages.
        a: predictions of run A by repeat; empty if run A has no repeats.
        b: predictions of run B by repeat; empty if run B has no repeats.

    Returns:
        ``differences``: the result of :func:`se_resnet.metrics.seeds.compare_repeats`.
        ``repeats_a`` and ``repeats_b``: the results of
        :func:`se_resnet.metrics.seeds.across_repeats`.

    Raises:
        UserError: the runs differ in the number of repeats, or two repeats with the same number
            test other images, or test them in other folds, as repeats with other split seeds do.
    """
    if len(a) != len(b):
        numbers = " and ".join(
            f"{name} holds {len(repeats) or 'no'} repeats"
            for name, repeats in zip(names, (a, b), strict=True)
        )
        raise UserError(f"{numbers}: compare two folders with the same config.repeats.")
    for number, (repeat_a, repeat_b) in enumerate(zip(a, b, strict=True)):
        if _fold_of(repeat_a) != _fold_of(repeat_b):
            raise UserError(
                f"repeat {number} of {names[0]} and of {names[1]} tests other images or in other "
                "folds, so the repeats are no pairs: compare repeats with the same images, "
                "config.split and config.repeat_seeds."
            )
    return {
        "differences": compare_repeats(a, b),
        "repeats_a": across_repeats(a),
        "repeats_b": across_repeats(b),
    }


def table_of_pairs(comparison: dict[str, Any]) -> str:
    """Formats the result of :func:`compare_pairs` as a table of text."""
    lines: list[tuple[str, ...]] = [("", "A", "B", "A - B", "SD", "95 % interval")]
    for name, row in comparison["differences"].items():
        means = (comparison[key][name]["mean"] for key in ("repeats_a", "repeats_b"))
        interval = row.get("reason", "")
        if row["low"] is not None:
            interval = f"{signed(row['low'])} to {signed(row['high'])}"
            interval += f" ({row['remark']})" if "remark" in row else ""
        lines.append(
            (
                name.replace("_", " "),
                *("-" if mean is None else f"{mean:.3f}" for mean in means),
                "-" if row["mean"] is None else signed(row["mean"]),
                "-" if row["sd"] is None else f"{row['sd']:.3f}",
                interval,
            )
        )
    count = len(next(iter(comparison["differences"].values()))["values"])
    title = (
        f"means over {count} repeats, paired by repeat; SD of the differences; the interval holds "
        "patients and seeds"
    )
    return "\n".join([title, "", *text_table(lines, "<>>>><")])


def _fold_of(predictions: Predictions) -> dict[str, int]:
    """Returns the fold of each image, by file name."""
    return dict(zip(predictions.file.tolist(), predictions.fold.tolist(), strict=True))
