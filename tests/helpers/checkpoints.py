"""Small ResNets as other libraries would have saved them, and as we should read them."""

from __future__ import annotations

import numpy as np

STAGE_SIZES = (2, 1)
WIDTH = 16
CLASSES = 3
NAMINGS = ("keras_old", "keras_new", "torch", "transformers")


def names(naming: str, stage: int, block: int, conv: int) -> tuple[str, str]:
    """Theirs for a convolution (0 is the projection) and its normalisation; stage 0 is the stem."""
    if naming == "keras_old":
        branch = f"{stage + 1}{'_ab'[block]}_branch{'1' if not conv else '2' + '_abc'[conv]}"
        return ("conv1", "bn_conv1") if not stage else (f"res{branch}", f"bn{branch}")
    if naming == "keras_new":
        module = f"conv{stage + 1}_block{block}_{conv}" if stage else "conv1"
        return f"{module}_conv", f"{module}_bn"
    if naming == "torch":
        module = f"layer{stage}.{block - 1}." if stage else ""
        if stage and not conv:
            return f"{module}downsample.0", f"{module}downsample.1"
        return f"{module}conv{conv or 1}", f"{module}bn{conv or 1}"
    module = "resnet.embedder.embedder"
    if stage:
        module = f"resnet.encoder.stages.{stage - 1}.layers.{block - 1}."
        module += f"layer.{conv - 1}" if conv else "shortcut"
    return f"{module}.convolution", f"{module}.normalization"


HEAD = {
    "keras_old": "fc1000",
    "keras_new": "predictions",
    "torch": "fc",
    "transformers": "classifier.1",
}


def make(
    naming: str, *, top: bool = True, reduction: int = 0
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Their tensors by name, and ours by path; with trained gates if ``reduction``, for torch."""
    rng = np.random.default_rng(0)
    keras = naming.startswith("keras")
    theirs: dict[str, np.ndarray] = {}
    ours: dict[str, np.ndarray] = {}

    def add(module: tuple[str, str], place: tuple[str, str], shape: tuple[int, ...]) -> None:
        kernel = rng.normal(size=shape).astype(np.float32)
        scale, bias, mean, var, conv_bias = rng.uniform(0.5, 1.5, (5, shape[-1])).astype(np.float32)
        (conv, norm), (our_conv, our_norm) = module, place
        ours[f"params/{our_conv}/kernel"] = kernel
        ours[f"params/{our_norm}/scale"] = scale
        ours[f"params/{our_norm}/bias"] = bias
        ours[f"batch_stats/{our_norm}/mean"] = mean - conv_bias if keras else mean
        ours[f"batch_stats/{our_norm}/var"] = var
        if keras:
            theirs[f"{conv}/kernel"], theirs[f"{conv}/bias"] = kernel, conv_bias
            leaves = ("gamma", "beta", "moving_mean", "moving_variance")
        else:
            theirs[f"{conv}.weight"] = kernel.transpose(3, 2, 0, 1)
            theirs[f"{norm}.num_batches_tracked"] = np.array(7)
            leaves = ("weight", "bias", "running_mean", "running_var")
        for leaf, value in zip(leaves, (scale, bias, mean, var), strict=True):
            theirs[f"{norm}{'/' if keras else '.'}{leaf}"] = value

    def add_dense(module: str, place: str, shape: tuple[int, int], conv: bool = False) -> None:
        kernel = rng.normal(size=shape).astype(np.float32)
        bias = rng.normal(size=shape[1]).astype(np.float32)
        ours[f"params/{place}/kernel"], ours[f"params/{place}/bias"] = kernel, bias
        if keras:
            theirs[f"{module}/kernel"], theirs[f"{module}/bias"] = kernel, bias
        else:
            theirs[f"{module}.weight"] = kernel.T[:, :, None, None] if conv else kernel.T
            theirs[f"{module}.bias"] = bias

    add(names(naming, 0, 0, 0), ("stem/conv", "stem/norm"), (7, 7, 3, WIDTH))
    inputs = WIDTH
    for stage, blocks in enumerate(STAGE_SIZES, start=1):
        width = WIDTH * 2 ** (stage - 1)
        for block in range(1, blocks + 1):
            place = f"stage{stage}/block{block}"
            shapes = [(1, 1, inputs, width), (3, 3, width, width), (1, 1, width, 4 * width)]
            for i, shape in enumerate(shapes, start=1):
                add(names(naming, stage, block, i), (f"{place}/conv{i}", f"{place}/norm{i}"), shape)
            if block == 1:
                add(
                    names(naming, stage, block, 0),
                    (f"{place}/projection/conv", f"{place}/projection/norm"),
                    (1, 1, inputs, 4 * width),
                )
            inputs = 4 * width
            if reduction:
                gate, hidden = f"layer{stage}.{block - 1}.se", inputs // reduction
                add_dense(f"{gate}.fc1", f"{place}/attention/reduce", (inputs, hidden), conv=True)
                add_dense(f"{gate}.fc2", f"{place}/attention/expand", (hidden, inputs), conv=True)
    if top:
        add_dense(HEAD[naming], "head", (inputs, CLASSES))
    return theirs, ours
