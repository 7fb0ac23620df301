"""The exporter that writes to the terminal."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator, Sequence
from typing import TextIO, TypeAlias

from spanledger_exporters.debug.lines import items, summary
from spanledger_exporters.interface import ACCEPTED, Outcome, Signal, Verdict
from spanledger_exporters.lane import Lane
from spanledger_exporters.logs import logger_of
from spanledger_exporters.settings import DebugSettings
from spanledger_processor.otlp.wire import MalformedError

_PATIENCE = 1.0
"""Seconds that a request waits for a terminal that does not move."""


_Request: TypeAlias = tuple[Signal, bytes]


class Debug:
    """Writes lines to `stream`, standard output unless told otherwise.

    Every request is accepted: a terminal that is closed or stopped is no reason to hold up or to lose data.
    """

    def __init__(self, name: str, settings: DebugSettings, stream: TextIO | None = None) -> None:
        self.name = name
        self.required = settings.required
        self.signals = settings.signals
        self._verbosity = settings.verbosity
        self._stream = stream or sys.stdout
        self._log = logger_of(name)
        self._lane: Lane[_Request, Outcome] = Lane(name, self._write)

    async def start(self) -> None:
        """Nothing to make ready."""

    async def send(self, signal: Signal, body: bytes, deadline: float) -> Outcome:
        """Accepted when the lines are written, or soon after where they cannot be."""
        end = min(deadline, asyncio.get_running_loop().time() + _PATIENCE)
        try:
            async with asyncio.timeout_at(end):
                outcome = await self._lane.do((signal, body), end)
        except TimeoutError:
            outcome = None
        except Exception as error:  # noqa: BLE001 - a bug in what is shown must not hold up what is not
            self._log.exception("unexpected error; the request counts as accepted")
            outcome = _not_shown(f"unexpected {type(error).__name__}")
        return outcome or _not_shown("the terminal does not move")

    async def close(self) -> None:
        """Write what waits."""
        await self._lane.close()

    def _write(self, requests: Sequence[_Request]) -> Sequence[Outcome]:
        text = "".join(f"{line}\n" for signal, body in requests for line in self._lines(signal, body))
        encoding = self._stream.encoding or "utf-8"
        try:
            self._stream.write(text.encode(encoding, "replace").decode(encoding))
            self._stream.flush()
        except OSError as error:
            return [_not_shown(error.strerror or type(error).__name__)] * len(requests)
        return [ACCEPTED] * len(requests)

    def _lines(self, signal: Signal, body: bytes) -> Iterator[str]:
        try:
            yield summary(signal, body)
            if self._verbosity != "basic":
                yield from items(signal, body, detailed=self._verbosity == "detailed")
        except MalformedError as error:
            yield f"{signal}: cannot be read: {error}"


def _not_shown(reason: str) -> Outcome:
    return Outcome(Verdict.ACCEPTED, f"not shown: {reason}")
