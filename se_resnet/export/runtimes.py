"""Runs an exported file with its runtime and without this project, as a user would.

  python runtimes.py FORMAT MODEL IMAGES.npy RESULTS.npz SIZE...

``IMAGES.npy`` holds RGB ``uint8 [N, H, W, 3]``. The results hold, under ``<output>/<size>``, each
output for all images, computed in batches of that size. ``takes_other_sizes`` is True if an image
of twice the height and width gave no error.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np


def stablehlo(path):
    """Returns a function of images that ``jax.export`` runs."""
    from jax import export

    return export.deserialize(bytearray(Path(path).read_bytes())).call


def savedmodel(path):
    """Returns a function of images that TensorFlow runs."""
    import tensorflow as tf

    model = tf.saved_model.load(path)
    run = model.signatures["serving_default"]
    # The default argument keeps the model alive, and with it the variables.
    return lambda images, model=model: run(images=tf.constant(images))


def onnx(path):
    """Returns a function of images that ONNX Runtime runs."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda images: dict(zip(names, session.run(names, {"images": images}), strict=True))


def tflite(path):
    """Returns a function of images that LiteRT runs."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(path)
    run = interpreter.get_signature_runner("serving_default")
    return lambda images: run(images=images)


def main(kind, model, images, results, *sizes):
    """Runs all images in batches of every size."""
    run = {"stablehlo": stablehlo, "savedmodel": savedmodel, "onnx": onnx, "tflite": tflite}[kind](
        model
    )
    pixels = np.load(images)
    outputs: dict[str, Any] = {}
    for size in map(int, sizes):
        batches = [run(pixels[i : i + size]) for i in range(0, len(pixels), size)]
        for name in batches[0]:
            parts = [np.array(batch[name]) for batch in batches]
            outputs[f"{name}/{size}"] = np.concatenate(parts)
    outputs["takes_other_sizes"] = accepts(run, pixels[:1].repeat(2, 1).repeat(2, 2))
    np.savez(results, **outputs)


def accepts(run, images):
    """Returns True if the function accepts the images without an error."""
    try:
        run(images)
    except Exception:  # every runtime raises another kind
        return False
    return True


if __name__ == "__main__":
    for name in ("se_resnet", "data"):  # an import of the project fails from here on
        sys.modules[name] = None  # type: ignore[assignment]
    main(*sys.argv[1:])
