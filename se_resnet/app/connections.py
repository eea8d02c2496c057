"""The page's HTTP server: how long a client may take, how many there may be, headers of answers."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

MOST_CONNECTIONS = 100
_HEADERS = [
    # Only what this server sends: no network, no inline script.
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
    """uvicorn's protocol with the limits that it lacks.

    A connection ends if the client takes longer than these limits, however steadily it sends or
    reads. Where there are more than ``MOST_CONNECTIONS``, the one that has waited longest for its
    client ends, so that silent clients lock nobody out.

    Attributes:
        header_seconds: until the headers of a request are complete, from the opening of the
            connection or the end of the last answer.
        body_seconds: from there until the body is complete.
        answer_seconds: for the client to take an answer that does not fit into buffers.
    """

    header_seconds = 10.0
    body_seconds = 30.0
    answer_seconds = 30.0

    _stage: Any = None  # what the client is waited for
    _since = 0.0
    _patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Starts the first time limit, and ends a connection where there are too many."""
        super().connection_made(transport)
        self._watch()
        connections = cast("set[LimitedProtocol]", self.connections)
        waiting = [one for one in connections if one is not self and one._is_answered()]
        if len(connections) > MOST_CONNECTIONS and waiting:  # without any, uvicorn answers 503
            oldest = min(waiting, key=lambda one: one._since)
            connections.discard(oldest)  # at once, as uvicorn counts those that are about to end
            oldest.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Ends the time limit."""
        self._limit(None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Starts the next time limit where a part of the request is complete."""
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        """Starts the time limit of the next request."""
        super().on_response_complete()
        self._watch()

    def pause_writing(self) -> None:
        """Starts the time limit of an answer that the client does not take."""
        super().pause_writing()
        self._watch()

    def resume_writing(self) -> None:
        """Ends the time limit of an answer that the client has taken."""
        super().resume_writing()
        self._watch()

    def shutdown(self) -> None:
        """Waits for answers that are being worked on, not for clients."""
        if self.conn.their_state is h11.SEND_BODY or self.flow.write_paused:
            self.transport.abort()
        else:
            super().shutdown()

    def send_400_response(self, msg: str) -> None:
        """Answers what is no HTTP, with the headers of all answers."""
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):  # amid another answer
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
        """Starts the time limit of what the client is waited for, unless it runs already."""
        stage: Any
        seconds: float | None
        if self.flow.write_paused or (self._stage == "answer" and not self._is_answered()):
            stage, seconds = "answer", self.answer_seconds
        elif self._is_answered():  # the next request, or what is left of one that was refused
            stage, seconds = self.conn.their_state, self.header_seconds
        elif self.conn.their_state is h11.SEND_BODY:
            stage, seconds = "body", self.body_seconds
        else:
            stage, seconds = "nothing", None
        if stage != self._stage:
            self._stage, self._since = stage, self.loop.time()
            self._limit(seconds)

    def _limit(self, seconds: float | None) -> None:
        if self._patience:
            self._patience.cancel()
        self._patience = self.loop.call_later(seconds, self.transport.abort) if seconds else None


def server_of(page: Any, protocol: type[LimitedProtocol] = LimitedProtocol) -> uvicorn.Server:
    """The server of an ASGI application.

    Args:
        page: the application.
        protocol: with the time limits.
    """
    return uvicorn.Server(
        uvicorn.Config(
            page,
            http=protocol,
            ws="none",
            lifespan="off",
            proxy_headers=False,  # no proxy stands before it
            server_header=False,
            headers=_HEADERS,
            log_level="error",
            limit_concurrency=MOST_CONNECTIONS + 1,
            timeout_keep_alive=5,
            timeout_graceful_shutdown=30,
            h11_max_incomplete_event_size=2**14,  # bytes of all headers of a request
        )
    )
