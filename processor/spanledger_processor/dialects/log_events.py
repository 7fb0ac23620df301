"""Log events that report a call become spans, never their content.

A synthesized span joins the trace that its record names; without one, all of a session's go into one trace. Its ids are
hashes of the call, so that a repeat of the record gives the same span again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b
from typing import Any

from spanledger_processor.dialects import texts
from spanledger_processor.dialects.engine import says
from spanledger_processor.dialects.normalize import TOTAL_DIFFERS, Counts, Input, contradicted, normalize
from spanledger_processor.dialects.registry import LOG_EVENTS, detect
from spanledger_processor.dialects.schema import FIRST_CHUNK, Attributes, Event, Keys, LogEvent
from spanledger_processor.dialects.usage import as_counts, counts_under
from spanledger_processor.dialects.usage_objects import read_usage
from spanledger_processor.dialects.values import NoCountError, money, text
from spanledger_processor.dialects.vendors.spanledger import attributes_of
from spanledger_processor.model import Call, ReportedCost, Signature, ToolCall
from spanledger_processor.otlp.encoding import CLIENT, INTERNAL, SynthesizedSpan
from spanledger_processor.otlp.envelope import ScopeGroup
from spanledger_processor.otlp.views import LogView

CONVENTION = "gen_ai.client.inference.operation.details"
"""The convention's event: its attributes are those of the span, and mean what they mean there."""
SCOPES_WITH_OWN_EVENTS = ("gemini-cli", "qwen-code")
"""Scopes whose own events tell more than the convention's that they send as well."""

LOG_MARKERS: tuple[bytes, ...] = (
    *sorted({f"{name.partition('.')[0]}.".encode() for event in LOG_EVENTS for name in event.names}),
    CONVENTION.encode(),
)
"""Every record that a span is made of holds one of these: the name of its event, or what it begins with."""

Sign = Callable[[ToolCall], Signature | None]

_BY_NAME: dict[str, list[LogEvent]] = {}
for _event in LOG_EVENTS:
    for _name in _event.names:
        _BY_NAME.setdefault(_name, []).append(_event)

_OPERATIONS = {"tool": "execute_tool", "embedding": "embeddings", "rerank": "rerank", "llm": "chat"}
_ERROR = 2


@dataclass(frozen=True, slots=True)
class _LoggedCall:
    """A call that a record reports, with its client and what identifies it."""

    call: Call
    client: str
    event: str
    session: str
    identity: str
    operation: str
    duration_ns: int = 0
    first_token_ns: int = 0
    failed: bool = False
    kept: tuple[tuple[str, Any], ...] = ()


def synthesize(
    record: LogView, group: ScopeGroup, tenant: str = "", sign: Sign | None = None
) -> SynthesizedSpan | None:
    """Return the span of the call that a log record reports, None if it reports none.

    `sign` signs tool calls: their arguments stay in the log.
    """
    logged = _logged_call(record, group)
    if logged is None:
        return None
    end_ns = happened(record)
    start_ns = max(end_ns - logged.duration_ns, 0)
    own = f"{logged.client}\0{logged.event}\0{logged.session}\0{logged.identity or _digest(record)}"
    joined = len(record.trace_id) == 16 and any(record.trace_id)
    call = logged.call
    return SynthesizedSpan(
        trace_id=record.trace_id if joined else _hash(f"{tenant}\0trace\0{logged.client}\0{logged.session or own}", 16),
        span_id=_hash(f"{tenant}\0span\0{own}", 8),
        name=f"{logged.operation} {call.tool.name if call.tool else call.model}".rstrip(),
        start_ns=start_ns,
        end_ns=end_ns,
        parent_id=record.span_id if joined and len(record.span_id) == 8 else b"",
        kind=INTERNAL if call.kind == "tool" else CLIENT,
        status_code=_ERROR if logged.failed else 0,
        attributes=_attributes(logged, sign),
        resource={key: group.resource_attributes.get(key) for key in group.resource_attributes.keys()},  # noqa: SIM118
        scope_name=group.scope_name,
        scope_version=group.scope_version,
    )


def _logged_call(record: LogView, group: ScopeGroup) -> _LoggedCall | None:
    body = record.body
    names = (record.event_name, text(record.attributes.get("event.name")), body if isinstance(body, str) else "")
    if CONVENTION in names:
        return _by_convention(record, group)
    for name in names:
        for event in _BY_NAME.get(name, ()):
            logged = _by_table(event, record)
            if logged is not None:
                return logged
    return None


def _by_convention(record: LogView, group: ScopeGroup) -> _LoggedCall | None:
    if group.scope_name.startswith(SCOPES_WITH_OWN_EVENTS):
        return None
    call = detect(ScopedRecord(record, group))
    if call is None or call.kind == "tool" or call.usage is None:
        return None
    attributes = record.attributes
    session = text(attributes.get("gen_ai.conversation.id")) or text(attributes.get("session.id"))
    operation = text(attributes.get("gen_ai.operation.name")) or _OPERATIONS.get(call.kind, "chat")
    return _LoggedCall(call, "gen_ai", CONVENTION, session, call.response_id, operation)


def _by_table(event: LogEvent, record: LogView) -> _LoggedCall | None:
    attributes = record.attributes
    if any(text(attributes.get(key)) != value for key, value in event.condition.items()):
        return None
    read = call_of(event, attributes)
    if read is None:
        return None
    call, reading = read
    identity = call.response_id or (call.tool.call_id if call.tool else "") or reading.joined(event.identity)
    return _LoggedCall(
        call,
        event.client,
        event.names[0],
        reading.first(event.session),
        identity or "",
        event.operation,
        reading.nanoseconds(event.duration_ms),
        reading.nanoseconds(event.first_token_ms),
        any(reading.first((key,)).lower() == value for key, value in event.failed.items()),
        tuple((key, attributes.get(key)) for key in event.kept if key in attributes),
    )


