"""Every recorded LLM span says what the model server billed, as far as the recording says it at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from dialect_truth import compare, compare_spans, truth
from dialect_view import CAPTURES, captured
from spanledger_processor.dialects import MARKERS, detect
from spanledger_processor.model import Usage
from spanledger_processor.otlp.request import parse_traces

FOLDERS = sorted(path.parent for path in CAPTURES.glob("*/*/truth.json"))

NO_SPLIT = "no attribute tells the writes for an hour apart"
NO_REASONING = "no attribute tells reasoning from other output"
NO_CACHE = "no attribute tells cached input"

UNKNOWN: dict[str, dict[str, str]] = {
    "ag2": {"cache_write_1h": NO_SPLIT},
    "agno-openinference": {"cache_write_1h": NO_SPLIT, "reasoning": NO_REASONING},
    "claude-code": {"cache_write_1h": NO_SPLIT, "reasoning": NO_REASONING},
    "codex": {"reasoning": NO_REASONING},
    "ddtrace": {"cache_write_1h": NO_SPLIT},
    "langchain-traceloop": {"reasoning": NO_REASONING},
    "langfuse": {"cache_write_1h": NO_SPLIT},
    "langwatch": {"cache_read": NO_CACHE},
    "openinference": {"cache_write_1h": NO_SPLIT},
    "openinference-js": {"cache_write_1h": NO_SPLIT},
    "openlit": {"cache_write_1h": NO_SPLIT, "reasoning": NO_REASONING},
    "otel-genai": {"cache_write_1h": NO_SPLIT},
    "otel-openai-v2": {"cache_read": NO_CACHE, "reasoning": NO_REASONING},
    "pipecat": {"cache_write_1h": NO_SPLIT},
    "semantic-kernel": {"cache_read": NO_CACHE, "reasoning": NO_REASONING},
    "strands": {"reasoning": NO_REASONING},
    "strands-js": {"cache_write_1h": NO_SPLIT, "reasoning": NO_REASONING},
    "tanstack": {"cache_write_1h": NO_SPLIT},
    "traceloop": {"cache_write_1h": NO_SPLIT},
    "vercel-ai-sdk-v5": {"cache_read": NO_CACHE, "reasoning": NO_REASONING},
    "vercel-ai-sdk-v7": {"cache_write_1h": NO_SPLIT, "reasoning": NO_REASONING},
}
"""By client: classes that its spans leave open where they are not zero."""

UNTOLD: dict[str, tuple[int, str]] = {
    "claude-code/logs-only": (4, "no spans were recorded"),
    "codex/logs-only": (4, "no spans were recorded"),
    "gemini-cli/tools": (4, "its spans leave cached tokens and thoughts out: usage with a problem"),
    "voltagent/steps": (4, "a call with tools tells its last step's usage; the agent's span, which is none, all of it"),
    "otel-genai/unreadable-openai-chat": (1, "of an answer that could not be read no usage is told"),
    "litellm/S3-openai-chat": (4, "LiteLLM writes each call over the last one on the application's span"),
}
"""By capture: how many calls no span tells, and why."""


def _key(folder: Path) -> str:
    return f"{folder.parent.name}/{folder.name}"


@pytest.mark.parametrize("folder", FOLDERS, ids=_key)
def test_llm_spans_say_what_was_billed(folder: Path) -> None:
    compared = compare_spans(folder)
    untold, _ = UNTOLD.get(_key(folder), (0, ""))
    assert compared.wrong == []
    assert compared.calls - compared.reported == untold
    assert compared.unknown <= UNKNOWN.get(folder.parent.name, {}).keys()


@pytest.mark.parametrize("folder", FOLDERS, ids=_key)
def test_every_span_that_a_dialect_knows_gets_past_the_prefilter(folder: Path) -> None:
    passing = [
        any(mark in span for mark in MARKERS)
        for path in sorted(folder.glob("*.traces.binpb"))
        for group in parse_traces(path.read_bytes()).groups
        for span in group.items
    ]
    known = [detect(view) is not None for view in captured(folder)]
    assert not any(is_known and not passed for is_known, passed in zip(known, passing, strict=bool(passing)))


def test_a_wrong_number_is_found() -> None:
    """The comparison itself: usage that no call had, and a call that no usage tells."""
    billed = truth(CAPTURES / "otel-genai" / "S1-openai-chat")
    compared = compare([("one", billed[0]), ("two", Usage(1, 1))], billed)
    assert compared.reported == 1
    assert len(compared.wrong) == 1
