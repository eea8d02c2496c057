"""The page's HTTP server: time limits, number of connections, response headers."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

MAX_CONNECTIONS = 100
_HEADERS = [
    # The page may load content from this server only, and no inline scripts.
    (
        "Content-Security-Policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cache-Control", "no-store"),
]


class LimitedProtocol(H11Protocol):
    """uvicorn's protocol with further limits.

    A connection is closed if the client exceeds a time limit, even if it sends or reads steadily.
    If there are more than ``MAX_CONNECTIONS``, the connection that has waited longest for its
    client is closed, so that silent clients cannot block the others.

    Attributes:
        header_seconds: time to send the headers of a request, from the start of the connection or
            the end of the last response.
        body_seconds: time to send the body after the headers.
        answer_seconds: time to receive a response that does not fit into buffers.
    """

    header_seconds = 10.0
    body_seconds = 30.0
    answer_seconds = 30.0

    _stage: Any = None  # what the server waits for
    _since = 0.0
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Starts the first time limit; closes a connection if there are too many."""
        super().connection_made(transport)
        self._watch()
        connections = cast("set[LimitedProtocol]", self.connections)
        others = connections - {self}
        waiting = [connection for connection in others if connection._is_answered()]
        # If no connection waits, uvicorn responds with 503.
        if len(connections) > MAX_CONNECTIONS and waiting:
            oldest = min(waiting, key=lambda connection: connection._since)
            connections.discard(oldest)  # uvicorn counts it until it is closed
            oldest.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Ends the time limit."""
        self._limit(None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Starts the next time limit if a part of the request is complete."""
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        """Starts the time limit of the next request."""
        super().on_response_complete()
        self._watch()

    def pause_writing(self) -> None:
        """Starts the time limit of a response that the client does not read."""
        super().pause_writing()
        self._watch()

    def resume_writing(self) -> None:
        """Ends the time limit of a response that the client has read."""
        super().resume_writing()
        self._watch()

    def shutdown(self) -> None:
        """Waits for responses in progress, but not for clients."""
        if self.conn.their_state is h11.SEND_BODY or self.flow.write_paused:
            self.transport.abort()
        else:
            super().shutdown()

    def send_400_response(self, msg: str) -> None:
        """Responds to invalid HTTP, with the headers of all responses."""
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):  # within another response
            self.transport.abort()
            return
        headers = [
            *self.server_state.default_headers,
            (b"content-type", b"text/plain; charset=utf-8"),
            (b"connection", b"close"),
        ]
        for event in (
            h11.Response(status_code=400, headers=headers, reason=b"Bad Request"),
            h11.Data(data=msg.encode()),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event))
        self.transport.close()

    def _is_answered(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _watch(self) -> None:
        """Starts the time limit for what the server waits for, unless it is running."""
        stage: Any
        seconds: float | None
        if self.flow.write_paused or (self._stage == "answer" and not self._is_answered()):
            stage, seconds = "answer", self.answer_seconds
        elif self._is_answered():  # the next request, or the rest of a refused request
            stage, seconds = self.conn.their_state, self.header_seconds
        elif self.conn.their_state is h11.SEND_BODY:
            stage, seconds = "body", self.body_seconds
        else:
            stage, seconds = "nothing", None
        if stage != self._stage:
            self._stage, self._since = stage, self.loop.time()
            self._limit(seconds)

    def _limit(self, seconds: float | None) -> None:
        if self._timer:
            self._timer.cancel()
        self._timer = self.loop.call_later(seconds, self.transport.abort) if seconds else None


def server_of(page: Any, protocol: type[LimitedProtocol] = LimitedProtocol) -> uvicorn.Server:
    """Returns the server of an ASGI application.

    Args:
        page: the application.
        protocol: protocol with the time limits.
    """
    return uvicorn.Server(
        uvicorn.Config(
            page,
            http=protocol,
            ws="none",
            lifespan="off",
            proxy_headers=False,  # there is no proxy
            server_header=False,
            headers=_HEADERS,
            log_level="error",
            limit_concurrency=MAX_CONNECTIONS + 1,
            timeout_keep_alive=5,
            timeout_graceful_shutdown=30,
            h11_max_incomplete_event_size=2**14,  # bytes of a request's headers
        )
    )
