r"""Five networks as one model, with fixed statistics of the batch normalisation.

    python train.py --config=configs/finetune_strong.py --workdir=runs/strong \
        --config.data.dir=/path/to/BreaKHis_v1

Network, images and balancing are those of ``configs/breakhis.py``. The differences:

* An ensemble of five networks (docs/ensembles.md). In nested trainings of the last stage on a
  944-image subset, the mean of three networks had an image ROC AUC of 0.839 on patients that none
  of them saw, and one network 0.773. The interval of the difference, for new patients and members,
  is -0.068 to +0.202: even this largest of all effects is not certain with 12 benign patients.
* Batch normalisation keeps the statistics of ImageNet. Statistics of a batch depend on the few
  patients in the batch. Of twelve recipes, this change had the best Brier score and the second-best
  AUC on validation images. On the test images the AUC of one network changed by +0.035 (-0.045 to
  +0.114) and the patient AUC by -0.008 (-0.160 to +0.145).

This is a choice of least regret: no recipe was distinguishable from ``configs/breakhis.py``, see
"Recipes and ensembles" in docs/results.md.

Expected: not measured for the whole network at 224x224 pixels. Time: five times that of
``configs/breakhis.py``; ``--config.ensemble.members=1`` trains one network.
"""

from ml_collections import ConfigDict

from configs import breakhis


def get_config() -> ConfigDict:
    """Returns the headline experiment as an ensemble with fixed statistics."""
    config = breakhis.get_config()
    config.ensemble.members = 5
    config.model.batch_norm = "frozen"
    return config
