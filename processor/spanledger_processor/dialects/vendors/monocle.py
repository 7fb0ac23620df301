"""Monocle (`monocle_apptrace`): entities of a span as attributes, and usage in an event of it."""

from __future__ import annotations

from spanledger_processor.dialects.normalize import Counts, Input, Output, normalize
from spanledger_processor.dialects.schema import (
    ANY_INPUT,
    ContentKeys,
    Detection,
    Dialect,
    Kinds,
    Precedence,
    ScopedSpan,
    Source,
    ToolKeys,
)
from spanledger_processor.dialects.usage import NO_COUNT, source_for
from spanledger_processor.dialects.values import NoCountError, count, text
from spanledger_processor.model import CALLS, Call

_METADATA = "metadata"
_ENTITIES = ("entity.1", "entity.2", "entity.3")
_SOURCES = (
    Source(
        Input.EXCLUSIVE,
        providers=("anthropic", "aws", "bedrock", "boto"),
        why="copies the provider's own counts, and leaves out what was written to the cache",
        package="pypi:monocle-apptrace",
        read=("0.8.15", "0.8.15"),
    ),
    Source(
        Input.INCLUSIVE,
        providers=("gemini", "google", "vertex", "adk"),
        output=Output.FROM_TOTAL,
        why="candidates only",
        package="pypi:monocle-apptrace",
        read=("0.8.15", "0.8.15"),
    ),
    Source(Input.INCLUSIVE, why="OpenAI's counts", package="pypi:monocle-apptrace", read=("0.8.15", "0.8.15")),
)


def _names(view: ScopedSpan, call: Call) -> None:
    """Read provider and model, which are what entities of the span are."""
    get = view.attributes.get
    for entity in _ENTITIES:
        what, _, of = text(get(f"{entity}.type")).partition(".")
        if what == "inference":
            call.provider = of
        elif what == "model":
            call.request_model = text(get(f"{entity}.name"))


def _usage(view: ScopedSpan, call: Call) -> None:
    """Read the usage of a call from the span's event."""
    event = next((one for one in view.events if one.name == _METADATA), None)
    if event is None or call.kind not in CALLS:
        return
    get, source = event.attributes.get, source_for(_SOURCES, call.provider)
    try:
        counts = Counts(
            count(get("prompt_tokens")),
            count(get("completion_tokens")),
            count(get("total_tokens")),
            count(get("cache_read_input_tokens")),
        )
    except NoCountError:
        call.problem = NO_COUNT
        return
    if counts.input is None and counts.output is None:
        return
    normalized = normalize(counts, source.input, source.output)
    call.usage, call.problem = normalized.usage, normalized.problem
    call.estimate = normalized.estimate or source.input is Input.EXCLUSIVE  # writes are never told


MONOCLE = Dialect(
    name="monocle",
    precedence=Precedence.CONVENTION,
    rank=4,
    about="Monocle (monocle_apptrace)",
    detection=Detection(keys=("monocle_apptrace.version",)),
    kinds=(
        Kinds(
            "span.type",
            {
                "inference": "llm",
                "inference.framework": "llm",
                "embedding": "embedding",
                "retrieval": "retrieval",
                "agentic.tool.invocation": "tool",
                "agentic.mcp.invocation": "tool",
                "agentic.invocation": "agent",
                "agentic.turn": "workflow",
                "workflow": "workflow",
            },
        ),
    ),
    sources=_SOURCES,
    tool=ToolKeys(name=("entity.1.name",)),
    rules=(_names, _usage),
    content=ContentKeys(
        keys={"input": ANY_INPUT, "response": ANY_INPUT, "entity.1.description": ("system_instructions",)},
        prefixes=("entity.", "monocle_apptrace.", "scope."),
        plain=(
            "entity.count",
            "entity.*.name",
            "entity.*.type",
            "entity.*.provider_name",
            "entity.*.deployment",
            "entity.*.inference_endpoint",
            "monocle_apptrace.language",
            "monocle_apptrace.version",
        ),
    ),
    notes=(
        "Usage stands in the span's event `metadata`, as text. With `genai` conventions switched on its spans have the"
        " convention's keys as well, and are read by those.",
    ),
)
