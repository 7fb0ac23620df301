"""Calls of which a span tells less than there were, or tells it in its output alone."""

from __future__ import annotations

import json
from decimal import Decimal
from itertools import permutations
from typing import Any

import pytest

from dialect_view import PlainView, chat, read, span
from pipelines import Pipeline
from spanledger_exporters.interface import Signal
from spanledger_processor.dialects import detect
from spanledger_processor.ledger.queries import models
from spanledger_processor.model import Usage
from spanledger_processor.otlp import json_form


def test_litellm_on_an_applications_span_may_be_the_last_of_several() -> None:
    """litellm.integrations.opentelemetry: attributes are set on the parent span where there is one."""
    call = read(span(chat(input_tokens=40, output_tokens=1) | {"litellm.call_id": "1"}, "my_agent", "my-app"))
    assert (call.dialect, call.usage, call.estimate) == ("litellm", Usage(40, 1), True)
    assert call.note
    own = read(span(chat(input_tokens=40, output_tokens=1) | {"litellm.call_id": "1"}, "litellm_request", "litellm"))
    assert own.note == ""


def test_googles_automatic_function_calling_is_several_calls() -> None:
    """google.genai.types.GenerateContentResponse.automatic_function_calling_history"""
    usage = {"prompt_token_count": 40, "candidates_token_count": 1}
    reported = {"usage_metadata": usage, "automatic_function_calling_history": [{"role": "model"}]}
    attributes = {"openinference.span.kind": "LLM", "llm.token_count.prompt": 40, "llm.token_count.completion": 1}
    assert read(span(attributes | {"output.value": json.dumps(reported)})).note
    reported["automatic_function_calling_history"] = []
    assert read(span(attributes | {"output.value": json.dumps(reported)})).note == ""


ASKS = {"role": "assistant", "parts": [{"type": "tool_call", "id": "1", "name": "f"}]}
TOOL = {"role": "tool", "parts": [{"type": "tool_call_response", "id": "1", "result": "ok"}]}
ENDS = {"role": "assistant", "parts": [{"type": "text", "content": "done"}]}


@pytest.mark.parametrize(
    ("messages", "estimate"),
    [([ASKS, TOOL, ENDS], True), ([ENDS], False), ([ENDS, ENDS], False), ([TOOL, ENDS], False)],
)
def test_more_answers_than_usage(messages: list[dict[str, Any]], *, estimate: bool) -> None:
    """gen_ai.output.messages: an answer after a tool's is another response of the model."""
    call = read(span(chat(input_tokens=40, output_tokens=1) | {"gen_ai.output.messages": json.dumps(messages)}))
    assert call.estimate is estimate


CHOICE = {"role": "assistant", "parts": [{"type": "text", "content": "fine"}], "finish_reason": "stop"}
LANGCHAIN = "opentelemetry.instrumentation.langchain"


@pytest.mark.parametrize(
    ("scope", "choices", "counts", "usage", "estimate"),
    [
        (LANGCHAIN, 3, (3027, 633), Usage(1009, 211), True),
        (LANGCHAIN, 1, (3027, 633), Usage(3027, 633), False),
        (LANGCHAIN, 3, (3027, 634), Usage(3027, 634), True),  # it cannot be a sum of equal ones
        ("opentelemetry.instrumentation.openai.v1", 3, (3027, 633), Usage(3027, 633), False),
    ],
)
def test_each_choice_of_langchains_is_told_to_have_used_all(
    scope: str, choices: int, counts: tuple[int, int], usage: Usage, *, estimate: bool
) -> None:
    """`set_chat_response_usage` of opentelemetry-instrumentation-langchain 0.62.4 adds up `usage_metadata`."""
    given = chat(input_tokens=counts[0], output_tokens=counts[1])
    call = read(span(given | {"gen_ai.output.messages": json.dumps([CHOICE] * choices)}, scope=scope))
    assert (call.dialect, call.usage, call.estimate) == ("openllmetry", usage, estimate)


