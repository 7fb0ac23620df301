"""Spans that Spanledger synthesized, from log events and from agents' files (`synthesized`): written and read."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

from spanledger_processor import synthesized
from spanledger_processor.dialects.normalize import Input
from spanledger_processor.dialects.schema import (
    ANY_INPUT,
    ContentKeys,
    CostKey,
    Detection,
    GroupingKeys,
    Precedence,
    ScopedSpan,
    Source,
    Tokens,
)
from spanledger_processor.dialects.values import identifier, text
from spanledger_processor.dialects.vendors.claude_code import provider
from spanledger_processor.dialects.vendors.otel import OTEL
from spanledger_processor.model import Call, Granularity, Plan, Signature
from spanledger_processor.units import USD

_GRANULARITIES: dict[str, Granularity] = {
    "per-message": "per-message",
    "per-turn": "per-turn",
    "per-session-aggregate": "per-session-aggregate",
    "cost-only": "cost-only",
}


_PLANS: dict[str, Plan] = {"subscription": "subscription", "provisioned": "provisioned"}


def _own_words(view: ScopedSpan, call: Call) -> None:
    attributes = view.attributes
    call.source = text(attributes.get(synthesized.SOURCE))
    call.note = text(attributes.get(synthesized.NOTE))
    call.session_parent_id = identifier(attributes.get(synthesized.SESSION_PARENT))
    call.session_name = identifier(attributes.get(synthesized.SESSION_NAME))
    call.session_project = identifier(attributes.get(synthesized.SESSION_PROJECT))
    call.session_closed = attributes.get(synthesized.SESSION_CLOSED) is True
    call.task_id = identifier(attributes.get(synthesized.TASK_ID))
    call.task_kind = identifier(attributes.get(synthesized.TASK_KIND))
    granularity = _GRANULARITIES.get(text(attributes.get(synthesized.GRANULARITY)))
    if granularity is not None:
        call.granularity = granularity
    call.estimate = call.estimate or attributes.get(synthesized.ESTIMATE) is True
    if call.reported is not None:
        call.reported.billed = attributes.get(synthesized.CHARGED) is True
        call.reported.reliable = attributes.get(synthesized.UNRELIABLE) is not True
        call.reported.means_zero = attributes.get(synthesized.MEANS_ZERO) is True
        if call.reported.billed and not call.reported.amount and call.source.startswith("file:"):
            call.plan = "subscription"
    call.plan = _PLANS.get(text(attributes.get(synthesized.PLAN)), call.plan)
    call.response_cache = attributes.get(synthesized.RESPONSE_CACHE) is True
    call.endpoint_provider = text(attributes.get(synthesized.ENDPOINT_PROVIDER))
    call.unclassed = tuple(filter(None, text(attributes.get(synthesized.UNCLASSED)).split(", ")))
    if call.tool is not None:
        call.tool.signature = text(attributes.get(synthesized.TOOL_SIGNATURE))
        call.tool.signature_scope = text(attributes.get(synthesized.TOOL_SIGNATURE_SCOPE))
    provider(view, call)


_USAGE = {name: (key,) for name, key in synthesized.USAGE.items()}
_OF_THEIR_OWN = frozenset(one.name for one in fields(Tokens))

SPANLEDGER = replace(
    OTEL,
    name="spanledger",
    precedence=Precedence.OWN,
    rank=1,
    about="Spans made by Spanledger from log events and from agents' files",
    detection=Detection(keys=(synthesized.SOURCE,)),
    otherwise="other",
    tokens=Tokens(
        input=_USAGE["input"],
        output=_USAGE["output"],
        cache_read=_USAGE["cache_read"],
        cache_write=_USAGE["cache_write"],
        cache_write_1h=_USAGE["cache_write_1h"],
        reasoning=_USAGE["reasoning"],
        parts={name: keys for name, keys in _USAGE.items() if name not in _OF_THEIR_OWN},
    ),
    increments=True,
    usage_texts=(),
    sources=(Source(Input.INCLUSIVE, why="made by ourselves"),),
    costs=(CostKey(synthesized.REPORTED_USD, upstream=(synthesized.UPSTREAM_USD,), own_key=(synthesized.OWN_KEY,)),),
    served=tuple(synthesized.TERMS.values()),
    asked=(),
    endpoints=(),
    content=ContentKeys(
        keys={
            "spanledger.forged.*": ANY_INPUT,
        },
        prefixes=("spanledger.forged.",),
        plain=("spanledger.*",),
    ),
    groups=GroupingKeys(
        session=(synthesized.SESSION_ID,),
        session_parent=(synthesized.SESSION_PARENT,),
        run=(synthesized.RUN_ID,),
        agent=(synthesized.AGENT_ID,),
        agent_parent=(synthesized.AGENT_PARENT,),
        task_id=(synthesized.TASK_ID,),
        task_kind=(synthesized.TASK_KIND,),
    ),
    rules=(_own_words,),
)


def attributes_of(call: Call, source: str, signature: Signature | None) -> dict[str, Any]:
    """Return the attributes from which this dialect reads a call back, None for those to be left out.

    `source` is that of `synthesized.SOURCE`, `signature` that of the call of a tool: its arguments stay where they are.
    """
    attributes: dict[str, Any] = {
        "gen_ai.provider.name": call.provider or None,
        "gen_ai.request.model": call.request_model or None,
        "gen_ai.response.model": call.response_model or None,
        "gen_ai.response.id": call.response_id or None,
        synthesized.SOURCE: source,
        synthesized.GRANULARITY: "per-message" if call.tool is None else None,
        synthesized.AGENT_ID: call.agent_id or None,
        synthesized.AGENT_PARENT: call.agent_parent_id or None,
        synthesized.PLAN: call.plan or None,
        synthesized.NOTE: call.note or None,
        synthesized.RESPONSE_CACHE: call.response_cache or None,
        synthesized.ENDPOINT_PROVIDER: call.endpoint_provider or None,
        synthesized.UNCLASSED: ", ".join(call.unclassed) or None,
        synthesized.ESTIMATE: call.estimate or None,
        **{synthesized.TERMS[name]: value for name, value in call.price_context},
    }
    if call.usage is not None:
        attributes |= {key: getattr(call.usage, name) for name, key in synthesized.USAGE.items()}
    if (reported := call.reported) is not None:
        attributes |= {
            synthesized.REPORTED_USD: reported.amount / USD,
            synthesized.CHARGED: reported.billed or None,
            synthesized.UPSTREAM_USD: None if reported.upstream is None else reported.upstream / USD,
            synthesized.OWN_KEY: reported.own_key,
            synthesized.UNRELIABLE: None if reported.reliable else True,
            synthesized.MEANS_ZERO: reported.means_zero or None,
        }
    if call.tool is not None:
        attributes |= {
            "gen_ai.tool.name": call.tool.name,
            "gen_ai.tool.call.id": call.tool.call_id,
            synthesized.TOOL_SIGNATURE: signature.value if signature else None,
            synthesized.TOOL_SIGNATURE_SCOPE: signature.scope if signature else None,
        }
    return attributes
