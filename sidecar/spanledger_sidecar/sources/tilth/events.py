"""Turn events of a tilth session into records, in its older form (`kind`) and in today's (`phase`, trace ids)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from spanledger_sidecar.records import (
    Record,
    Session,
    Sign,
    ToolRecord,
    UsageRecord,
    count,
    pack,
    span_id,
    text,
    trace_id,
    unpack,
)
from spanledger_sidecar.tokens import TokenVector

SOURCE = "tilth"
UNKNOWN, WORKER = "unknown", "worker"
"""What an event without a model or task, and one without a kind, is counted under (facts 7)."""

_ITERATIONS_KEPT = 64
_WHOLE_SECOND_MS = 1000
_VERSION = 1
_PICO = 10**12
_DEAREST = 10**5


@dataclass(slots=True)
class Progress:
    """How far a session's file was read: bytes, and lines. `taken` are the newest span ids of events that were used."""

    offset: int = 0
    lines: int = 0
    signals: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    taken: list[str] = field(default_factory=list)

    def pack(self) -> bytes:
        return pack([_VERSION, self.offset, self.lines, self.signals, self.taken])

    @classmethod
    def unpack(cls, record: bytes) -> Progress:
        _, *fields = unpack(record)
        return cls(*fields)


def records(
    session: str, events: Iterable[tuple[int, dict[str, Any]]], progress: Progress, sign: Sign, since_ms: int = 0
) -> list[Record]:
    """The records of `events` (each with the offset behind it) from `since_ms` on; moves `progress` on."""
    found: list[Record] = []
    for offset, event in events:
        progress.offset = offset
        progress.lines += 1
        at_ms = _time(event.get("ts"))
        record = _record(Session(session), event, at_ms, progress, sign)
        if record is not None and at_ms + _WHOLE_SECOND_MS > since_ms:
            found.append(record)
    return found


def _record(session: Session, event: dict[str, Any], at_ms: int, progress: Progress, sign: Sign) -> Record | None:
    payload = event.get("payload")
    if not isinstance(payload, dict):
        return None
    if event.get("type") == "model_call":
        return _model_call(session, event, payload, at_ms, progress)
    if event.get("type") == "tool_call":
        return _tool_call(session, event, payload, at_ms, progress, sign)
    return None


def _model_call(
    session: Session, event: dict[str, Any], payload: dict[str, Any], at_ms: int, progress: Progress
) -> UsageRecord | None:
    given, answer = count(payload.get("prompt_tokens")), count(payload.get("eval_tokens"))
    if given + answer <= 0:
        return None
    cached = min(given, count(payload.get("cached_tokens")))
    reasoning = min(answer, count(payload.get("reasoning_tokens")))
    trace, span = _ids(session, event, payload, progress)
    return UsageRecord(
        SOURCE,
        session,
        trace,
        span,
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
    )


def _tool_call(
    session: Session, event: dict[str, Any], payload: dict[str, Any], at_ms: int, progress: Progress, sign: Sign
) -> ToolRecord | None:
    name = text(payload.get("tool"))
    if not name:
        return None
    iteration = _hex(event, payload, "span_id", 16)
    signature, scope = sign(name, payload.get("args"))
    return ToolRecord(
        SOURCE,
        session,
        _trace(session, event, payload),
        span_id("tilth tool", session.id, progress.lines),
        at_ms,
        at_ms,
        name,
        text(payload.get("call_id")),
        signature,
        scope,
        parent_id=bytes.fromhex(iteration) if iteration in progress.taken else b"",
        task_id=_task(payload),
        task_kind=_kind(payload),
    )


def _ids(session: Session, event: dict[str, Any], payload: dict[str, Any], progress: Progress) -> tuple[bytes, bytes]:
    """An event's own ids. Calls of one iteration share its span id: the first has it, the others stand beside it."""
    iteration = _hex(event, payload, "span_id", 16)
    if iteration and iteration not in progress.taken:
        progress.taken = [*progress.taken, iteration][-_ITERATIONS_KEPT:]
        return _trace(session, event, payload), bytes.fromhex(iteration)
    mark = text(payload.get("response_id")) or progress.lines
    return _trace(session, event, payload), span_id("tilth call", session.id, mark)


def _trace(session: Session, event: dict[str, Any], payload: dict[str, Any]) -> bytes:
    own = _hex(event, payload, "trace_id", 32)
    return bytes.fromhex(own) if own else trace_id("tilth task", session.id, _task(payload))


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
    """An event's time, UTC, as ms since 1970; 0 if it has none."""
    try:
        moment = datetime.fromisoformat(text(value))
    except ValueError:
        return 0
    return max(0, round(moment.replace(tzinfo=moment.tzinfo or UTC).timestamp() * 1000))
