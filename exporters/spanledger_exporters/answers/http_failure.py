"""HTTP statuses."""

from __future__ import annotations

import email.utils
from datetime import UTC, datetime

from google.rpc.status_pb2 import Status

from spanledger_exporters.answers.body import LONGEST_WAIT, Body, reason
from spanledger_exporters.interface import Outcome, Verdict

_TOO_MANY_REQUESTS = 429
_SERVER_ERROR = 500


def failure(status: int, body: Body, retry_after: str, now: datetime) -> Outcome:
    """The outcome of an answer that is no success. `retry_after` is that header's value, empty if there is none."""
    told = reason(f"HTTP {status}", _message(body))
    if status == _TOO_MANY_REQUESTS or status >= _SERVER_ERROR:
        return Outcome(Verdict.RETRYABLE, told, wait(retry_after, now))
    return Outcome(Verdict.PERMANENT, told)


def wait(retry_after: str, now: datetime) -> float | None:
    """Seconds to wait by a Retry-After header (seconds or an HTTP-date); None where it is missing or unreadable."""
    value = retry_after.strip()
    if value.isascii() and value.isdigit():
        return min(float(value[:9]), LONGEST_WAIT)
    try:
        when = email.utils.parsedate_to_datetime(value)
    except ValueError:
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return min(max(0.0, (when - now).total_seconds()), LONGEST_WAIT)


def _message(body: Body) -> str:
    """The message of the google.rpc.Status in a failure's body, or the body itself where it is plain text."""
    if body.media_type == "text/plain":
        return body.content.decode(errors="replace").strip()
    status = body.parse(Status())
    return str(status.message) if status is not None else ""
