"""The address that takes an image: from whom, how large, and how many at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

LARGEST_UPLOAD = 20_000_000  # bytes
MOST_UPLOADS = 8  # being received, waiting, or worked on
_RETRY_SECONDS = 5  # some uploads are done by then


def upload_route(path: str, analyse: Callable[[bytes], dict[str, Any]]) -> Route:
    """The route that answers a POST of a file with JSON.

    One file at a time is worked on. A few wait for that; the client of one more is told to come
    back, by status 503.

    Args:
        path: of the route.
        analyse: makes the answer from the content of the file, in a thread, or raises a ValueError
            with the reason why it cannot; the answer is then ``{"refused": reason}``.
    """
    uploads, turn = 0, asyncio.Lock()

    async def answer(request: Request) -> Response:
        nonlocal uploads
        if is_foreign(request):
            return _refuse("was sent by another site", 403)
        if uploads == MOST_UPLOADS:
            return _refuse("has to wait for others", 503, {"Retry-After": str(_RETRY_SECONDS)})
        uploads += 1
        try:
            content = await _read_body(request)
            if content is None:
                return _refuse(f"the file is larger than {LARGEST_UPLOAD // 1_000_000} MB", 413)
            async with turn:  # one decoded image may take a gigabyte
                if await request.is_disconnected():
                    raise ClientDisconnect
                result = await run_in_threadpool(analyse, content)
        except ValueError as error:
            # Not 400: a browser would write it to its console as a fault of the page.
            return _refuse(str(error), 200)
        except ClientDisconnect:
            return Response()  # to nobody
        finally:
            uploads -= 1
        return JSONResponse(result)

    return Route(path, answer, methods=["POST"])


def is_foreign(request: Request) -> bool:
    """Whether a browser says that the request comes from a page of another site.

    Another port is another site, because anybody may serve pages there. Programs that are no
    browsers send neither of the headers.
    """
    sites, origins = (request.headers.getlist(name) for name in ("sec-fetch-site", "origin"))
    own = f"http://{request.headers['host']}".lower()
    return any(site not in ("same-origin", "none") for site in sites) or any(
        origin.lower() != own for origin in origins
    )


async def _read_body(request: Request) -> bytes | None:
    """What was sent, or None as soon as it is more than is allowed."""
    if int(request.headers.get("content-length", 0)) > LARGEST_UPLOAD:
        return None
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > LARGEST_UPLOAD:
            return None
    return bytes(content)


def _refuse(reason: str, status: int, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"refused": reason}, status, headers)
