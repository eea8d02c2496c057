"""The formats of exported files, with their requirements and writers."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import export

from se_resnet.errors import UserError
from se_resnet.export.network import OUTPUTS

Function = Callable[[jax.Array], dict[str, jax.Array]]
Size = tuple[int, int]

# A file of jax.export runs on all of these.
_PLATFORMS = ("cpu", "cuda", "tpu")
_OPSET = 18  # ONNX version of December 2022, which older runtimes can read


@dataclasses.dataclass(frozen=True)
class Format:
    """A format of exported files.

    Attributes:
        file: name of the file in the output folder.
        write: writes a function of images ``uint8 [B, H, W, 3]`` of a given size to a path.
        packages: distributions whose versions matter, by the name of their import.
        extra: extra of this project that installs the packages; None if all are dependencies.
        runtime: package that runs the file, here for the check and later for users.
    """

    file: str
    write: Callable[[Function, Size, Path], None]
    packages: dict[str, str]
    extra: str | None
    runtime: str

    def require_packages(self) -> None:
        """Raises a UserError that names the first missing package."""
        for module, package in self.packages.items():
            if importlib.util.find_spec(module) is None:
                target = f".[{self.extra}]" if self.extra else "."
                raise UserError(
                    f"this format needs {package}, which is not installed: pip install -c "
                    f"constraints.txt -e '{target}'."
                )


def _write_stablehlo(function: Function, size: Size, path: Path) -> None:
    images = jax.ShapeDtypeStruct(_symbolic_shape(size), np.uint8)
    exported = export.export(jax.jit(function), platforms=_PLATFORMS)(images)
    path.write_bytes(exported.serialize())


def _write_saved_model(function: Function, size: Size, path: Path) -> None:
    """Writes one operation that XLA runs (``XlaCallModule``), which can represent any network."""
    tf = _tensorflow()
    from jax.experimental import jax2tf

    converted = jax2tf.convert(
        function,
        polymorphic_shapes=["(batch, ...)"],
        with_gradient=False,
        native_serialization_platforms=_PLATFORMS,
    )
    signature = [tf.TensorSpec((None, *size, 3), tf.uint8, name="images")]
    _save(tf.function(converted, input_signature=signature, autograph=False), path)


def _write_tflite(function: Function, size: Size, path: Path) -> None:
    tf = _tensorflow()
    from se_resnet.export.tf_graph import to_tensorflow

    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        _save(_require_size(to_tensorflow(function, size)), Path(folder))
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        try:
            content = converter.convert()
        except Exception as error:
            if type(error).__name__ != "ConverterError":  # not public in TensorFlow
                raise
            names = sorted(set(re.findall(r'"(\w+):"', str(error))))
            raise UserError(
                f"the network has operations that TFLite lacks ({', '.join(names)}): use "
                "--format=onnx, or stablehlo or savedmodel, which take any network."
            ) from error
    path.write_bytes(_rename_tensors(content))


def _require_size(function: Any) -> Any:
    """Returns the same function with operations that fail for images of another size.

    LiteRT resizes its input tensor to any image, and convolutions accept any size. A split into
    parts of fixed size fails. The parts are then joined again.
    """
    tf = _tensorflow()

    @tf.function(input_signature=function.input_signature, autograph=False)
    def checked(images: Any) -> Any:
        for axis in (1, 2, 3):
            parts = [1, images.shape[axis] - 1]
            images = tf.concat(tf.split(images, parts, axis), axis)
        return function(images)

    return checked


def _rename_tensors(content: bytes) -> bytes:
    """Returns the TFLite file with the signature's names for its tensors, in the order of OUTPUTS.

    The converter orders outputs by name and calls them ``PartitionedCall:0`` and ``:1``.
    """
    from tensorflow.lite.tools import flatbuffer_utils

    model = flatbuffer_utils.convert_bytearray_to_object(content)
    signature, graph = model.signatureDefs[0], model.subgraphs[0]
    tensors = {}
    for entry in (*signature.inputs, *signature.outputs):
        graph.tensors[entry.tensorIndex].name = entry.name
        tensors[entry.name.decode()] = entry.tensorIndex
    graph.outputs = [tensors[name] for name in OUTPUTS]
    return flatbuffer_utils.convert_object_to_bytearray(model)


def _write_onnx(function: Function, size: Size, path: Path) -> None:
    _tensorflow()
    import tf2onnx

    from se_resnet.export.tf_graph import to_tensorflow

    converted = _require_size(to_tensorflow(function, size))
    model, _ = tf2onnx.convert.from_function(
        converted, input_signature=converted.input_signature, opset=_OPSET
    )
    outputs = sorted(model.graph.output, key=lambda value: OUTPUTS.index(value.name))
    del model.graph.output[:], model.opset_import[1:]
    model.graph.output.extend(outputs)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    path.write_bytes(model.SerializeToString())


FORMATS = {
    "stablehlo": Format("model.stablehlo", _write_stablehlo, {"jax": "jax"}, None, "jax.export"),
    "savedmodel": Format(
        "saved_model",
        _write_saved_model,
        {"jax": "jax", "tensorflow": "tensorflow"},
        None,
        "tensorflow",
    ),
    "tflite": Format(
        "model.tflite",
        _write_tflite,
        {"jax": "jax", "tensorflow": "tensorflow", "ai_edge_litert": "ai-edge-litert"},
        "tflite",
        "ai-edge-litert",
    ),
    "onnx": Format(
        "model.onnx",
        _write_onnx,
        {
            "jax": "jax",
            "tensorflow": "tensorflow",
            "tf2onnx": "tf2onnx",
            "onnx": "onnx",
            "onnxruntime": "onnxruntime",
        },
        "onnx",
        "onnxruntime",
    ),
}


def _symbolic_shape(size: Size) -> tuple[Any, ...]:
    return tuple(export.symbolic_shape(f"batch, {size[0]}, {size[1]}, 3"))


def _tensorflow() -> Any:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # no start-up messages
    import tensorflow as tf

    return tf


def _save(function: Any, path: Path) -> None:
    tf = _tensorflow()
    module = tf.Module()
    module.serve = function
    signatures = {"serving_default": function.get_concrete_function()}
    tf.saved_model.save(module, str(path), signatures=signatures)
