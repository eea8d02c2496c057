"""Prints the cost of each attention module in every residual branch, at default options.

  python -m se_resnet.attention
  python -m se_resnet.attention --modules=se,my_file:MyAttention --size=224 --batch=32

Parameters and operations (a multiply-add counts as two) are those that the module adds to a
ResNet50 with one logit, for one image of 224x224. Training steps are timed on this machine, in a
network with one block in each of the four stages. Every round times all modules in turn. The ratio
compares with
the network without attention.
"""

from __future__ import annotations

import argparse

from se_resnet.runtime.cli import ArgumentParser, run_command
from se_resnet.runtime.interpreter import restart
from se_resnet.runtime.text_table import text_table


def _options() -> argparse.Namespace:
    parser = ArgumentParser("python -m se_resnet.attention", __doc__ or "")
    add = parser.add_argument
    add("--size", type=_count, default=112, help="side of the timed images (default: 112)")
    add("--batch", type=_count, default=8, help="images in a timed step (default: 8)")
    add("--rounds", type=_count, default=9, help="timed steps of each module (default: 9)")
    add("--modules", help="names separated by commas (default: all that are registered)")
    return parser.parse_command()


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def main(options: argparse.Namespace) -> None:
    """Measures the modules and prints a table."""
    from se_resnet.attention import REGISTRY
    from se_resnet.training import module_cost  # takes seconds: after the options are known

    names = options.modules.split(",") if options.modules else list(REGISTRY)
    size, batch = options.size, options.batch
    counted = f"{module_cost.COUNTED_SIZE}x{module_cost.COUNTED_SIZE}"
    print(
        f"parameters, GFLOPs: added to a ResNet50 at {counted}\n"
        f"step: of training {batch} images of {size}x{size}, stages of {module_cost.TIMED} blocks",
        flush=True,
    )
    costs = module_cost.measure(names, size=size, batch=batch, rounds=options.rounds)
    rows: list[tuple] = [("module", "parameters", "GFLOPs", "step", "ratio")]
    for cost in costs:
        rows.append(
            (
                cost.module,
                cost.parameters,
                f"{cost.flops / 1e9:.4f}",
                f"{1000 * cost.seconds:.0f} ms",
                f"{cost.ratio:.2f}",
            )
        )
    print("\n".join(text_table(rows, "<>>>>")))


if __name__ == "__main__":
    parsed = _options()
    restart()
    run_command(lambda: main(parsed))
