r"""Times training on one GPU with the data in its memory, against torch.compile on the same card.

    python -m benchmarks.gpu --quick
    python -m benchmarks.gpu [--batch 32 64 128 256] [--dtype bfloat16 float32]
    python -m benchmarks.gpu --quick --members 5

Times ``config.data.placement = 'device'``. Generated uint8 images and a plan like that of SMOTE lie
in GPU memory. Gather, blend, augmentation and training step are one program, and a dispatch runs
several steps. torch does the same work (channels last, autocast to bfloat16, ``torch.compile``).
The contenders of a case live in separate processes. Each compiles one program; then they measure
``--rounds`` in turn. The table has medians over the rounds.

``--quick`` takes at most 3 minutes on a card: batch 128, bfloat16, one round. Both contenders
compile at the same time there, in 40 to 60 s. ``--members K`` adds a contender that trains K
networks at once, by ``vmap`` over folds or seeds: one program and the same images in memory, but
each member has its rows, seed and state. It compares the program with K trainings in turn. Without
a GPU everything runs on the CPU, for which the defaults are far too large: ``--batch 2 --side 32
--width 8 --stage_sizes 1 1 --images 16``.

Roofline: FLOPs are those of the step as written. Bytes are those that the operations of the
compiled program read and write, as counted by XLA, for which a convolution reads each operand once.
Both are divided by the measured time of a step. "of copy" compares with the bandwidth of a jitted
copy on the same card, "of peak" with the data sheet. "busy" is the share of the time between the
first and the last kernel of a trace in which any kernel ran; ``--quick`` leaves it out. "single,
ms" is the time of a step with one dispatch per step.

To train on BreaKHis in five strict folds, decode the images on any machine with TensorFlow. The
machine with the GPU needs only the folder of the printed file, and no TensorFlow::

    python -c "from data.dataset import load_dataset as load; \
        print(load('/path/to/BreaKHis_v1').images.filename)"

    pip install -c constraints.txt -e '.[cuda12]'
    python train.py --config=configs/breakhis.py --workdir=runs/strict --config.split.fold=all \
        --config.data.dir=FOLDER --config.data.placement=device --config.model.dtype=bfloat16 \
        --config.eval_batch_size=256 --config.log_every_steps=50
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.gpu_members import at_once
from benchmarks.gpu_step import Case, ours
from benchmarks.measuring import Staged, finish, machine, parser, table
from se_resnet.runtime.cli import exit_on_user_error

# Data sheets, by jax.Device.device_kind: TB/s of memory, and dense TFLOP/s in bfloat16 and TF32.
CARDS = {
    "NVIDIA H100 80GB HBM3": (3.35, {"bfloat16": 989, "float32": 495}),
    "NVIDIA H200": (4.8, {"bfloat16": 989, "float32": 495}),
    "NVIDIA A100-SXM4-40GB": (1.555, {"bfloat16": 312, "float32": 156}),
    "NVIDIA A100-SXM4-80GB": (2.039, {"bfloat16": 312, "float32": 156}),
    "NVIDIA A100 80GB PCIe": (1.935, {"bfloat16": 312, "float32": 156}),
}


OURS, TORCH = "this project", "torch.compile"


def together(members: int) -> str:
    """Returns the name of the contender that trains several networks at once."""
    return f"{members} members at once"


def speed_row(case: Case, runs: Mapping[str, Sequence[dict]], members: int = 0) -> dict[str, Any]:
    """Returns medians over the rounds, and the medians of the ratios.

    Args:
        case: what was measured.
        runs: the rounds of each contender, by its name.
        members: number of networks that are trained at once; 0 if there is no such contender.
    """
    mine, peer, many = (runs.get(name, ()) for name in (OURS, TORCH, together(members)))

    def median(runs: Sequence[dict], key: str, factor: float = 1.0) -> float | None:
        values = [factor * run[key] for run in runs if run[key] is not None]
        return statistics.median(values) if values else None

    def ratio(others: Sequence[dict], factor: float = 1.0) -> float | None:
        pairs = zip(mine, others, strict=False)
        ratios = [factor * other["seconds"] / run["seconds"] for run, other in pairs]
        return statistics.median(ratios) if ratios else None

    seconds = statistics.median(run["seconds"] for run in mine)
    theirs = median(peer, "seconds")
    row = {
        "batch": case.batch,
        "dtype": case.dtype,
        "images/s": case.batch / seconds,
        "step, ms": 1000 * seconds,
        "single, ms": median(mine, "single_seconds", 1000),
        "busy, %": median(mine, "busy", 100),
        "peak, GB": median(mine, "peak_bytes", 1e-9),
        "compile, s": median(mine[:1], "compile_seconds"),
        "torch.compile, images/s": case.batch / theirs if theirs else None,
        "torch.compile, peak GB": median(peer, "peak_bytes", 1e-9),
        "torch.compile, compile s": median(peer[:1], "compile_seconds"),
        "times as fast": ratio(peer),
    }
    if many:
        step = statistics.median(run["seconds"] for run in many)
        gains = ratio(many, 1 / members)
        row |= {
            "members": members,
            "members, images/s": members * case.batch / step,
            "members, peak GB": median(many, "peak_bytes", 1e-9),
            "members, times as fast as in turn": 1 / gains if gains else None,
        }
    return row


def verdict(row: Mapping[str, Any]) -> str:
    """Returns a sentence on whether training the members at once pays."""
    gain = row["members, times as fast as in turn"]
    case = f"batch {row['batch']}, {row['dtype']}: {row['members']} members at once are"
    return (
        f"{case} {gain:.2f} times as fast as in turn, which "
        f"{'pays' if gain > 1 else 'does not pay'}."
    )


def roofline_row(case: Case, mine: Sequence[dict]) -> dict[str, Any]:
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


def measure(
    case: Case, rounds: int, contenders: Mapping[str, tuple], compile_at_once: bool
) -> dict[str, list[dict[str, Any]]]:
    """Measures the contenders of a case in turn, and prints each result as it comes.

    Args:
        case: what to measure.
        rounds: number of rounds.
        contenders: a generator function and its arguments by name, see :class:`Staged`.
        compile_at_once: whether the contenders compile at the same time.

    Returns:
        The rounds of each contender. Each has the facts of the preparation too.
    """
    facts, runs = {}, {name: [] for name in contenders}
    with contextlib.ExitStack() as stack:

        def start(name: str) -> Staged:
            staged = Staged(*contenders[name])
            stack.callback(staged.close)
            return staged

        processes = {name: start(name) for name in contenders} if compile_at_once else {}
        for name in contenders:
            if name not in processes:
                processes[name] = start(name)
            facts[name] = processes[name].value()
            _report(case, name, f"compiled in {facts[name]['compile_seconds']:.0f} s")
        for number in range(1, rounds + 1):
            for name, process in processes.items():
                run = process.next()
                runs[name].append({**facts[name], **run})
                images = case.batch * facts[name].get("members", 1) / run["seconds"]
                peak = run["peak_bytes"]
                _report(
                    case,
                    name,
                    f"round {number}: {1000 * run['seconds']:.1f} ms a step, {images:,.0f} images/s"
                    + (f", peak {peak / 1e9:.1f} GB" if peak else ""),
                )
    return runs


def _report(case: Case, name: str, text: str) -> None:
    print(f"batch {case.batch}, {case.dtype}, {name}: {text}", flush=True)


def main() -> None:
    flags = parser(__doc__)
    flags.add_argument("--quick", action="store_true", help="one case, at most 3 minutes on a card")
    flags.add_argument("--batch", type=int, nargs="+")
    flags.add_argument("--dtype", nargs="+", choices=["float32", "bfloat16"])
    flags.add_argument("--images", type=int, default=2048, help="in the device's memory")
    flags.add_argument("--side", type=int, default=224, help="pixels")
    flags.add_argument("--width", type=int, default=64, help="channels of the stem")
    flags.add_argument("--stage_sizes", type=int, nargs="+", default=[3, 4, 6, 3])
    flags.add_argument("--steps", type=int, default=10, help="in one dispatch")
    flags.add_argument("--dispatches", type=int, default=10, help="timed in each round")
    flags.add_argument("--rounds", type=int)
    flags.add_argument("--copy", type=int, default=1024, help="megabytes, to measure bandwidth")
    flags.add_argument("--formulation", default="auto", help="config.model.formulation")
    flags.add_argument("--members", type=int, default=0, help="networks to train at once")
    flags.add_argument("--no_augment", action="store_true", help="for all contenders")
    flags.add_argument("--no_torch", action="store_true")
    options = flags.parse_args()
    batches = options.batch or ([128] if options.quick else [32, 64, 128, 256])
    dtypes = options.dtype or (["bfloat16"] if options.quick else ["bfloat16", "float32"])
    rounds = options.rounds or (1 if options.quick else 3)
    absent = options.no_torch or importlib.util.find_spec("torch") is None
    names = [OURS, *([] if absent else [TORCH])]
    names += [together(options.members)] if options.members else []
    print(
        f"{len(batches) * len(dtypes)} cases, batch {batches}, {dtypes}, {rounds} rounds: "
        f"{', '.join(names)}.\n{', '.join(f'{k} {v}' for k, v in machine().items())}",
        flush=True,
    )
    # The processes allocate only the memory that they need, so that none runs out of memory.
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    speed, roofline, platforms = [], [], set()
    for dtype in dtypes:
        for batch in batches:
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
                not options.quick,
                options.formulation,
            )
            contenders: dict[str, tuple] = {OURS: (ours, case)}
            if not absent:
                from benchmarks.gpu_torch import theirs

                contenders[TORCH] = (theirs, case)
            if options.members:
                contenders[together(options.members)] = (at_once, case, options.members)
            runs = measure(case, rounds, contenders, options.quick)
            speed.append(speed_row(case, runs, options.members))
            roofline.append(roofline_row(case, runs[OURS]))
            platforms |= {f"{run['platform']} ({run['kind']})" for run in runs[OURS]}
            print(table(speed[-1:]), flush=True)
            if options.members:
                print(verdict(speed[-1]), flush=True)
    notes = [f"Platform: {', '.join(sorted(platforms))}."]
    if absent:
        notes.append(
            f"No torch.compile: {'--no_torch' if options.no_torch else 'torch is not installed'}."
        )
    finish(speed, options.out, *notes, roofline=roofline)


if __name__ == "__main__":
    with exit_on_user_error():
        main()
