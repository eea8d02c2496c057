"""Exports a run's best checkpoint as a file for other runtimes.

  python -m se_resnet.export --workdir=runs/breakhis --format=onnx --out=exported
  python -m se_resnet.export --workdir=runs/breakhis --format=tflite --out=exported --images=FOLDER

The model takes RGB images as uint8 [batch, height, width, 3], any number of them, of the size that
metadata.json tells, and gives the probability of malignant, raw and calibrated. Before it is put
into the folder, it is run by its own runtime, in a process without this project, on real images in
batches of 1, 3 and 16, and must give the run's probabilities to 1e-4.

stablehlo and savedmodel need nothing more; onnx and tflite need the extras of these names.
"""

from __future__ import annotations

from absl import flags

from se_resnet.runtime.cli import PATH, parse_flags, run_command

if __name__ == "__main__":  # before the imports that take seconds
    _WORKDIR = flags.DEFINE(PATH, "workdir", None, "Folder of the run.", required=True)
    _FORMAT = flags.DEFINE_enum(
        "format", None, ("stablehlo", "savedmodel", "tflite", "onnx"), "Of the file.", required=True
    )
    _OUT = flags.DEFINE(PATH, "out", None, "Folder for the file.", required=True)
    _IMAGES = flags.DEFINE(
        PATH,
        "images",
        None,
        "Image or folder to check with; default: test images of the run, else of the sample.",
    )
    parse_flags()

from pathlib import Path

from se_resnet.export.exporting import METADATA, export_run
from se_resnet.export.formats import FORMATS


def main() -> None:
    """The command."""
    out = Path(_OUT.value)
    images = Path(_IMAGES.value) if _IMAGES.value else None
    metadata = export_run(Path(_WORKDIR.value), _FORMAT.value, out, images)
    parity = metadata["parity"]
    print(
        f"checked with {metadata['runtime']} on {parity['images']} {parity['measured_on']}: "
        f"probabilities differ by {parity['max_difference']:.1e} at most\n"
        f"written: {out / FORMATS[_FORMAT.value].file} and {out / METADATA}\n{metadata['notice']}"
    )


if __name__ == "__main__":
    run_command(main)
