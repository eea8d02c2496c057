r"""The baseline without attention: all as in ``configs/breakhis.py``, but a plain ResNet50.

    python train.py --config=configs/resnet50_baseline.py --workdir=runs/resnet50 \
        --config.data.dir=/path/to/BreaKHis_v1

What Squeeze-and-Excitation is worth, with its interval, once ``runs/breakhis`` is there too:
``python -m se_resnet.metrics compare runs/breakhis runs/resnet50``.
"""

from ml_collections import ConfigDict

from configs import breakhis


def get_config() -> ConfigDict:
    """The headline experiment without attention."""
    config = breakhis.get_config()
    config.model.attention = "none"
    return config
