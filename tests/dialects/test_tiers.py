"""Service tiers and speeds, as pricing knows them."""

from __future__ import annotations

from typing import Any

import pytest

from dialect_view import chat, read, span


@pytest.mark.parametrize(
    ("key", "value", "context"),
    [
        ("openai.response.service_tier", "flex", (("service_tier", "flex"),)),
        ("openai.response.service_tier", "default", ()),
        ("openai.response.service_tier", "auto", ()),
        ("gen_ai.openai.response.service_tier", "priority", (("service_tier", "priority"),)),
        ("anthropic.response.service_tier", "batch", (("service_tier", "batch"),)),
        ("anthropic.response.service_tier", "standard", ()),
        ("gen_ai.openai.request.service_tier", "FLEX", (("service_tier", "flex"),)),
        ("anthropic.response.speed", "fast", (("speed", "fast"),)),
        ("openai.response.service_tier", 3, ()),
    ],
)
def test_a_tier_is_handed_to_pricing(key: str, value: Any, context: tuple[tuple[str, str], ...]) -> None:
    assert read(span(chat(input_tokens=1, output_tokens=1) | {key: value})).price_context == context


def test_the_tier_that_answered_beats_the_one_that_was_asked() -> None:
    view = span(
        chat(input_tokens=1, output_tokens=1)
        | {"gen_ai.openai.request.service_tier": "flex", "openai.response.service_tier": "priority"}
    )
    assert read(view).price_context == (("service_tier", "priority"),)


def test_claude_codes_fast_mode() -> None:
    view = span(
        {"span.type": "llm_request", "input_tokens": 1, "output_tokens": 1, "speed": "fast"},
        "claude_code.llm_request",
    )
    assert read(view).price_context == (("speed", "fast"),)
