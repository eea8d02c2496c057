r"""Prepares images on the machines of Apache Beam.

    python -m data.spread --data_dir=/shared/BreaKHis_v1 --cache_dir=/shared/cache [BEAM'S OPTIONS]
    python -m data.spread --data_dir=... --cache_dir=... --direct_num_workers=0 \
        --direct_running_mode=multi_processing

Validates, hashes and stores the images, with the same result as the first start of a run. A later
run then finds the prepared images. Needs the extra ``beam`` on this machine and on the workers. The
workers must see both folders under the same paths. The options of Beam choose the engine, by
default this machine. An archive can only be read from its start: extract it first.
"""

from __future__ import annotations

from data.dataset import prepare
from data.problems import BAD_IMAGE_POLICIES
from data.table.columns import Reading
from se_resnet.runtime.cli import ArgumentParser, exit_on_user_error, path_option
from se_resnet.runtime.files import user_cache_dir


def main() -> None:
    """Runs the command."""
    parser = ArgumentParser("python -m data.spread", __doc__ or "")
    images = "a BreaKHis tree, or a table of images"
    parser.add_argument("--data_dir", required=True, type=path_option, help=images)
    parser.add_argument("--cache_dir", default="", type=path_option, help="as config.data has it")
    parser.add_argument("--on_bad_image", choices=BAD_IMAGE_POLICIES, default="error")
    for name in ("positive", "negative", "patient"):
        parser.add_argument(f"--{name}", default="", help="of a table, as config.data has it")
    flags, options = parser.parse_known_args()
    reading = Reading(flags.positive, flags.negative, flags.patient)
    root = user_cache_dir(flags.cache_dir)
    prepared = prepare(flags.data_dir, root, flags.on_bad_image, reading, options)
    print("\n".join([prepared.summary.describe(), *prepared.walk]))


if __name__ == "__main__":
    with exit_on_user_error():
        main()
