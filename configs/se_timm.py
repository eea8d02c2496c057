"""SE gates trained on ImageNet: the SE-ResNet50 of timm instead of ResNet50 with new gates.

    python train.py --config=configs/se_timm.py --workdir=runs/se_timm \
        --config.data.dir=/path/to/BreaKHis_v1

The weights (113 MB, Apache-2.0) are downloaded once, into the cache of ``huggingface_hub``. Without
a connection, give the path of a copy of ``model.safetensors`` as ``--config.model.pretrained``.

Expected: not known, because the weights could not be downloaded on the machine of the other
measurements. A test shows on random tensors that the network computes the same as timm
(``pytest -m parity``). Time: as ``configs/breakhis.py``.
"""

from ml_collections import ConfigDict

from configs import breakhis


def get_config() -> ConfigDict:
    """Returns the headline experiment with other pretrained weights."""
    config = breakhis.get_config()
    config.model.pretrained = "timm/seresnet50.a2_in1k"
    return config