def test_the_usage_of_a_text_completion_of_langchains_is_that_of_all_its_choices() -> None:
    """`OpenAI(n=2)`: a `Generation` has no message, so that `llm_output` alone tells tokens, of the whole call."""
    given = chat(input_tokens=100, output_tokens=20) | {"gen_ai.operation.name": "text_completion"}
    call = read(span(given | {"gen_ai.output.messages": json.dumps([CHOICE] * 2)}, scope=LANGCHAIN))
    assert (call.usage, call.estimate) == (Usage(100, 20), False)


CLAUDE = "opentelemetry.instrumentation.genai.anthropic"
GOOGLE = "opentelemetry.instrumentation.google_genai"
BEGUN = {"gen_ai.request.stream": True}
FIRST = {"gen_ai.client.operation.time_to_first_chunk": 0.02}
ENDED = {"gen_ai.response.finish_reasons": ["stop"]}


@pytest.mark.parametrize(
    ("scope", "attributes", "estimate"),
    [
        (CLAUDE, BEGUN, True),
        (CLAUDE, BEGUN | ENDED, False),
        (CLAUDE, {}, False),
        (GOOGLE, BEGUN, True),
        (GOOGLE, BEGUN | ENDED, False),
        ("pydantic-ai", FIRST, True),
        ("pydantic-ai", FIRST | ENDED, False),
        ("pydantic-ai", {}, False),
        ("my-app", BEGUN, False),
    ],
)
def test_a_stream_without_a_reason_for_its_end_may_have_used_more(
    scope: str, attributes: dict[str, Any], *, estimate: bool
) -> None:
    """They tell why an answer ended, and of a stream that was left the usage of its first event."""
    call = read(span(chat(input_tokens=1263, output_tokens=3) | attributes, scope=scope, version="1.3b0"))
    assert call.usage is not None
    assert (call.usage.output, call.estimate, bool(call.note)) == (3, estimate, estimate)


CACHE = {"gen_ai.usage.cache_read.input_tokens": 0, "gen_ai.usage.cache_creation.input_tokens": 0}


@pytest.mark.parametrize(
    ("scope", "attributes", "estimate"),
    [
        ("openlit.instrumentation.openai", {"gen_ai.request.stream": True}, True),
        ("openlit.instrumentation.openai", {"gen_ai.request.stream": True} | CACHE, False),
        ("openlit.instrumentation.openai", {"gen_ai.request.stream": False}, False),
        ("openlit.instrumentation.mistral", {"gen_ai.request.stream": True}, False),
    ],
)
def test_counts_that_openlit_made_of_the_texts(scope: str, attributes: dict[str, Any], *, estimate: bool) -> None:
    """openlit 1.45.0, `openlit/instrumentation/openai/utils.py`: caches are told where the stream told its usage."""
    call = read(span(chat(input_tokens=13, output_tokens=11) | attributes, scope=scope))
    assert (call.dialect, call.usage and call.usage.output, call.estimate) == ("openlit", 11, estimate)
    assert bool(call.note) is estimate


MESSAGE = (
    '{"type": "message", "stop_reason": %s, "stop_sequence": null, "usage": {"input_tokens": 40, "output_tokens": 1}}'
)


