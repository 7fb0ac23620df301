"""LiteLLM's OpenTelemetry callbacks, first and second version, library and proxy."""

from __future__ import annotations

from dataclasses import replace

from spanledger_processor.dialects.normalize import Input
from spanledger_processor.dialects.schema import (
    ANY_INPUT,
    ContentKeys,
    CostKey,
    Detection,
    GroupingKeys,
    Kinds,
    Mark,
    Precedence,
    ScopedSpan,
    Source,
    ToolKeys,
    UsageText,
    has,
)
from spanledger_processor.dialects.values import money
from spanledger_processor.dialects.vendors.otel import ENDPOINTS, OPERATIONS, OTEL, TOKENS
from spanledger_processor.model import Call, Kind

_SPOKEN = (
    "anthropic",
    "azure",
    "azure_ai",
    "bedrock",
    "cohere",
    "databricks",
    "deepseek",
    "fireworks_ai",
    "gemini",
    "groq",
    "hosted_vllm",
    "litellm_proxy",
    "mistral",
    "ollama",
    "openai",
    "openrouter",
    "perplexity",
    "together_ai",
    "vertex_ai",
    "xai",
)
"""Providers in whose words a `raw_gen_ai_request` repeats its call, under `llm.<provider>.*`."""

_RAW = tuple(f"llm.{provider}.usage" for provider in _SPOKEN)
_TOOL_FEES = ("litellm.cost.tool_usage", "gen_ai.cost.tool_usage_cost")
REQUEST_TYPES: dict[str, Kind] = {
    "completion": "llm",
    "acompletion": "llm",
    "chat": "llm",
    "text_completion": "llm",
    "atext_completion": "llm",
    "responses": "llm",
    "aresponses": "llm",
    "anthropic_messages": "llm",
    "generate_content": "llm",
    "agenerate_content": "llm",
    "embedding": "embedding",
    "aembedding": "embedding",
    "rerank": "rerank",
    "arerank": "rerank",
    "search": "retrieval",
    "asearch": "retrieval",
}
"""Values of `llm.request.type`."""


def _kind(view: ScopedSpan) -> Kind | None:
    if view.name == "Received Proxy Server Request":
        return "workflow"
    if view.name == "raw_gen_ai_request":
        return "llm" if has(view, *_RAW) else "other"
    return None


def _raw_provider(view: ScopedSpan, call: Call) -> None:
    if not call.provider and view.name == "raw_gen_ai_request":
        call.provider = next((name for name in _SPOKEN if f"llm.{name}.usage" in view.attributes), "")


def _last_of_several(view: ScopedSpan, call: Call) -> None:
    """Doubt usage on an application's span: each call is written over the last one's, of which nothing is left."""
    if call.usage is not None and not view.scope_name.startswith("litellm") and not view.name.startswith("litellm"):
        call.estimate = True
        call.note = call.note or "LiteLLM wrote this on the application's span, over any call before it"


def _tool_fees(view: ScopedSpan, call: Call) -> None:
    """Mark a call as billed for server-side tools whose number no count tells."""
    fee = next((amount for key in _TOOL_FEES if (amount := money(view.attributes.get(key))) is not None), None)
    if fee and call.usage is not None and not call.usage.web_searches and not call.usage.file_searches:
        call.unclassed = (*call.unclassed, "server-side tools")


LITELLM = replace(
    OTEL,
    name="litellm",
    precedence=Precedence.OWN_KEYS,
    rank=9,
    about="LiteLLM, library and proxy",
    detection=Detection(
        keys=("litellm.call_id", "litellm.provider.model", "litellm.cost.total", "metadata.user_api_key_hash", *_RAW),
        scopes=("litellm",),
        names=("raw_gen_ai_request",),
        requires=("gen_ai.request.model", "llm.request.type"),
    ),
    kind_of=_kind,
    kinds=(Kinds("gen_ai.operation.name", OPERATIONS), Kinds("llm.request.type", REQUEST_TYPES)),
    request_model=("gen_ai.request.model", "litellm.provider.model"),
    response_model=("gen_ai.response.model", *(f"llm.{provider}.model" for provider in _SPOKEN)),
    response_id=("gen_ai.response.id", *(f"llm.{provider}.id" for provider in _SPOKEN)),
    provider=("gen_ai.provider.name", "gen_ai.system", "llm.provider"),
    tokens=TOKENS,
    served=(*OTEL.served, *(f"llm.{provider}.service_tier" for provider in _SPOKEN)),
    endpoints=(*ENDPOINTS, "hidden_params"),
    usage_texts=(UsageText("metadata.usage_object"), *(UsageText(key, whole=True) for key in _RAW)),
    sources=(
        Source(
            Input.INCLUSIVE,
            why="LiteLLM turns all into OpenAI's shape; 1.70.0 leaves cache writes out, which its usage object shows",
            package="pypi:litellm",
            read=("1.60.0", "1.110.2"),
        ),
    ),
    costs=(
        CostKey("litellm.cost.total"),
        CostKey("gen_ai.cost.total_cost"),
        CostKey("hidden_params", path=("response_cost",)),
        CostKey("llm.cost.total", means_zero=True),
    ),
    content=ContentKeys(
        keys={
            "hidden_params": ANY_INPUT,
            "metadata.user_api_key_user_id": ("user_ids",),
            "metadata.user_api_key_user_email": ("user_ids",),
            "metadata.user_api_key_end_user_id": ("user_ids",),
            "metadata.requester_metadata*": ANY_INPUT,
            "metadata.requester_ip_address": ("user_ids",),
            "litellm.request.*": ANY_INPUT,
            "litellm.response.*": ANY_INPUT,
            "end_user_id": ("user_ids",),
            "proxy_server_request": ANY_INPUT,
        },
        prefixes=("litellm.",),
        plain=(
            "litellm.call_id",
            "litellm.provider.model",
            "litellm.session_id",
            "litellm.model*",
            "litellm.cost*",
            "litellm.metadata.session_id",
            "litellm.metadata.litellm_session_id",
            "litellm.provider*",
            "metadata.usage_object",
        ),
    ),
    tool=ToolKeys(
        name=("gen_ai.tool.name",),
        arguments=("gen_ai.tool.call.arguments",),
        result=("gen_ai.tool.call.result",),
        call_id=("gen_ai.tool.call.id",),
    ),
    groups=GroupingKeys(
        session=(
            "metadata.session_id",
            "metadata.litellm_session_id",
            "metadata.requester_metadata.session_id",
            "litellm.session_id",
            "litellm.metadata.session_id",
            "litellm.metadata.litellm_session_id",
        )
    ),
    own_cache=(
        Mark("litellm.cache_hit"),
        Mark("metadata.cache_hit"),
        Mark("cache_hit"),
        Mark("hidden_params", path=("cache_hit",)),
    ),
    rules=(_raw_provider, _last_of_several, _tool_fees),
    notes=(
        "Its cost is what its own price map says, caches, tiers and fees included.",
        "Where the application has a span of its own, LiteLLM writes each call's attributes over the last one's there.",
        "`raw_gen_ai_request` repeats its parent's usage in the provider's words.",
    ),
)
