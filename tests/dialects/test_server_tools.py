"""What the provider's own tools did, told in the answer: searches that are parts of it, blocks, grounding."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import pytest

from dialect_view import chat, read, span
from spanledger_processor.model import Call, Usage

PYDANTIC = chat(input_tokens=100, output_tokens=50)
OPENINFERENCE = {"openinference.span.kind": "LLM", "llm.token_count.prompt": 100, "llm.token_count.completion": 50}


def _answer(*parts: dict[str, Any], scope: str = "opentelemetry.instrumentation.genai.anthropic", **more: Any) -> Call:
    messages = [{"role": "assistant", "parts": [*parts, {"type": "text", "content": "ok"}], "finish_reason": "stop"}]
    return read(span(PYDANTIC | {"gen_ai.output.messages": json.dumps(messages)} | more, scope=scope))


SERVER_SEARCH = {
    "type": "server_tool_call",
    "id": "s1",
    "name": "web_search",
    "server_tool_call": {"type": "web_search"},
}
"""`ServerToolCallPart` of the convention's JSON schema for output messages."""
BUILTIN = {"type": "tool_call", "id": "s1", "name": "web_search", "builtin": True, "arguments": {"query": "x"}}
"""`pydantic_ai.messages`: `builtin` marks what the provider ran; arguments are there with `include_content` only."""


@pytest.mark.parametrize(
    ("parts", "searches"),
    [
        ((SERVER_SEARCH, {"type": "server_tool_call_response", "id": "s1"}), 1),
        ((SERVER_SEARCH, SERVER_SEARCH | {"id": "s2"}, SERVER_SEARCH | {"id": "s2"}), 2),
        (({"type": "server_tool_call", "server_tool_call": {"type": "web_search"}},), 1),
        ((BUILTIN, {"type": "tool_call_response", "id": "s1", "name": "web_search", "builtin": True}), 1),
        ((BUILTIN | {"arguments": {"queries": ["a", "b"]}},), 2),
        ((BUILTIN | {"arguments": '{"type": "open_page", "url": "u"}'},), None),
        (({key: value for key, value in BUILTIN.items() if key != "builtin"},), None),
        ((SERVER_SEARCH | {"name": "web_fetch"}, SERVER_SEARCH | {"id": "s2", "name": "tool_search"}), None),
    ],
)
def test_searches_that_are_parts_of_the_answer(parts: tuple[dict[str, Any], ...], searches: int | None) -> None:
    found = _answer(*parts)
    assert found.usage is not None
    assert found.usage.web_searches == searches
    assert not found.unclassed


@pytest.mark.parametrize(
    ("action", "searches"),
    [
        ({"type": "search", "query": "weather", "queries": ["weather", "wind"]}, 1),
        ({"type": "open_page", "url": "https://example.org"}, None),
        ({"type": "find_in_page", "url": "https://example.org", "pattern": "x"}, None),
        (["odd"], 1),
    ],
)
def test_an_action_of_openais_search_that_is_not_charged(action: Any, searches: int | None) -> None:
    """opentelemetry-instrumentation-genai-openai 1.3b0: the item's action is in `server_tool_call`."""
    part = SERVER_SEARCH | {"server_tool_call": {"type": "web_search", "status": "completed", "action": action}}
    found = _answer(part, scope="opentelemetry.instrumentation.genai.openai")
    assert found.usage is not None
    assert found.usage.web_searches == searches


@pytest.mark.parametrize(
    ("names", "searches", "unclassed"),
    [
        (["web_search_call", "web_search_call", ""], 2, ("web searches",)),
        (["", "file_search_call", "code_interpreter_call"], None, ("code executions",)),
        (["get_weather"], None, ()),
    ],
)
def test_items_of_openais_responses_among_the_tool_calls_of_litellms(
    names: list[str], searches: int | None, unclassed: tuple[str, ...]
) -> None:
    """openinference-instrumentation-litellm 0.1.51: a message an item, its type in place of a function's name."""
    given: dict[str, Any] = dict(OPENINFERENCE)
    for index, name in enumerate(names):
        given[f"llm.output_messages.{index}.message.role"] = "assistant"
        if name:
            given[f"llm.output_messages.{index}.message.tool_calls.0.tool_call.function.name"] = name
    found = read(span(given, scope="openinference.instrumentation.litellm"))
    assert found.usage is not None
    assert (found.usage.web_searches, found.unclassed) == (searches, unclassed)
    assert (found.usage.file_searches is None) is ("file_search_call" not in names)


