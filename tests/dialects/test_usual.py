"""Differential: the usual way of reading a call comes to what the full rules come to, span by span and in any order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from captures import captures
from dialect_view import CAPTURES, PlainAttributes, PlainView, captured
from spanledger_processor.dialects import registry, usual
from spanledger_processor.dialects.schema import ScopedSpan
from spanledger_processor.model import Call


def in_full(view: ScopedSpan, monkeypatch: pytest.MonkeyPatch) -> Call | None:
    """What the full rules say, without what was learned."""
    with monkeypatch.context() as patch:
        patch.setattr(usual, "_readings", {})
        return registry.detect(view)


@pytest.mark.parametrize("name", [capture.name for capture in captures()])
def test_recordings_read_twice(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usual, "_readings", {})
    views = list(captured(Path(CAPTURES / name)))
    for view in (*views, *views):
        assert registry.detect(view) == in_full(view, monkeypatch)


def test_some_recordings_take_the_usual_way(monkeypatch: pytest.MonkeyPatch) -> None:
    readings: dict[Any, Any] = {}
    monkeypatch.setattr(usual, "_readings", readings)
    for view in captured(CAPTURES / "otel-genai" / "S3-openai-chat"):
        registry.detect(view)
    assert readings


COUNTS = (
    "gen_ai.usage.input_tokens",
    "gen_ai.usage.output_tokens",
    "gen_ai.usage.cache_read.input_tokens",
    "gen_ai.usage.cache_creation.input_tokens",
    "gen_ai.usage.reasoning.output_tokens",
    "gen_ai.usage.total_tokens",
)
SEVERAL_ANSWERS = '[{"role": "assistant"}, {"role": "tool"}, {"role": "assistant"}]'
TEXTS: dict[str, tuple[Any, ...]] = {
    "gen_ai.operation.name": ("chat", "embeddings", "execute_tool", "invoke_agent", "brew", ""),
    "gen_ai.provider.name": ("openai", "anthropic", "aws.bedrock", ""),
    "gen_ai.request.model": ("gpt-4o", "claude-sonnet-4-5", ""),
    "gen_ai.response.model": ("gpt-4o-2024-08-06", '"gpt-4o"', ""),
    "gen_ai.response.id": ("resp-1", "resp-2", '"resp-3"', " resp-4", "resp-5'", "", 5),
    "gen_ai.request.service_tier": ("flex", "default"),
    "server.address": ("api.openai.com", "eu.api.openai.com", "api.deepseek.com", "resource.openai.azure.com"),
    "gen_ai.agent.id": ("a", "b"),
    "gen_ai.usage.cost": (0.25,),
    "gen_ai.usage.raw": ('{"input_tokens": 5, "output_tokens": 2}',),
    "gen_ai.tool.name": ("search",),
    "gen_ai.output.messages": ('[{"role": "assistant"}]', SEVERAL_ANSWERS),
}
SCOPES = ("", "opentelemetry.instrumentation.genai.openai", "opentelemetry.instrumentation.botocore")
NUMBERS = st.one_of(
    st.integers(0, 300), st.sampled_from([-1, 0, 2.0, 1.5, "17", "many", True, None, 10**12, 10**12 + 1, 1 << 62])
)


@st.composite
def spans(draw: st.DrawFn) -> PlainView:
    """Calls that are mostly usual, and differ from each other in everything that may matter."""
    keys = draw(st.sets(st.sampled_from(sorted(TEXTS)), min_size=3))
    counts = draw(st.sets(st.sampled_from(COUNTS), min_size=1))
    attributes = {key: draw(st.sampled_from(TEXTS[key])) for key in sorted(keys)}
    attributes |= {key: draw(NUMBERS) for key in sorted(counts)}
    return PlainView(
        PlainAttributes(attributes),
        draw(st.sampled_from(["chat gpt-4o", "embeddings x", "span"])),
        draw(
            st.sampled_from(
                ["", "opentelemetry.instrumentation.genai.openai", "opentelemetry.instrumentation.botocore"]
            )
        ),
        "1.0",
        PlainAttributes(draw(st.sampled_from([{}, {"gen_ai.system": "mistral_ai", "gen_ai.request.model": "m"}]))),
        draw(st.sampled_from([0, 1, 2])),
    )


@given(st.lists(spans(), min_size=2, max_size=8))
def test_any_spans_in_any_order(views: list[PlainView]) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(usual, "_readings", {})
        for view in (*views, *reversed(views)):
            assert registry.detect(view) == in_full(view, monkeypatch)


def test_content_is_looked_into_whatever_was_read_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several answers in the output are a doubt, of a span whose shape was read before as well."""
    monkeypatch.setattr(usual, "_readings", {})
    reported = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o",
        "gen_ai.response.id": "r",
        "gen_ai.usage.input_tokens": 30,
        "gen_ai.usage.output_tokens": 10,
    }
    estimates = []
    for output in ('[{"role": "assistant"}]', SEVERAL_ANSWERS):
        call = registry.detect(PlainView(PlainAttributes(reported | {"gen_ai.output.messages": output})))
        assert call is not None
        estimates.append(call.estimate)
    assert estimates == [False, True]


def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    readings: dict[Any, Any] = {}
    monkeypatch.setattr(usual, "_readings", readings)
    monkeypatch.setattr(usual, "_MOST", 50)
    for number in range(200):
        view = PlainView(
            PlainAttributes(
                {
                    "gen_ai.operation.name": "chat",
                    "gen_ai.provider.name": "openai",
                    "gen_ai.request.model": f"model-{number}",
                    "gen_ai.response.id": "r",
                    "gen_ai.usage.input_tokens": 3,
                    "gen_ai.usage.output_tokens": 1,
                }
            )
        )
        registry.detect(view)
        assert 0 < len(readings) <= 50
