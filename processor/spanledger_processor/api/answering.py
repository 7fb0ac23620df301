"""Answers as JSON."""

from __future__ import annotations

from typing import Any

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response


def to_json(body: Any, status: int = 200) -> Response:
    """An answer."""
    return Response(orjson.dumps(body), status, media_type="application/json")


def error(status: int, message: str) -> Response:
    """An answer that says what is wrong."""
    return to_json({"error": message}, status)


async def refused(_: Request, problem: Exception) -> Response:
    """404 and 405."""
    assert isinstance(problem, HTTPException)
    return Response(
        orjson.dumps({"error": problem.detail}), problem.status_code, problem.headers, media_type="application/json"
    )


async def failed(_: Request, problem: Exception) -> Response:
    """A bug of ours; the listener logs where it is."""
    return error(500, f"internal failure ({type(problem).__name__})")