def test_a_count_goes_before_the_parts() -> None:
    found = _answer(BUILTIN, scope="pydantic-ai", **{"gen_ai.usage.details.web_search_requests": 3})
    assert found.usage is not None
    assert found.usage.web_searches == 3


def test_other_tools_that_the_provider_ran_may_have_a_price() -> None:
    found = _answer(SERVER_SEARCH | {"name": "code_execution"}, SERVER_SEARCH | {"name": "file_search", "id": "s3"})
    assert found.usage is not None
    assert (found.usage.file_searches, found.unclassed) == (1, ("code_execution",))


def test_what_the_ai_sdk_7_has_results_of_in_the_answer_the_provider_ran() -> None:
    """`@ai-sdk/otel`, `formatOutputMessages`: the tools of the application answer in a message of their own."""
    call, result = {"type": "tool_call", "id": "s1", "name": "web_search"}, {"type": "tool_call_response", "id": "s1"}
    found, asked = _answer(call, result, scope="gen_ai"), _answer(call, scope="gen_ai")
    assert found.usage is not None
    assert asked.usage is not None
    assert (found.usage.web_searches, asked.usage.web_searches) == (1, None)


@pytest.mark.parametrize(
    ("response", "searches"),
    [
        ({"action": {"type": "search", "query": "weather"}}, 1),
        ({"action": {"type": "openPage", "url": "https://example.org"}}, None),
        ('{"action": {"type": "findInPage", "pattern": "x"}}', None),
        ("a text", 1),
        (["odd"], 1),
    ],
)
def test_a_page_that_the_ai_sdk_7_tells_to_have_been_opened_is_no_search(response: Any, searches: int | None) -> None:
    """@ai-sdk/otel 1.0.173 and @ai-sdk/openai 4.0.118, `mapWebSearchOutput`: the action is in the tool's result."""
    call = {"type": "tool_call", "id": "s1", "name": "web_search", "arguments": {}}
    found = _answer(call, {"type": "tool_call_response", "id": "s1", "response": response}, scope="gen_ai")
    assert found.usage is not None
    assert found.usage.web_searches == searches


@pytest.mark.parametrize(("action", "searches"), [("search", 1), ("open_page", None), ("openPage", None)])
def test_a_page_that_earlier_ai_sdks_tell_to_have_been_opened_is_no_search(action: str, searches: int | None) -> None:
    """@ai-sdk/openai 2.0: the action is in the tool's input, of some releases as JSON."""
    given = {"action": {"type": action}}
    for told in (given, json.dumps(given)):
        calls = [{"toolName": "web_search", "input": told, "providerExecuted": True}]
        attributes = {"ai.operationId": "ai.generateText.doGenerate", "ai.response.toolCalls": json.dumps(calls)}
        found = read(span(attributes | {"ai.usage.inputTokens": 100, "ai.usage.outputTokens": 50}, scope="ai"))
        assert found.usage is not None
        assert found.usage.web_searches == searches


@pytest.mark.parametrize(
    ("calls", "searches", "unclassed"),
    [
        ([("ws_9db4de744298", "web_search", "{}")] * 2, 2, ("web searches",)),
        ([("srvtoolu_a008225c", "web_search", '{"query": "weather"}')], 1, ()),
        ([("ci_9db4de744298", "code_interpreter", '{"code": "1"}')], None, ("code_interpreter",)),
        ([("call_9db4de744298", "web_search", "{}"), ("toolu_1", "web_search", "{}")], None, ()),
        ([(7, "web_search", "{}"), ("ws_1", 7, "{}")], None, ()),
    ],
)
def test_a_call_of_the_ai_sdk_6_that_the_provider_ran_has_an_id_of_its_own(
    calls: list[tuple[Any, Any, str]], searches: int | None, unclassed: tuple[str, ...]
) -> None:
    """ai 6.0.326 with @ai-sdk/openai 3.0.141 leaves `providerExecuted` out of `ai.response.toolCalls`."""
    told = [{"toolCallId": own, "toolName": name, "input": given} for own, name, given in calls]
    attributes = {"ai.operationId": "ai.generateText.doGenerate", "ai.response.toolCalls": json.dumps(told)}
    found = read(span(attributes | {"ai.usage.inputTokens": 100, "ai.usage.outputTokens": 50}, scope="ai"))
    assert found.usage is not None
    assert (found.usage.web_searches, found.unclassed) == (searches, unclassed)