@pytest.mark.parametrize(
    ("answer", "estimate"),
    [
        (MESSAGE % "null", True),
        (MESSAGE % '"end_turn"', False),
        ("Message(stop_reason=None, stop_sequence=None, type='message')", True),
        ("Message(stop_reason='end_turn', stop_sequence=None, type='message')", False),
        (f"[{MESSAGE % 'null'}, {{'delta': {{'stop_reason': 'end_turn'}}}}]", False),  # the events of a whole stream
        ('{"choices": [{"finish_reason": "stop", "stop_reason": null}], "stop_sequence": 1}', False),  # vLLM
    ],
)
def test_an_answer_of_anthropics_that_has_no_end_may_have_used_more(answer: str, *, estimate: bool) -> None:
    """https://platform.claude.com/docs/en/build-with-claude/streaming: `message_delta` brings reason and usage."""
    given = {"openinference.span.kind": "LLM", "llm.token_count.prompt": 40, "llm.token_count.completion": 1}
    call = read(
        span(given | {"output.value": answer}, scope="openinference.instrumentation.anthropic", version="3.1.0")
    )
    assert (call.usage and call.usage.output, call.estimate, bool(call.note)) == (1, estimate, estimate)


def test_an_agents_output_holds_the_usage_of_all_its_answers() -> None:
    """Haystack's agent: each reply has its own usage in its meta, and the span has none."""
    replies = [{"meta": {"usage": {"prompt_tokens": n, "completion_tokens": 5}}} for n in (100, 200)]
    call = read(
        span(
            {"openinference.span.kind": "AGENT", "output.value": json.dumps({"messages": replies})},
            scope="openinference.instrumentation.haystack",
        )
    )
    assert (call.usage, call.fallback, call.estimate) == (None, Usage(300, 10), True)


@pytest.mark.parametrize(("models", "model"), [(("gpt-5.2", "gpt-5.2"), "gpt-5.2"), (("gpt-5.2", "gpt-5-mini"), "")])
def test_the_answers_in_an_agents_output_name_their_model(models: tuple[str, ...], model: str) -> None:
    """haystack.dataclasses.ChatMessage: `meta` has the model beside the usage; a sum over two models has no price."""
    usage = {"prompt_tokens": 100, "completion_tokens": 5}
    replies = [{"meta": {"usage": usage | {"completion_tokens": n}, "model": name}} for n, name in enumerate(models)]
    reported = {"openinference.span.kind": "AGENT", "output.value": json.dumps({"messages": replies})}
    call = read(span(reported, scope="openinference.instrumentation.haystack"))
    assert (call.fallback is not None, call.model) == (True, model)


RUNTIME = "autogen SingleThreadedAgentRuntime"
SAID = {"id": "m1", "content": "hi", "models_usage": {"prompt_tokens": 40, "completion_tokens": 1}}
EVENT = {"id": "m0", "content": [], "models_usage": {"prompt_tokens": 20, "completion_tokens": 9}}


def autogen(delivered: Any, name: str = "autogen process writer.(default)-A") -> PlainView:
    return span({"recipient_agent_type": "writer", "message": json.dumps(delivered)}, name, RUNTIME)


@pytest.mark.parametrize(
    "delivered",
    [
        {"message": SAID},  # autogen_agentchat.teams._group_chat._events.GroupChatMessage
        {"response": {"chat_message": SAID, "inner_messages": [EVENT]}, "name": "writer"},  # GroupChatAgentResponse
        SAID,
    ],
)
@pytest.mark.parametrize("name", ["autogen process writer.(default)-A", "autogen ack", "autogen ack writer.(d)-A"])
def test_autogens_messages_tell_usage_once_by_their_id(delivered: Any, name: str) -> None:
    """autogen_agentchat.messages: id and models_usage; autogen_core puts a message on `process` and `ack` spans."""
    call = read(autogen(delivered, name))
    assert (call.dialect, call.kind, call.response_id, call.fallback) == ("autogen", "llm", "m1", Usage(40, 1))


@pytest.mark.parametrize(
    "delivered",
    [
        {"message": {"id": "m2", "models_usage": None}},
        {"response": {"chat_message": {"id": "m2", "models_usage": None}, "inner_messages": [EVENT]}},
        {"message": {"text": '"models_usage": {'}},
        "Message could not be serialized",
    ],
)
def test_messages_without_usage_of_their_own_are_no_calls(delivered: Any) -> None:
    """The inner messages of a response were delivered on their own before."""
    assert detect(autogen(delivered)) is None
    assert detect(autogen({"message": SAID}, "autogen create writer.(default)-A")) is None


