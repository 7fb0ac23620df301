"""The one change that the API makes: marking a session as ended, for `spanledger close` beside a running server."""

from __future__ import annotations

from typing import Protocol

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from spanledger_processor.api.answering import error, to_json
from spanledger_processor.ledger.store import StateError

_LONGEST = 4096
"""Bytes of a request; there is only a tenant's name in it."""


class Closing(Protocol):
    """Ends sessions.

    Raises:
        StateError: the ledger cannot be written now.
    """

    async def close(self, tenant: str, session_id: str) -> bool: ...


def route(closing: Closing) -> Route:
    """POST with a JSON body; another site's script cannot send that without CORS, which there is none of."""

    async def close(request: Request) -> Response:
        tenant = await _tenant(request)
        if tenant is None:
            return error(415, 'send JSON: {"tenant": ""}')
        try:
            closed = await closing.close(tenant, request.path_params["id"])
        except StateError as problem:
            return error(503, f"the ledger cannot be written now: {problem}")
        return to_json({"closed": True}) if closed else error(404, "not in the ledger")

    return Route("/api/v1/sessions/{id:path}/close", close, methods=["POST"])


async def _tenant(request: Request) -> str | None:
    """The tenant that a JSON body names, None if the request has no such body."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        return None
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > _LONGEST:
            return None
    try:
        said = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    tenant = said.get("tenant", "") if isinstance(said, dict) else None
    return tenant if isinstance(tenant, str) else None
