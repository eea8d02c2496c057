"""Exports a run's chosen checkpoint as a file for other runtimes.

  python -m se_resnet.export --workdir=runs/breakhis --format=onnx --out=exported
  python -m se_resnet.export --workdir=runs/breakhis --format=tflite --out=exported --images=FOLDER

Input: any number of RGB images as uint8 [batch, height, width, 3]; metadata.json states height and
width. Output: the probability of malignant, raw and calibrated.

The file is kept only if it passes a check. Its runtime computes the probabilities of real images in
batches of 1, 3 and 16, in a process without this project. They must agree with the run's
probabilities to 1e-4.

The formats onnx and tflite need the extras of the same names.
"""

from __future__ import annotations

from absl import flags

from se_resnet.runtime.cli import PATH, define_attention_flag, parse_flags, run_command

if __name__ == "__main__":  # before the imports that take seconds
    _WORKDIR = flags.DEFINE(PATH, "workdir", None, "Folder of the run.", required=True)
    _FORMAT = flags.DEFINE_enum(
        "format",
        None,
        ("stablehlo", "savedmodel", "tflite", "onnx"),
        "Format of the file.",
        required=True,
    )
    _OUT = flags.DEFINE(PATH, "out", None, "Folder for the file.", required=True)
    _IMAGES = flags.DEFINE(
        PATH,
        "images",
        None,
        "Image or folder for the check; default: test images of the run, else the sample.",
    )
    _ATTENTION = define_attention_flag()
    parse_flags()

from pathlib import Path

from se_resnet.export.exporting import METADATA, export_run
from se_resnet.export.formats import FORMATS


def main() -> None:
    """Runs the command."""
    out = Path(_OUT.value)
    images = Path(_IMAGES.value) if _IMAGES.value else None
    metadata = export_run(Path(_WORKDIR.value), _FORMAT.value, out, images, _ATTENTION.value)
    parity = metadata["parity"]
    print(
        f"checked with {metadata['runtime']} on {parity['images']} {parity['measured_on']}: "
        f"probabilities differ by {parity['max_difference']:.1e} at most\n"
        f"written: {out / FORMATS[_FORMAT.value].file} and {out / METADATA}\n{metadata['notice']}"
    )


if __name__ == "__main__":
    run_command(main)
