"""A methods section in plain text, with the numbers of the run filled in."""

from __future__ import annotations

import textwrap

from se_resnet.report.reporting import sentences
from se_resnet.report.reporting.study import Study
from se_resnet.report.reporting.wording import listing

_REFERENCES = {
    "Spanhol et al. 2016": "Spanhol FA, Oliveira LS, Petitjean C, Heutte L. A dataset for breast "
    "cancer histopathological image classification. IEEE Trans Biomed Eng 2016;63:1455-1462.",
    "Chawla et al. 2002": "Chawla NV, Bowyer KW, Hall LO, Kegelmeyer WP. SMOTE: synthetic minority "
    "over-sampling technique. J Artif Intell Res 2002;16:321-357.",
    "Han et al. 2005": "Han H, Wang WY, Mao BH. Borderline-SMOTE: a new over-sampling method in "
    "imbalanced data sets learning. ICIC 2005:878-887.",
    "He et al. 2008": "He H, Bai Y, Garcia EA, Li S. ADASYN: adaptive synthetic sampling approach "
    "for imbalanced learning. IJCNN 2008:1322-1328.",
    "Guo et al. 2017": "Guo C, Pleiss G, Sun Y, Weinberger KQ. On calibration of modern neural "
    "networks. ICML 2017:1321-1330.",
}


def paragraphs(study: Study) -> list[tuple[str, str]]:
    """Returns heading and text of each paragraph of the methods section."""

    def joined(*parts: str) -> str:
        return " ".join(part for part in parts if part)

    scales = sentences.magnifications(study.first.used)
    return [
        (
            "Images and patients",
            joined(
                sentences.data_set(study),
                f"The images were taken at {scales}.",
                sentences.left_out(study),
                sentences.partition(study),
                sentences.partition_sizes(study),
                sentences.overlap(study),
            ),
        ),
        (
            "Model and training",
            joined(
                sentences.preprocessing(study),
                sentences.network(study),
                sentences.initial_weights(study),
                sentences.balancing(study),
                sentences.augmentation(study),
                sentences.loss(study),
                sentences.optimiser(study),
                sentences.checkpoint(study),
            ),
        ),
        (
            "Evaluation and statistics",
            joined(
                sentences.prediction_rule(study),
                sentences.threshold(study),
                sentences.temperature(study),
                sentences.measures(study),
                sentences.intervals(study),
                sentences.software(study),
            ),
        ),
    ]


def references(study: Study) -> list[str]:
    """Returns the references that the methods section cites."""
    text = " ".join(paragraph for _, paragraph in paragraphs(study))
    return [entry for key, entry in _REFERENCES.items() if key in text]


def write_text(study: Study) -> str:
    """Returns ``methods.txt``: the paragraphs and the references, in lines of 88 characters."""
    blocks = [
        f"{heading}\n\n{textwrap.fill(text, 88, break_long_words=False, break_on_hyphens=False)}"
        for heading, text in paragraphs(study)
    ]
    entries = [textwrap.fill(entry, 88, subsequent_indent="  ") for entry in references(study)]
    if entries:
        blocks.append("References\n\n" + "\n".join(entries))
    return "\n\n".join(blocks) + "\n"


def authors_task() -> str:
    """Returns the facts that the text cannot contain, as a sentence."""
    missing = (
        "ethics approval",
        "staining and acquisition",
        "the pathologists' diagnosis",
        "dates",
    )
    return f"The author has to add {listing(missing)}."
