"""What the ways out tell whoever counts."""

from __future__ import annotations

from typing import Protocol

from spanledger_exporters.interface import Signal, Verdict


class Observer(Protocol):
    """Told of every answer of a destination. `exporter` is its component id. Must not raise and must not block."""

    def answered(self, exporter: str, signal: Signal, verdict: Verdict) -> None:
        """A destination answered one request; its retries are not told apart."""
        ...

    def forwarded(self, exporter: str, signal: Signal, items: int) -> None:
        """A destination took so many items."""
        ...

    def rejected(self, exporter: str, signal: Signal, items: int) -> None:
        """A destination left so many items out of a request that it accepted: they are lost there."""
        ...

    def retried(self, exporter: str, signal: Signal, attempts: int) -> None:
        """So many attempts after the first were made for one request."""
        ...

    def dropped(self, exporter: str, signal: Signal, items: int) -> None:
        """So many items were not sent to a destination that is not required, which does not keep up."""
        ...

    def unclaimed(self, signal: Signal, items: int) -> None:
        """So many items were accepted that no exporter takes."""
        ...
