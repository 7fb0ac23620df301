"""gRPC statuses."""

from __future__ import annotations

import grpc
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status

from spanledger_exporters.answers.body import LONGEST_WAIT, reason
from spanledger_exporters.interface import Outcome, Verdict

_RETRYABLE = frozenset(
    (
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.OUT_OF_RANGE,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DATA_LOSS,
        # Ours, see the package.
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.INTERNAL,
    )
)
_RETRYABLE_WITH_RETRY_INFO = grpc.StatusCode.RESOURCE_EXHAUSTED


def failure(code: grpc.StatusCode, details: str, packed_status: bytes) -> Outcome:
    """The outcome of a call that failed. `packed_status` is its `grpc-status-details-bin`, empty if there is none."""
    delay = retry_delay(packed_status)
    if code in _RETRYABLE or (code is _RETRYABLE_WITH_RETRY_INFO and delay is not None):
        return Outcome(Verdict.RETRYABLE, reason(code.name, details), delay)
    return Outcome(Verdict.PERMANENT, reason(code.name, details))


def retry_delay(packed_status: bytes) -> float | None:
    """Seconds of the RetryInfo in an encoded google.rpc.Status; None where there is none."""
    try:
        status = Status.FromString(packed_status)
        info = RetryInfo()
        if not any(detail.Unpack(info) for detail in status.details):
            return None
    except DecodeError:
        return None
    delay: float = info.retry_delay.seconds + info.retry_delay.nanos / 1e9
    return min(max(0.0, delay), LONGEST_WAIT)