def test_a_tool_fee_that_no_count_explains() -> None:
    call = read(
        span(
            chat(input_tokens=40, output_tokens=1) | {"litellm.call_id": "1", "gen_ai.cost.tool_usage_cost": 0.01},
            "litellm_request",
            "litellm",
        )
    )
    assert call.unclassed == ("server-side tools",)


@pytest.mark.parametrize(("mode", "plan"), [("Chatgpt", "subscription"), ("ApiKey", "")])
def test_codex_says_who_pays(mode: str, plan: str) -> None:
    attributes = {
        "codex.usage.total_tokens": 41,
        "auth_mode": mode,
        "gen_ai.usage.input_tokens": 40,
        "gen_ai.usage.output_tokens": 1,
    }
    assert read(span(attributes, "handle_responses", "codex")).plan == plan


def test_githubs_own_models_are_in_a_plan() -> None:
    attributes = chat(input_tokens=40, output_tokens=1) | {"github.copilot.turn_id": "1"}
    assert read(span(attributes | {"gen_ai.provider.name": "github"})).plan == "subscription"
    assert read(span(attributes)).plan == ""


def test_provisioned_throughput_on_bedrock() -> None:
    arn = "arn:aws:bedrock:us-east-1:1:provisioned-model/abc"
    assert read(span(chat(input_tokens=40, output_tokens=1) | {"gen_ai.request.model": arn})).plan == "provisioned"


def _adk_event(event: str, usage: tuple[int, int], at: int, span_id: str = "") -> dict[str, Any]:
    reported = {"gcp.vertex.agent.event_id": event, "gen_ai.conversation.id": "c", "gen_ai.provider.name": "gcp.gemini"}
    counts = {"gen_ai.usage.input_tokens": usage[0], "gen_ai.usage.output_tokens": usage[1]}
    linked = {"traceId": "1" * 32, "spanId": span_id} if span_id else {}
    name = "gen_ai.client.inference.operation.details"
    return {"timeUnixNano": str(at), "eventName": name, "attributes": _pairs(reported | counts), **linked}


def _pairs(reported: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"key": key, "value": {"intValue": str(value)} if isinstance(value, int) else {"stringValue": value}}
        for key, value in reported.items()
    ]


def _adk(*events: dict[str, Any]) -> list[tuple[Signal, bytes]]:
    """ADK's events, and OpenInference's span of the last call: its attributes were written over those before."""
    start = 1_795_400_000 * 10**9
    reported = {"openinference.span.kind": "LLM", "llm.model_name": "gemini-2.5-flash", "llm.provider": "google"}
    reported |= {"session.id": "c", "gcp.vertex.agent.event_id": "e2"}
    counts = {"llm.token_count.prompt": 500, "llm.token_count.completion": 50}
    times = {"startTimeUnixNano": str(start), "endTimeUnixNano": str(start + 10**9)}
    one = {
        "traceId": "1" * 32,
        "spanId": "a" * 16,
        "name": "call_llm",
        "attributes": _pairs(reported | counts),
        **times,
    }
    scope = {"name": "openinference.instrumentation.google_adk"}
    traces = {"resourceSpans": [{"scopeSpans": [{"scope": scope, "spans": [one]}]}]}
    logs = {"resourceLogs": [{"scopeLogs": [{"scope": {"name": "gcp.vertex.agent"}, "logRecords": list(events)}]}]}
    return [
        ("logs", json_form.to_protobuf("logs", json.dumps(logs).encode())),
        ("traces", json_form.to_protobuf("traces", json.dumps(traces).encode())),
    ]


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("delay_s", [0, 30])
def test_adks_event_and_its_span_are_one_call_by_the_events_id(delay_s: int, *, backwards: bool) -> None:
    """google.adk.telemetry 2.13.0: `gcp.vertex.agent.event_id` stands on both; the event names no model."""
    end = 1_795_400_001 * 10**9
    pipeline = Pipeline()
    pipeline.take(_adk(_adk_event("e2", (500, 50), end + delay_s * 10**9))[:: -1 if backwards else 1])
    ledger = pipeline.ledger()
    assert (ledger["calls"], ledger["unpriced"], ledger["tokens"]["input"]) == (1, {}, 500)
    assert ledger["cost_usd_exact"] == "0.000275"  # 500 x 0.3 + 50 x 2.5 per million


