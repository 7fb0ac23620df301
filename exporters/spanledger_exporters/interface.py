"""What every destination looks like from inside: bytes of one OTLP export request in, an outcome back."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Literal, Protocol, TypeAlias

Signal: TypeAlias = Literal["traces", "logs", "metrics"]


class Verdict(Enum):
    """What a destination's answer means for the sender."""

    ACCEPTED = "accepted"
    RETRYABLE = "retryable"
    """Not accepted now; the same request may be sent again."""
    PERMANENT = "permanent"
    """The destination will never take this request."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A destination's answer. `reason` is for people; `retry_after` (seconds) is what the destination asked for.

    `rejected` counts the items that a destination left out of a request it accepted (a partial success): they are
    lost there and must not be sent again. `attempts` is how often the request was sent for this answer.
    """

    verdict: Verdict
    reason: str = ""
    retry_after: float | None = None
    rejected: int = 0
    attempts: int = 1


ACCEPTED = Outcome(Verdict.ACCEPTED)


class Exporter(Protocol):
    """One destination. `name` is its component id (type/name); `send` never raises for what a destination did."""

    @property
    def name(self) -> str: ...

    @property
    def required(self) -> bool: ...

    @property
    def signals(self) -> frozenset[Signal]: ...

    async def start(self) -> None:
        """Make ready to send; does not wait for the destination.

        Raises:
            DestinationError: it cannot be used as configured.
        """
        ...

    async def send(self, signal: Signal, body: bytes, deadline: float) -> Outcome:
        """Send one encoded export request (protobuf) by `deadline` (`asyncio` loop time in seconds).

        It may end later only where what was begun cannot be taken back (a line that is being written).
        """
        ...

    async def close(self) -> None: ...
