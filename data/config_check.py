"""Validates ``config.data``, ``config.split`` and ``config.balance`` before an image is read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from data.balance import check_method
from data.breakhis import image_files
from data.breakhis.filenames import ImageName
from data.cache import check_size
from data.dataset import check_reading_unused, is_cache, no_images_given
from data.problems import check_policy
from data.protocols.configured import configured_roles, tested_fold
from data.protocols.given_roles import read_roles_table
from data.protocols.published import splits
from data.protocols.roles import SOURCE, TABLE, check_split, number_of_folds
from data.records import Records
from data.scales import check_scales
from data.table.columns import Reading, read_image_table
from se_resnet.errors import UserError
from se_resnet.images.image_table import is_table
from se_resnet.images.scale import configured_scale
from se_resnet.runs.run_files import ALL_FOLDS, PUBLISHED, SPLIT_SEED
from se_resnet.runtime.files import user_cache_dir
from se_resnet.runtime.paths import SAMPLE_FOLDER, local_path
from se_resnet.training.config import member_configs


def check_data_config(config: ConfigDict) -> None:
    """Checks the fields, and the names, patients, roles and folds of a table or a tree of images.

    An archive has no list of its files, so its images are checked when they are read.

    Raises:
        UserError: a value is out of range, a table or file name is invalid, or the images cannot
            be divided as configured.
    """
    check_policy(config.data.on_bad_image)
    check_size(tuple(config.data.size), config.data.resize)
    user_cache_dir(config.data.cache_dir)  # refuses an address
    if config.split.file and config.split.protocol == TABLE:
        read_roles_table(config.split.file)
    check_method(config.balance.method, config.balance.features, config.balance.k_neighbors)
    split = config.split
    folds = number_of_folds(split.protocol, split.folds, split.name)
    tested = range(folds) if split.fold == ALL_FOLDS else [tested_fold(split)]
    divisions = [(fold, member.split) for fold in tested for member in member_configs(config)]
    for fold, division in divisions:
        check_split(
            split.protocol,
            folds,
            fold,
            split.val_folds,
            split.file,
            split.name,
            split.repaired,
            division.val_fold,
        )
    if split.protocol == PUBLISHED:
        _check_published(config)
    records = unread_records(config.data)
    if records is None or split.protocol == SOURCE:
        return
    if scale := configured_scale(config.data):
        check_scales(records, scale)
    records = records.at_magnifications(tuple(config.data.magnifications))
    for fold, division in divisions:
        configured_roles(records, division, fold)


def _check_published(config: ConfigDict) -> None:
    split = splits.find(config.split.name)
    splits.check_magnifications(split, config.data.magnifications)
    if config.repeats > 1 and config.repeat_seeds == SPLIT_SEED and split.has_validation:
        raise UserError(
            f"config.repeat_seeds = {config.repeat_seeds!r} would train the same network "
            f"{config.repeats} times, because published split {split.name!r} has its validation "
            "set: set config.repeat_seeds = 'training'."
        )


def unread_records(settings: Mapping[str, Any]) -> Records | None:
    """Returns the images of a table or a tree by their names, without opening an image.

    The digests are the names of the files, so that no image has a copy.

    Args:
        settings: the fields of ``config.data``.

    Returns:
        The images; None for an archive and a cache folder.

    Raises:
        UserError: no path is given, there are no images, or the table is invalid.
    """
    if not settings["dir"]:
        raise no_images_given()
    source = local_path(settings["dir"], "config.data.dir =")
    reading = Reading(settings["positive"], settings["negative"], settings["patient"])
    if is_table(source):
        rows = read_image_table(source, reading).rows
        return Records.from_rows({**row, "digest": row["file"], "row": 0} for row in rows)
    if is_cache(Path(source)):
        return None
    check_reading_unused(reading, source)
    found = image_files.find(SAMPLE_FOLDER if source == "sample" else source)
    if found.is_archive:
        return None
    names = [name for _, name in image_files.check_names(found) if isinstance(name, ImageName)]
    if not names:
        return None  # the error that follows lists the problem with each file
    return Records.from_rows({**name.columns(), "digest": str(name), "row": 0} for name in names)
