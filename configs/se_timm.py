"""SE gates that were trained on ImageNet: timm's SE-ResNet50 instead of ResNet50 with new gates.

    python train.py --config=configs/se_timm.py --workdir=runs/se_timm \
        --config.data.dir=/path/to/BreaKHis_v1

The weights (113 MB, Apache-2.0) are downloaded once, into the cache of ``huggingface_hub``. Without
a connection, give the path of their ``model.safetensors`` as ``--config.model.pretrained``.

Expected: not known, as the weights could not be downloaded where the other figures were measured.
That they compute what timm computes is tested on random tensors (``pytest -m parity``). Time: that
of ``configs/breakhis.py``.
"""

from ml_collections import ConfigDict

from configs import breakhis


def get_config() -> ConfigDict:
    """The headline experiment from other weights."""
    config = breakhis.get_config()
    config.model.pretrained = "timm/seresnet50.a2_in1k"
    return config
