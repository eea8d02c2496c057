"""The route that receives an image, with limits of origin, size and number."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

LARGEST_UPLOAD = 20_000_000  # bytes
MAX_UPLOADS = 8  # in reception, waiting or in progress
_RETRY_SECONDS = 5  # time in which some uploads end


def upload_route(
    path: str, analyse: Callable[..., dict[str, Any]], options: Sequence[str] = ()
) -> Route:
    """Returns the route that responds to a POST of a file with JSON.

    One file is analysed at a time. A few others wait; any further client gets status 503 and should
    try again.

    Args:
        path: path of the route.
        analyse: returns the response for the content of a file; called in a thread with the content
            and the given ``options`` by name. If it raises a ValueError, the response is
            ``{"refused": reason}`` with the error's text.
        options: names of parameters of the address, passed on as text.
    """
    uploads, turn = 0, asyncio.Lock()

    async def answer(request: Request) -> Response:
        nonlocal uploads
        if is_foreign(request):
            return _refuse("was sent by another site", 403)
        if uploads == MAX_UPLOADS:
            return _refuse(
                "has to wait for other images", 503, {"Retry-After": str(_RETRY_SECONDS)}
            )
        uploads += 1
        query = request.query_params
        given = {name: query[name] for name in options if name in query}
        try:
            content = await _read_body(request)
            if content is None:
                return _refuse(f"the file is larger than {LARGEST_UPLOAD // 1_000_000} MB", 413)
            async with turn:  # one decoded image may take a gigabyte
                if await request.is_disconnected():
                    raise ClientDisconnect
                result = await run_in_threadpool(analyse, content, **given)
        except ValueError as error:
            # Not 400, which browsers report as an error of the page.
            return _refuse(str(error), 200)
        except ClientDisconnect:
            return Response()  # nobody receives it
        finally:
            uploads -= 1
        return JSONResponse(result)

    return Route(path, answer, methods=["POST"])


def is_foreign(request: Request) -> bool:
    """Returns True if a browser reports that the request comes from a page of another site.

    Another port counts as another site, because any user may serve pages there. Other programs
    than browsers send neither header.
    """
    sites, origins = (request.headers.getlist(name) for name in ("sec-fetch-site", "origin"))
    expected = f"http://{request.headers['host']}".lower()
    return any(site not in ("same-origin", "none") for site in sites) or any(
        origin.lower() != expected for origin in origins
    )


async def _read_body(request: Request) -> bytes | None:
    """Returns the body, or None as soon as it exceeds the limit."""
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
