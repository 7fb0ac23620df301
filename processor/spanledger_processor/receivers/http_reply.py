"""Replies in the words of OTLP/HTTP: the status code, and `google.rpc.Status` in the request's media type."""

from __future__ import annotations

import math
from collections.abc import Mapping

from google.protobuf.json_format import MessageToJson
from google.rpc.status_pb2 import Status
from starlette.requests import Request
from starlette.responses import Response

from spanledger_processor.receivers.reply import Cause, Outcome, Reply
from spanledger_processor.receivers.status import make_status, to_status

PROTOBUF = "application/x-protobuf"
JSON = "application/json"
MEDIA_TYPES = (PROTOBUF, JSON)

_BY_OUTCOME: Mapping[Outcome, int] = {"ok": 200, "retry": 503, "rejected": 400, "unauthenticated": 401, "gone": 503}
_BY_CAUSE: Mapping[Cause, int] = {"too_large": 413, "media_type": 415, "encoding": 415}


def media_type(request: Request) -> str | None:
    """The request's media type if it is one of ours, without parameters."""
    given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return given if given in MEDIA_TYPES else None


def response(reply: Reply, media: str | None) -> Response:
    """The answer; an error to a request of unknown media type is JSON."""
    if reply.outcome == "ok":
        # An empty Export*ServiceResponse: partial_success is unset, as full success demands.
        return Response(b"{}" if media == JSON else b"", media_type=media)
    code = _BY_CAUSE.get(reply.cause) or _BY_OUTCOME[reply.outcome]
    return _status_response(code, to_status(reply), media, _headers(reply))


def error_response(
    http_code: int, code: int, message: str, media: str | None, headers: Mapping[str, str] | None
) -> Response:
    """An error that no export request ran into."""
    return _status_response(http_code, make_status(code, message), media, dict(headers or {}))


def _headers(reply: Reply) -> dict[str, str]:
    if reply.outcome == "retry":
        return {"retry-after": str(max(1, math.ceil(reply.retry_after)))}
    if reply.outcome == "unauthenticated":
        return {"www-authenticate": "Bearer"}
    if reply.cause == "encoding":
        return {"accept-encoding": "gzip, identity"}
    return {}


def _status_response(http_code: int, status: Status, media: str | None, headers: Mapping[str, str]) -> Response:
    if media == PROTOBUF:
        return Response(status.SerializeToString(), http_code, headers, PROTOBUF)
    return Response(MessageToJson(status, indent=None), http_code, headers, JSON)
