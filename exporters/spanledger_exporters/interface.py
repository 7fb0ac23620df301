"""What all exporters share: the exporter protocol, the result of a request, errors and the delivery observer."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from importlib.metadata import version
from typing import Protocol

from spanledger_processor.otlp.json_form import Signal as Signal

ITEMS: Mapping[Signal, str] = {"traces": "spans", "logs": "log records", "metrics": "data points"}
"""What the items of a signal's requests are, for messages."""

USER_AGENT = f"Spanledger/{version('spanledger')}"


class ExporterError(Exception):
    """Base of all errors that this package raises."""


class DestinationError(ExporterError):
    """A destination cannot be used as configured; raised when it is started. The message names what to change.

    What a destination answers is a `Result`, never an exception.
    """

    def __init__(self, exporter: str, problem: str) -> None:
        super().__init__(f"exporters.{exporter}: {problem}")
        self.exporter = exporter


class Verdict(Enum):
    """What a result means for the sender."""

    ACCEPTED = "accepted"
    RETRYABLE = "retryable"
    """Not accepted now; the same request may be sent again."""
    PERMANENT = "permanent"
    """Never: the same request will not be accepted later either."""


@dataclass(frozen=True, slots=True)
class Result:
    """How a request ended: the answer of a destination, and what a receiver tells the sender from it.

    `reason` is for people; `retry_after` (seconds) is the wait that was asked for. `cause` is a short name for why a
    receiver did not accept the request, a label of a metric; exporters leave it empty. `rejected` counts the items that
    a destination left out of a request it accepted (a partial success): they are lost there and must not be sent again.
    `attempts` is how often the request was sent for this result.
    """

    verdict: Verdict
    reason: str = ""
    retry_after: float | None = None
    cause: str = ""
    rejected: int = 0
    attempts: int = 1


ACCEPTED = Result(Verdict.ACCEPTED)


def combined(results: Mapping[str, Result]) -> Result:
    """Return one result for the sender: retryable if any exporter's is, else permanent if any is, else accepted.

    The reason names each exporter it stands for; the longest wait asked for is passed on.
    """
    for verdict in (Verdict.RETRYABLE, Verdict.PERMANENT):
        decisive = {name: result for name, result in results.items() if result.verdict is verdict}
        if decisive:
            reason = "; ".join(f"{name}: {result.reason}" for name, result in decisive.items())
            asked = [result.retry_after for result in decisive.values() if result.retry_after is not None]
            return Result(verdict, reason, max(asked, default=None))
    return ACCEPTED


class Exporter(Protocol):
    """One destination. `name` is its component id (type/name); `send` never raises for what a destination did."""

    @property
    def name(self) -> str: ...

    @property
    def required(self) -> bool: ...

    @property
    def signals(self) -> frozenset[Signal]: ...

    def address(self, signal: Signal, /) -> str:
        """Return where requests of this signal go, for our own log: a URL, host:port or path."""
        ...

    async def start(self) -> None:
        """Make ready to send; does not wait for the destination.

        Raises:
            DestinationError: it cannot be used as configured.
        """
        ...

    async def send(self, signal: Signal, body: bytes, deadline: float) -> Result:
        """Send one encoded export request (protobuf) by `deadline` (`asyncio` loop time in seconds).

        It may end later only where what was begun cannot be taken back (a line that is being written).
        """
        ...

    async def close(self) -> None:
        """End what is under way, and close connections and files."""
        ...


class DeliveryObserver(Protocol):
    """Counts results of destinations. `exporter` is a component id. Must not raise and must not block."""

    def answered(self, exporter: str, signal: Signal, verdict: Verdict, items: int, seconds: float) -> None:
        """Count an answer to one request of so many items, after so many seconds; retries are not distinguished."""
        ...

    def forwarded(self, exporter: str, signal: Signal, items: int) -> None:
        """Count items that a destination took."""
        ...

    def rejected(self, exporter: str, signal: Signal, items: int) -> None:
        """Count items that a destination left out of a request that it accepted: they are lost there."""
        ...

    def refused(self, exporter: str, signal: Signal, items: int) -> None:
        """Count items that a destination refused for good: they are not there, and will not be."""
        ...

    def retried(self, exporter: str, signal: Signal, attempts: int) -> None:
        """Count the attempts after the first that were made for one request."""
        ...

    def dropped(self, exporter: str, signal: Signal, items: int) -> None:
        """Count items that were not sent to a destination that is not required and does not keep up."""
        ...

    def queue(self, exporter: str, size: int, capacity: int) -> None:
        """Set the size of a queue on disk, and its capacity (requests, items or bytes)."""
        ...

    def queue_refused(self, exporter: str, signal: Signal, items: int) -> None:
        """Count items that were not put into a queue: it is full, or the disk is. Senders keep them."""
        ...

    def set_aside(self, exporter: str, segments: int) -> None:
        """Count damaged files of a queue that were set aside."""
        ...

    def unclaimed(self, signal: Signal, items: int) -> None:
        """Count items that were accepted and that no exporter takes."""
        ...


def logger_of(exporter: str) -> logging.Logger:
    """Return the logger of the exporter with this component id: repeats are left out for each by itself."""
    return logging.getLogger(f"spanledger_exporters.{exporter}")


def one_line(text: str, longest: int = 300) -> str:
    """Return `text` without control characters and surrogates, cut at `longest` characters, for a log or a terminal."""
    kept = "".join(char if char.isprintable() else " " for char in text[: longest + 1])
    return kept if len(kept) <= longest else kept[: longest - 1] + "…"
