"""Spans that Spanledger made itself, from logs (`dialects.logs`) and from files (the sidecar)."""

from __future__ import annotations

from dataclasses import replace

from spanledger_processor.dialects.normalize import Input
from spanledger_processor.dialects.schema import CostKey, Detection, GroupingKeys, Place, ScopedSpan, Source, Tokens
from spanledger_processor.dialects.values import text
from spanledger_processor.dialects.vendors.claude_code import provider
from spanledger_processor.dialects.vendors.otel import OTEL
from spanledger_processor.model import Call, Granularity

_GRANULARITIES: dict[str, Granularity] = {
    "per-message": "per-message",
    "per-turn": "per-turn",
    "per-session-aggregate": "per-session-aggregate",
    "cost-only": "cost-only",
}

SESSION_CLOSED = "spanledger.session.closed"


def _own_words(view: ScopedSpan, call: Call) -> None:
    attributes = view.attributes
    call.source = text(attributes.get("spanledger.source"))
    call.note = text(attributes.get("spanledger.note"))
    call.session_parent_id = text(attributes.get("spanledger.session.parent_id"))
    call.session_closed = attributes.get(SESSION_CLOSED) is True
    call.task_id = text(attributes.get("spanledger.task.id"))
    call.task_kind = text(attributes.get("spanledger.task.kind"))
    granularity = _GRANULARITIES.get(text(attributes.get("spanledger.granularity")))
    if granularity is not None:
        call.granularity = granularity
    call.estimate = call.estimate or attributes.get("spanledger.cost.estimate") is True
    if call.reported is not None:
        call.reported.billed = attributes.get("spanledger.source.charged") is True
        if call.reported.billed and not call.reported.amount:
            call.plan = "subscription"
        if call.reported.billed and not call.reported.amount:
            call.plan = "subscription"
    if text(attributes.get("spanledger.source.plan")) == "subscription":
        call.plan = "subscription"
    call.response_cache = attributes.get("spanledger.source.response_cache") is True
    call.unclassed = tuple(filter(None, text(attributes.get("spanledger.source.unclassed")).split(", ")))
    if call.tool is not None:
        call.tool.signature = text(attributes.get("spanledger.tool.signature"))
        call.tool.signature_scope = text(attributes.get("spanledger.tool.signature_scope"))
    provider(view, call)


SPANLEDGER = replace(
    OTEL,
    name="spanledger",
    place=Place.OWN,
    rank=1,
    about="Spans made by Spanledger from log events and from agents' files",
    detection=Detection(keys=("spanledger.source",)),
    otherwise="other",
    tokens=Tokens(
        input=("gen_ai.usage.input_tokens",),
        output=("gen_ai.usage.output_tokens",),
        cache_read=("gen_ai.usage.cache_read.input_tokens",),
        cache_write=("gen_ai.usage.cache_creation.input_tokens",),
        cache_write_1h=("spanledger.source.cache_write_1h_tokens",),
        reasoning=("gen_ai.usage.reasoning.output_tokens",),
        parts={
            **OTEL.tokens.parts,
            "web_searches": ("spanledger.source.web_searches",),
            "file_searches": ("spanledger.source.file_searches",),
            "search_units": ("spanledger.source.search_units",),
        },
    ),
    increments=True,
    usage_texts=(),
    sources=(Source(Input.INCLUSIVE, why="made by ourselves"),),
    costs=(CostKey("spanledger.cost.reported_usd"),),
    served=("spanledger.source.speed", "spanledger.source.service_tier", "spanledger.source.region"),
    asked=(),
    endpoints=(),
    groups=GroupingKeys(
        session=("spanledger.session.id",),
        session_parent=("spanledger.session.parent_id",),
        run=("spanledger.run.id",),
        agent=("spanledger.agent.id",),
        agent_parent=("spanledger.agent.parent_id",),
        task_id=("spanledger.task.id",),
        task_kind=("spanledger.task.kind",),
    ),
    rules=(_own_words,),
)
