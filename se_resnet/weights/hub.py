"""Downloads initial weights and model packages from the Hugging Face Hub, and uploads packages."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path

from se_resnet.errors import UserError
from se_resnet.models.preprocessing import IMAGENET, Preprocessing
from se_resnet.weights.declared import CONFIG, PREPROCESSORS
from se_resnet.weights.formats import SAFETENSORS as FILE
from se_resnet.weights.formats import refused
from se_resnet.weights.licences import Licence


@dataclasses.dataclass(frozen=True)
class Repository:
    """A repository with weights; the facts come from its model card and from the authors.

    Attributes:
        licence: licence of the weights.
        interpolation: filter that resized the training images, or an empty string.
        revision: the commit to download; None for the newest.
        sha256: checksum of ``model.safetensors``; None if unknown. A run records the checksum of
            the file that it downloaded.
        configs: files with facts about the network that its tensors do not show.
        pixels: preprocessing that the authors state; None if the files of the repository state
            it. It wins over these files, which in a copy may hold the defaults of another network.
        pixels_url: where the authors state the preprocessing.
    """

    licence: Licence
    interpolation: str
    revision: str | None = None
    sha256: str | None = None
    configs: tuple[str, ...] = (CONFIG,)
    pixels: Preprocessing | None = None
    pixels_url: str = ""


_APACHE = Licence("Apache-2.0")
_LUNIT = Licence(
    "LicenseRef-lunit-non-commercial",
    "https://github.com/lunit-io/benchmark-ssl-pathology/blob/main/LICENSE",
    non_commercial=True,
)
# The SPDX identifier alone would not say that the authors exclude commercial use.
_TCGA_BRCA = Licence(
    "GPL-3.0",
    "https://github.com/Richarizardd/Self-Supervised-ViT-Path#acknowledgements-license--usage",
    non_commercial=True,
)
_LUNIT_PIXELS = Preprocessing(
    "RGB",
    (0.70322989, 0.53606487, 0.66096631),
    (0.21716536, 0.26081574, 0.20723464),
    IMAGENET.scale,
)
_LUNIT_URL = "https://github.com/lunit-io/benchmark-ssl-pathology/releases/tag/pretrained-weights"
_ZERO_TO_ONE = Preprocessing("RGB", (0.0,) * 3, (1.0,) * 3, IMAGENET.scale)
_TIA_URL = (
    "https://github.com/TissueImageAnalytics/tiatoolbox/blob/develop/tiatoolbox/models/dataset/"
    "classification.py"
)

KNOWN = {
    "timm/seresnet50.ra2_in1k": Repository(_APACHE, "bicubic"),
    "timm/seresnet50.a1_in1k": Repository(_APACHE, "bicubic"),
    "timm/seresnet50.a2_in1k": Repository(
        _APACHE,
        "bicubic",
        "4cb9eed48ee840f525bb27706323a2181934b16f",
        "ff82ee22e5b6c607fd984f63b83a9a8b55787b2703c4683a5cd51297d27e9460",
    ),
    "timm/resnet50.a1_in1k": Repository(
        _APACHE,
        "bicubic",
        "5d9e13b8fdab4d9718bcf2c8f5c3af01878367e8",
        "773525d5821de224f8f30c33377b7a795d7863e08522698200d3217d3f2a41bb",
    ),
    "timm/resnet50.tv_in1k": Repository(
        Licence("BSD-3-Clause"),
        "bilinear",
        "aa6c2d36d56bc0209040c02b5a7b7d7bf11d57b8",
        "5d061a3c593d795bfe682d9b152bafbcf550579873492def3515b46db1189888",
    ),
    "microsoft/resnet-50": Repository(
        _APACHE,
        "bicubic",
        "34c2154c194f829b11125337b98c8f5f9965ff19",
        "9c6061af1f450bb0847e529fd742aa5066017be379c71bbf5546b198e5b13a1e",
        (CONFIG, PREPROCESSORS[0]),
    ),
    # Pathology: copies, for timm, of what the authors published as pickles.
    "1aurent/resnet50.lunit_bt": Repository(
        _LUNIT,
        "",
        "3994bae53df7f7d3797ef1d50faba0c433888aab",
        "e58a0d36af4a326b0ddcc11c5e9384cac8b1b98432d8e73ce027df81317b0955",
        pixels=_LUNIT_PIXELS,
        pixels_url=_LUNIT_URL,
    ),
    "1aurent/resnet50.lunit_mocov2": Repository(
        _LUNIT,
        "",
        "296eea9131d9a2ff5ceff4e0947d48c773753b47",
        "55b959de1606718f693fcd027a742b0bc505aea77262bc1cc404acf0c4543285",
        pixels=_LUNIT_PIXELS,
        pixels_url=_LUNIT_URL,
    ),
    "1aurent/resnet50.lunit_swav": Repository(
        _LUNIT,
        "",
        "349af8b1e3a750860698d428de28896fdc1d764a",
        "da30e2503d14ee337537b0ee1c304de2b7bb3319bc66ecc0c28a25ec64df732c",
        pixels=_LUNIT_PIXELS,
        pixels_url=_LUNIT_URL,
    ),
    "1aurent/resnet50.tiatoolbox-kather100k": Repository(
        Licence("CC-BY-4.0", "https://creativecommons.org/licenses/by/4.0/legalcode"),
        "",
        "8f1ebaa3eed21fbd6706fa2ecf9903f3c18876cd",
        "95315e0a670dd8782f7dcb9fa90054716996ec0ed82d17ad7913e04e5054c4c7",
        pixels=_ZERO_TO_ONE,
        pixels_url=_TIA_URL,
    ),
    "1aurent/resnet50.tiatoolbox-pcam": Repository(
        Licence("CC0-1.0", "https://creativecommons.org/publicdomain/zero/1.0/legalcode"),
        "",
        "8816cc50dd15b5b64e141dce31451ce9893d2e0f",
        "8e7717b6965ab07cc06f8440255cf25d44433b42dc81e365bffca7d766b83778",
        pixels=_ZERO_TO_ONE,
        pixels_url=_TIA_URL,
    ),
    "1aurent/resnet50.tcga_brca_simclr": Repository(
        _TCGA_BRCA,
        "",
        "203abd98067cd423e70c0d9faf8d8059f0447cb0",
        pixels=Preprocessing("RGB", (0.5,) * 3, (0.5,) * 3, IMAGENET.scale),
        pixels_url="https://github.com/Richarizardd/Self-Supervised-ViT-Path/blob/"
        "791170b0f8fe185627b0a5c18f869fb0c3a137b3/patch_extraction_utils.py",
    ),
}


def recognise(sha256: str) -> str | None:
    """Returns the name of the pathology network whose file has this checksum, else None.

    Such a file may lie anywhere, for example after a download by hand.
    """
    return next(
        (name for name, known in KNOWN.items() if known.pixels and known.sha256 == sha256), None
    )


def fetch(name: str) -> tuple[Path, str]:
    """Downloads a known repository's weights once, into the cache of ``huggingface_hub``.

    The configuration files of the same commit are stored beside them. Offline, a cache without
    these files is enough: :func:`se_resnet.weights.pretrained.load` then reports its assumptions.

    Args:
        name: a key of ``KNOWN``.

    Returns:
        Path of the file in the cache, and its commit.

    Raises:
        UserError: the file is not in the cache and cannot be downloaded.
    """
    revision = KNOWN[name].revision or "main"
    try:
        # This import takes a second, so runs from other weights do without it.
        from huggingface_hub import hf_hub_download

        path = Path(hf_hub_download(name, FILE, revision=revision))
    except Exception as error:  # proxies and HF_... variables cause many kinds of error
        raise refused(
            name,
            f"it could not be downloaded ({_reason(error)}): fetch {FILE} from "
            f"https://huggingface.co/{name}/resolve/{revision}/{FILE} on a machine with a "
            "connection, and give the path of that file instead",
        ) from error
    for file in KNOWN[name].configs:
        with contextlib.suppress(OSError):
            hf_hub_download(name, file, revision=path.parent.name)
    return path, path.parent.name


def fetch_package(name: str, files: tuple[str, ...], revision: str | None = None) -> Path:
    """Downloads files of one commit once, into the cache of ``huggingface_hub``.

    Args:
        name: ``'organisation/repository'``.
        files: names of the files.
        revision: branch, tag or commit; None for the newest.

    Returns:
        The folder with the files.

    Raises:
        UserError: a file is not in the cache and cannot be downloaded.
    """
    try:
        from huggingface_hub import hf_hub_download

        folder = Path(hf_hub_download(name, files[0], revision=revision)).parent
        for file in files[1:]:
            hf_hub_download(name, file, revision=folder.name)
    except Exception as error:
        raise UserError(
            f"the package {name} could not be downloaded ({_reason(error)}): fetch "
            f"{', '.join(files)} from https://huggingface.co/{name} on a machine with a "
            "connection, and give the path of their folder instead."
        ) from error
    return folder


def push(folder: Path, name: str) -> str:
    """Uploads a package, with the token of ``hf auth login`` or of ``$HF_TOKEN``.

    Args:
        folder: the package.
        name: ``'organisation/repository'``; a missing repository is created.

    Returns:
        The address of the commit.

    Raises:
        UserError: the Hub cannot be reached or refuses the upload.
    """
    try:
        from huggingface_hub import HfApi

        api = HfApi()
        api.create_repo(name, exist_ok=True)
        return api.upload_folder(
            repo_id=name,
            folder_path=folder,
            ignore_patterns=".*",  # hidden files of operating systems
            commit_message="Model package of se-resnet",
        ).commit_url
    except Exception as error:
        raise UserError(
            f"the package in {folder} is complete, but could not be pushed to {name} "
            f"({_reason(error)}): check the connection, log in with hf auth login, and run "
            f"hf upload {name} {folder}."
        ) from error


def _reason(error: Exception) -> str:
    """Returns the kind of a connection error, whose text is long; other errors with their text."""
    kind = type(error).__name__
    return kind if isinstance(error, OSError) else f"{kind}: {' '.join(str(error).split())[:150]}"
