"""Records as spans: the shape that the processor's dialect for `spanledger.source` spans reads, and any backend shows.

On every span
    spanledger.source               `file:mux`, `file:tilth`: by this key the dialect knows the span
    spanledger.note                 what a reader should know of its grain
    gen_ai.conversation.id          the session: Mux's workspace id, tilth's session id
    spanledger.session.parent_id    the workspace that spawned this one
    spanledger.session.{name,project,agent_type}   as the configuration names them
    spanledger.task.{id,kind}       tilth's task, and worker, judge, self_improve, evaluator, ...

Usage (name `chat <model>`, kind CLIENT)
    spanledger.granularity          `per-turn`, `per-message`, `per-session-aggregate`
    gen_ai.operation.name           `chat`
    gen_ai.provider.name            in the convention's spelling; absent where the key names none
    gen_ai.request.model            absent where the file does not know it (keys `historical`, `unknown`)
    gen_ai.usage.{input_tokens,output_tokens}, .cache_read.input_tokens, .cache_creation.input_tokens,
        .reasoning.output_tokens    inclusive, as in the convention
    gen_ai.usage.cost, spanledger.cost.reported_usd   what the source says it cost, USD; absent where it does not know
    spanledger.source.cache_write_1h_tokens   how much of the cache writes lives for an hour, where known
    spanledger.cost.estimate        true where it is a guess whose usage this is
    spanledger.source.charged       true: the reported cost is what was charged (0 under a subscription, or the
                                    provider's own figure), so it stands before a computed one
    spanledger.source.model_key     Mux's own key of the model
    spanledger.source.service_tier  `flex`, `fast`, ... where not standard
    spanledger.source.route         the gateway that a turn went through
    spanledger.source.turn_index    0 on aggregates: they are no turn
    spanledger.source.cumulative.{input,output,cache_read,cache_write,reasoning}_tokens, .cost_usd
                                    on aggregates: what the file says of this session and model so far
    gen_ai.agent.name, gen_ai.response.{id,finish_reasons,time_to_first_chunk}   where known; the last in seconds

Tools (name `execute_tool <tool>`, kind INTERNAL)
    gen_ai.operation.name           `execute_tool`; gen_ai.tool.{name,call.id}
    spanledger.tool.{signature,signature_scope}   signed here with the processor's code; arguments never leave
    error.type                      `tool_error`, with status ERROR, where the tool failed

The end of a session (name `session closed`, kind INTERNAL)
    spanledger.session.closed       true; no gen_ai.operation.name, no usage

Never `spanledger.kind` and never `spanledger.cost.usd`: only the processor decides and prices.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from typing import TypeAlias

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from spanledger_processor import synthesized
from spanledger_processor.units import NS_PER_MS
from spanledger_sidecar.records import ClosedRecord, Record, ToolRecord, UsageRecord, pack, unpack
from spanledger_sidecar.tokens import TokenVector

Value: TypeAlias = str | int | float | bool | list[str]
Attributes: TypeAlias = dict[str, Value]

SCOPE = "spanledger.sidecar"
_PICO = 10**12


@dataclass(slots=True)
class Span:
    """A span as it waits in the cursor for its endpoint."""

    source: str
    trace_id: bytes
    span_id: bytes
    parent_id: bytes
    name: str
    client: bool
    failed: bool
    start_ns: int
    end_ns: int
    attributes: Attributes

    def pack(self) -> bytes:
        return pack([getattr(self, name) for name in self.__slots__])

    @classmethod
    def unpack(cls, packed: bytes) -> Span:
        return cls(*unpack(packed))


def span(record: Record) -> Span:
    """Return the span of a record."""
    attributes = _common(record)
    name, client, failed = "session closed", False, False
    if isinstance(record, UsageRecord):
        name, client = f"chat {record.model}".rstrip(), True
        attributes |= _usage(record)
    elif isinstance(record, ToolRecord):
        name, failed = f"execute_tool {record.name}", record.failed
        attributes |= _tool(record)
    elif isinstance(record, ClosedRecord):
        attributes[synthesized.SESSION_CLOSED] = True
    return Span(
        record.source,
        record.trace_id,
        record.span_id,
        record.parent_id,
        name,
        client,
        failed,
        record.start_ms * NS_PER_MS,
        record.end_ms * NS_PER_MS,
        attributes,
    )


def _present(attributes: Mapping[str, Value | None]) -> Attributes:
    return {key: value for key, value in attributes.items() if value is not None and value != ""}


def _common(record: Record) -> Attributes:
    session = record.session
    return _present(
        {
            synthesized.SOURCE: f"file:{record.source}",
            synthesized.NOTE: record.note,
            "gen_ai.conversation.id": session.id,
            synthesized.SESSION_PARENT: session.parent,
            synthesized.SESSION_NAME: session.name,
            synthesized.SESSION_PROJECT: session.project,
            synthesized.SESSION_AGENT_TYPE: session.agent_type,
            synthesized.TASK_ID: record.task_id,
            synthesized.TASK_KIND: record.task_kind,
        }
    )


def _usage(record: UsageRecord) -> Attributes:
    cost = None if record.cost is None else record.cost / _PICO
    ttft = record.ttft_ms
    attributes = _present(
        {
            synthesized.GRANULARITY: record.granularity,
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": record.provider,
            "gen_ai.request.model": record.model,
            "gen_ai.agent.name": record.agent,
            "gen_ai.response.id": record.response_id,
            "gen_ai.response.finish_reasons": [record.finish_reason] if record.finish_reason else None,
            "gen_ai.response.time_to_first_chunk": None if ttft is None else ttft / 1000,
            "gen_ai.usage.cost": cost,
            synthesized.REPORTED_USD: cost,
            synthesized.CHARGED: record.charged or None,
            synthesized.USAGE["cache_write_1h"]: record.write_1h,
            synthesized.ESTIMATE: record.estimate or None,
            synthesized.MODEL_KEY: record.model_key,
            synthesized.TERMS["service_tier"]: record.service_tier,
            synthesized.ROUTE: record.route,
        }
    )
    for name, amount in zip(_CLASSES, _inclusive(record.tokens), strict=True):
        if name not in record.unknown:
            attributes[synthesized.USAGE[name]] = amount
    return attributes | _cumulative(record)


_CLASSES = ("input", "output", "cache_read", "cache_write", "reasoning")


def _inclusive(tokens: TokenVector) -> tuple[int, int, int, int, int]:
    return tokens.inputs, tokens.outputs, tokens.cached, tokens.cache_create, tokens.reasoning


def _cumulative(record: UsageRecord) -> Attributes:
    if record.cumulative is None:
        return {}
    tokens, cost = record.cumulative
    attributes: Attributes = {synthesized.TURN_INDEX: 0}
    for name, amount in zip(_CLASSES, _inclusive(tokens), strict=True):
        attributes[f"{synthesized.CUMULATIVE}{name}_tokens"] = amount
    if cost is not None:
        attributes[f"{synthesized.CUMULATIVE}cost_usd"] = cost / _PICO
    return attributes


def _tool(record: ToolRecord) -> Attributes:
    return _present(
        {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": record.name,
            "gen_ai.tool.call.id": record.call_id,
            synthesized.TOOL_SIGNATURE: record.signature,
            synthesized.TOOL_SIGNATURE_SCOPE: record.signature_scope,
            "error.type": "tool_error" if record.failed else None,
        }
    )


def readable(span: Span) -> ReadableSpan:
    """Return the SDK's span, with our ids: ids that a tracer chose would differ when a span is sent again."""
    parent = _context(span.trace_id, span.parent_id) if span.parent_id else None
    return ReadableSpan(
        span.name,
        _context(span.trace_id, span.span_id),
        parent,
        _resource(span.source),
        span.attributes,
        kind=SpanKind.CLIENT if span.client else SpanKind.INTERNAL,
        status=Status(StatusCode.ERROR if span.failed else StatusCode.UNSET),
        start_time=span.start_ns,
        end_time=span.end_ns,
        instrumentation_scope=_scope(),
    )


def _context(trace: bytes, span: bytes) -> SpanContext:
    flags = TraceFlags(TraceFlags.SAMPLED)
    return SpanContext(int.from_bytes(trace), int.from_bytes(span), is_remote=False, trace_flags=flags)


@lru_cache(maxsize=16)
def _resource(source: str) -> Resource:
    """Return the resource of OTEL_RESOURCE_ATTRIBUTES and OTEL_SERVICE_NAME; without them the service is the source."""
    given = Resource.create()
    named = str(given.attributes.get("service.name", ""))
    return given.merge(Resource({"service.name": source})) if named.startswith("unknown_service") else given


@lru_cache(maxsize=1)
def _scope() -> InstrumentationScope:
    return InstrumentationScope(SCOPE, version("spanledger"))
