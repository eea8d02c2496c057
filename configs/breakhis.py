"""The headline experiment: SE-ResNet50 on all of BreaKHis, tested on unseen patients.

    python train.py --config=configs/breakhis.py --workdir=runs/breakhis \
        --config.data.dir=/path/to/BreaKHis_v1

``data.dir`` takes the extracted tree at any nesting, the folder that holds the authors' archive,
or the archive ``BreaKHis_v1.tar.gz`` itself. One magnification:
``--config.data.magnifications=200``.

Expected: on the 200X part of a 944-image subset (364 training images, 2 benign patients tested), an
image ROC AUC of 0.975 (95 % interval 0.458 to 1.000) and a patient recognition rate of 0.865 (0.615
to 1.000), see docs/results.md. All of BreaKHis was not at hand. Time: at the 12.5 images/s of 2
cores (docs/speed.md) 10 epochs take 8 minutes there, and an hour and a half on all of BreaKHis.
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
    # Where figures go besides W/metrics.jsonl: 'tensorboard', 'wandb', 'mlflow', joined by commas.
    config.trackers = "tensorboard"
    config.profile_steps = ()  # first and last step to trace, from 1, for example (10, 20)

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
    config.augment.mixup = 0.0  # alpha; mixes images and labels of a batch (Zhang et al. 2018)
    config.augment.cutmix = 0.0  # alpha; boxes of other images (Yun et al. 2019)

    config.loss = ConfigDict()  # binary cross-entropy
    config.loss.label_smoothing = 0.0  # of the weight of a label, shared by both classes
    config.loss.focal_gamma = 0.0  # images classified well count less (Lin et al. 2017)

    config.model = ConfigDict()
    # or 'none', a repository of se_resnet/weights/hub.py, the path of a weights file or of a run
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
    config.model.batch_norm = "train"  # by the batch's statistics, or 'frozen': by the running ones
    config.model.dropout = 0.0  # share of the features before the head

    config.optim = ConfigDict()
    config.optim.learning_rate = 1e-4
    config.optim.schedule = "constant"  # or, falling to 0 at the end: 'cosine', 'linear'
    config.optim.warmup_epochs = 0.0  # in which the learning rate rises
    config.optim.head_epochs = 0  # first so many epochs train the head alone
    config.optim.weight_decay = 0.0  # AdamW's; not of biases and normalisations
    config.optim.clip_norm = 0.0  # largest norm of the whole gradient; 0: any
    config.optim.accumulate = 1  # works on a batch in so many parts, to need less memory
    config.optim.ema_decay = 0.0  # evaluates averaged weights, for example 0.999; 0: the last ones
    # Multipliers of the learning rate by regular expression, 0 to freeze: each parameter must match
    # exactly one, for example 'stem|stage[12]=0 stage[34]=0.1 head=1'. Empty: all 1.
    config.optim.rules = ""
    config.optim.layer_decay = 1.0  # multiplier from each part (head, stage4, ...) to the one below

    config.early_stopping = ConfigDict()
    config.early_stopping.metric = ""  # 'val/roc_auc', 'val/accuracy', 'val/loss'; empty: never
    config.early_stopping.patience = 5  # epochs without a new best
    return config
