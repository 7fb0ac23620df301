"""Log events that report a call become spans (contract, "Made spans"): never their content.

A made span joins the trace that its record names; without one, all of a session's go into one trace. Its ids are hashes
of what it stands for, so that a repeat of the record gives the same span again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from spanledger_processor.dialects.log_events import CONVENTION, EVENTS, SAID_BETTER, LogEvent
from spanledger_processor.dialects.log_reading import RecordView, call_of, happened
from spanledger_processor.dialects.recognise import recognise
from spanledger_processor.dialects.values import text
from spanledger_processor.model import Call, Signature, ToolCall, Usage
from spanledger_processor.otlp.encoding import CLIENT, INTERNAL, SynthesizedSpan
from spanledger_processor.otlp.envelope import ScopeGroup
from spanledger_processor.otlp.views import LogView

LOG_MARKERS: tuple[bytes, ...] = (
    b"claude_code.",
    b"codex.",
    b"cursor.api.",
    b"gemini_cli.",
    b"gen_ai.client.",
    b"qwen-code.",
)
"""Every record that a span is made of holds one of these: the name of its event."""

Sign = Callable[[ToolCall], Signature | None]

_BY_NAME: dict[str, list[LogEvent]] = {}
for _event in EVENTS:
    for _name in _event.names:
        _BY_NAME.setdefault(_name, []).append(_event)

_OPERATIONS = {"tool": "execute_tool", "embedding": "embeddings", "rerank": "rerank", "llm": "chat"}
_ERROR = 2


@dataclass(frozen=True, slots=True)
class _Said:
    """What a record says: the call, who says it, and what makes it this one."""

    call: Call
    client: str
    event: str
    session: str
    identity: str
    operation: str
    duration_ns: int = 0
    failed: bool = False
    kept: tuple[tuple[str, Any], ...] = ()


def made(record: LogView, group: ScopeGroup, tenant: str = "", sign: Sign | None = None) -> SynthesizedSpan | None:
    """The span that a log record stands for, None if it reports no call.

    `sign` signs tool calls: their arguments stay in the log.
    """
    said = _said(record, group)
    if said is None:
        return None
    end_ns = happened(record)
    start_ns = max(end_ns - said.duration_ns, 0)
    own = f"{said.client}\0{said.event}\0{said.session}\0{said.identity or _digest(record.raw)}"
    joined = len(record.trace_id) == 16 and any(record.trace_id)
    call = said.call
    return SynthesizedSpan(
        trace_id=record.trace_id if joined else _hash(f"{tenant}\0trace\0{said.client}\0{said.session or own}", 16),
        span_id=_hash(f"{tenant}\0span\0{own}", 8),
        name=f"{said.operation} {call.tool.name if call.tool else call.model}".rstrip(),
        start_ns=start_ns,
        end_ns=end_ns,
        parent_id=record.span_id if joined and len(record.span_id) == 8 else b"",
        kind=INTERNAL if call.kind == "tool" else CLIENT,
        status_code=_ERROR if said.failed else 0,
        attributes=_attributes(said, sign),
        resource={key: group.resource_attributes.get(key) for key in group.resource_attributes.keys()},  # noqa: SIM118
        scope_name=group.scope_name,
        scope_version=group.scope_version,
    )


def _said(record: LogView, group: ScopeGroup) -> _Said | None:
    body = record.body
    names = (record.event_name, text(record.attributes.get("event.name")), body if isinstance(body, str) else "")
    if CONVENTION in names:
        return _by_convention(record, group)
    for name in names:
        for event in _BY_NAME.get(name, ()):
            said = _by_table(event, record)
            if said is not None:
                return said
    return None


def _by_convention(record: LogView, group: ScopeGroup) -> _Said | None:
    if group.scope_name.startswith(SAID_BETTER):
        return None
    call = recognise(RecordView(record, group))
    if call is None or call.kind == "tool" or call.usage is None:
        return None
    attributes = record.attributes
    session = text(attributes.get("gen_ai.conversation.id")) or text(attributes.get("session.id"))
    operation = text(attributes.get("gen_ai.operation.name")) or _OPERATIONS.get(call.kind, "chat")
    return _Said(call, "gen_ai", CONVENTION, session, call.response_id, operation)


def _by_table(event: LogEvent, record: LogView) -> _Said | None:
    attributes = record.attributes
    if any(text(attributes.get(key)) != value for key, value in event.where.items()):
        return None
    read = call_of(event, attributes)
    if read is None:
        return None
    call, reading = read
    identity = call.response_id or (call.tool.call_id if call.tool else "") or reading.joined(event.identity)
    return _Said(
        call,
        event.client,
        event.names[0],
        reading.first(event.session),
        identity or "",
        event.operation,
        reading.nanoseconds(event.duration_ms),
        any(reading.first((key,)).lower() == value for key, value in event.failed.items()),
        tuple((key, attributes.get(key)) for key in event.kept if key in attributes),
    )


def _attributes(said: _Said, sign: Sign | None) -> dict[str, Any]:
    call = said.call
    made: dict[str, Any] = {
        "gen_ai.operation.name": said.operation,
        "gen_ai.provider.name": call.provider or None,
        "gen_ai.request.model": call.request_model or None,
        "gen_ai.response.model": call.response_model or None,
        "gen_ai.response.id": call.response_id or None,
        "gen_ai.conversation.id": said.session or None,
        "spanledger.source": f"log:{said.client}",
        "spanledger.granularity": "per-message" if call.tool is None else None,
        "spanledger.agent.id": call.agent_id or None,
        "spanledger.agent.parent_id": call.agent_parent_id or None,
        **{f"spanledger.source.{key}": value for key, value in call.price_context},
        **dict(said.kept),
    }
    if call.usage is not None:
        made.update(_tokens(call.usage))
    if call.reported is not None:
        made["spanledger.cost.reported_usd"] = call.reported.amount / 10**12
    if call.estimate:
        made["spanledger.cost.estimate"] = True
    if call.tool is not None:
        made.update(_signed(call.tool, sign))
    return {key: value for key, value in made.items() if value is not None}


def _tokens(usage: Usage) -> dict[str, int | None]:
    return {
        "gen_ai.usage.input_tokens": usage.input,
        "gen_ai.usage.output_tokens": usage.output,
        "gen_ai.usage.cache_read.input_tokens": usage.cache_read,
        "gen_ai.usage.cache_creation.input_tokens": usage.cache_write,
        "spanledger.source.cache_write_1h_tokens": usage.cache_write_1h,
        "gen_ai.usage.reasoning.output_tokens": usage.reasoning,
    }


def _signed(tool: ToolCall, sign: Sign | None) -> dict[str, Any]:
    signature = sign(tool) if sign is not None else None
    return {
        "gen_ai.tool.name": tool.name,
        "gen_ai.tool.call.id": tool.call_id,
        "spanledger.tool.signature": signature.value if signature else None,
        "spanledger.tool.signature_scope": signature.scope if signature else None,
    }


def _hash(what: str, size: int) -> bytes:
    return blake2b(what.encode("utf-8", "surrogatepass"), digest_size=size, person=b"spanledger log").digest()


def _digest(raw: bytes) -> str:
    return blake2b(raw, digest_size=16).hexdigest()