CLAUDE = {"input_tokens": 100, "output_tokens": 50, "cache_read_input_tokens": 0, "cache_creation_input_tokens": 0}
BLOCKS = [
    {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "x"}},
    {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": []},
    {"type": "server_tool_use", "id": "srvtoolu_2", "name": "web_fetch", "input": {"url": "x"}},
]
"""https://docs.anthropic.com/en/docs/agents-and-tools/tool-use/web-search-tool"""


@pytest.mark.parametrize(("reported", "searches"), [({}, 1), ({"server_tool_use": {"web_search_requests": 3}}, 3)])
def test_anthropics_blocks_count_where_no_count_is_told(reported: dict[str, Any], searches: int) -> None:
    raw = {"id": "m", "content": BLOCKS, "usage": CLAUDE | reported}
    found = read(span(OPENINFERENCE | {"output.value": json.dumps(raw)}))
    assert found.usage is not None
    assert (found.usage.web_searches, found.unclassed) == (searches, ())


def test_anthropics_blocks_in_a_repr_may_have_a_price() -> None:
    raw = "Message(content=[ServerToolUseBlock(id='srvtoolu_1', input={}, name='web_search', type='server_tool_use')])"
    assert read(span(OPENINFERENCE | {"output.value": raw})).unclassed == ("server-side tools",)


OPENAI = {
    "input_tokens": 10,
    "input_tokens_details": {"cached_tokens": 0},
    "output_tokens": 5,
    "output_tokens_details": {"reasoning_tokens": 0},
    "total_tokens": 15,
}


def test_the_whole_answer_in_mastras_metadata_tells_searches() -> None:
    body = {"model": "claude-sonnet-4-6", "usage": CLAUDE | {"server_tool_use": {"web_search_requests": 2}}}
    given = PYDANTIC | {"mastra.span.type": "model_inference", "mastra.metadata.body": json.dumps(body)}
    found = read(span(given, scope="@mastra/otel-exporter"))
    assert found.usage is not None
    assert (found.usage.input, found.usage.web_searches) == (100, 2)


def test_a_step_of_mastra_tells_searches_by_the_answer_that_it_holds() -> None:
    """@mastra/otel-exporter 1.4.0: the call below the step has the counts alone."""
    searched = {"type": "web_search_call", "id": "ws_1", "action": {"type": "search", "query": "q"}}
    body = {"object": "response", "model": "gpt-5.1", "output": [searched], "usage": OPENAI}
    given = chat(input_tokens=10, output_tokens=5) | {"gen_ai.operation.name": "agent_step"}
    given |= {"mastra.span.type": "model_step", "mastra.metadata.body": json.dumps(body)}
    step = read(span(given, scope="@mastra/otel-exporter"))
    assert (step.kind, step.usage) == ("workflow", Usage(10, 5, 0, reasoning=0, web_searches=1))


@pytest.mark.parametrize(
    ("grounding", "what"),
    [
        ({"groundingChunks": [{"maps": {"uri": "u"}}]}, "map searches"),
        ({"grounding_chunks": [{"web": None, "maps": {"uri": "u"}}]}, "map searches"),
        ({"retrievalQueries": ["q"]}, "retrievals"),
        ({"retrieval_queries": ["q"]}, "retrievals"),
        ({"groundingChunks": [{"retrievedContext": {"uri": "u"}}]}, "retrievals"),
    ],
)
def test_grounding_in_maps_and_own_data_has_a_price(grounding: dict[str, Any], what: str) -> None:
    """https://ai.google.dev/gemini-api/docs/pricing and https://cloud.google.com/vertex-ai/generative-ai/pricing"""
    raw = {"candidates": [{"groundingMetadata": grounding}], "usageMetadata": {"promptTokenCount": 100}}
    assert read(span(OPENINFERENCE | {"output.value": json.dumps(raw)})).unclassed == (what,)


