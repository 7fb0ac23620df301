"""What the doors tell of themselves."""

from __future__ import annotations

from typing import Protocol

from spanledger_exporters.interface import Signal
from spanledger_processor.receivers.reply import Cause, OtlpProtocol, Outcome


class Observer(Protocol):
    """Told of every request; must not raise and must not wait."""

    def answered(self, signal: Signal, protocol: OtlpProtocol, outcome: Outcome, cause: Cause, seconds: float) -> None:
        """A request got its answer, `seconds` after it began; `cause` says why the outcome is not "ok"."""

    def received(self, signal: Signal, protocol: OtlpProtocol, size: int) -> None:
        """A request was read: `size` bytes, decompressed, as protobuf."""

    def in_flight(self, size: int) -> None:
        """Bytes held for requests, both protocols together, have become `size`."""

    def internal_error(self, where: str) -> None:
        """Something of ours failed; the sender was told to keep the data."""
