r"""The headline experiment: SE-ResNet50 on all of BreaKHis, tested on unseen patients.

    python train.py --config=configs/breakhis.py --workdir=runs/breakhis \
        --config.data.dir=/path/to/BreaKHis_v1

``data.dir`` is the extracted tree at any nesting, the folder of the authors' archive, or the
archive ``BreaKHis_v1.tar.gz``. For one magnification add ``--config.data.magnifications=200``.

Expected: on the 200X part of a 944-image subset (364 training images), an image ROC AUC of 0.975
and a patient recognition rate of 0.865, see docs/results.md; the 2 benign and 6 malignant patients
tested are too few to tell. All of BreaKHis was not available. Time: at the 12.5 images/s of 2 cores
(docs/speed.md) 10 epochs take 8 minutes on the subset, and an hour and a half on all of BreaKHis.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Returns all fields with their defaults. The other configurations change some fields."""
    config = ConfigDict()
    config.seed = 0  # weights of new layers, order of images, augmentation, SMOTE
    config.repeats = 1  # runs that differ in their seeds, in W/repeat0, W/repeat1, ...
    # Seeds that count up by one from repeat to repeat: 'split' (config.split.seed), 'training'
    # (config.seed) or 'both'.
    config.repeat_seeds = "split"
    config.ensemble = ConfigDict()
    # Networks whose mean logit is one model, in W/member0, ...: each has another part of val_folds
    # to validate on, and another training seed.
    config.ensemble.members = 1
    config.batch_size = 32
    config.epochs = 10
    config.log_every_steps = 10
    config.checkpoint_minutes = 10.0  # and at the end of epochs, at most a tenth of the time
    config.eval_batch_size = 32
    config.permutations = 2000  # of the patients' labels, for the p-value of the AUC
    # Trackers of metrics besides W/metrics.jsonl: 'tensorboard', 'wandb', 'mlflow', joined by
    # commas.
    config.trackers = "tensorboard"
    config.profile_steps = ()  # first and last step to trace, from 1, for example (10, 20)

    config.checkpoint = ConfigDict()
    # Weights to evaluate: those of the 'last' epoch, or of the 'best' epoch, by validation AUC and
    # then loss. The choice of an epoch gained nothing over 30 comparisons, see docs/results.md.
    config.checkpoint.choose = "last"

    config.data = ConfigDict()
    # BreaKHis tree, its archive, 'sample' for the images that ship, or a table of any images
    config.data.dir = ""
    # Of a table: labels that mean malignant, and benign, between commas ('' for 1 and 0); column of
    # patients ('' for 'patient'; 'file': each image is its own patient).
    config.data.positive = ""
    config.data.negative = ""
    config.data.patient = ""
    config.data.cache_dir = ""  # decoded images; empty: the user's cache folder
    config.data.magnifications = ()  # for example (100, 200); empty: all
    config.data.size = (224, 224)  # height, width
    config.data.resize = "squash"  # 'squash', 'crop' (aspect kept), 'none'
    # Micrometres per pixel to which images are resampled before tiles are cut; 0: no scale.
    config.data.um_per_px = 0.0
    config.data.field = ()  # height, width of a tile at that scale, resized to size; empty: size
    # 'host' sends batches through tf.data; 'device' keeps all pixels in the GPU's memory.
    config.data.placement = "host"
    config.data.on_bad_image = "error"  # or 'skip', listed in W/skipped_files.csv

    config.split = ConfigDict()
    # 'strict' or your own: 'table', by the columns role or fold; these leak: 'official', 'random',
    # 'source', and 'published' unless it is repaired
    config.split.protocol = "strict"
    config.split.file = ""  # for 'table': another table with the columns file and role
    config.split.folds = 5
    # The test fold, from 0; 'all', one after another; or 'none', to train on all patients.
    config.split.fold = "0"
    config.split.val_folds = 5  # number of parts of the training part; one part validates
    config.split.val_fold = 0  # the part that validates, from 0
    config.split.seed = 0
    # Magnifications to train and validate on, and to test on, under 'strict'; empty: all.
    config.split.train_magnifications = ()
    config.split.test_magnifications = ()
    config.split.name = ""  # of 'published': 'authors', 'eva' or 'patient_audit'
    config.split.repaired = False  # True: 'published' with every accession moved to one role
    # True: 'strict', or a repaired split, accepts test images that are nearly the same as one of
    # another accession.
    config.split.allow_near_duplicates = False

    config.decision = ConfigDict()
    # Target of the threshold, chosen on validation: 'accuracy', 'balanced_accuracy', 'youden' or
    # 'sensitivity>=0.95' with any share.
    config.decision.target = "balanced_accuracy"

    config.balance = ConfigDict()
    # 'smote', 'borderline_smote', 'adasyn', 'oversample', 'class_weights', 'none'
    config.balance.method = "smote"
    config.balance.features = "pixels"  # to find neighbours; or 'thumbnail'
    config.balance.within_magnification = True
    config.balance.k_neighbors = 5

    config.augment = ConfigDict()  # 0 or False switches a change off
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
    config.loss.label_smoothing = 0.0  # share of a label that is given to both classes alike
    config.loss.focal_gamma = 0.0  # well classified images count less (Lin et al. 2017)

    config.model = ConfigDict()
    # or 'none', a repository of se_resnet/weights/hub.py, the path of a weights file or of a run
    config.model.pretrained = "imagenet"
    # Mean and std of the pixels, from 0 to 1, for weights whose files state none, for example
    # (0.7, 0.54, 0.66); empty: what the files state.
    config.model.mean = ()
    config.model.std = ()
    config.model.accept_licence = ""  # name of the weights' licence, where it restricts their use
    # 'none', 'se', 'ese', 'eca', 'cbam', 'coord', 'gc', 'simam', or yours: 'my_file:MyAttention'
    config.model.attention = "se"
    config.model.attention_options = ConfigDict()  # set in a file, for example {"reduction": 8}
    config.model.attention_position = "branch"  # or 'stage'
    config.model.stage_sizes = (3, 4, 6, 3)
    config.model.width = 64
    # Operations for the same function: of XLA ('plain'), for a CPU ('fast') or a GPU ('fused').
    config.model.formulation = "auto"  # by platform
    # Type of the features between the layers; 'bfloat16' halves their memory, for GPUs.
    config.model.dtype = "float32"
    config.model.batch_norm = "train"  # by batch statistics; 'frozen': by running statistics
    config.model.dropout = 0.0  # share of the features before the head that is set to 0

    config.optim = ConfigDict()
    config.optim.learning_rate = 1e-4
    config.optim.schedule = "constant"  # or, falling to 0 at the end: 'cosine', 'linear'
    config.optim.warmup_epochs = 0.0  # the learning rate rises in these
    config.optim.head_epochs = 0  # the first epochs, which train only the head
    config.optim.weight_decay = 0.0  # of AdamW; not for biases and normalisations
    config.optim.clip_norm = 0.0  # largest norm of the whole gradient; 0: no limit
    config.optim.accumulate = 1  # parts that a batch is divided into, to need less memory
    # Evaluates weights that are averaged over the steps; 0: no average. The average gained a little
    # AUC and calibration in 25 and 27 of 30 comparisons, see docs/results.md.
    config.optim.ema_decay = 0.99
    # Multipliers of the learning rate by regular expression, 0 to freeze. Exactly one must match
    # each parameter, for example 'stem|stage[12]=0 stage[34]=0.1 head=1'. Empty: all 1.
    config.optim.rules = ""
    config.optim.layer_decay = 1.0  # multiplier from a part (head, stage4, ...) to the part below

    config.early_stopping = ConfigDict()
    config.early_stopping.metric = ""  # 'val/roc_auc', 'val/accuracy', 'val/loss'; empty: never
    config.early_stopping.patience = 5  # epochs without a new best value
    return config