def test_grounding_that_langchain_has_twice_counts_once() -> None:
    """ChatGoogleGenerativeAI puts it into the generation's info and into its message's metadata."""
    info = {"grounding_metadata": {"web_search_queries": ["a", "b"], "grounding_chunks": []}}
    generation = {"text": "ok", "generation_info": info, "message": {"kwargs": {"response_metadata": info}}}
    found = read(span(OPENINFERENCE | {"output.value": json.dumps({"generations": [[generation]]})}))
    assert found.usage is not None
    assert found.usage.web_searches == 2
    other = {"grounding_metadata": {"web_search_queries": ["a", "c"], "grounding_chunks": []}}
    both = [generation, {"text": "ok", "generation_info": other}]
    found = read(span(OPENINFERENCE | {"output.value": json.dumps({"generations": [both]})}))
    assert found.usage is not None
    assert found.usage.web_searches == 4


def test_groundings_in_one_another_are_not_copied() -> None:
    """Each is compared by what is its own: 200 around one of 200,000 characters took a second, and 40 MB."""
    grounding: dict[str, Any] = {"webSearchQueries": ["x" * 200_000]}
    for _ in range(200):
        grounding = {"webSearchQueries": [], "of": grounding}
    text = json.dumps(grounding)
    tracemalloc.start()
    try:
        found = read(span(OPENINFERENCE | {"output.value": text}))
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found.usage is not None
    assert found.usage.web_searches == 1
    assert most < 50 * len(text), "200 of them would each be as long as the text"


def test_grounding_without_a_chunk_of_these_has_none() -> None:
    chunks = [{"web": {"uri": "u"}, "maps": None}]
    raw = {"candidates": [{"groundingMetadata": {"groundingChunks": chunks, "retrievalQueries": []}}]}
    assert read(span(OPENINFERENCE | {"output.value": json.dumps(raw)})).unclassed == ()


@pytest.mark.parametrize(
    ("tokens", "unclassed"),
    [
        ({"text__input_tokens": 30}, ("input that is no text",)),
        ({"text__input_tokens": 30, "audio__input_tokens": 70}, ()),
        ({"text__input_tokens": 30, "image__input_tokens": 20}, ("input that is no text",)),
        ({"text__input_tokens": 100, "text__output_tokens": 50}, ()),
        ({"text__input_tokens": 95}, ()),
        ({"text__input_tokens": 30, "cache_read__input_tokens": 50, "cache_creation__input_tokens": 20}, ()),
        ({"text__input_tokens": 30, "cache_read__input_tokens": 50}, ("input that is no text",)),
        ({"text__output_tokens": 10}, ("output that is no text",)),
        ({"text__output_tokens": 10, "reasoning__output_tokens": 40}, ()),
        ({"text__output_tokens": 10, "audio__output_tokens": 40}, ()),
    ],
)
def test_what_is_told_to_be_no_text_may_have_another_price(tokens: dict[str, int], unclassed: tuple[str, ...]) -> None:
    """The convention's `gen_ai.usage.text.*`: parts of the input and of the output."""
    assert read(span(chat(input_tokens=100, output_tokens=50, **tokens))).unclassed == unclassed


@pytest.mark.parametrize(("text", "unclassed"), [(10, ("input that is no text",)), (40, ())])
def test_the_same_in_openais_usage(text: int, unclassed: tuple[str, ...]) -> None:
    details = {"cached_tokens": 20, "audio_tokens": 60, "text_tokens": text}
    raw = {"usage": {"prompt_tokens": 100, "completion_tokens": 50, "prompt_tokens_details": details}}
    assert read(span(OPENINFERENCE | {"output.value": json.dumps(raw)})).unclassed == unclassed


@pytest.mark.parametrize("scope", ["gen_ai", "pydantic-ai"])
@pytest.mark.parametrize("item", [["x"], {"a": 1}, None, 7])
def test_parts_that_are_odd_take_nothing_away(item: Any, scope: str) -> None:
    odd: list[dict[str, Any]] = [
        {"type": "tool_call_response", "id": item},
        {"type": "tool_call", "id": item, "name": "web_search"},
        {"type": item, "builtin": True, "name": item},
        {"type": "server_tool_call", "id": item, "name": item, "server_tool_call": item, "arguments": item},
    ]
    usage = _answer(*odd, scope=scope).usage
    assert usage is not None
    assert (usage.input, usage.output, usage.web_searches) == (100, 50, None)


