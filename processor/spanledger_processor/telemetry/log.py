"""The process's own log: to stderr, as text or JSON, never one line per span, never content.

A message that repeats is written once an interval, and says then how often it was left out. Tracebacks hold places
and types only: the text of an exception may be made of what came in
(docs/contract.md#promise-5-content-stays-private).
"""

from __future__ import annotations

import logging
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import TextIO

import orjson

LEVELS = ("debug", "info", "warning", "error")
FORMATS = ("text", "json")

INTERVAL = 10.0
"""Seconds between two lines of one message."""

_MESSAGES = 1000
"""Different messages that are remembered; more than the code has, so that only informational ones can reach it."""
_QUIET = ("uvicorn", "asyncio", "httpx2", "httpcore2", "grpc", "watchfiles")
"""Libraries whose information is of no use to our users; their warnings are."""


def set_up(level: str, form: str, stream: TextIO | None = None) -> None:
    """Let all loggers write to `stream` (stderr) from `level` (one of LEVELS) on, in `form` (one of FORMATS)."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(_JsonFormatter() if form == "json" else _TextFormatter())
    handler.addFilter(RateLimit())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLogger().level))


def on_suppressed(tell: Callable[[], None]) -> None:
    """Call `tell` for every line that is left out from now on."""
    for handler in logging.getLogger().handlers:
        for sparing in handler.filters:
            if isinstance(sparing, RateLimit):
                sparing.tell = tell


class RateLimit(logging.Filter):
    """Lets each message through once an interval.

    A warning or worse is known by its place in the code (its details change), and its `kind` where the place tells of
    several; information by its text.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self.tell: Callable[[], None] = lambda: None
        self._clock = clock
        self._seen: dict[tuple[str, str, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether to write `record`, and put into it how many like it were left out."""
        trouble = record.levelno >= logging.WARNING
        text = str(record.msg) if trouble else record.getMessage()
        message = (record.name, text, str(getattr(record, "kind", "")))
        now = self._clock()
        last, left_out = self._seen.get(message, (-INTERVAL, 0))
        if now - last < INTERVAL:
            self._seen[message] = (last, left_out + 1)
            self.tell()
            return False
        if len(self._seen) >= _MESSAGES:
            self._seen.clear()
        self._seen[message] = (now, 0)
        record.repeated = left_out
        return True


class _TextFormatter(logging.Formatter):
    """`2026-01-31T12:00:00.000Z WARNING exporters.delivery: ...`."""

    def format(self, record: logging.LogRecord) -> str:
        line = f"{_time(record)} {record.levelname} {_module(record)}: {one_line(record.getMessage())}"
        if repeated := getattr(record, "repeated", 0):
            line += f" ({repeated} more like it were left out)"
        if record.exc_info and record.exc_info[1]:
            line += "\n" + "\n".join(_places(record.exc_info[1]))
        return line


class _JsonFormatter(logging.Formatter):
    """One object a line."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": _time(record),
            "level": record.levelname,
            "logger": _module(record),
            "message": record.getMessage().encode("utf-8", "replace").decode(),
        }
        if repeated := getattr(record, "repeated", 0):
            line["left_out"] = repeated
        if record.exc_info and record.exc_info[1]:
            line["exception"] = list(_places(record.exc_info[1]))
        return orjson.dumps(line).decode()


def _time(record: logging.LogRecord) -> str:
    at = datetime.fromtimestamp(record.created, tz=UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _module(record: logging.LogRecord) -> str:
    return record.name.removeprefix("spanledger_processor.").removeprefix("spanledger_")


def one_line(message: str) -> str:
    """Return a message without line breaks and control characters, which could forge lines.

    What no stream can encode is replaced.
    """
    shown = "".join(char if char.isprintable() else repr(char)[1:-1] for char in message)
    return shown.encode("utf-8", "replace").decode()


def _places(error: BaseException) -> Iterator[str]:
    """Yield an exception and what led to it: types, files, lines and functions, without their texts."""
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is not None:
        yield from _places(cause)
    yield f"  {type(error).__name__}"
    for frame in traceback.extract_tb(error.__traceback__):
        yield f"    {frame.filename}:{frame.lineno} {frame.name}"
