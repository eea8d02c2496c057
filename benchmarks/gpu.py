r"""Times training on one GPU with the data in its memory, against torch.compile on the same card.

    python -m benchmarks.gpu [--batch 32 64 128 256] [--dtype bfloat16 float32]

Times ``config.data.placement = 'device'``. Generated uint8 images and a plan like that of SMOTE lie
in GPU memory. Gather, blend, augmentation and training step are one program, and a dispatch runs
several steps. torch does the same work (channels last, autocast to bfloat16, ``torch.compile``).
Each case runs in a separate process, ours and torch in turn. Rows have medians over ``--rounds``.
The first processes of a case wait for their compilers. For a quick test use ``--batch 128 --dtype
bfloat16 --rounds 1``. Without a GPU everything runs on the CPU, for which the defaults are far too
large: ``--batch 2 --side 32 --width 8 --stage_sizes 1 1 --images 16``.

Roofline: FLOPs are those of the step as written. Bytes are those that the operations of the
compiled program read and write, as counted by XLA, for which a convolution reads each operand once.
Both are divided by the measured time of a step. "of copy" compares with the bandwidth of a jitted
copy on the same card, "of peak" with the data sheet. "busy" is the share of the time between the
first and the last kernel of a trace in which any kernel ran. "single, ms" is the time of a step
with one dispatch per step.

To train on BreaKHis in five strict folds, decode the images on any machine with TensorFlow. The
machine with the GPU needs only the folder of the printed file, and no TensorFlow::

    python -c "from data.dataset import load_dataset as load; \
        print(load('/path/to/BreaKHis_v1').images.filename)"

    pip install -c constraints.txt -e '.[cuda]'
    python train.py --config=configs/breakhis.py --workdir=runs/strict --config.split.fold=all \
        --config.data.dir=FOLDER --config.data.placement=device --config.model.dtype=bfloat16 \
        --config.eval_batch_size=256 --config.log_every_steps=50
"""

from __future__ import annotations

import importlib.util
import os
import statistics
from typing import Any

from benchmarks.gpu_step import Case, ours
from benchmarks.measuring import finish, in_own_process, parser, table
from se_resnet.runtime.cli import exit_on_user_error

# Data sheets, by jax.Device.device_kind: TB/s of memory, and dense TFLOP/s in bfloat16 and TF32.
CARDS = {
    "NVIDIA H100 80GB HBM3": (3.35, {"bfloat16": 989, "float32": 495}),
    "NVIDIA H200": (4.8, {"bfloat16": 989, "float32": 495}),
    "NVIDIA A100-SXM4-40GB": (1.555, {"bfloat16": 312, "float32": 156}),
    "NVIDIA A100-SXM4-80GB": (2.039, {"bfloat16": 312, "float32": 156}),
    "NVIDIA A100 80GB PCIe": (1.935, {"bfloat16": 312, "float32": 156}),
}


def speed_row(case: Case, mine: list[dict], peer: list[dict]) -> dict[str, Any]:
    """Returns medians over the rounds, and the median of the ratios."""

    def median(runs: list[dict], key: str, factor: float = 1.0) -> float | None:
        values = [factor * run[key] for run in runs if run[key] is not None]
        return statistics.median(values) if values else None

    seconds = statistics.median(run["seconds"] for run in mine)
    ratios = [b["seconds"] / a["seconds"] for a, b in zip(mine, peer, strict=False)]
    theirs = median(peer, "seconds")
    return {
        "batch": case.batch,
        "dtype": case.dtype,
        "images/s": case.batch / seconds,
        "step, ms": 1000 * seconds,
        "single, ms": median(mine, "single_seconds", 1000),
        "busy, %": median(mine, "busy", 100),
        "peak, GB": median(mine, "peak_bytes", 1e-9),
        "torch.compile, images/s": case.batch / theirs if theirs else None,
        "torch.compile, peak GB": median(peer, "peak_bytes", 1e-9),
        "times as fast": statistics.median(ratios) if ratios else None,
    }


def roofline_row(case: Case, mine: list[dict]) -> dict[str, Any]:
    """Compares the step with the limits of the card, in the round of median speed."""
    run = sorted(mine, key=lambda run: run["seconds"])[len(mine) // 2]
    bandwidth, peaks = CARDS.get(run["kind"], (None, {}))
    flops = run["flops"] / run["seconds"] if run["flops"] else None
    moved = run["bytes"] / run["seconds"] if run["bytes"] else None

    def share(value: float | None, limit: float | None) -> float | None:
        return 100 * value / limit if value and limit else None

    return {
        "batch": case.batch,
        "dtype": case.dtype,
        "GFLOP a step": run["flops"] and run["flops"] / 1e9,
        "compiled": run["compiled_flops"] and run["compiled_flops"] / 1e9,
        "GB a step": run["bytes"] and run["bytes"] / 1e9,
        "TFLOP/s": flops and flops / 1e12,
        "of peak, %": share(flops, 1e12 * peaks.get(case.dtype, 0)),
        "GB/s": moved and moved / 1e9,
        "copy, GB/s": run["copy_bandwidth"] / 1e9,
        "of copy, %": share(moved, run["copy_bandwidth"]),
        "of peak bandwidth, %": share(moved, 1e12 * (bandwidth or 0)),
    }


def main() -> None:
    flags = parser(__doc__)
    flags.add_argument("--batch", type=int, nargs="+", default=[32, 64, 128, 256])
    flags.add_argument(
        "--dtype",
        nargs="+",
        choices=["float32", "bfloat16"],
        default=["bfloat16", "float32"],
    )
    flags.add_argument("--images", type=int, default=2048, help="in the device's memory")
    flags.add_argument("--side", type=int, default=224, help="pixels")
    flags.add_argument("--width", type=int, default=64, help="channels of the stem")
    flags.add_argument("--stage_sizes", type=int, nargs="+", default=[3, 4, 6, 3])
    flags.add_argument("--steps", type=int, default=10, help="in one dispatch")
    flags.add_argument("--dispatches", type=int, default=10, help="timed in each round")
    flags.add_argument("--rounds", type=int, default=3)
    flags.add_argument("--copy", type=int, default=1024, help="megabytes, to measure bandwidth")
    flags.add_argument("--no_augment", action="store_true", help="for both")
    flags.add_argument("--no_torch", action="store_true")
    options = flags.parse_args()
    # Both processes allocate only the memory that they need, so that neither runs out of memory.
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    absent = options.no_torch or importlib.util.find_spec("torch") is None
    speed, roofline, platforms = [], [], set()
    for dtype in options.dtype:
        for batch in options.batch:
            case = Case(
                batch,
                dtype,
                options.images,
                options.side,
                options.width,
                tuple(options.stage_sizes),
                options.steps,
                options.dispatches,
                not options.no_augment,
                options.copy,
            )
            mine, peer = [], []
            for _ in range(options.rounds):
                mine.append(in_own_process(ours, case).value)
                if not absent:
                    from benchmarks.gpu_torch import theirs

                    peer.append(in_own_process(theirs, case).value)
            speed.append(speed_row(case, mine, peer))
            roofline.append(roofline_row(case, mine))
            platforms |= {f"{run['platform']} ({run['kind']})" for run in mine}
            print(table(speed[-1:]), flush=True)
    notes = [f"Platform: {', '.join(sorted(platforms))}."]
    if absent:
        notes.append(
            f"No torch.compile: {'--no_torch' if options.no_torch else 'torch is not installed'}."
        )
    finish(speed, options.out, *notes, roofline=roofline)


if __name__ == "__main__":
    with exit_on_user_error():
        main()
