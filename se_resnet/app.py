"""Starts a local page to try a run: drop an image, see what the network says and where it looked.

  python -m se_resnet.app --workdir=runs/breakhis
  python -m se_resnet.app --workdir=runs/breakhis --port=8080

The page can be reached from this machine only, and needs no network. Research software: no medical
device, not for diagnosis.
"""

from __future__ import annotations

from absl import flags

from se_resnet.runtime.cli import PATH, parse_flags, run_command

if __name__ == "__main__":  # before the imports that take seconds
    _WORKDIR = flags.DEFINE(PATH, "workdir", None, "Folder of the run.", required=True)
    _PORT = flags.DEFINE_integer(
        "port", 7860, "Of this machine; 0 for any that is free.", lower_bound=0, upper_bound=65535
    )
    _ATTENTION = flags.DEFINE_string(
        "attention", "none", "The run's own attention module, FILE:CLASS, which is imported."
    )
    parse_flags()

import contextlib
import os
import socket
from pathlib import Path

from se_resnet import PIXEL_LIMIT
from se_resnet.errors import UserError

HOST = "127.0.0.1"


def serve(workdir: Path, port: int, attention: str = "none") -> None:
    """Serves the page of a run until Ctrl-C.

    Args:
        workdir: folder of the run.
        port: of this machine.
        attention: the run's own attention module, see :func:`se_resnet.runs.workdir.load_best`.

    Raises:
        UserError: the extra ``app`` is missing, the folder holds no run, or the port is taken.
    """
    try:
        from se_resnet.connections import server_of
        from se_resnet.page import create_page
    except ModuleNotFoundError as error:
        if error.name not in ("h11", "starlette", "uvicorn"):
            raise
        raise UserError(
            f"the page needs {error.name}, which is not installed: run "
            "`pip install -c constraints.txt -e '.[app]'`."
        ) from error
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((HOST, port))
            listening.listen()  # else a second process could take the port, too, meanwhile
        except OSError as error:
            raise UserError(
                f"port {port} cannot be used ({error.strerror}): choose another by --port."
            ) from error
        page = create_page(workdir, int(os.environ[PIXEL_LIMIT]), attention)
        address = f"http://{HOST}:{listening.getsockname()[1]}"
        with contextlib.suppress(KeyboardInterrupt):
            print(f"open {address} in a browser; Ctrl-C ends the page", flush=True)
            server_of(page).run(sockets=[listening])


def main() -> None:
    """The command."""
    serve(Path(_WORKDIR.value), _PORT.value, _ATTENTION.value)


if __name__ == "__main__":
    run_command(main)
