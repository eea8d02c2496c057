"""Serves the page on this machine."""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path

from se_resnet import PIXEL_LIMIT
from se_resnet.errors import UserError
from se_resnet.runs.run_folder import RunFolder
from se_resnet.runs.state import unfinished_warnings

HOST = "127.0.0.1"


def serve(workdir: Path, port: int, attention: str = "none") -> None:
    """Serves the page of a run until Ctrl-C.

    Args:
        workdir: folder of the run.
        port: port on this machine; 0 for any free port.
        attention: attention module from outside this project, see
            :func:`se_resnet.runs.workdir.load_best`.

    Raises:
        UserError: the extra ``app`` is missing, the folder holds no run, or the port is taken.
    """
    try:
        from se_resnet.app.connections import server_of
        from se_resnet.app.server import create_page
    except ModuleNotFoundError as error:
        if error.name not in ("h11", "starlette", "uvicorn"):
            raise
        raise UserError(
            f"the page needs {error.name}, which is not installed: run "
            "`pip install -c constraints.txt -e '.[app]'`."
        ) from error
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, port))
            listener.listen()  # otherwise a second process could bind the same port
        except OSError as error:
            raise UserError(
                f"port {port} cannot be used ({error.strerror}): choose another by --port."
            ) from error
        page = create_page(workdir, int(os.environ[PIXEL_LIMIT]), attention)
        address = f"http://{HOST}:{listener.getsockname()[1]}"
        for warning in unfinished_warnings(RunFolder(workdir)):
            print(f"WARNING: {warning}")
        with contextlib.suppress(KeyboardInterrupt):
            print(f"open {address} in a browser; Ctrl-C ends the page", flush=True)
            server_of(page).run(sockets=[listener])
