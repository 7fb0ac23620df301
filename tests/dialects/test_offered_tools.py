"""Tools of the provider's that a call was offered, on spans of libraries that leave out what became of them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dialect_view import chat, read, span

_FUNCTION = {"name": "get_weather", "input_schema": {"type": "object"}}
_TYPED = {"type": "function", "name": "web_search", "parameters": {}}
_ON = "opentelemetry.instrumentation."


@pytest.mark.parametrize(
    ("scope", "tools", "unclassed"),
    [
        ("logfire.openai", [{"type": "web_search"}], ("web searches",)),
        (
            "logfire.openai",
            [{"type": "web_search_preview"}, {"type": "file_search"}],
            ("web searches", "file searches"),
        ),
        ("logfire.openai", [{"type": "code_interpreter", "container": {"type": "auto"}}], ("code executions",)),
        ("logfire.openai", [_TYPED], ()),  # the application's own tool of that name
        ("logfire.openai", [{"type": "mcp", "server_label": "x"}], ()),
        ("logfire.anthropic", [{"type": "web_search_20250305", "name": "web_search"}], ()),  # it tells them
        (_ON + "anthropic", [{"name": "web_search"}], ("web searches",)),
        (_ON + "anthropic", [_FUNCTION, _FUNCTION | {"name": "web_search"}], ()),
        (_ON + "anthropic", [{"name": "web_fetch"}], ()),
        (_ON + "google_generativeai", [{"google_search": {}}], ("web searches", "tokens of tools")),
        (_ON + "google_generativeai", [{"url_context": {}}], ("tokens of tools",)),
        (_ON + "google_generativeai", [{"function_declarations": [{"name": "google_search"}]}], ()),
        (_ON + "google_generativeai", [{"google_search": {}}] * 2, ("web searches", "tokens of tools")),
        (_ON + "langchain", [{"name": None}], ()),
        ("gen_ai", [{"type": "provider", "name": "google_search", "id": "google.google_search"}], ("web searches",)),
        ("gen_ai", [{"type": "provider", "name": "web_search", "id": "openai.web_search"}], ()),  # it tells them
        ("my-app", [{"google_search": {}}], ()),
    ],
)
def test_what_was_offered_may_have_been_bought(scope: str, tools: list[Any], unclassed: tuple[str, ...]) -> None:
    """As logfire 5.4.0, OpenLLMetry's instrumentations 0.62.4 and @ai-sdk/otel 1.0.173 write them."""
    given = chat(input_tokens=100, output_tokens=50) | {"gen_ai.tool.definitions": json.dumps(tools)}
    assert read(span(given, scope=scope)).unclassed == unclassed


@pytest.mark.parametrize(
    "odd", ["web_search", '[["web_search"], 7, null, {}]', '{"web_search": 1}', '[{"type": 7, "name": "web_search"}]']
)
def test_definitions_that_are_odd_take_nothing_away(odd: str) -> None:
    call = read(
        span(chat(input_tokens=100, output_tokens=50) | {"gen_ai.tool.definitions": odd}, scope="logfire.openai")
    )
    assert call.usage is not None
    assert (call.usage.input, call.unclassed) == (100, ())


@pytest.mark.parametrize(
    ("parts", "reasons", "unclassed"),
    [
        ([{"type": "text", "content": "fine"}], ["tool_call"], ("server-side tools",)),
        ([{"type": "tool_call", "name": "f"}], ["tool_call"], ()),
        ([{"type": "text", "content": "fine"}], ["stop"], ()),
        (None, ["tool_call"], ()),  # the content is not told
    ],
)
def test_an_answer_that_ended_with_a_tool_that_it_does_not_show(
    parts: list[Any] | None, reasons: list[str], unclassed: tuple[str, ...]
) -> None:
    """`_derive_finish_reason` of opentelemetry-instrumentation-openai 0.62.4: items of OpenAI's tools are left out."""
    given = chat(input_tokens=100, output_tokens=50) | {"gen_ai.response.finish_reasons": reasons}
    if parts is not None:
        given["gen_ai.output.messages"] = json.dumps(
            [{"role": "assistant", "parts": parts, "finish_reason": "tool_call"}]
        )
    assert read(span(given, scope=_ON + "openai.v1")).unclassed == unclassed
