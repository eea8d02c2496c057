r"""The baseline without attention: ``configs/breakhis.py`` with a plain ResNet50.

    python train.py --config=configs/resnet50_baseline.py --workdir=runs/resnet50 \
        --config.data.dir=/path/to/BreaKHis_v1

To measure the gain of Squeeze-and-Excitation, with its interval, train ``runs/breakhis`` too and
run ``python -m se_resnet.metrics compare runs/breakhis runs/resnet50``.

Expected: a difference that so few patients cannot show. In short runs at 112x112 on the 200X part
of a 944-image subset (11 benign and 27 malignant patients), over 3 folds of one seed, an image ROC
AUC of 0.911 without attention and 0.918 with it (``python -m benchmarks.attention_modules``,
docs/results.md). Time: as ``configs/breakhis.py``, within a few per cent.
"""

from ml_collections import ConfigDict

from configs import breakhis


def get_config() -> ConfigDict:
    """Returns the headline experiment without attention."""
    config = breakhis.get_config()
    config.model.attention = "none"
    return config
