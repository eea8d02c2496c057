"""A run in seconds: a tiny network without pretrained weights, to see that everything works.

python train.py --config=configs/smoke.py --workdir=runs/smoke
"""

from ml_collections import ConfigDict

from configs import breakhis


def get_config() -> ConfigDict:
    """Returns the headline experiment at a tiny size."""
    config = breakhis.get_config()
    config.data.dir = "sample"
    config.data.size = (32, 32)
    config.model.pretrained = "none"
    config.model.stage_sizes = (1, 1, 1, 1)
    config.model.width = 8
    config.batch_size = 16
    config.epochs = 2
    config.permutations = 200
    config.optim.learning_rate = 1e-3
    config.optim.ema_decay = 0.0
    config.checkpoint.choose = "best"
    return config
