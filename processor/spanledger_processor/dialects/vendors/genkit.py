"""Genkit: everything inside JSON under `genkit:*` keys."""

from __future__ import annotations

from spanledger_processor.dialects.normalize import Input
from spanledger_processor.dialects.schema import (
    ANY_INPUT,
    ContentKeys,
    Detection,
    Dialect,
    GroupingKeys,
    Kinds,
    Precedence,
    ScopedSpan,
    Source,
    ToolKeys,
    UsageText,
)
from spanledger_processor.dialects.values import text
from spanledger_processor.model import CALLS, Call, Kind

_SELLERS = {
    "googleai": "gcp.gemini",
    "vertexai": "gcp.vertex_ai",
    "openai": "openai",
    "anthropic": "anthropic",
    "amazon-bedrock": "aws.bedrock",
    "aws-bedrock": "aws.bedrock",
    "mistral": "mistral_ai",
    "xai": "x_ai",
    "deepseek": "deepseek",
    "ollama": "ollama",
}
"""Prefixes of model names ("googleai/gemini-2.5-flash") and the providers that they mean."""


def _kind(view: ScopedSpan) -> Kind | None:
    """Return workflow for `generate`, which alone has usage besides the models, and repeats the last of theirs."""
    return "workflow" if view.attributes.get("genkit:type") == "util" else None


def _model(view: ScopedSpan, call: Call) -> None:
    if call.kind in CALLS:
        plugin, slash, name = (text(view.attributes.get("genkit:name")) or view.name).partition("/")
        call.request_model = name if slash else plugin
        call.provider = _SELLERS.get(plugin, plugin) if slash else ""


_PROVIDERS_USAGE = (("raw", "usage"), ("raw", "usageMetadata"), ("custom", "usageMetadata"), ("custom", "usage"))
"""Where plugins put the provider's response. Genkit's own usage lacks OpenAI's caches and thoughts, and Gemini's tokens
of its own tools (@genkit-ai/compat-oai 1.42.0 and google-genai 1.42.0: `raw`, `custom`)."""

GENKIT = Dialect(
    name="genkit",
    precedence=Precedence.OWN_KEYS,
    rank=2,
    about="Genkit (JavaScript, Go, Python)",
    detection=Detection(keys=("genkit:type", "genkit:metadata:subtype")),
    kind_of=_kind,
    kinds=(
        Kinds(
            "genkit:metadata:subtype",
            {
                "model": "llm",
                "background-model": "llm",
                "embedder": "embedding",
                "retriever": "retrieval",
                "reranker": "rerank",
                "indexer": "other",
                "tool": "tool",
                "tool.v2": "tool",
                "flow": "workflow",
                "agent": "agent",
                "prompt": "other",
                "executable-prompt": "workflow",
                "evaluator": "other",
            },
        ),
        Kinds("genkit:type", {"flow": "workflow", "flowstep": "workflow", "tool": "tool", "model": "llm"}),
    ),
    otherwise="other",
    answers=("genkit:output",),
    usage_texts=(
        *(UsageText("genkit:output", location, whole=True) for location in _PROVIDERS_USAGE),
        UsageText("genkit:output", ("usage",), whole=True),
        *(UsageText("genkit:output", (location,)) for location in ("raw", "custom")),
    ),
    sources=(
        Source(
            Input.PRESUMED,
            why="the plugin's counts; Anthropic's plugin copies its counts, without caches",
            package="npm:@genkit-ai/google-genai",
            read=("1.16.1", "1.42.0"),
        ),
    ),
    content=ContentKeys(
        keys={
            "genkit:input": ANY_INPUT,
            "genkit:output": ANY_INPUT,
            "genkit:metadata:*": ANY_INPUT,
        },
        prefixes=("genkit:",),
        plain=(
            "genkit:name",
            "genkit:type",
            "genkit:path",
            "genkit:isRoot",
            "genkit:state",
            "genkit:sessionId",
            "genkit:metadata:subtype",
            "genkit:key",
            "genkit:rootState",
            "genkit:qualifiedPath",
            "genkit:feature",
            "genkit:metadata:flow:*",
        ),
    ),
    tool=ToolKeys(name=("genkit:name",), arguments=("genkit:input",), result=("genkit:output",), name_from_span=True),
    groups=GroupingKeys(session=("genkit:sessionId",)),
    rules=(_model,),
)
