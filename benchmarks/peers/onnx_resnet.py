"""The network as this project's ONNX export, run by ONNX Runtime and by OpenVINO."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measuring import ROOT
from benchmarks.peers import Batch, Task, Work

Predict = Callable[[np.ndarray], np.ndarray]  # images to probabilities ``float32 [B]``
_EXPORT = "from benchmarks.peers.onnx_resnet import write_model; write_model({task!r}, {path!r})"


def predictor(task: Task, runtime: str) -> Work:
    """Returns a function that predicts by a runtime, with all cores of this process.

    Args:
        task: in float32.
        runtime: one of :data:`RUNTIMES`.

    Returns:
        The function of batches. It returns logits, computed in float64 from the probabilities of
        the exported file.
    """
    if task.dtype != "float32":
        raise SystemExit(f"{runtime} runs the export in float32 only: leave out --dtype bfloat16.")
    run = RUNTIMES[runtime](_model(task), task.batch_size, (task.size, task.size))

    def work(batches: Iterable[Batch]) -> np.ndarray:
        probabilities = np.concatenate([run(images) for images, _ in batches]).astype(np.float64)
        return np.log(probabilities) - np.log1p(-probabilities)

    return work


def _onnxruntime(path: Path, _batch_size: int, _size: tuple[int, int]) -> Predict:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = len(os.sched_getaffinity(0))
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda images: session.run(["probability"], {"images": images})[0]


def _openvino(path: Path, batch_size: int, size: tuple[int, int]) -> Predict:
    compiled = _compiled_openvino(path, batch_size, size, "LATENCY")
    return lambda images: compiled(images)["probability"].copy()


def _openvino_streams(path: Path, batch_size: int, size: tuple[int, int]) -> Predict:
    import openvino

    parts = math.gcd(len(os.sched_getaffinity(0)), batch_size)
    queue = openvino.AsyncInferQueue(
        _compiled_openvino(path, batch_size // parts, size, "THROUGHPUT")
    )

    def run(images: np.ndarray) -> np.ndarray:
        found: dict[int, np.ndarray] = {}
        queue.set_callback(
            lambda request, part: found.update(
                {part: request.get_tensor("probability").data.copy()}
            )
        )
        for part, its_images in enumerate(np.split(images, parts)):
            queue.start_async({0: its_images}, part)
        queue.wait_all()
        return np.concatenate([found[part] for part in range(parts)])

    return run


def _compiled_openvino(path: Path, batch_size: int, size: tuple[int, int], hint: str) -> Any:
    """Compiles for a hint: ``'LATENCY'``, all threads for one batch, or ``'THROUGHPUT'``."""
    import openvino

    model = openvino.Core().read_model(path)
    model.reshape([batch_size, *size, 3])  # faster than an unknown size
    settings = {
        "PERFORMANCE_HINT": hint,
        "INFERENCE_NUM_THREADS": len(os.sched_getaffinity(0)),
        "INFERENCE_PRECISION_HINT": "f32",
    }
    return openvino.Core().compile_model(model, "CPU", settings)


# Open an exported file for batches ``uint8 [B, H, W, 3]`` of a batch size, height and width.
# ``openvino, streams`` divides each batch over the cores.
RUNTIMES: dict[str, Callable[[Path, int, tuple[int, int]], Predict]] = {
    "onnxruntime": _onnxruntime,
    "openvino": _openvino,
    "openvino, streams": _openvino_streams,
}


def _model(task: Task) -> Path:
    """Returns the file of the network; a separate process writes it, because it imports JAX."""
    path = task.tensors.with_suffix(".onnx")
    if not path.exists():
        unfinished = path.with_suffix(f".{os.getpid()}")
        script = _EXPORT.format(task=task, path=str(unfinished)).replace("PosixPath", "Path")
        script = f"from pathlib import Path; from benchmarks.peers import Task; {script}"
        subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True)
        unfinished.replace(path)
    return path


def write_model(task: Task, path: str) -> None:
    """Writes the network as ``python -m se_resnet.export --format=onnx`` does."""
    import jax
    from flax.traverse_util import unflatten_dict

    from benchmarks.peers.ours import classifier_of
    from se_resnet.export.formats import FORMATS
    from se_resnet.export.network import inference
    from se_resnet.metrics.decision import Decision
    from se_resnet.runs.workdir import Run

    variables = jax.device_put(unflatten_dict(task.load(), sep="/"))
    decision = Decision("balanced_accuracy", 0.5, 1.0, 0.0, "no validation images")
    classifier = classifier_of(task, "plain")
    run = Run(classifier, (variables,), decision)
    FORMATS["onnx"].write(inference(run), classifier.size, Path(path))
