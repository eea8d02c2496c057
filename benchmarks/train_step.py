"""Compares training steps of the SE-ResNet50 with torch and Keras, in images per second.

    python -m benchmarks.train_step [--batch 1 16 32] [--dtype float32 bfloat16] [--out FILE]

All contenders train the same network from the same tensors: 224x224 ``uint8`` pixels from the host,
standardised, no augmentation, binary cross-entropy of one logit, Adam on all parameters. The loss
is read after every step. ``ours, fast`` and ``ours, plain`` are ``config.model.formulation``. torch
runs channels last with the fused Adam. With bfloat16, torch uses autocast and Keras its mixed
policy. The losses of the first two steps must agree before anything is timed, which checks forward
pass, gradients and optimizer. torch is in the extra ``bench``. ``torch.compile`` needs a C++
compiler. ``--memory default`` switches off the huge pages of our commands.
"""

from __future__ import annotations

from benchmarks import contest
from se_resnet.runtime.cli import exit_on_user_error

PEERS = ["ours, plain", "torch", "torch.compile", "keras"]
# bfloat16 has 8 bits. The second loss follows a step of Adam, which moves a parameter by the
# learning rate even if its gradient is only rounding error.
TOLERANCE = {"float32": (1e-3, 1e-2), "bfloat16": (0.1, 0.1)}


def main() -> None:
    contest.run("trainer", __doc__, PEERS, TOLERANCE, images=48)


if __name__ == "__main__":
    with exit_on_user_error():
        main()
