"""Adds the reference of the training images to a finished run, for the input gate.

  python -m data.reference --workdir=runs/breakhis

A run of this version has the reference since its training. A run of an earlier version gets it
here: the images of the run must be available. Predictions then withhold the call for an image that
does not look like the training images. Of several networks each gets a reference.
"""

from __future__ import annotations

from absl import flags

from se_resnet.runtime.cli import PATH, define_attention_flag, parse_flags, run_command

if __name__ == "__main__":  # before the imports that take seconds
    _WORKDIR = flags.DEFINE(PATH, "workdir", None, "Folder of the run.", required=True)
    _ATTENTION = define_attention_flag()
    parse_flags()

from data.reference.make import make_reference
from se_resnet import attention
from se_resnet.runs.run_folder import RunFolder


def main() -> None:
    """Runs the command."""
    run = RunFolder(_WORKDIR.value)
    run.config()
    attention.find(_ATTENTION.value)
    for network in run.networks():
        make_reference(network, _ATTENTION.value)
        print(f"written to {network.input_reference_path}")


if __name__ == "__main__":
    run_command(main)
