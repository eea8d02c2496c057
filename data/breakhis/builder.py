"""BreaKHis as a TensorFlow Datasets builder."""

from __future__ import annotations

import bisect
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from data.breakhis import decode, image_files
from data.breakhis.archive import OFFICIAL_ARCHIVE
from data.breakhis.decode import SourceImage
from data.breakhis.filenames import CLASS_FOLDERS, SUBTYPES
from data.breakhis.image_files import Source
from data.breakhis.official import official_names
from data.breakhis.summary import Summary, summarise
from data.problems import Problem, check_policy, refusal
from se_resnet.errors import UserError
from se_resnet.runtime.progress_bar import progress_bar

SPLIT = "images"  # TFDS reserves the name "all"


class Breakhis(tfds.core.GeneratorBasedBuilder):
    """BreaKHis: 7,909 images of benign and malignant breast tumours at four magnifications.

    One split, ``images``: official names in order, then other names, ordered by digest. Every image
    keeps its original encoded bytes.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "Original encoded bytes, parsed names."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = f"""
    Download {OFFICIAL_ARCHIVE} (about 4 GB) from
    https://web.inf.ufpr.br/vri/databases/breast-cancer-histopathological-database-breakhis/
    and put it, or the folder that it extracts to, into the manual folder. A part of the data set
    and the Kaggle mirror's nested folders work as well.
    """

    # Nothing is downloaded, so there are no checksums. Looking for them, TFDS 4.9.10 would import
    # importlib_resources, which neither it nor etils 1.15 installs on Python 3.11.
    url_infos: ClassVar[dict] = {}

    def __init__(
        self,
        *,
        source: Source | None = None,
        on_bad_image: str = "error",
        beam_options: list[str] | None = None,
        **kwargs: Any,
    ):
        """Builds from ``source``, or from the manual folder of the download.

        Args:
            source: the images; None searches ``dl_manager.manual_dir``.
            on_bad_image: ``error`` refuses a source with unusable files and names them all.
                ``skip`` leaves them out and lists them in the summary.
            beam_options: options of Apache Beam, which then does the work; see
                :mod:`data.breakhis.beam`.
            **kwargs: ``data_dir`` and ``version`` of ``tfds.core.DatasetBuilder``.

        Raises:
            UserError: the policy is unknown.
        """
        check_policy(on_bad_image)
        self._source = source
        self._on_bad_image = on_bad_image
        self._beam_options = beam_options
        super().__init__(**kwargs)

    @property
    def summary(self) -> Summary:
        """The summary of the prepared images, stored with the data set."""
        return Summary.from_json(self.info.metadata["summary"])

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="Microscopic images of surgical biopsies of breast tumours, 700x460 RGB, "
            "at 40X, 100X, 200X and 400X.",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(None, None, 3), encoding_format="png"),
                    "label": tfds.features.ClassLabel(names=list(CLASS_FOLDERS.values())),
                    "subtype": tfds.features.ClassLabel(names=[*SUBTYPES["B"], *SUBTYPES["M"]]),
                    "slide": tfds.features.Text(),
                    "accession": tfds.features.Text(),
                    "magnification": tfds.features.Scalar(np.int32),
                    "file_name": tfds.features.Text(),
                    "digest": tfds.features.Text(doc="SHA-256 of the decoded RGB pixels"),
                }
            ),
            supervised_keys=("image", "label"),
            homepage="https://web.inf.ufpr.br/vri/databases/"
            "breast-cancer-histopathological-database-breakhis/",
            citation="""@article{spanhol2016dataset,
  author = {Spanhol, Fabio A. and Oliveira, Luiz S. and Petitjean, Caroline and Heutte, Laurent},
  title = {A Dataset for Breast Cancer Histopathological Image Classification},
  journal = {IEEE Transactions on Biomedical Engineering},
  volume = {63}, number = {7}, pages = {1455--1462}, year = {2016}
}""",
            license="CC BY 4.0",
            metadata=tfds.core.MetadataDict(),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict:
        source = self._source or image_files.find(Path(dl_manager.manual_dir))
        if self._beam_options is None:
            return {SPLIT: self._generate_examples(source)}
        from data.breakhis import beam  # needs Apache Beam

        checked, problems = beam.check(source, self._beam_options, Path(self.data_dir))
        digests = {str(image.name): image.digest for image in checked}
        self._store_summary(source, digests, problems)
        return {SPLIT: beam.read(source, checked, example_of)}

    def _generate_examples(self, source: Source) -> Iterator[tuple[int, dict]]:
        digests: dict[str, str] = {}
        problems: list[Problem] = []
        scanned = progress_bar(
            decode.scan(source),
            total=image_files.count_files(source),
            desc="preparing",
            unit="image",
        )
        for item in scanned:
            if isinstance(item, Problem):
                problems.append(item)
                continue
            digests[str(item.name)] = item.facts.digest
            if not problems or self._on_bad_image == "skip":
                yield example_of(item)
        self._store_summary(source, digests, problems)

    def _store_summary(
        self, source: Source, digests: dict[str, str], problems: list[Problem]
    ) -> None:
        """Stores the summary, or refuses the images by ``on_bad_image``."""
        if problems and self._on_bad_image == "error":
            raise refusal(source.path, problems, len(digests) + len(problems))
        if not digests:
            raise UserError(
                f"{source.path} has no usable image"
                + (f": all {len(problems)} were skipped." if problems else ".")
            )
        # TFDS stores the metadata together with the images, by the same rename.
        self.info.metadata["summary"] = summarise(digests, problems).to_json()
        if source.is_archive:  # a folder is read at every start, an archive only now
            self.info.metadata["walk"] = image_files.describe_walk(source)


def example_of(image: SourceImage) -> tuple[int, dict[str, Any]]:
    """Returns the key of an image, by which TFDS sorts, and its features."""
    return _order_key(str(image.name)), {
        "image": image.data,
        "label": image.name.label,
        "subtype": image.name.subtype,
        "slide": image.name.slide,
        "accession": image.name.accession,
        "magnification": image.name.magnification,
        "file_name": str(image.name),
        "digest": image.facts.digest,
    }


def _order_key(file_name: str) -> int:
    """Returns a 128-bit key: official names in their order, then all other names.

    TFDS divides the key space into 1,000 files and sorts each file in memory. Consecutive keys
    would put the whole data set into one file. Keys over the whole space would open all files at
    once, more than macOS allows. So the first eight bits divide the key space into 256 parts: 64
    parts for equal runs of the official names, then 128 parts for other names, by digest.
    """
    names = official_names()
    index = bisect.bisect_left(names, file_name)
    if index < len(names) and names[index] == file_name:
        return index * 64 // len(names) << 120 | index
    digest = hashlib.sha256(file_name.encode()).digest()
    return 64 + digest[0] % 128 << 120 | int.from_bytes(digest[1:13], "big")
