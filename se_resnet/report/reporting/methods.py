"""A methods section in plain text, with the numbers of the run filled in."""

from __future__ import annotations

import textwrap

from se_resnet.report.reporting import data_text, evaluation_text, model_text
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
    "Vickers and Elkin 2006": "Vickers AJ, Elkin EB. Decision curve analysis: a novel method for "
    "evaluating prediction models. Med Decis Making 2006;26:565-574.",
    "Guo et al. 2017": "Guo C, Pleiss G, Sun Y, Weinberger KQ. On calibration of modern neural "
    "networks. ICML 2017:1321-1330.",
}


def paragraphs(study: Study) -> list[tuple[str, str]]:
    """Returns heading and text of each paragraph of the methods section."""

    def joined(*parts: str) -> str:
        return " ".join(part for part in parts if part)

    return [
        (
            "Images and patients",
            joined(
                data_text.data_set(study),
                data_text.magnifications(study.used),
                data_text.left_out(study),
                data_text.partition(study),
                data_text.partition_sizes(study),
                data_text.overlap(study),
            ),
        ),
        (
            "Model and training",
            joined(
                model_text.preprocessing(study),
                model_text.network(study),
                model_text.initial_weights(study),
                model_text.balancing(study),
                model_text.augmentation(study),
                model_text.loss(study),
                model_text.optimiser(study),
                model_text.checkpoint(study),
            ),
        ),
        (
            "Evaluation and statistics",
            joined(
                evaluation_text.prediction_rule(study),
                evaluation_text.threshold(study),
                evaluation_text.temperature(study),
                evaluation_text.measures(study),
                evaluation_text.intervals(study),
                evaluation_text.p_values(study),
                model_text.software(study),
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
