"""Predictions of the SE-ResNet50 in images per second, beside the same in torch and Keras.

    python -m benchmarks.inference [--batch 1 16 32] [--dtype float32 bfloat16] [--out FILE]

All map the same 224x224 ``uint8`` pixels on the host to the same logits there. Ours is the
prediction of ``eval.py``, which folds normalisations into convolutions when it starts; that happens
before the clock starts, as does the first batch of every turn, for all. Of the peers only
``torch.compile, frozen`` folds too. Before anything is timed the logits must agree.
``benchmarks.train_step`` says what else the options and contenders mean.
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
