"""Training steps of the SE-ResNet50 in images per second, beside the same in torch and Keras.

    python -m benchmarks.train_step [--batch 1 16 32] [--dtype float32 bfloat16] [--out FILE]

All train the same network from the same tensors: 224x224 ``uint8`` pixels from the host,
standardised, no augmentation, binary cross-entropy of one logit, Adam on all parameters; the loss
is read after every step. ``ours, fast`` and ``ours, plain`` are ``config.model.formulation``. torch
runs channels last and with the fused Adam; with bfloat16 under autocast, Keras with its mixed
policy. Before anything is timed the losses of the first two steps must agree: that is the forward
pass, the gradients and the optimizer. torch is in the extra ``bench``; ``torch.compile`` needs a
C++ compiler. ``--memory default`` takes the huge pages away with which our commands start.
"""

from __future__ import annotations

from benchmarks import contest
from se_resnet.runtime.cli import exit_on_user_error

PEERS = ["ours, plain", "torch", "torch.compile", "keras"]


def main() -> None:
    contest.run("trainer", __doc__, PEERS, images=48)


if __name__ == "__main__":
    with exit_on_user_error():
        main()
