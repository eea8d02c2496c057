"""An ASGI application behind the page's server, in a thread."""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def serving(application: Any, **seconds: float) -> Iterator[int]:
    """The port of a server of the application; ``seconds`` replace the protocol's time limits."""
    from se_resnet.app.connections import LimitedProtocol, server_of

    server = server_of(application, type("Protocol", (LimitedProtocol,), seconds))
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(200)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join(20)
            assert not thread.is_alive(), "the server does not end"


def request(
    port: int, method: str = "GET", path: str = "/", body: Any = b"", headers: Any = None
) -> tuple[http.client.HTTPResponse, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request(method, path, body, headers or {})
    answer = connection.getresponse()
    return answer, answer.read()


def send(port: int, content: bytes) -> socket.socket:
    """A connection on which the content was sent."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=20)
    connection.sendall(content)
    return connection


def seconds_until_closed(
    connection: socket.socket, drip: bytes = b"", patience: float = 10
) -> float:
    """How long the server keeps a connection on which ``drip`` is sent time and again."""
    start = time.monotonic()
    connection.settimeout(0.05)
    while time.monotonic() - start < patience:
        try:
            if drip:
                connection.sendall(drip)
            if not connection.recv(1000):
                break
        except TimeoutError:
            continue
        except OSError:
            break
    return time.monotonic() - start
