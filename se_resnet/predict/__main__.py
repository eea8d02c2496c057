"""Predicts benign or malignant for new images with a run's chosen checkpoint.

  python -m se_resnet.predict --workdir=runs/breakhis --input=image.png --out=predictions
  python -m se_resnet.predict --workdir=runs/breakhis --input=folder --out=predictions
  python -m se_resnet.predict --workdir=runs/breakhis --input='a/*.png' --input=b --out=predictions
  python -m se_resnet.predict --workdir=runs/breakhis --input=images.csv --out=predictions
  python -m se_resnet.predict --workdir=runs/scaled --input=folder --out=out --um_per_px=0.42

Reads PNG, JPEG, TIFF, BMP and WebP of any size, and folders with their subfolders. Writes
predictions.html for people, predictions.csv and predictions.json for programs, overlays/,
patients.csv if file names contain patients, and not_predicted.csv if files were skipped.
"""

from __future__ import annotations

from absl import flags

from se_resnet.images.resize import TTA
from se_resnet.runtime.cli import PATH, define_attention_flag, parse_flags, run_command

if __name__ == "__main__":  # before the imports that take seconds
    _WORKDIR = flags.DEFINE(PATH, "workdir", None, "Folder of the run.", required=True)
    _INPUT = flags.DEFINE_multi(
        PATH,
        flags.ArgumentSerializer(),
        "input",
        None,
        "An image, a folder, a quoted pattern such as 'folder/*.png', or a table of images. "
        "May be given several times.",
        required=True,
    )
    _OUT = flags.DEFINE(PATH, "out", None, "Folder for the results.", required=True)
    _OVERLAYS = flags.DEFINE_bool(
        "overlays", True, "Write pictures of where the network looked (Grad-CAM)."
    )
    _TTA = flags.DEFINE_enum(
        "tta",
        "none",
        TTA,
        "Average over 8 rotated and mirrored views (dihedral), over tiles, or over both.",
    )
    _PATTERN = flags.DEFINE_string(
        "patient_pattern",
        None,
        "Regular expression that finds the patient in a file's name, or else in its path below "
        "--input; its first group is the patient. Default: BreaKHis file names.",
    )
    _UM_PER_PX = flags.DEFINE_float(
        "um_per_px",
        None,
        "Side of a pixel of the images in micrometres, for a run with config.data.um_per_px. "
        "Default: by BreaKHis file names.",
    )
    _THRESHOLD = flags.DEFINE_float(
        "threshold",
        None,
        "Probability from which an image is called malignant. Default: the threshold of the run.",
        lower_bound=0.0,
        upper_bound=1.0,
    )
    _ATTENTION = define_attention_flag()
    parse_flags()

from pathlib import Path

from se_resnet.predict.folder import predict_folder
from se_resnet.predict.patients import BREAKHIS_PATIENT


def main() -> None:
    """Runs the command."""
    predict_folder(
        Path(_WORKDIR.value),
        [Path(path) for path in _INPUT.value],
        Path(_OUT.value),
        overlays=_OVERLAYS.value,
        patient_pattern=BREAKHIS_PATIENT if _PATTERN.value is None else _PATTERN.value,
        tta=_TTA.value,
        attention=_ATTENTION.value,
        um_per_px=_UM_PER_PX.value,
        threshold=_THRESHOLD.value,
    )


if __name__ == "__main__":
    run_command(main)