EVENTS = [_adk_event("e1", (300, 30), 1_795_400_000 * 10**9 + 5 * 10**8, "a" * 16)]
EVENTS.append(_adk_event("e2", (500, 50), 1_795_400_001 * 10**9, "a" * 16))
BOTH = Decimal("0.00044")
"""gemini-2.5-flash: (300 x 0.3 + 30 x 2.5) + (500 x 0.3 + 50 x 2.5) USD per million tokens."""


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_several_events_on_one_span_are_several_calls(order: tuple[int, ...]) -> None:
    """The span holds the last call's usage, and the model of all: the events name none, and are priced with its."""
    requests = [_adk(EVENTS[0])[0], _adk(EVENTS[1])[0], _adk()[1]]
    pipeline = Pipeline()
    pipeline.take([requests[place] for place in order])
    ledger = pipeline.ledger()
    assert (ledger["calls"], ledger["tokens"]["input"], ledger["unpriced"]) == (2, 800, {})
    assert Decimal(ledger["cost_usd_exact"]) == BOTH
    assert [(row["model"], Decimal(row["cost_usd_exact"])) for row in pipeline.parts(models)] == [
        ("gemini-2.5-flash", BOTH)
    ]
    assert pipeline.sent_cost() == BOTH + Decimal(ledger["late_correction_usd_exact"])


USED = {"prompt_tokens": 40, "completion_tokens": 5, "total_tokens": 45, "prompt_tokens_details": {"cached_tokens": 30}}
META = {"model": "gpt-5.1-2025-11-13", "finish_reason": "stop", "usage": USED}
REPLY = {"role": "assistant", "meta": META, "content": [{"text": "fine"}]}


def of_haystack(name: str, **reported: Any) -> PlainView:
    return span(
        {"haystack." + key.replace("__", "."): value for key, value in reported.items()}, name, scope="haystack"
    )


@pytest.mark.parametrize(
    ("component", "answer", "kind", "provider"),
    [
        ("OpenAIChatGenerator", {"replies": [REPLY]}, "llm", "openai"),
        ("AnthropicGenerator", {"replies": ["fine"], "meta": [META]}, "llm", "anthropic"),
        ("CustomChatGenerator", {"replies": [REPLY, REPLY]}, "llm", ""),
        ("OpenAIDocumentEmbedder", {"documents": [], "meta": META}, "embedding", "openai"),
    ],
)
def test_haystacks_components_tell_usage_and_model_in_their_answers(
    component: str, answer: dict[str, Any], kind: str, provider: str
) -> None:
    """haystack-ai 3.4.1: `haystack.component.output`, the output of a component, where content is traced."""
    reported = {"component__type": component, "component__output": json.dumps(answer)}
    call = read(of_haystack("haystack.component.run", **reported))
    assert (call.dialect, call.kind, call.provider, call.response_model) == ("haystack", kind, provider, META["model"])
    assert (call.usage, call.estimate) == (Usage(40, 5, 30), False)


