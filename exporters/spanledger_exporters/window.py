"""Which destination already has which request, so that a repeat of it goes only to those that lack it."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, field

from spanledger_exporters.interface import Outcome, Signal, Verdict


@dataclass(slots=True)
class Progress:
    """How far one request has come, by exporter's name."""

    settled: dict[str, Outcome] = field(default_factory=dict)
    """Final answers: accepted, or refused for good."""
    under_way: dict[str, asyncio.Task[Outcome]] = field(default_factory=dict)

    def forget_refusals(self) -> None:
        """Once the sender was told: whoever mends the destination and sends again gets a new answer."""
        self.settled = {name: past for name, past in self.settled.items() if past.verdict is Verdict.ACCEPTED}


class Window:
    """The progress of the requests seen last, at most `limit` of them and those that are still under way."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._requests: OrderedDict[tuple[Signal, bytes], Progress] = OrderedDict()

    def progress(self, signal: Signal, request_id: bytes) -> Progress:
        """The progress of this request, which counts as seen now."""
        key = (signal, request_id)
        if key in self._requests:
            self._requests.move_to_end(key)
        else:
            self._requests[key] = Progress()
            self._forget()
        return self._requests[key]

    def _forget(self) -> None:
        for _ in range(len(self._requests) - self._limit):
            key, progress = self._requests.popitem(last=False)
            if progress.under_way:  # forgotten later, when it has an end
                self._requests[key] = progress

    def under_way(self) -> list[asyncio.Task[Outcome]]:
        """Every send that has no answer yet."""
        return [task for progress in self._requests.values() for task in progress.under_way.values()]
