"""The source for tilth: append-only event logs, in their older form (`kind`) and today's (`phase`, trace ids)."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from spanledger_sidecar.cursor import Change, Cursor
from spanledger_sidecar.files import FileErrors, Lines, list_sessions, open_plain, real_folders, signals
from spanledger_sidecar.records import (
    DAMAGED,
    NO_COUNT,
    NO_TIME,
    USAGE_UNKNOWN,
    Record,
    Session,
    Sign,
    ToolRecord,
    UnreadableError,
    UsageRecord,
    count,
    dedup_key,
    no_counts,
    pack,
    span_id,
    text,
    time_ms,
    trace_id,
    unknown_directions,
    unpack,
)
from spanledger_sidecar.sources import Counts, ScanContext, packed
from spanledger_sidecar.tokens import TokenVector

SOURCE = "tilth"
UNKNOWN, WORKER = "unknown", "worker"
"""Names for a model or task, and for a kind, that an event lacks (docs/formats/tilth.md#2-model-calls)."""

_ITERATIONS_KEPT = 64
_WHOLE_SECOND_MS = 1000
_VERSION = 2
UNCHECKED = -2
"""The checksum of what version 1 has read."""
_PICO = 10**12
_DEAREST = 10**5


@dataclass(slots=True)
class Progress:
    """How far a session's file was read, in bytes.

    `iterations` are the newest span ids of iterations that a call has. `second` is the time of the newest events, and
    `repeats` counts those of them that read the same: by that number they are distinguished. `check` is a
    checksum of the bytes before `offset`: by it a log is distinguished from another that stands in its place.
    """

    offset: int = 0
    signals: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    iterations: list[str] = field(default_factory=list)
    second: int = 0
    repeats: dict[bytes, int] = field(default_factory=dict)
    check: int = 0

    def restart(self) -> None:
        """Go back to the beginning."""
        self.offset, self.iterations, self.second, self.repeats = 0, [], 0, {}

    def nth(self, at_ms: int, event: bytes) -> int:
        """Return how many events read the same before this one; counted within the second that they bear."""
        if at_ms != self.second:
            self.second, self.repeats = at_ms, {}
        self.repeats[event] = self.repeats.get(event, -1) + 1
        return self.repeats[event]

    def pack(self) -> bytes:
        return pack([_VERSION, self.offset, self.signals, self.iterations, self.second, self.repeats, self.check])

    @classmethod
    def unpack(cls, record: bytes) -> Progress:
        version, *fields = unpack(record)
        if version == 1:  # counted lines where version 2 counts repeats
            offset, _, signals, iterations = fields
            return cls(offset, signals, iterations, check=UNCHECKED)
        return cls(*fields)


@dataclass(slots=True)
class EventLog:
    """Reads the events of one session's log, each once: an event is identified by its content, not by its position.

    `counted` returns whether the event of a key was counted before; `taken` are the keys of those counted now.
    `undated` counts events without a time, `uncounted` numbers of tokens that are none, `known` tokens of events from
    before the first run.
    """

    session: str
    progress: Progress
    sign: Sign
    counted: Callable[[bytes], bool]
    records: list[Record] = field(default_factory=list)
    taken: set[bytes] = field(default_factory=set)
    undated: int = 0
    uncounted: int = 0
    known: int = 0

    def read(self, events: Iterable[tuple[int, dict[str, Any]]], since_ms: int) -> None:
        """Add the records of events (each with the offset behind it) from `since_ms` on, and move the progress on."""
        for offset, event in events:
            self.progress.offset = offset
            payload = event.get("payload")
            if event.get("type") not in ("model_call", "tool_call") or not isinstance(payload, dict):
                continue
            at_ms = _time(event.get("ts"))
            record = self._record(event, payload, at_ms)
            if record is not None and (not at_ms or at_ms + _WHOLE_SECOND_MS > since_ms):
                self.undated += not at_ms
                self.records.append(record)
            elif isinstance(record, UsageRecord):
                self.known += record.tokens.total

    def _record(self, event: dict[str, Any], payload: dict[str, Any], at_ms: int) -> Record | None:
        identity = _identity(self.session, event, payload)
        nth = self.progress.nth(at_ms, dedup_key(*identity))
        key = dedup_key(*identity, nth)
        if key in self.taken or self.counted(key):
            return None
        if event["type"] == "tool_call":
            record: Record | None = self._tool_call(event, payload, at_ms, span_id(*identity, nth))
        else:
            record = self._model_call(event, payload, at_ms, span_id(*identity, nth))
        if record is not None:
            self.taken.add(key)
        return record

    def _model_call(
        self, event: dict[str, Any], payload: dict[str, Any], at_ms: int, span: bytes
    ) -> UsageRecord | None:
        given, answer = count(payload.get("prompt_tokens")), count(payload.get("eval_tokens"))
        numbers = [payload.get(f"{name}_tokens") for name in ("prompt", "cached", "eval", "reasoning")]
        unknown = unknown_directions(numbers[:2], numbers[2:])
        if given + answer <= 0 and not unknown:
            return None
        self.uncounted += no_counts(numbers)
        cached = min(given, count(payload.get("cached_tokens")))
        reasoning = min(answer, count(payload.get("reasoning_tokens")))
        return UsageRecord(
            SOURCE,
            Session(self.session),
            _trace(self.session, event, payload),
            self._iteration(event, payload) or span,
            at_ms,
            at_ms,
            "per-message",
            text(payload.get("provider")),
            text(payload.get("model")) or UNKNOWN,
            TokenVector(given - cached, cached, 0, answer - reasoning, reasoning),
            _cost(payload),
            finish_reason=text(payload.get("finish_reason")),
            response_id=text(payload.get("response_id")),
            task_id=_task(payload),
            task_kind=_kind(payload),
            note=USAGE_UNKNOWN if unknown else "",
            unknown=unknown,
        )

    def _iteration(self, event: dict[str, Any], payload: dict[str, Any]) -> bytes:
        """Return the iteration's own span id for its first call; the others have ids of their own."""
        iteration = _hex(event, payload, "span_id", 16)
        if not iteration or iteration in self.progress.iterations:
            return b""
        self.progress.iterations = [*self.progress.iterations, iteration][-_ITERATIONS_KEPT:]
        return bytes.fromhex(iteration)

    def _tool_call(self, event: dict[str, Any], payload: dict[str, Any], at_ms: int, span: bytes) -> ToolRecord | None:
        name = text(payload.get("tool"))
        if not name:
            return None
        iteration = _hex(event, payload, "span_id", 16)
        signature, scope = self.sign(name, payload.get("args"))
        return ToolRecord(
            SOURCE,
            Session(self.session),
            _trace(self.session, event, payload),
            span,
            at_ms,
            at_ms,
            name,
            text(payload.get("call_id")),
            signature,
            scope,
            parent_id=bytes.fromhex(iteration) if iteration in self.progress.iterations else b"",
            task_id=_task(payload),
            task_kind=_kind(payload),
        )


def _identity(session: str, event: dict[str, Any], payload: dict[str, Any]) -> tuple[object, ...]:
    """Return what identifies an event, without a tool's arguments: from a hash of them they could be guessed."""
    words = (
        text(event.get("ts")),
        _task(payload),
        _kind(payload),
        text(payload.get("model")),
        text(payload.get("tool")),
    )
    numbers = (payload.get(name) for name in ("iter", "prompt_tokens", "eval_tokens", "tokens_used_total"))
    marks = (_hex(event, payload, "span_id", 16), text(payload.get("response_id")), text(payload.get("call_id")))
    return "tilth event", session, text(event.get("type")), *words, *map(count, numbers), *marks


def _trace(session: str, event: dict[str, Any], payload: dict[str, Any]) -> bytes:
    own = _hex(event, payload, "trace_id", 32)
    return bytes.fromhex(own) if own else trace_id("tilth task", session, _task(payload))


def _hex(event: dict[str, Any], payload: dict[str, Any], name: str, length: int) -> str:
    value = text(event.get(name) or payload.get(name)).lower()
    fine = len(value) == length and value.strip("0") and not value.strip("0123456789abcdef")
    return value if fine else ""


def _task(payload: dict[str, Any]) -> str:
    return text(payload.get("task_id")) or UNKNOWN


def _kind(payload: dict[str, Any]) -> str:
    return text(payload.get("kind")) or text(payload.get("phase")) or WORKER


def _cost(payload: dict[str, Any]) -> int | None:
    cost = payload.get("cost")
    if isinstance(cost, bool) or not isinstance(cost, int | float) or not 0 <= cost <= _DEAREST:
        return None
    return round(cost * _PICO)


def _time(value: Any) -> int:
    """Return an event's time, UTC, as ms since 1970; 0 if it has none."""
    try:
        moment = datetime.fromisoformat(text(value))
    except (ValueError, OverflowError):
        return 0
    return time_ms(round(moment.replace(tzinfo=moment.tzinfo or UTC).timestamp() * 1000))


EVENTS = "events.jsonl"
_GROUP = 50
_CHECKED = 512
"""Bytes before the end of what was read, by which a log is known again."""


class TilthSource:
    """Implements `sources.Source` for tilth."""

    name = SOURCE
    names: Collection[str] = (EVENTS,)

    def __init__(
        self, cursor: Cursor, sign: Sign, paths: Sequence[Path] = (), *, environ: Mapping[str, str] = os.environ
    ) -> None:
        self.counts = Counts()
        self.errors = FileErrors()
        self.again: dict[str, tuple[int, Path]] = {}
        self._cursor = cursor
        self._sign = sign
        self._paths = paths
        self._environ = environ
        self._seen = {name: Progress.unpack(record).signals for name, record in cursor.states(SOURCE)}

    def candidates(self) -> list[Path]:
        return list(self._paths) or [Path(self._environ.get("HOME") or Path.home()) / ".tilth"]

    def roots(self) -> list[Path]:
        return real_folders(self.candidates())

    def scan(self, roots: list[Path], context: ScanContext) -> None:
        sessions: dict[str, Path] = {}
        for root in roots:
            listing = list_sessions(root, self.errors)
            for name in listing or ():
                sessions.setdefault(name, root)
        changed = {
            name: root
            for name, root in sessions.items()
            if self._seen.get(name) != signals(root / "sessions" / name, self.names)
        }
        self.touched(changed, context)
        self.counts.sessions = len(sessions)

    def touched(self, sessions: dict[str, Path], context: ScanContext) -> None:
        names = sorted(sessions)
        for start in range(0, len(names), _GROUP):
            if not context.room():
                return
            group = names[start : start + _GROUP]
            seen = {}
            with self._cursor.write() as change:
                for name in group:
                    progress = self._look_at_one(change, name, sessions[name], context)
                    if progress is not None:
                        seen[name] = progress.signals
            self._seen.update(seen)
            context.progress(start + len(group), len(names))

    def _look_at_one(self, change: Change, name: str, root: Path, context: ScanContext) -> Progress | None:
        """Count one session's new events; return None, with nothing changed, where an unexpected error stopped that."""
        try:
            path = root / "sessions" / name / EVENTS
            log = self._read(change, name, path, context)
            spans = packed(log.records, context.now_ms)
            record = log.progress.pack()
        except OSError as error:
            self.errors(root / "sessions" / name, f"cannot be read: {error.strerror}")
            self.counts.unread += 1
            return None
        except Exception as error:  # noqa: BLE001 - one session must not stop the others
            self.errors(root / "sessions" / name, f"could not be read ({type(error).__name__}: this is a bug)")
            self.counts.unread += 1
            return None
        for key in log.taken:
            change.count(key, name)
        change.enqueue(spans)
        change.remember(SOURCE, name, record)
        self.counts.add(log.records)
        if log.known:
            self.counts.known[name] = self.counts.known.get(name, 0) + log.known
        return log.progress

    def _read(self, change: Change, name: str, path: Path, context: ScanContext) -> EventLog:
        """Return the new events of a session. Events that the first look finds are new from `since_ms` on.

        A log whose bytes are no longer what was read was put back from a copy: it is read from its beginning, and what
        was counted is left out.
        """
        record = change.state(SOURCE, name)
        progress = Progress() if record is None else Progress.unpack(record)
        since_ms = context.since_ms if record is None else 0
        progress.signals = signals(path.parent, self.names)
        log = EventLog(name, progress, self._sign, lambda key: change.counted(key) is not None)
        lines = Lines()
        try:
            with open_plain(path) as file:
                if progress.check not in (UNCHECKED, _checksum(file, progress.offset)):
                    self.counts.resets += 1
                    self.errors(path, "is not the log that it was; what was counted of it is not counted again")
                    since_ms = context.since_ms
                    progress.restart()
                log.read(lines.read(file, progress.offset), since_ms)
                progress.check = _checksum(file, progress.offset)
        except FileNotFoundError:
            pass
        except UnreadableError as error:
            self.errors(path, str(error))
            self.counts.unread += 1
        if lines.damaged:
            self.errors(path, DAMAGED.format(lines.damaged))
        if log.undated:
            self.errors(path, NO_TIME.format(log.undated))
        elif log.uncounted:
            self.errors(path, NO_COUNT.format(log.uncounted))
        return log


def _checksum(file: BinaryIO, offset: int) -> int:
    """Return a checksum of the bytes before `offset`; 0 where there are none."""
    start = max(0, offset - _CHECKED)
    file.seek(start)
    content = file.read(offset - start)
    return zlib.crc32(content) if len(content) == offset - start else -1
