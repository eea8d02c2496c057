"""The page's server and clients that are slow, many, or speak no HTTP."""

from __future__ import annotations

import contextlib
import socket
import time

import pytest

from tests.helpers.marks import NEEDS_APP
from tests.helpers.serving import request, seconds_until_closed, send, serving

pytestmark = NEEDS_APP

SHORT = {"header_seconds": 0.4, "body_seconds": 0.4, "answer_seconds": 0.4}
POST = b"POST /body HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n"
PROMISES = {
    "Content-Security-Policy": "default-src 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
}


async def application(scope, receive, send):
    """Reads the body, fails, or sends much, by the path."""
    if scope["path"] == "/fails":
        raise RuntimeError("a bug")
    while scope["path"] == "/body":
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        if not message["more_body"]:
            break
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for _ in range(300 if scope["path"] == "/large" else 1):
        body = bytes(100_000 if scope["path"] == "/large" else 10)
        await send({"type": "http.response.body", "body": body, "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


@pytest.mark.parametrize(
    ("sent", "drip"),
    [
        (b"", b""),
        (b"GET / HTTP/1.1\r\nHost: loc", b""),
        (b"GET / HTTP/1.1\r\nHost: loc", b"a"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", b""),  # then an idle connection
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\nGET /", b"a"),
        (POST, b""),
        (POST, b"a"),
        (POST.replace(b"/body", b"/"), b"a"),  # answered, but still sending
        (POST.replace(b"Content-Length: 1000", b"Transfer-Encoding: chunked"), b"1\r\na\r\n"),
    ],
)
def test_a_slow_client_is_not_waited_for(sent, drip):
    with serving(application, **SHORT) as port, send(port, sent) as connection:
        assert 0.2 < seconds_until_closed(connection, drip) < 5


def test_who_reads_no_answer_is_not_waited_for():
    with serving(application, **SHORT) as port:
        connection = send(port, b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n")
        time.sleep(1)
        assert read_all(connection) < 30_000_000


def read_all(connection, pause=0.0):
    """How many bytes come before the connection ends."""
    received = 0
    connection.settimeout(5)
    with contextlib.suppress(ConnectionError):
        while chunk := connection.recv(200_000):
            received += len(chunk)
            time.sleep(pause)
    return received


def test_who_reads_slowly_but_steadily_is_not_waited_for():
    with serving(application, **SHORT) as port:
        connection = send(port, b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n")
        start = time.monotonic()
        assert read_all(connection, pause=0.02) < 30_000_000
        assert time.monotonic() - start < 3


def test_an_answer_may_take_longer_than_a_client():
    async def slow(scope, receive, send):
        import asyncio

        await asyncio.sleep(1)
        await application(scope, receive, send)

    with serving(slow, **SHORT) as port:
        assert request(port)[0].status == 200
        assert request(port, "POST", "/body", bytes(10))[0].status == 200


def test_silent_connections_give_way(monkeypatch):
    from se_resnet.app import connections

    monkeypatch.setattr(connections, "MAX_CONNECTIONS", 10)
    with serving(application) as port:
        silent = [
            send(port, part)
            for part in (b"", b"GET / HTT", POST.replace(b"/body", b"/"))
            for _ in range(30)
        ]
        for _ in range(20):
            silent.append(send(port, b"GET / HTT"))
            assert request(port)[0].status == 200
        open_ = 0
        for connection in silent:
            connection.setblocking(False)
            try:
                while connection.recv(1000):
                    pass
            except BlockingIOError:
                open_ += 1
            except OSError:
                pass
            connection.close()
        assert open_ <= 10


def test_one_connection_too_many_is_told_so(monkeypatch):
    from se_resnet.app import connections

    monkeypatch.setattr(connections, "MAX_CONNECTIONS", 3)
    with serving(application) as port:
        busy = [send(port, POST) for _ in range(3)]
        time.sleep(0.2)
        answer, _ = request(port)
        assert answer.status == 503
        promise(answer.headers)
        for connection in busy:
            connection.close()


def promise(headers):
    for name, value in PROMISES.items():
        assert headers[name].startswith(value), name
        assert len(headers.get_all(name)) == 1
    assert "uvicorn" not in headers.get("Server", "")


@pytest.mark.parametrize("path", ["/", "/fails"])
def test_every_answer_has_the_headers(path):
    with serving(application) as port:
        promise(request(port, path=path)[0].headers)


@pytest.mark.parametrize(
    "sent",
    [
        b"no HTTP at all\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",  # no Host
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: \xb2\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nA: " + b"a" * 100_000,
        b"GET /" + b"a" * 100_000,
        b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"A: a\r\n" * 10_000,
        POST.replace(b"Content-Length: 1000", b"Transfer-Encoding: chunked") + b"zzz\r\n",
    ],
)
def test_what_is_no_http_is_refused_with_the_headers(sent, capfd):
    with serving(application) as port:
        with send(port, sent) as connection:
            connection.settimeout(5)
            told = b""
            try:
                while chunk := connection.recv(10_000):
                    told += chunk
            except ConnectionError:
                pass  # it closes without reading all
        assert told.startswith(b"HTTP/1.1 400 ")
        for name, value in PROMISES.items():
            assert f"{name.lower()}: {value}".encode() in told.replace(
                name.encode(), name.lower().encode()
            )
        assert request(port)[0].status == 200
    assert "Traceback" not in capfd.readouterr().err


def test_nonsense_amid_an_answer_ends_the_connection(capfd):
    with serving(application) as port:
        chunked = POST.replace(b"Content-Length: 1000", b"Transfer-Encoding: chunked")
        with send(port, chunked.replace(b"/body", b"/large")) as connection:
            time.sleep(0.2)
            connection.sendall(b"nonsense\r\n")
            assert read_all(connection) < 30_000_000
        assert request(port)[0].status == 200
    assert "Traceback" not in capfd.readouterr().err


def test_requests_in_one_packet_are_answered_in_turn():
    with serving(application, **SHORT) as port:
        one = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
        with send(port, one * 50) as connection:
            told = b""
            connection.settimeout(5)
            try:
                while chunk := connection.recv(100_000):
                    told += chunk
            except ConnectionError:
                pass
        assert told.count(b"HTTP/1.1 200") == 50


def test_the_server_ends_without_waiting_for_clients(capfd):
    start = time.monotonic()
    with serving(application) as port:
        connections = [
            send(port, part)
            for part in (b"", b"GET / HT", POST, b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n")
        ]
        time.sleep(0.3)
    assert time.monotonic() - start < 5
    for connection in connections:
        connection.close()
    assert capfd.readouterr().err == ""


def test_a_socket_is_left_to_none():
    with serving(application) as port:
        pass
    with pytest.raises(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        pass
