"""The page at `/` of the HTTP API: its files, and the stream of server-sent events that tells it what has changed.

The files stand in the folder `page` beside this module and are served as they are. They hold nothing of the ledger, so
they need no token; what the page asks for does.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from http import HTTPStatus
from importlib.resources import files

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from spanledger_processor.ledger.queries import has_tenant, total
from spanledger_processor.ledger.store import Reader, StateError, tenant_hash
from spanledger_processor.server.forms import to_json
from spanledger_processor.server.unknown_names import unknown_parameter

_SCRIPTS = ("app", "ask", "cells", "draw", "filter", "spent", "timeline", "views")
_FILES: Mapping[str, tuple[str, str]] = {
    "/": ("index.html", "text/html"),
    **{f"/page/{name}.js": (f"{name}.js", "text/javascript") for name in _SCRIPTS},
    "/page/chart.js": ("chart.js", "text/javascript"),
    "/page/style.css": ("style.css", "text/css"),
}
"""Paths, and the file and media type of each."""

PATHS = frozenset(_FILES)

_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "cache-control": "no-cache",
}
"""Nothing from elsewhere, nothing written into the page; https://www.w3.org/TR/CSP3/."""

EVERY = 2.0
"""Seconds between two looks at a ledger that is followed."""
_ALIVE_EVERY = 15
"""Looks that saw no change, after which a comment is sent: who has left is noticed by that."""
MOST_FOLLOWERS = 16
"""Streams at once. Each reads one record every two seconds."""


def page_routes() -> list[Route]:
    """Return the routes of the page's files."""
    folder = files("spanledger_processor.server") / "page"
    answers = {
        path: Response((folder / name).read_bytes(), media_type=media, headers=_HEADERS)
        for path, (name, media) in _FILES.items()
    }

    async def answer(request: Request) -> Response:
        response = answers.get(request.url.path)
        if response is None:
            raise HTTPException(HTTPStatus.NOT_FOUND)
        return response

    return [Route("/", answer, methods=["GET"]), Route("/page/{name}", answer, methods=["GET"])]


class Followers:
    """Streams of server-sent events: the total of a ledger, now and each time that it has changed.

    `read` runs a function over a snapshot of the ledger, on a thread; it raises StateError while there is none.
    """

    def __init__(self, read: Callable[[Callable[[Reader], bytes | None]], Awaitable[bytes | None]]) -> None:
        self._read = read
        self._stopping = asyncio.Event()
        self._following = 0

    def stop(self) -> None:
        """End all streams."""
        self._stopping.set()

    async def answer(self, request: Request) -> Response:
        """Return a stream for the tenant that the query names."""
        if others := sorted({*request.query_params} - {"tenant"}):
            message = {"error": unknown_parameter(others[0], ["tenant"])}
            return Response(to_json(message), 400, media_type="application/json")
        tenant = tenant_hash(request.query_params.get("tenant", ""))
        if self._following >= MOST_FOLLOWERS:
            message = {"error": f"{MOST_FOLLOWERS} streams are followed already: close one"}
            return Response(to_json(message), 503, {"retry-after": "10"}, media_type="application/json")
        return StreamingResponse(self._events(tenant), media_type="text/event-stream")

    async def _events(self, tenant: bytes) -> AsyncIterator[bytes]:
        self._following += 1
        try:
            last, unchanged = b"", 0
            while not self._stopping.is_set():
                now = await self._total(tenant)
                unchanged = 0 if now != last else unchanged + 1
                if unchanged == 0:
                    last = now
                    yield b"event: total\ndata: " + now + b"\n\n" if now else b": the ledger cannot be read now\n\n"
                elif unchanged % _ALIVE_EVERY == 0:
                    yield b": no change\n\n"
                await _passed(EVERY, self._stopping)
        finally:
            self._following -= 1

    async def _total(self, tenant: bytes) -> bytes:
        """Return the total as JSON; empty while the ledger cannot be read."""

        def work(reader: Reader) -> bytes | None:
            return to_json(total(reader, tenant)) if has_tenant(reader, tenant) else None

        try:
            return await self._read(work) or b""
        except StateError:
            return b""


async def _passed(seconds: float, unless: asyncio.Event) -> None:
    """Wait `seconds`, or until `unless` is set."""
    try:
        async with asyncio.timeout(seconds):
            await unless.wait()
    except TimeoutError:
        return
