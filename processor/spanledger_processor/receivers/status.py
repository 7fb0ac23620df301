"""A reply as `google.rpc.Status`: what OTLP errors are on both protocols."""

from __future__ import annotations

import math
from collections.abc import Mapping

from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.rpc.code_pb2 import INVALID_ARGUMENT, OK, UNAUTHENTICATED, UNAVAILABLE
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status

from spanledger_processor.receivers.reply import Outcome, Reply

_CODES: Mapping[Outcome, int] = {
    "ok": OK,
    "retry": UNAVAILABLE,
    "rejected": INVALID_ARGUMENT,
    "unauthenticated": UNAUTHENTICATED,
    "gone": UNAVAILABLE,
}
_LONGEST_MESSAGE = 1024
"""Characters; gRPC sends it as headers, which end at 8 KiB."""


def to_status(reply: Reply) -> Status:
    """The status; with RetryInfo where the sender is to try again."""
    status = make_status(_CODES[reply.outcome], reply.message)
    if reply.outcome == "retry":
        detail = Any()
        detail.Pack(RetryInfo(retry_delay=_duration(reply.retry_after)))
        status.details.append(detail)
    return status


def make_status(code: int, message: str) -> Status:
    """A status whose message can be sent: not long, valid Unicode."""
    return Status(code=code, message=message[:_LONGEST_MESSAGE].encode("utf-8", "replace").decode())


def _duration(seconds: float) -> Duration:
    whole = math.floor(seconds)
    return Duration(seconds=whole, nanos=int((seconds - whole) * 1e9))
