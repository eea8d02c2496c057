"""The headline experiment: SE-ResNet50 on all of BreaKHis, tested on unseen patients.

    python train.py --config=configs/breakhis.py --workdir=runs/breakhis \
        --config.data.dir=/path/to/BreaKHis_v1

``data.dir`` takes the extracted tree at any nesting, the folder that holds the authors' archive,
or the archive ``BreaKHis_v1.tar.gz`` itself. One magnification:
``--config.data.magnifications=200``.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """All fields with their defaults; the other configurations change some."""
    config = ConfigDict()
    config.seed = 0  # weights of new layers, order of images, augmentation, SMOTE
    config.batch_size = 32
    config.epochs = 10
    config.log_every_steps = 10
    config.checkpoint_minutes = 10.0  # besides the end of every epoch
    config.eval_batch_size = 32
    config.bootstrap_resamples = 2000  # for the 95 % intervals

    config.data = ConfigDict()
    config.data.dir = ""  # BreaKHis tree, its archive, or 'sample' for the images that ship
    config.data.cache_dir = ""  # decoded images; empty: the user's cache folder
    config.data.magnifications = (40, 100, 200, 400)
    config.data.size = (224, 224)  # height, width
    config.data.resize = "squash"  # 'squash', 'crop' (aspect kept), 'none'
    # 'host' sends batches through tf.data; 'device' keeps all pixels in the GPU's memory.
    config.data.placement = "host"
    config.data.on_bad_image = "error"  # or 'skip', listed in W/skipped_files.csv

    config.split = ConfigDict()
    config.split.protocol = "strict"  # or, all of which leak: 'official', 'random', 'source'
    config.split.folds = 5
    config.split.fold = "0"  # which fold is the test set, from 0; or 'all', one after another
    config.split.val_folds = 5  # one of so many parts of the training part
    config.split.seed = 0

    config.decision = ConfigDict()
    # What the threshold is chosen for, on validation: 'accuracy', 'balanced_accuracy', 'youden' or
    # 'sensitivity>=0.95' with any share.
    config.decision.target = "balanced_accuracy"

    config.balance = ConfigDict()
    # 'smote', 'borderline_smote', 'adasyn', 'oversample', 'class_weights', 'none'
    config.balance.method = "smote"
    config.balance.features = "pixels"  # where neighbours are near; or 'thumbnail'
    config.balance.within_magnification = True
    config.balance.k_neighbors = 5

    config.augment = ConfigDict()  # 0 or False switches a part off
    config.augment.flip = True
    config.augment.rotate = True  # by right angles
    config.augment.translate = 0.05  # of the image side
    config.augment.zoom = 0.1
    config.augment.stain = 0.05  # of each stain's strength
    config.augment.brightness = 0.05  # of the range
    config.augment.contrast = 0.1

    config.model = ConfigDict()
    # or 'none', a repository of se_resnet/hub.py, the path of a weights file or of a run
    config.model.pretrained = "imagenet"
    # 'none', 'se', 'ese', 'eca', 'cbam', 'coord', 'gc', 'simam', or your own, 'my_file:MyAttention'
    config.model.attention = "se"
    config.model.attention_options = ConfigDict()  # set in a file, for example {"reduction": 8}
    config.model.attention_position = "branch"  # or 'stage'
    config.model.stage_sizes = (3, 4, 6, 3)
    config.model.width = 64
    # The same function as XLA's own operations ('plain') or rewritten for a CPU ('fast').
    config.model.formulation = "auto"  # by platform
    # Of the features between the layers; 'bfloat16' halves their memory and is meant for a GPU.
    config.model.dtype = "float32"

    config.optim = ConfigDict()
    config.optim.learning_rate = 1e-4
    return config
