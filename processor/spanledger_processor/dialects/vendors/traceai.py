"""FutureAGI's traceAI: OpenInference's instrumentations with the convention's keys, and details behind a dot."""

from __future__ import annotations

from dataclasses import replace

from spanledger_processor.dialects import texts
from spanledger_processor.dialects.normalize import Input, Output
from spanledger_processor.dialects.schema import Detection, ScopedSpan, Source
from spanledger_processor.dialects.values import text
from spanledger_processor.dialects.vendors.loongsuite import LOONGSUITE
from spanledger_processor.model import Call


def _asked(view: ScopedSpan, call: Call) -> None:
    """Read the model that was asked for, which streams name in their parameters alone."""
    parameters = texts.parse(view.attributes.get("gen_ai.request.parameters"))
    if not call.model and isinstance(parameters, dict):
        call.request_model = text(parameters.get("model"))


TRACEAI = replace(
    LOONGSUITE,
    name="traceai",
    rank=0,
    about="FutureAGI traceAI",
    detection=Detection(scopes=("traceai_", "@traceai/"), requires=("gen_ai.span.kind",)),
    tokens=replace(
        LOONGSUITE.tokens,
        cache_read=(*LOONGSUITE.tokens.cache_read, "gen_ai.usage.input_tokens.cache_read"),
        cache_write=(*LOONGSUITE.tokens.cache_write, "gen_ai.usage.input_tokens.cache_write"),
        reasoning=(*LOONGSUITE.tokens.reasoning, "gen_ai.usage.output_tokens.reasoning"),
    ),
    answers=("output.value",),
    asked_in=("gen_ai.request.parameters",),
    sources=(
        Source(
            Input.UNSURE,
            providers=("anthropic", "aws", "bedrock"),
            why="copies of OpenInference's instrumentations of several ages",
            package="pypi:traceai-openai",
            read=("0.1.10", "0.1.10"),
        ),
        Source(
            Input.INCLUSIVE,
            providers=("google", "gemini", "vertex", "gcp"),
            output=Output.FROM_TOTAL,
            why="candidates only where Google's SDK streams, and of Vertex; the total has the thoughts",
            package="pypi:traceai-google-genai",
            read=("0.1.2", "0.1.2"),
        ),
        Source(
            Input.INCLUSIVE,
            why="OpenAI's counts",
            package="pypi:traceai-openai",
            read=("0.1.10", "0.1.10"),
        ),
    ),
    rules=(*LOONGSUITE.rules, _asked),
    notes=("Of chat completions it tells no caches: an estimate. Of responses it tells caches and reasoning.",),
)
