"""The Hugging Face Hub: weights to start from, pinned by commit and checksum; model packages."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path

from se_resnet.errors import UserError
from se_resnet.weights.declared import CONFIG, PREPROCESSORS
from se_resnet.weights.formats import SAFETENSORS as FILE
from se_resnet.weights.formats import refused


@dataclasses.dataclass(frozen=True)
class Repository:
    """What is known of a repository's weights from its model card.

    Attributes:
        licence: SPDX identifier.
        interpolation: how the images were resized that the weights were trained with.
        revision: the commit to fetch; None for the newest.
        sha256: checksum of ``model.safetensors``; None where it is not known, and a run records
            what it got.
        configs: files that say of the network what its tensors do not show.
    """

    licence: str
    interpolation: str
    revision: str | None = None
    sha256: str | None = None
    configs: tuple[str, ...] = (CONFIG,)


KNOWN = {
    "timm/seresnet50.ra2_in1k": Repository("Apache-2.0", "bicubic"),
    "timm/seresnet50.a1_in1k": Repository("Apache-2.0", "bicubic"),
    "timm/seresnet50.a2_in1k": Repository(
        "Apache-2.0",
        "bicubic",
        "4cb9eed48ee840f525bb27706323a2181934b16f",
        "ff82ee22e5b6c607fd984f63b83a9a8b55787b2703c4683a5cd51297d27e9460",
    ),
    "timm/resnet50.a1_in1k": Repository(
        "Apache-2.0",
        "bicubic",
        "5d9e13b8fdab4d9718bcf2c8f5c3af01878367e8",
        "773525d5821de224f8f30c33377b7a795d7863e08522698200d3217d3f2a41bb",
    ),
    "timm/resnet50.tv_in1k": Repository(
        "BSD-3-Clause",
        "bilinear",
        "aa6c2d36d56bc0209040c02b5a7b7d7bf11d57b8",
        "5d061a3c593d795bfe682d9b152bafbcf550579873492def3515b46db1189888",
    ),
    "microsoft/resnet-50": Repository(
        "Apache-2.0",
        "bicubic",
        "34c2154c194f829b11125337b98c8f5f9965ff19",
        "9c6061af1f450bb0847e529fd742aa5066017be379c71bbf5546b198e5b13a1e",
        (CONFIG, PREPROCESSORS[0]),
    ),
}


def fetch(name: str) -> tuple[Path, str]:
    """Downloads a known repository's weights, once, into the cache of ``huggingface_hub``.

    The configurations of the same commit come to lie beside them. A cache from before, which lacks
    them, still serves where there is no connection: :func:`se_resnet.weights.pretrained.load` then
    says what it assumes.

    Args:
        name: one of ``KNOWN``.

    Returns:
        Path of the file in the cache, and the commit that it belongs to.

    Raises:
        UserError: the file is neither in the cache nor to be had.
    """
    revision = KNOWN[name].revision or "main"
    try:
        # Takes a second, which runs from other weights need not wait for.
        from huggingface_hub import hf_hub_download

        path = Path(hf_hub_download(name, FILE, revision=revision))
    except Exception as error:  # proxies and variables HF_... fail in many ways
        raise refused(
            name,
            f"it could not be downloaded ({_reason(error)}): fetch {FILE} from "
            f"https://huggingface.co/{name}/resolve/{revision}/{FILE} where there is a connection, "
            "and give the path of that file instead",
        ) from error
    for file in KNOWN[name].configs:
        with contextlib.suppress(OSError):
            hf_hub_download(name, file, revision=path.parent.name)
    return path, path.parent.name


def fetch_package(name: str, files: tuple[str, ...], revision: str | None = None) -> Path:
    """Downloads files of one commit of a repository, once, into the cache of ``huggingface_hub``.

    Args:
        name: ``'organisation/repository'``.
        files: which.
        revision: branch, tag or commit; None for the newest.

    Returns:
        The folder that holds them.

    Raises:
        UserError: a file is neither in the cache nor to be had.
    """
    try:
        from huggingface_hub import hf_hub_download

        folder = Path(hf_hub_download(name, files[0], revision=revision)).parent
        for file in files[1:]:
            hf_hub_download(name, file, revision=folder.name)
    except Exception as error:
        raise UserError(
            f"the package {name} could not be downloaded ({_reason(error)}): fetch "
            f"{', '.join(files)} from https://huggingface.co/{name} where there is a connection, "
            "and give the path of their folder instead."
        ) from error
    return folder


def push(folder: Path, name: str) -> str:
    """Uploads a package, with the token of ``hf auth login`` or of ``$HF_TOKEN``.

    Args:
        folder: the package.
        name: ``'organisation/repository'``, which is made if it does not exist.

    Returns:
        The address of the commit.

    Raises:
        UserError: the Hub cannot be reached, or refuses.
    """
    try:
        from huggingface_hub import HfApi

        api = HfApi()
        api.create_repo(name, exist_ok=True)
        return api.upload_folder(
            repo_id=name,
            folder_path=folder,
            ignore_patterns=".*",  # what systems keep in folders
            commit_message="Model package of se-resnet",
        ).commit_url
    except Exception as error:
        raise UserError(
            f"the package in {folder} is whole, but could not be pushed to {name} "
            f"({_reason(error)}): log in with hf auth login where there is a connection, and "
            f"run hf upload {name} {folder} there."
        ) from error


def _reason(error: Exception) -> str:
    """The kind of an error of the library, whose own text is long; in full where it is another."""
    kind = type(error).__name__
    return kind if isinstance(error, OSError) else f"{kind}: {' '.join(str(error).split())[:150]}"
