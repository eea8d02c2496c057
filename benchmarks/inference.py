"""Compares predictions of the SE-ResNet50 with other runtimes, in images per second.

    python -m benchmarks.inference [--batch 1 16 32] [--dtype float32 bfloat16] [--out FILE]

All contenders map the same 224x224 ``uint8`` pixels on the host to the same logits on the host.
Ours is the prediction of ``eval.py``, which first folds normalisations into convolutions. The clock
starts after the folding and after the first batch of every turn, for all contenders. Of the peers
``torch.compile, frozen``, ONNX Runtime and OpenVINO fold too. The last two run the file that
``python -m se_resnet.export --format=onnx`` writes, OpenVINO with a fixed batch size. Ours divides
a batch over the cores, and so does OpenVINO with streams. The logits must agree before anything is
timed: to 1e-4 in float32.

:mod:`benchmarks.prediction` times the whole command, from image files to pictures.
``benchmarks.train_step`` describes the other options and contenders.
"""

from __future__ import annotations

from benchmarks import contest
from se_resnet.runtime.cli import exit_on_user_error

PEERS = [
    "ours, plain",
    "torch",
    "torch.compile",
    "torch.compile, frozen",
    "keras",
    "onnxruntime",
    "openvino",
    "openvino, streams",
]
TOLERANCE = {"float32": (1e-4, 1e-4), "bfloat16": (0.1, 0.1)}


def main() -> None:
    contest.run("predictor", __doc__, PEERS, TOLERANCE, images=32)


if __name__ == "__main__":
    with exit_on_user_error():
        main()
