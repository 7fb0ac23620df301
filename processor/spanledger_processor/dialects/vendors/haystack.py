"""Haystack's own tracing: a component's answer, with its usage, is content (`HAYSTACK_CONTENT_TRACING_ENABLED`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spanledger_processor.dialects import texts
from spanledger_processor.dialects.normalize import Counts, Input
from spanledger_processor.dialects.schema import (
    ANY_INPUT,
    ContentKeys,
    Detection,
    Dialect,
    Precedence,
    ScopedSpan,
    ToolKeys,
    UsageText,
)
from spanledger_processor.dialects.usage import as_counts
from spanledger_processor.dialects.usage_objects import read_usage
from spanledger_processor.dialects.values import text
from spanledger_processor.model import Call, Kind

_TYPE = "haystack.component.type"
_ANSWERS = ("haystack.component.output", "haystack.agent.step.llm.output")
_NAMES: dict[str, Kind] = {
    "haystack.agent.step.llm": "llm",
    "haystack.agent.step.tool": "tool",
    "haystack.agent.run": "agent",
}
_TYPES: tuple[tuple[str, Kind], ...] = (
    ("Generator", "llm"),
    ("Embedder", "embedding"),
    ("Ranker", "rerank"),
    ("Retriever", "retrieval"),
)
"""How the names of components end."""
_PROVIDERS = {
    "OpenAI": "openai",
    "AzureOpenAI": "azure",
    "Anthropic": "anthropic",
    "AmazonBedrock": "aws",
    "GoogleGenAI": "google",
    "Mistral": "mistral",
    "Cohere": "cohere",
}
"""How the names of components begin, and whom they ask."""


def _kind(view: ScopedSpan) -> Kind | None:
    """Return the kind by the span's name, else by the component's; components that call no model have none."""
    named = text(view.attributes.get(_TYPE))
    return _NAMES.get(view.name) or next((kind for end, kind in _TYPES if named.endswith(end)), None)


def _meta(answer: Any) -> Mapping[str, Any]:
    """Return what an answer says of its response: a chat message's `meta`, or one beside texts and embeddings."""
    answer = answer if isinstance(answer, Mapping) else {}
    replies, meta = answer.get("replies"), answer.get("meta")
    if isinstance(replies, list) and replies and isinstance(replies[0], Mapping):
        meta = replies[0].get("meta")
    meta = meta[0] if isinstance(meta, list) and meta else meta
    return meta if isinstance(meta, Mapping) else {}


def _usage(answer: Mapping[str, Any]) -> tuple[Counts, Input | None]:
    """Return the usage of an answer; every reply of several has that of all."""
    usage = _meta(answer).get("usage")
    parsed = read_usage(usage) if isinstance(usage, Mapping) else None
    if parsed is None:
        return Counts(None, None), None
    return as_counts(parsed.normalized.usage, parsed.terms), Input.INCLUSIVE


def _model(view: ScopedSpan, call: Call) -> None:
    """Take the model from the answer, and the provider from the component's name."""
    get = view.attributes.marked
    metas = (_meta(texts.parse(get(key, (b'"model"',)))) for key in _ANSWERS)
    call.response_model = next((text(meta.get("model")) for meta in metas if meta), "")
    named = text(view.attributes.get(_TYPE))
    call.provider = next((provider for begins, provider in _PROVIDERS.items() if named.startswith(begins)), "")
    if call.usage is not None and call.usage.input is None and call.usage.output is None:
        call.usage = None


HAYSTACK = Dialect(
    name="haystack",
    precedence=Precedence.OWN_KEYS,
    rank=14,
    about="Haystack's own tracing (opentelemetry-haystack)",
    detection=Detection(
        keys=(_TYPE, "haystack.agent.step.llm.output", "haystack.tool.name", "haystack.agent.max_steps")
    ),
    kind_of=_kind,
    usage_texts=tuple(UsageText(key, whole=True, read=_usage) for key in _ANSWERS),
    tool=ToolKeys(
        name=("haystack.tool.name",),
        arguments=("haystack.agent.step.tool.input",),
        result=("haystack.agent.step.tool.output",),
    ),
    content=ContentKeys(
        keys={
            "haystack.component.input": ANY_INPUT,
            "haystack.component.output": ANY_INPUT,
            "haystack.pipeline.input_data": ANY_INPUT,
            "haystack.pipeline.output_data": ANY_INPUT,
            "haystack.agent.input": ANY_INPUT,
            "haystack.agent.output": ANY_INPUT,
            "haystack.agent.step.llm.input": ANY_INPUT,
            "haystack.agent.step.llm.output": ANY_INPUT,
            "haystack.agent.step.tool.input": ("tool_arguments",),
            "haystack.agent.step.tool.output": ("tool_results",),
            "haystack.agent.tools": ("system_instructions",),
            "haystack.tool.description": ("system_instructions",),
        },
        prefixes=("haystack.",),
        plain=(
            "haystack.component.name",
            "haystack.component.visits",
            "haystack.component.fully_qualified_type",
            "haystack.component.input_types",
            "haystack.component.input_spec",
            "haystack.component.output_spec",
            "haystack.agent.exit_conditions",
            "haystack.agent.state_schema",
            "haystack.agent.step",
            "haystack.agent.steps_taken",
        ),
    ),
    rules=(_model,),
    notes=(
        "Usage and model stand in the answers, which Haystack records with `HAYSTACK_CONTENT_TRACING_ENABLED=true`:"
        " without it calls are `no_usage`.",
        "The service tier is in no span: what `generation_kwargs` asks for costs what the standard tier does, without"
        " a mark. Instrument the client as well.",
        "Read in haystack-ai 3.4.1 and opentelemetry-haystack 2.0.0.",
    ),
)