def test_haystacks_agent_tells_each_step() -> None:
    """haystack-ai 3.4.1: spans of an agent's steps, with arguments and result of its tools."""
    step = read(of_haystack("haystack.agent.step.llm", agent__step__llm__output=json.dumps({"replies": [REPLY]})))
    assert (step.kind, step.usage, step.response_model) == ("llm", Usage(40, 5, 30), META["model"])
    arguments = {"agent__step__tool__input": '{"city": "alpha"}', "agent__step__tool__output": "fine"}
    tool = read(of_haystack("haystack.agent.step.tool", tool__name="get_weather", **arguments)).tool
    assert tool is not None
    assert (tool.name, tool.arguments, tool.result) == ("get_weather", '{"city": "alpha"}', "fine")


def test_haystack_without_content_tells_no_usage_and_other_components_are_no_calls() -> None:
    silent = read(of_haystack("haystack.component.run", component__type="OpenAIChatGenerator"))
    assert (silent.kind, silent.usage, silent.model) == ("llm", None, "")
    builder = {"component__type": "ChatPromptBuilder", "component__output": '{"prompt": []}'}
    assert detect(of_haystack("haystack.component.run", **builder)) is None


def test_a_crew_tells_the_usage_of_calls_that_nothing_else_tells() -> None:
    """opentelemetry-instrumentation-crewai 0.62.4, `str(usage_metrics)` of crewai 1.15.30; it names no model."""
    told = {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.provider.name": "crewai",
        "crewai.crew.usage_metrics": "{'total_tokens': 1392, 'prompt_tokens': 1279, 'cached_prompt_tokens': 768,"
        " 'completion_tokens': 113, 'reasoning_tokens': 28, 'cache_creation_tokens': 0, 'successful_requests': 2}",
    }
    call = read(span(told, "crewai.workflow", "opentelemetry.instrumentation.crewai.instrumentation"))
    assert (call.dialect, call.kind, call.usage) == ("openllmetry", "agent", None)
    assert call.fallback is not None
    assert (call.fallback.input, call.fallback.output, call.fallback.cache_read) == (1279, 113, 768)


@pytest.mark.parametrize(
    ("agents", "model"),
    [
        ('[{"role": "a", "llm": "gpt-4o"}, {"role": "b", "llm": "gpt-4o"}]', "gpt-4o"),
        ('[{"role": "a", "llm": "gpt-4o"}, {"role": "b", "llm": "gpt-4o-mini"}]', ""),
        ('[{"role": "a", "llm": "gpt-4o"}, {"role": "b", "llm": null}]', ""),
        ("[1]", ""),
        ("cut off", ""),
        (None, ""),
    ],
)
def test_a_crew_is_priced_as_calls_of_the_model_that_all_its_agents_name(agents: str | None, model: str) -> None:
    """opentelemetry-instrumentation-crewai 0.62.4, `CrewAISpanAttributes._parse_agents`: `llm` is the model's name."""
    told = {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.provider.name": "crewai",
        "crewai.crew.usage_metrics": "{'total_tokens': 15, 'prompt_tokens': 10, 'completion_tokens': 5}",
    } | ({} if agents is None else {"crewai.crew.agents": agents})
    call = read(span(told, "crewai.workflow", "opentelemetry.instrumentation.crewai.instrumentation"))
    assert (call.model, call.estimate, bool(call.note)) == (model, bool(model), bool(model))


@pytest.mark.parametrize(("tools", "doubted"), [(1, True), (0, False), (None, False), ("no number", False)])
def test_a_voltagent_call_with_tools_may_tell_its_last_step_alone(tools: Any, *, doubted: bool) -> None:
    """@voltagent/core 2.10.0: `llm.usage.*` is `usage` of the AI SDK's result, of the last step."""
    told = {"span.type": "llm", "entity.type": "agent", "llm.model": "gpt-5.1", "llm.usage.prompt_tokens": 40}
    told |= {"llm.usage.completion_tokens": 5} | ({} if tools is None else {"llm.tools.count": tools})
    call = read(span(told, "llm:generateText", "@voltagent/core"))
    assert (call.dialect, call.usage) == ("voltagent", Usage(40, 5))
    assert (call.estimate, bool(call.note)) == (doubted, doubted)
