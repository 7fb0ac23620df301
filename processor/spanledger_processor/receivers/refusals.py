"""Results of requests that never reached the pipeline, and every result in the terms of OTLP and of our metrics."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal, TypeAlias

from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.rpc.code_pb2 import (
    DEADLINE_EXCEEDED,
    INTERNAL,
    INVALID_ARGUMENT,
    OK,
    RESOURCE_EXHAUSTED,
    UNAUTHENTICATED,
    UNAVAILABLE,
)
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status

from spanledger_exporters.interface import Result, Verdict

OtlpProtocol: TypeAlias = Literal["grpc", "http", "enricher"]

Outcome: TypeAlias = Literal["ok", "retry", "rejected", "unauthenticated", "gone"]
"""A label of `spanledger_requests_total`. gone: the sender left before the answer."""

Cause: TypeAlias = Literal[
    "budget",
    "unauthenticated",
    "media_type",
    "encoding",
    "too_large",
    "malformed",
    "slow_body",
    "aborted",
    "unreadable",
    "pipeline",
    "deadline",
    "stopping",
    "internal",
]
"""Why a request was not accepted; a label of `spanledger_refused_requests_total`."""

RETRY_AFTER = 1.0
"""Seconds after which a sender may try again where nothing else was asked for."""

_LONGEST_MESSAGE = 1024
"""Bytes."""

_OUTCOMES: Mapping[Verdict, tuple[Outcome, int]] = {
    Verdict.ACCEPTED: ("ok", OK),
    Verdict.RETRYABLE: ("retry", UNAVAILABLE),
    Verdict.PERMANENT: ("rejected", INVALID_ARGUMENT),
}
_OUTCOMES_BY_CAUSE: Mapping[str, tuple[Outcome, int]] = {
    "unauthenticated": ("unauthenticated", UNAUTHENTICATED),
    "aborted": ("gone", UNAVAILABLE),
}
_ENRICHER_CODES: Mapping[str, int] = {
    "budget": RESOURCE_EXHAUSTED,
    "slow_body": RESOURCE_EXHAUSTED,
    "deadline": DEADLINE_EXCEEDED,
    "internal": INTERNAL,
}
"""Codes that the Collector component is answered, by cause: it tells an enricher that is overloaded, slow or has a bug
from one that is away (processor/collector/enrich.proto). OTLP has one code on which all senders keep the data.
"""


class RefusedError(Exception):
    """A receiver refuses a request before the pipeline sees it."""

    def __init__(self, result: Result) -> None:
        super().__init__(result.reason)
        self.result = result


def retry(cause: Cause, reason: str) -> Result:
    """Return a result that has the sender keep the data. The reason holds nothing of what came in."""
    return Result(Verdict.RETRYABLE, reason, cause=cause)


def rejected(cause: Cause, reason: str) -> Result:
    """Return a result that has the sender drop the data."""
    return Result(Verdict.PERMANENT, reason, cause=cause)


def too_large(limit: int) -> Result:
    """Return the result of a request of more than `limit` bytes, decompressed."""
    return rejected("too_large", f"the request is larger than {limit} bytes, decompressed")


GONE = retry("aborted", "")
STOPPING = retry("stopping", "shutting down")
NO_ROOM = retry("budget", "too much is in flight (receivers.otlp.max_in_flight_mib); try again")
ENRICHER_NO_ROOM = Result(
    Verdict.RETRYABLE,
    "too much is in flight (receivers.enricher.max_in_flight_mib); try again",
    retry_after=0.05,
    cause="budget",
)
"""The component itself waits between its tries, longer each time."""
LATE = retry("deadline", "not delivered in the time there was; try again")
UNAUTHENTICATED_SENDER = rejected("unauthenticated", "a valid bearer token is needed: authorization: Bearer <token>")


def outcome(result: Result) -> Outcome:
    """Return the result as a label."""
    return (_OUTCOMES_BY_CAUSE.get(result.cause) or _OUTCOMES[result.verdict])[0]


def to_status(result: Result, protocol: OtlpProtocol = "grpc") -> Status:
    """Return the `google.rpc.Status` of a result, as OTLP errors are on both protocols; RetryInfo if retryable."""
    label, code = _OUTCOMES_BY_CAUSE.get(result.cause) or _OUTCOMES[result.verdict]
    if protocol == "enricher":
        code = _ENRICHER_CODES.get(result.cause, code)
    status = make_status(code, result.reason)
    if label == "retry":
        detail = Any()
        detail.Pack(RetryInfo(retry_delay=_duration(result.retry_after or RETRY_AFTER)))
        status.details.append(detail)
    return status


def make_status(code: int, message: str) -> Status:
    """Return a status whose message can be sent: valid Unicode, and not long.

    By gRPC it goes out twice among the trailers, once with up to three characters for a byte. From 8 KiB of trailers
    on, gRPC's own library refuses some at random, with a code on which senders drop data.
    """
    text = message[:_LONGEST_MESSAGE].encode("utf-8", "replace")
    return Status(code=code, message=text[:_LONGEST_MESSAGE].decode("utf-8", "ignore"))


def _duration(seconds: float) -> Duration:
    whole = math.floor(seconds)
    return Duration(seconds=whole, nanos=int((seconds - whole) * 1e9))
