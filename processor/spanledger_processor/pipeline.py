"""What the receivers know of everything behind them: one request in, one answer back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from spanledger_exporters.interface import Signal


class Status(Enum):
    """What the sender is told; each protocol has its own words for it."""

    OK = "ok"
    """Every required exporter has it: success."""
    RETRY = "retry"
    """Not now: UNAVAILABLE with RetryInfo, or 503 with Retry-After. The sender keeps the data."""
    REJECTED = "rejected"
    """Never: INVALID_ARGUMENT, or 400. The sender drops the data."""


@dataclass(frozen=True, slots=True)
class Answer:
    """How a request ended. `reason` is for people; `retry_after` (seconds) is used with `Status.RETRY` only."""

    status: Status
    reason: str = ""
    retry_after: float = 1.0


class Pipeline(Protocol):
    """Enrich, deliver, answer."""

    async def handle(self, signal: Signal, body: bytes, headers: Mapping[str, str], deadline: float) -> Answer:
        """Take one encoded export request (protobuf) through to the exporters by `deadline` (event-loop time).

        `headers` are the request's, with lower-case names and no credentials. Once begun, a call runs to its end:
        the sender going away does not cancel it.

        Raises:
            MalformedError: `body` is not an export request of `signal`; the sender is told why.
        """
        ...
