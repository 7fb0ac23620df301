"""Tool calls in the messages of model calls, as libraries write them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from captures import captures
from chats import set_attributes
from spanledger_processor.accounting.facts import LoopRule
from spanledger_processor.accounting.loops import history_loop
from spanledger_processor.dialects.asked_tools import FLAT_MARK, MARKS, asked_in, history, is_made_id
from spanledger_processor.otlp.request import parse_traces
from spanledger_processor.otlp.values import Attributes
from spanledger_processor.otlp.views import SpanView

ARGUMENTS = {"path": "a.py", "lines": 3}
"""Formats: the output with a call of `read` with id "c2", and an input of a call "c1" before it with its result."""
CONVENTION = {
    "gen_ai.output.messages": [
        {"role": "assistant", "parts": [{"type": "tool_call", "id": "c2", "name": "read", "arguments": ARGUMENTS}]}
    ],
    "gen_ai.input.messages": [
        {"role": "user", "parts": [{"type": "text", "content": "read it"}]},
        {"role": "assistant", "parts": [{"type": "tool_call", "id": "c1", "name": "read", "arguments": ARGUMENTS}]},
        {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c1", "response": "text"}]},
    ],
}
GEMINI_CLI = {
    "gen_ai.output.messages": [
        {"role": "model", "parts": [{"functionCall": {"name": "read", "args": ARGUMENTS, "id": "c2"}}]}
    ],
    "gen_ai.input.messages": [
        {"role": "model", "parts": [{"functionCall": {"name": "read", "args": ARGUMENTS, "id": "c1"}}]},
        {"role": "user", "parts": [{"functionResponse": {"id": "c1", "name": "read", "response": "text"}}]},
    ],
}
AI_SDK = {
    "ai.response.toolCalls": [{"toolCallId": "c2", "toolName": "read", "input": json.dumps(ARGUMENTS)}],
    "ai.prompt.messages": [
        {"role": "user", "content": [{"type": "text", "text": "read it"}]},
        {
            "role": "assistant",
            "content": [{"type": "tool-call", "toolCallId": "c1", "toolName": "read", "input": ARGUMENTS}],
        },
        {
            "role": "tool",
            "content": [{"type": "tool-result", "toolCallId": "c1", "toolName": "read", "output": "text"}],
        },
    ],
}
OPENINFERENCE = {
    "llm.output_messages.0.message.role": "assistant",
    "llm.output_messages.0.message.tool_calls.0.tool_call.id": "c2",
    "llm.output_messages.0.message.tool_calls.0.tool_call.function.name": "read",
    "llm.output_messages.0.message.tool_calls.0.tool_call.function.arguments": json.dumps(ARGUMENTS),
    "llm.input_messages.0.message.content": "read it",
    "llm.input_messages.9.message.tool_calls.0.tool_call.id": "c1",
    "llm.input_messages.9.message.tool_calls.0.tool_call.function.name": "read",
    "llm.input_messages.9.message.tool_calls.0.tool_call.function.arguments": json.dumps(ARGUMENTS),
    "llm.input_messages.10.message.tool_call_id": "c1",
    "llm.input_messages.10.message.content": "text",
}
OPENLLMETRY = {
    "gen_ai.completion.0.tool_calls.0.id": "c2",
    "gen_ai.completion.0.tool_calls.0.name": "read",
    "gen_ai.completion.0.tool_calls.0.arguments": json.dumps(ARGUMENTS),
    "gen_ai.prompt.1.tool_calls.0.id": "c1",
    "gen_ai.prompt.1.tool_calls.0.name": "read",
    "gen_ai.prompt.1.tool_calls.0.arguments": json.dumps(ARGUMENTS),
    "gen_ai.prompt.2.tool_call_id": "c1",
    "gen_ai.prompt.2.content": "text",
}


def given(values: dict[str, Any]) -> Attributes:
    span = Span()
    set_attributes(span, {key: value if isinstance(value, str) else json.dumps(value) for key, value in values.items()})
    return SpanView.parse(span.SerializeToString()).attributes


@pytest.mark.parametrize("values", [CONVENTION, GEMINI_CLI, AI_SDK, OPENINFERENCE, OPENLLMETRY])
def test_each_format_is_read(values: dict[str, Any]) -> None:
    attributes = given(values)
    (call,) = asked_in(attributes)
    assert (call.id, call.tool) == ("c2", "read")
    (step,) = history(attributes)
    assert (step.id, step.tool, step.result, step.is_new) == ("c1", "read", "text", True)
    assert json.loads(step.arguments) == ARGUMENTS


@pytest.mark.parametrize(
    "value",
    [
        "",
        "[]",
        "[1, null]",
        '{"role": "assistant"}',
        '[{"parts": "text"}]',
        '[{"parts": [{"type": "tool_call", "id": 7, "name": "read"}]}]',
        '[{"parts": [{"type": "tool_call", "id": "c", "name": null}]}]',
        '[{"parts": [{"type": "tool_call", "id": "%s", "name": "read"}]}]' % ("x" * 600),
        '[{"parts": [{"functionCall": "read"}]}]',
        "[" * 5000,
    ],
)
def test_what_is_no_call_is_left_out(value: str) -> None:
    attributes = given(
        {"gen_ai.output.messages": value, "gen_ai.input.messages": value, "ai.response.toolCalls": value}
    )
    assert asked_in(attributes) == []
    assert history(attributes) == []


def without_ids(value: Any) -> Any:
    """A message without the ids of calls, as Gemini's and Ollama's."""
    if isinstance(value, dict):
        ids = ("id", "toolCallId")
        return {
            key: without_ids(one) for key, one in value.items() if key not in ids and not key.endswith(("_id", ".id"))
        }
    return [without_ids(one) for one in value] if isinstance(value, list) else value


@pytest.mark.parametrize("values", [CONVENTION, GEMINI_CLI, OPENINFERENCE, OPENLLMETRY])
def test_calls_without_ids_are_read(values: dict[str, Any]) -> None:
    """A result in a list of messages belongs to the earliest call that has none yet; one of flat keys to none."""
    attributes = given(without_ids(values))
    (call,) = asked_in(attributes)
    assert (is_made_id(call.id), call.tool) == (True, "read")
    steps = history(attributes)
    assert len(steps) == (values in (CONVENTION, GEMINI_CLI))
    for step in steps:
        assert (is_made_id(step.id), step.tool, step.result, step.is_new) == (True, "read", "text", True)


def test_results_without_ids_are_those_of_their_tools_in_turn() -> None:
    """Of two calls in one answer; a result that names its tool is that of the earliest call of this tool."""
    calls = [{"functionCall": {"name": name, "args": {"path": path}}} for name, path in ("ra", "rb", "wc")]
    answers = [
        {"functionResponse": {"name": name, "response": text}} for name, text in (("w", "c!"), ("r", "a!"), ("r", "b!"))
    ]
    messages = [{"role": "model", "parts": calls}, {"role": "user", "parts": answers}]
    steps = history(given({"gen_ai.input.messages": messages}))
    reported = [(step.tool, json.loads(step.arguments)["path"], step.result) for step in steps]
    assert reported == [("r", "a", "a!"), ("r", "b", "b!"), ("w", "c", "c!")]
    assert len({step.id for step in steps}) == 3


def test_what_openlit_writes_on_the_span_of_a_model() -> None:
    """`gen_ai.tool.*` of several calls in one text, as its OpenAI instrumentation joins them."""
    calls = asked_in(given({"gen_ai.tool.name": "read, write", "gen_ai.tool.call.id": "c1, c2"}))
    assert [(call.id, call.tool) for call in calls] == [("c1", "read"), ("c2", "write")]
    assert asked_in(given({"gen_ai.tool.name": "read", "gen_ai.tool.call.id": ""})) == []


def test_an_output_that_several_keys_hold_is_read_once() -> None:
    both = given(without_ids(CONVENTION) | without_ids(OPENINFERENCE) | without_ids(OPENLLMETRY))
    assert len(asked_in(both)) == 1
    assert len(asked_in(given(CONVENTION | AI_SDK | OPENLLMETRY))) == 1


def test_an_input_that_does_not_end_with_results_has_no_new_ones() -> None:
    """A user spoke in between: what was called before was seen before."""
    messages = [*CONVENTION["gen_ai.input.messages"], {"role": "user", "parts": [{"type": "text", "content": "on"}]}]
    assert history(given({"gen_ai.input.messages": messages})) == []


@pytest.mark.parametrize(
    ("steps", "is_loop"),
    [
        (["a1", "a1", "a1"], True),
        (["a1", "a1"], False),
        (["a1", "a2", "a3"], False),
        (["a1", "a1", "a2"], False),
        (["b1", "a1", "a1", "a1"], True),
        (["a1", "b1", "a1", "b1", "a1", "b1"], True),
        (["a1", "b1", "a2", "b1", "a3", "b1"], False),
        (["a-", "a-", "a-"], True),
    ],
    ids=[
        "same",
        "too few",
        "polling",
        "then something new",
        "after another",
        "in turn",
        "in turn to something new",
        "unknown",
    ],
)
def test_a_conversation_loops_where_calls_come_to_nothing_new(steps: list[str], is_loop: bool) -> None:  # noqa: FBT001
    rule = LoopRule(consecutive=3, cycles=3)
    assert bool(history_loop([(step[0], step[1].strip("-")) for step in steps], rule)) == is_loop
    assert not history_loop([(step[0], step[1]) for step in steps], LoopRule())


@pytest.mark.parametrize(
    ("steps", "rule", "calls"),
    [
        ("aaaaa", LoopRule(consecutive=3), 3),
        ("ababababab", LoopRule(cycles=3), 6),
        ("cabcabcabcab", LoopRule(cycles=3), 9),
        ("abacadxa", LoopRule(repeats=3), 6),
        ("abababaaa", LoopRule(consecutive=3, cycles=3, repeats=4), 3),
    ],
)
def test_a_loop_is_as_many_calls_as_its_rule_asks_for(steps: str, rule: LoopRule, calls: int) -> None:
    """Only these have to lie within the window of time."""
    assert history_loop([(step, "") for step in steps], rule) == calls


def test_recorded_calls_are_marked() -> None:
    """What is read of a span stands in one that has a mark, by which others are passed over."""
    bodies = [body for capture in captures() for signal, body in capture.requests if signal == "traces"]
    marked = 0
    for span in (span for body in bodies for group in parse_traces(body).groups for span in group.items):
        attributes = SpanView.parse(span).attributes
        found = asked_in(attributes), history(attributes)
        if any(found):
            assert any(mark in span for mark in MARKS)
            flat = FLAT_MARK in span
            assert (asked_in(attributes, flat=flat), history(attributes, flat=flat)) == found
            marked += 1
    assert marked > 100