def _attributes(logged: _LoggedCall, sign: Sign | None) -> dict[str, Any]:
    call = logged.call
    signature = sign(call.tool) if call.tool is not None and sign is not None else None
    attributes = {
        "gen_ai.operation.name": logged.operation,
        "gen_ai.conversation.id": logged.session or None,
        FIRST_CHUNK.key: logged.first_token_ns / 10**9 or None,
        **attributes_of(call, f"log:{logged.client}", signature),
        **dict(logged.kept),
    }
    return {key: value for key, value in attributes.items() if value is not None}


def _hash(identity: str, size: int) -> bytes:
    return blake2b(identity.encode("utf-8", "surrogatepass"), digest_size=size, person=b"spanledger log").digest()


def _digest(record: LogView) -> str:
    """Return a digest of a record's values; a Collector between may have changed its bytes."""
    attributes = sorted((key, repr(record.attributes.get(key))) for key in record.attributes.keys())  # noqa: SIM118
    values = (record.time_ns, record.observed_ns, record.event_name, record.severity_number, record.body, attributes)
    content = repr((*values, record.trace_id, record.span_id))
    return blake2b(content.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


_MAX_DURATION_MS = 7 * 86_400_000


class ScopedRecord:
    """A log record as dialects look at a span."""

    def __init__(self, record: LogView, group: ScopeGroup) -> None:
        self.name = ""
        self.status_code = 0
        self.attributes: Attributes = record.attributes
        self.events: Sequence[Event] = ()
        self.scope_name = group.scope_name
        self.scope_version = group.scope_version
        self.resource: Attributes = group.resource_attributes


@dataclass(frozen=True, slots=True)
class RecordReader:
    """Reads the attributes of a record by lists of keys."""

    attributes: Attributes

    def first(self, keys: Keys) -> str:
        """Return the first text (or number, spelled out) under `keys`."""
        for key in keys:
            value = self.attributes.get(key)
            result = str(value) if isinstance(value, int) else text(value)
            if result:
                return result
        return ""

    def joined(self, keys: Keys) -> str:
        """Return all values under `keys` where all are there, else nothing."""
        values = [self.first((key,)) for key in keys]
        return "\0".join(values) if values and all(values) else ""

    def nanoseconds(self, keys: Keys) -> int:
        """Return a duration in milliseconds, in nanoseconds; 0 if there is none that makes sense."""
        for key in keys:
            value = self.attributes.get(key)
            try:
                milliseconds = float(value) if isinstance(value, int | float | str) else -1.0
            except ValueError:
                continue
            if 0 <= milliseconds <= _MAX_DURATION_MS:
                return int(milliseconds * 10**6)
        return 0


def call_of(event: LogEvent, attributes: Attributes) -> tuple[Call, RecordReader] | None:
    """Return the call that an event reports, None where it has neither usage nor a tool."""
    reading = RecordReader(attributes)
    call = Call("spanledger", "tool" if event.tool_name else "llm", provider=event.fixed_provider)
    call.agent_id, call.agent_parent_id = reading.first(event.agent), reading.first(event.agent_parent)
    if event.tool_name:
        name = reading.first(event.tool_name)
        arguments = next((value for key in event.arguments if (value := attributes.get(key)) is not None), None)
        call.tool = ToolCall(name or None, arguments, reading.first(event.call_id) or None)
        return (call, reading) if name else None
    counts = _counts(event, attributes)
    if counts is None:
        return None
    normalized = normalize(counts, counts.means or event.input, event.output)
    if normalized.problem or not (normalized.usage.input or normalized.usage.output):
        return None
    call.usage, call.estimate = normalized.usage, normalized.estimate
    if contradicted(counts, normalized.usage):
        call.estimate, call.note = True, TOTAL_DIFFERS
    call.request_model = reading.first(event.model)
    call.response_id = reading.first(event.request_id)
    if event.usage_text and not call.response_id:
        return None  # the event that counts the same call cannot be distinguished from this one
    for key in event.cost:
        amount = money(attributes.get(key))
        if amount is not None:
            call.reported = ReportedCost(amount, False, key)
    context = dict(counts.terms.context) if counts.terms is not None else {}
    if reading.first(event.speed) == "fast":
        context["speed"] = "fast"
    call.price_context = tuple(sorted((name, value) for name, value in context.items() if value))
    call.unclassed = counts.terms.unclassed if counts.terms is not None else ()
    if any(says(attributes, mark) for mark in event.subscription):
        call.plan = "subscription"
    return call, reading


def _counts(event: LogEvent, attributes: Attributes) -> Counts | None:
    """Return the counts of a record, flat or in a response's body; None where none can be read."""
    for key in event.usage_text:
        body = attributes.get(key)
        for usage in texts.usages(body) if isinstance(body, str) else ():
            parsed = read_usage(usage)
            if parsed is not None and not parsed.normalized.problem:
                counts = as_counts(parsed.normalized.usage, parsed.terms)
                counts.means = Input.INCLUSIVE
                return counts
    try:
        return counts_under(event.tokens, attributes)
    except NoCountError:
        return None


def happened(record: LogView) -> int:
    """Return the end of a record's event, in ns: its own time, else its timestamp, else when it was observed."""
    if record.time_ns:
        return record.time_ns
    stamp = text(record.attributes.get("event.timestamp"))
    try:
        moment = datetime.fromisoformat(stamp)
    except ValueError:
        return record.observed_ns
    if moment.tzinfo is None:
        return record.observed_ns
    seconds = moment.timestamp()
    return int(seconds * 1000) * 10**6 if seconds > 0 else record.observed_ns
