"""Lists the commands of this project.

  python -m se_resnet
  python -m se_resnet --version

Each command lists its options with --help.
"""

from __future__ import annotations

from se_resnet.errors import UserError
from se_resnet.runtime.cli import ArgumentParser, exit_on_user_error
from se_resnet.runtime.commands import describe_commands, modules
from se_resnet.runtime.data_package import other_package
from se_resnet.runtime.version import __version__


def main(argv: list[str] | None = None) -> None:
    """Runs the command; ``argv`` has no program name, None means ``sys.argv``."""
    with exit_on_user_error():
        parser = ArgumentParser("python -m se_resnet", __doc__ or "")
        version = f"se-resnet {__version__}"
        parser.add_argument("--version", action="version", version=version, help="print it")
        _, words = parser.parse_known_args(argv)
        if words:
            name = f"se_resnet.{words[0]}"
            hint = f"did you mean python -m {name}?" if name in modules() else "give no arguments."
            raise UserError(f"{words[0]!r} is no option of this command, which lists all: {hint}")
        print(f"{version}. Each command lists its options with --help.\n\n{describe_commands()}")
        if other := other_package():
            print(
                f"\nThis folder hides the package data by {other}: start python -m data.NAME as "
                "python -P -m data.NAME, and load images by se_resnet.load_data."
            )


if __name__ == "__main__":
    main()
