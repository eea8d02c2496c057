"""Compares predictions of the SE-ResNet50 with torch and Keras, in images per second.

    python -m benchmarks.inference [--batch 1 16 32] [--dtype float32 bfloat16] [--out FILE]

All contenders map the same 224x224 ``uint8`` pixels on the host to the same logits on the host.
Ours is the prediction of ``eval.py``, which first folds normalisations into convolutions. The clock
starts after the folding and after the first batch of every turn, for all contenders. Of the peers
only ``torch.compile, frozen`` folds too. The logits must agree before anything is timed.
``benchmarks.train_step`` describes the other options and contenders.
"""

from __future__ import annotations

from benchmarks import contest
from se_resnet.runtime.cli import exit_on_user_error

PEERS = ["ours, plain", "torch", "torch.compile", "torch.compile, frozen", "keras"]


def main() -> None:
    contest.run("predictor", __doc__, PEERS, images=32)


if __name__ == "__main__":
    with exit_on_user_error():
        main()
