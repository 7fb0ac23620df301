"""Anthropic's SDKs and API spans: the convention, and the split of cache writes."""

from __future__ import annotations

from dataclasses import replace

from spanledger_processor.dialects.normalize import Input
from spanledger_processor.dialects.schema import Detection, Library, Precedence, ScopedSpan, Source
from spanledger_processor.dialects.values import text
from spanledger_processor.dialects.vendors.otel import OTEL, without_operation
from spanledger_processor.model import Kind

_SDK = "com.anthropic.sdk"


def _requests(view: ScopedSpan) -> Kind | None:
    """Return the kind of a span without a known operation: of the SDK's, those that call a model all name one.

    Its others have a model as well, of an agent or of a prompt whose tokens are counted (`SPAN_ATTRIBUTES` in
    `_tracing.py` of anthropic 2.14.0).
    """
    if view.scope_name.startswith(_SDK) and not text(view.attributes.get("gen_ai.operation.name")):
        return "other"
    return without_operation(view)


ANTHROPIC = replace(
    OTEL,
    name="anthropic",
    precedence=Precedence.CONVENTION_KEYS,
    rank=8,
    about="Anthropic SDK and API spans",
    detection=Detection(
        keys=("anthropic.request.id", "anthropic.usage.cache_creation.ephemeral_1h_input_tokens"),
        scopes=(_SDK, "com.anthropic.claude-platform"),
        requires=("gen_ai.operation.name",),
    ),
    kind_else=_requests,
    fixed_provider="anthropic",
    sources=(Source(Input.INCLUSIVE, why="follows the convention"),),
    libraries=(Library(f"{_SDK}*", begins_late=True),),
    notes=(
        "The SDK's own spans tell nothing of web searches: what these cost is missing from the price, without a mark,"
        " also where another library's span of the call doubts its own price: the SDK's tells more and counts.",
        "Spans of message batches tell no usage: what a batch used is not counted.",
    ),
)
