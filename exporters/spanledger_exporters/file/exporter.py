"""The exporter over a file of lines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

from spanledger_exporters.errors import DestinationError
from spanledger_exporters.file.lines import LineFile
from spanledger_exporters.interface import ACCEPTED, Outcome, Signal, Verdict
from spanledger_exporters.lane import Lane
from spanledger_exporters.settings import FileSettings
from spanledger_exporters.text import one_line
from spanledger_processor.otlp.json_form import to_json
from spanledger_processor.otlp.wire import MalformedError

_Request: TypeAlias = tuple[Signal, bytes]


class File:
    """Appends each request as one line of OTLP-JSON, all signals to one file.

    An accepted request survives a power cut: requests that arrive while others are written share one fdatasync.
    """

    def __init__(self, name: str, settings: FileSettings) -> None:
        self.name = name
        self.required = settings.required
        self.signals = settings.signals
        self._path = Path(settings.path).expanduser()
        self._lines = LineFile(self._path, settings.rotation)
        self._lane: Lane[_Request, Outcome] = Lane(name, self._append)

    async def start(self) -> None:
        """Open the file, and mend what a crash left of its last line."""
        try:
            self._lines.open()
        except BlockingIOError as error:
            raise DestinationError(self.name, f"path: {self._path} is being written by another exporter") from error
        except OSError as error:
            raise DestinationError(self.name, f"path: {self._path}: {error.strerror}") from error

    async def send(self, signal: Signal, body: bytes, deadline: float) -> Outcome:
        """Accepted when the line is on disk; retryable, with nothing left in the file, when there is no room for it."""
        outcome = await self._lane.do((signal, body), deadline)
        return outcome or Outcome(Verdict.RETRYABLE, "the disk did not keep up")

    async def close(self) -> None:
        """Finish what waits, and close the file."""
        await self._lane.close()
        self._lines.close()

    def _append(self, requests: Sequence[_Request]) -> Sequence[Outcome]:
        outcomes = list(self._appended(requests))
        try:
            self._lines.sync()
        except OSError as error:
            return [_failed(error) if outcome is ACCEPTED else outcome for outcome in outcomes]
        return outcomes

    def _appended(self, requests: Sequence[_Request]) -> Iterator[Outcome]:
        for signal, body in requests:
            try:
                self._lines.append(to_json(signal, body) + b"\n")
                yield ACCEPTED
            except MalformedError as error:
                yield Outcome(Verdict.PERMANENT, one_line(f"cannot be written as JSON: {error}"))
            except OSError as error:
                yield _failed(error)


def _failed(error: OSError) -> Outcome:
    return Outcome(Verdict.RETRYABLE, error.strerror or type(error).__name__)
