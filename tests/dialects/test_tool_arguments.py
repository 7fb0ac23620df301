"""Where tool arguments are."""

from __future__ import annotations

import json

from dialect_view import PlainAttributes, PlainEvent, read, span


def test_strands_has_them_in_an_event() -> None:
    view = span(
        {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "t"},
        scope="strands.telemetry.tracer",
        events=[PlainEvent("gen_ai.tool.message", PlainAttributes({"content": '{"city": "a"}'}))],
    )
    tool = read(view).tool
    assert tool is not None
    assert tool.arguments == '{"city": "a"}'


def test_strands_latest_form() -> None:
    messages = '[{"role":"tool","parts":[{"type":"tool_call","name":"t","arguments":{"city":"a"}}]}]'
    view = span(
        {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "t"},
        scope="strands.telemetry.tracer",
        events=[
            PlainEvent(
                "gen_ai.client.inference.operation.details", PlainAttributes({"gen_ai.input.messages": messages})
            )
        ],
    )
    tool = read(view).tool
    assert tool is not None
    assert tool.arguments == {"city": "a"}


def test_what_langchain_wraps_around_them_changes_from_call_to_call() -> None:
    wrapped = {"input_str": "{'city': 'a'}", "tags": ["seq:step:1"], "metadata": {"langgraph_step": 2}}
    view = span(
        {"traceloop.span.kind": "tool", "gen_ai.tool.name": "t", "gen_ai.tool.call.arguments": json.dumps(wrapped)}
    )
    tool = read(view).tool
    assert tool is not None
    assert tool.arguments == "{'city': 'a'}"


def test_a_step_of_llamaindex_that_names_a_tool_is_one() -> None:
    step = {"traceloop.span.kind": "task", "traceloop.entity.name": "AgentWorkflow.task", "tool.name": "get_weather"}
    view = span(
        {**step, "tool.arguments": '{"city": "a"}', "traceloop.entity.input": "{}"},
        scope="opentelemetry.instrumentation.llamaindex",
    )
    tool = read(view).tool
    assert tool is not None
    assert (tool.name, tool.arguments) == ("get_weather", '{"city": "a"}')
    assert read(span(step, scope="opentelemetry.instrumentation.langchain")).kind == "workflow"


def test_a_tools_definition_is_not_its_arguments() -> None:
    view = span({"openinference.span.kind": "TOOL", "tool.name": "t", "tool.parameters": '{"type":"object"}'})
    tool = read(view).tool
    assert tool is not None
    assert tool.arguments is None


def test_google_gives_each_argument_an_attribute() -> None:
    view = span(
        {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": "get_weather",
            "code.function.parameters.city.type": "str",
            "code.function.parameters.city.value": "a",
            "code.function.parameters.days.value": 7,
        },
        scope="opentelemetry.instrumentation.google_genai",
    )
    tool = read(view).tool
    assert tool is not None
    assert tool.arguments == {"city": "a", "days": 7}


def test_a_denied_call_says_so() -> None:
    """open-telemetry/semantic-conventions-genai, pull request 535: outcomes are allow, deny and require_approval."""
    tool = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "rm"}
    outcome = "gen_ai.tool.call.decision.outcome"
    for attributes, events, denied in (
        (tool | {outcome: "deny"}, [], True),
        (tool | {outcome: "allow"}, [], False),
        (tool, [PlainEvent("gen_ai.tool.call.decision", PlainAttributes({outcome: "deny"}))], True),
        (tool, [], False),
    ):
        call = read(span(attributes, events=events))
        assert call.tool is not None
        assert call.tool.denied is denied