@pytest.mark.parametrize("odd", [["x"], {"a": 1}])
def test_arguments_and_actions_that_are_odd_take_nothing_away(odd: Any) -> None:
    assert _answer(BUILTIN | {"arguments": {"type": odd, "queries": odd}}).usage is not None
    item = {"type": "web_search_call", "id": odd, "action": {"type": odd}}
    assert read(span(OPENINFERENCE | {"output.value": json.dumps({"output": [item]})})).usage is not None


COMPACTED = {"type": "compaction", "input_tokens": 180_000, "output_tokens": 3500}
ANSWERED = {"type": "message", "input_tokens": 100, "output_tokens": 50}


@pytest.mark.parametrize(
    ("iterations", "unclassed"),
    [
        ([COMPACTED, ANSWERED, COMPACTED], ("compaction tokens",)),
        ([ANSWERED, {"type": "advisor_message"}], ("advisor_message tokens",)),
        ([ANSWERED], ()),
        (None, ()),
        ([None, {"type": 5}, "message"], ()),
    ],
)
def test_what_anthropic_sampled_beside_the_answer_is_not_in_its_counts(
    iterations: Any, unclassed: tuple[str, ...]
) -> None:
    """https://platform.claude.com/docs/en/build-with-claude/compaction-threshold: top-level counts leave it out."""
    usage = CLAUDE | {"iterations": iterations}
    assert read(span(OPENINFERENCE | {"output.value": json.dumps({"usage": usage})})).unclassed == unclassed
    v5: dict[str, Any] = {"ai.operationId": "ai.generateText.doGenerate", "ai.model.provider": "anthropic.messages"}
    v5 |= {"ai.usage.inputTokens": 100, "ai.usage.outputTokens": 50}
    v5 |= {"ai.response.providerMetadata": json.dumps({"anthropic": {"usage": usage}})}
    assert read(span(v5, scope="ai")).unclassed == unclassed


def test_mistrals_connectors_are_counted_beside_the_tokens() -> None:
    """https://docs.mistral.ai/api/endpoint/beta/conversations: `ConversationUsageInfo`."""
    usage: dict[str, Any] = {"prompt_tokens": 100, "completion_tokens": 50, "connector_tokens": 7}
    usage |= {"connectors": {"web_search": 2, "code_interpreter": 1, "image_generation": 1}}
    call = read(span(OPENINFERENCE | {"output.value": json.dumps({"usage": usage})}))
    assert call.usage is not None
    assert call.usage.web_searches == 2
    assert call.unclassed == ("code executions", "connector tokens", "generated images")


RANKING = {"results": [], "meta": {"api_version": {"version": "2"}, "billed_units": {"search_units": 2}}}
"""https://docs.cohere.com/reference/rerank: `meta.billed_units.search_units`"""


@pytest.mark.parametrize(
    "attributes",
    [
        {"openinference.span.kind": "RERANKER", "output.value": json.dumps(RANKING)},
        {
            "ai.operationId": "ai.rerank.doRerank",
            "ai.response.providerMetadata": json.dumps({"cohere": {"billed_units": {"search_units": 2}}}),
        },
    ],
    ids=["openinference", "vercel"],
)
def test_search_units_of_a_ranking(attributes: dict[str, Any]) -> None:
    call = read(span(attributes))
    assert call.usage == Usage(search_units=2)


@pytest.mark.parametrize(
    ("listed", "searches", "unclassed"),
    [
        ("web_search", 1, ("web searches",)),
        ("web_search, web_search, code_interpreter", 2, ("code executions", "web searches")),
        ("computer_use", None, ()),
        ("", None, ()),
        (7, None, ()),
    ],
)
def test_openlit_lists_the_hosted_tools_of_an_answer(
    listed: Any, searches: int | None, unclassed: tuple[str, ...]
) -> None:
    """`_built_in_tools` of openlit 1.45.0: the types of output items without `_call`; not every one is charged."""
    told = chat(input_tokens=10, output_tokens=6) | {"openai.response.built_in_tools": listed}
    call = read(span(told, scope="openlit.instrumentation.openai"))
    assert call.usage == Usage(10, 6, web_searches=searches)
    assert tuple(sorted(call.unclassed)) == unclassed
