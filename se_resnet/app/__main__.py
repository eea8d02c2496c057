"""Starts a local web page that shows a run's prediction for an image, and where it looked.

  python -m se_resnet.app --workdir=runs/breakhis
  python -m se_resnet.app --workdir=runs/breakhis --port=8080

Only this machine can open the page. No connection to the internet is needed. Research software: no
medical device, not for diagnosis.
"""

from __future__ import annotations

from absl import flags

from se_resnet.runtime.cli import PATH, define_attention_flag, parse_flags, run_command

if __name__ == "__main__":  # before the imports that take seconds
    _WORKDIR = flags.DEFINE(PATH, "workdir", None, "Folder of the run.", required=True)
    _PORT = flags.DEFINE_integer(
        "port", 7860, "Port on this machine; 0 for any free port.", lower_bound=0, upper_bound=65535
    )
    _ATTENTION = define_attention_flag()
    parse_flags()

from pathlib import Path

from se_resnet.app.serve import serve


def main() -> None:
    """Runs the command."""
    serve(Path(_WORKDIR.value), _PORT.value, _ATTENTION.value)


if __name__ == "__main__":
    run_command(main)
