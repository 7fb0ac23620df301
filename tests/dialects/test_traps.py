"""Each trap of facts/genai.md, and each rule that a recording forced, by itself."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dialect_view import PlainAttributes, PlainEvent, PlainView, span
from spanledger_processor.calls import USD, Call, Usage
from spanledger_processor.dialects import recognise

CHAT = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt-5.1"}


def call(view: PlainView) -> Call:
    found = recognise(view)
    assert found is not None
    return found


def chat(**tokens: Any) -> dict[str, Any]:
    return CHAT | {f"gen_ai.usage.{name.replace('__', '.')}": value for name, value in tokens.items()}


class TestWhoseWordsCount:
    def test_a_library_beats_a_translator(self) -> None:
        """OpenInference's AI SDK processor writes the part without caches where the prompt belongs."""
        found = call(
            span(
                {
                    "ai.operationId": "ai.generateText.doGenerate",
                    "ai.model.id": "gpt-5.1",
                    "ai.model.provider": "openai.chat",
                    "ai.usage.inputTokens": 100,
                    "ai.usage.outputTokens": 10,
                    "ai.usage.cachedInputTokens": 60,
                    "openinference.span.kind": "LLM",
                    "llm.token_count.prompt": 40,
                    "llm.token_count.completion": 10,
                },
                scope="ai",
            )
        )
        assert (found.dialect, found.usage) == ("vercel_legacy", Usage(100, 10, 60))

    def test_another_dialect_lends_usage_to_one_that_has_none(self) -> None:
        found = call(
            span(
                {
                    "traceloop.span.kind": "agent",
                    "openinference.span.kind": "AGENT",
                    "llm.token_count.prompt": 40,
                    "llm.token_count.completion": 10,
                    "llm.model_name": "gpt-5.1",
                }
            )
        )
        assert (found.dialect, found.usage, found.model) == ("openllmetry", Usage(40, 10), "gpt-5.1")

    def test_old_and_new_names_of_one_class_are_not_added_up(self) -> None:
        """cache_creation became cache_write; Strands writes both spellings of both classes."""
        found = call(
            span(
                chat(
                    input_tokens=100,
                    output_tokens=10,
                    cache_write__input_tokens=30,
                    cache_creation__input_tokens=30,
                    cache_read__input_tokens=0,
                    cache_read_input_tokens=20,
                )
            )
        )
        assert found.usage == Usage(100, 10, 20, 30)

    def test_deprecated_names(self) -> None:
        found = call(
            span(
                {
                    "gen_ai.system": "openai",
                    "gen_ai.request.model": "gpt-4o",
                    "gen_ai.usage.prompt_tokens": 100,
                    "gen_ai.usage.completion_tokens": 10,
                }
            )
        )
        assert (found.kind, found.provider, found.usage) == ("llm", "openai", Usage(100, 10))

    def test_an_llm_spans_own_tool_call_is_no_execution(self) -> None:
        """OpenLIT puts the tool that the model asked for on the LLM span."""
        found = call(
            span(
                chat(input_tokens=10, output_tokens=1)
                | {"gen_ai.tool.name": "get_weather", "gen_ai.tool.call.arguments": "{}"},
                scope="openlit.instrumentation.openai",
            )
        )
        assert (found.kind, found.tool) == ("llm", None)


class TestPlainSpans:
    @pytest.mark.parametrize(
        "attributes",
        [
            {"http.request.method": "POST", "url.full": "https://api.openai.com/v1/chat", "gen_ai.agent.name": "a"},
            {"traceloop.workflow.name": "w", "traceloop.association.properties.session_id": "s", "http.method": "POST"},
            {"db.statement": "select 'gen_ai.operation.name', 'openinference.span.kind', 'ai.operationId'"},
            {"session.id": "s", "user.id": "u"},
            {"metadata.session_id": "s", "conversation.id": "c"},
            {},
        ],
    )
    def test_a_plain_span_is_none(self, attributes: dict[str, Any]) -> None:
        assert recognise(span(attributes, "POST", "opentelemetry.instrumentation.httpx")) is None

    @pytest.mark.parametrize("scope", ["gen_ai", "ai", "pydantic-ai", "openlit", "strands.telemetry", "litellm"])
    def test_a_scope_alone_makes_no_genai_span(self, scope: str) -> None:
        assert recognise(span({"http.request.method": "GET"}, "GET", scope)) is None

    def test_a_name_that_only_holds_a_sign_makes_none(self) -> None:
        assert recognise(span({"a": 1}, "call claude_code.tool")) is None


class TestInclusiveOrExclusive:
    """Input 40, read 30, write 5: large enough that the numbers themselves decide nothing."""

    @pytest.mark.parametrize(
        ("scope", "version", "provider", "total", "estimate"),
        [
            ("opentelemetry.instrumentation.genai.anthropic", "1.3b0", "anthropic", 40, False),
            ("opentelemetry.instrumentation.genai.bedrock", "1.3b0", "aws.bedrock", 75, False),
            ("opentelemetry.instrumentation.anthropic", "0.62.4", "anthropic", 40, False),
            ("opentelemetry.instrumentation.bedrock", "0.62.4", "aws.bedrock", 75, False),
            ("@traceloop/instrumentation-anthropic", "0.27.0", "anthropic", 75, False),
            ("@traceloop/instrumentation-anthropic", "0.28.0", "anthropic", 40, False),
            ("openlit.instrumentation.anthropic", "", "anthropic", 75, False),
            ("openlit.instrumentation.claude_agent_sdk", "", "anthropic", 40, False),
            ("openlit.instrumentation.openai", "", "openai", 40, False),
            ("gen_ai", "", "anthropic", 40, False),
            ("agent_framework", "1.23.0", "anthropic", 75, False),
            ("agent_framework", "1.23.0", "openai", 40, False),
            ("com.anthropic.sdk.python", "2.12.0", "anthropic", 40, False),
            ("pydantic-ai", "2.68.0", "anthropic", 40, False),
            ("@mastra/otel-exporter", "1.4.0", "anthropic.messages", 40, True),
            ("my-app", "1.0", "openai", 40, False),
            ("my-app", "1.0", "anthropic", 40, True),
        ],
    )
    def test_the_table_decides(self, scope: str, version: str, provider: str, total: int, *, estimate: bool) -> None:
        found = call(
            span(
                chat(input_tokens=40, output_tokens=1, cache_read__input_tokens=30, cache_creation__input_tokens=5)
                | {"gen_ai.provider.name": provider},
                scope=scope,
                version=version,
            )
        )
        assert found.usage is not None
        assert (found.usage.input, found.usage.cache_read, found.usage.cache_write) == (total, 30, 5)
        assert found.estimate is estimate

    def test_caches_larger_than_the_input_prove_it_exclusive(self) -> None:
        found = call(span(chat(input_tokens=40, output_tokens=1, cache_read__input_tokens=300), scope="my-app"))
        assert (found.usage, found.problem, found.estimate) == (Usage(340, 1, 300), "", False)

    def test_a_total_proves_it_where_the_table_is_unsure(self) -> None:
        """Bedrock's total has the caches in it."""
        found = call(
            span(
                chat(input_tokens=40, output_tokens=1, total_tokens=71, cache_read__input_tokens=30)
                | {"gen_ai.provider.name": "aws.bedrock"},
                scope="my-app",
            )
        )
        assert (found.usage, found.estimate) == (Usage(70, 1, 30), False)

    def test_without_caches_there_is_nothing_to_guess(self) -> None:
        found = call(span(chat(input_tokens=40, output_tokens=1) | {"gen_ai.provider.name": "anthropic"}))
        assert found.estimate is False

    @pytest.mark.parametrize(
        ("scope", "total"),
        [
            ("openinference.instrumentation.anthropic", 40),
            ("openinference.instrumentation.bedrock", 40),
            ("openinference.instrumentation.claude_agent_sdk", 70),
        ],
    )
    def test_openinference(self, scope: str, total: int) -> None:
        found = call(
            span(
                {
                    "openinference.span.kind": "LLM",
                    "llm.token_count.prompt": 40,
                    "llm.token_count.completion": 1,
                    "llm.token_count.prompt_details.cache_read": 30,
                },
                scope=scope,
            )
        )
        assert found.usage == Usage(total, 1, 30)


class TestReasoning:
    def test_openlit_on_gemini_leaves_it_out_and_tells_it(self) -> None:
        view = span(
            chat(input_tokens=10, output_tokens=6, reasoning_tokens=4) | {"gen_ai.provider.name": "gcp.gemini"},
            scope="openlit.instrumentation.google_ai_studio",
        )
        assert call(view).usage == Usage(10, 10, reasoning=4)

    def test_openlit_on_openai_has_it_in(self) -> None:
        view = span(chat(input_tokens=10, output_tokens=6, reasoning_tokens=4), scope="openlit.instrumentation.openai")
        assert call(view).usage == Usage(10, 6, reasoning=4)

    def test_openllmetry_on_gemini_tells_it_by_the_total(self) -> None:
        view = span(
            chat(input_tokens=10, output_tokens=6, total_tokens=20) | {"gen_ai.provider.name": "gcp.gen_ai"},
            scope="opentelemetry.instrumentation.google_generativeai",
        )
        assert call(view).usage == Usage(10, 10, reasoning=4)

    def test_early_google_genai_may_lack_it_and_says_nothing(self) -> None:
        view = span(
            chat(input_tokens=10, output_tokens=6), scope="opentelemetry.instrumentation.google_genai", version="0.2b0"
        )
        assert (call(view).usage, call(view).estimate) == (Usage(10, 6), True)

    def test_gemini_cli_spans_are_no_ground_for_a_price(self) -> None:
        view = span(
            chat(input_tokens=10, output_tokens=6) | {"gen_ai.operation.name": "llm_call"},
            scope="gemini-cli",
        )
        assert (call(view).kind, call(view).problem != "") == ("llm", True)


class TestRawAnswers:
    def test_two_libraries_of_numbers_must_agree(self) -> None:
        raw = {"usage": {"prompt_tokens": 99, "completion_tokens": 10, "prompt_tokens_details": {"cached_tokens": 60}}}
        found = call(self._openinference({"output.value": json.dumps(raw)}))
        assert found.usage == Usage(100, 10)

    def test_missing_classes_come_from_one_that_does(self) -> None:
        raw = {"usage": {"prompt_tokens": 100, "completion_tokens": 10, "prompt_tokens_details": {"cached_tokens": 60}}}
        assert call(self._openinference({"output.value": json.dumps(raw)})).usage == Usage(100, 10, 60)

    def test_anthropics_own_numbers_are_read_exclusively(self) -> None:
        raw = {
            "usage": {
                "input_tokens": 10,
                "output_tokens": 10,
                "cache_read_input_tokens": 60,
                "cache_creation": {"ephemeral_5m_input_tokens": 10, "ephemeral_1h_input_tokens": 20},
            }
        }
        assert call(self._openinference({"output.value": json.dumps(raw)})).usage == Usage(100, 10, 60, 30, 20)

    def test_input_attributes_are_never_looked_at(self) -> None:
        raw = {"usage": {"prompt_tokens": 100, "completion_tokens": 10, "prompt_tokens_details": {"cached_tokens": 60}}}
        assert call(self._openinference({"input.value": json.dumps(raw)})).usage == Usage(100, 10)

    def test_whole_usage_is_only_a_fallback(self) -> None:
        raw = {"usage": {"prompt_tokens": 100, "completion_tokens": 10}}
        found = call(span({"openinference.span.kind": "LLM", "output.value": json.dumps(raw)}))
        assert (found.usage, found.fallback) == (None, Usage(100, 10))

    def test_an_ai_sdk_span_with_the_providers_own_counts(self) -> None:
        found = call(
            self._vercel(
                {
                    "anthropic": {
                        "usage": {
                            "input_tokens": 10,
                            "output_tokens": 5,
                            "cache_read_input_tokens": 60,
                            "cache_creation_input_tokens": 30,
                        }
                    }
                }
            )
        )
        assert (found.usage, found.estimate) == (Usage(100, 5, 60, 30), False)

    def test_early_ai_sdk_metadata_tells_caches_only(self) -> None:
        found = call(self._vercel({"anthropic": {"cacheReadInputTokens": 60, "cacheCreationInputTokens": 30}}))
        assert found.usage == Usage(100, 5, 60, 30)

    def test_a_service_tier_in_metadata(self) -> None:
        found = call(self._vercel({"openai": {"responseId": "r", "serviceTier": "flex"}}))
        assert found.price_context == (("service_tier", "flex"),)

    def test_litellm_repeats_a_call_in_the_providers_words(self) -> None:
        """Where LiteLLM wrote over the application's span, this is all that is left of a call."""
        found = call(
            span(
                {
                    "llm.openai.usage": "{'prompt_tokens': 100, 'completion_tokens': 10, 'total_tokens': 110}",
                    "llm.openai.model": "gpt-5.1-2025-11-13",
                    "llm.openai.id": "chatcmpl-1",
                },
                "raw_gen_ai_request",
                "litellm",
            )
        )
        assert (found.kind, found.provider, found.model) == ("llm", "openai", "gpt-5.1-2025-11-13")
        assert (found.response_id, found.usage) == ("chatcmpl-1", Usage(100, 10))

    def test_a_mastra_step_holds_its_calls_answer(self) -> None:
        body = {
            "id": "resp_1",
            "model": "gpt-5.1",
            "usage": {
                "input_tokens": 100,
                "output_tokens": 10,
                "input_tokens_details": {"cached_tokens": 60},
                "output_tokens_details": {"reasoning_tokens": 4},
            },
        }
        found = call(
            span(
                {
                    "mastra.span.type": "model_step",
                    "mastra.metadata.body": json.dumps(body),
                    "mastra.metadata.modelMetadata": '{"modelId":"gpt-5.1","modelProvider":"openai.responses"}',
                }
            )
        )
        assert (found.kind, found.granularity, found.usage) == ("workflow", "per-turn", Usage(100, 10, 60, reasoning=4))
        assert (found.model, found.provider, found.response_id) == ("gpt-5.1", "openai.responses", "resp_1")

    @staticmethod
    def _openinference(more: dict[str, Any]) -> PlainView:
        return span(
            {"openinference.span.kind": "LLM", "llm.token_count.prompt": 100, "llm.token_count.completion": 10, **more}
        )

    @staticmethod
    def _vercel(metadata: dict[str, Any]) -> PlainView:
        return span(
            {
                "ai.operationId": "ai.generateText.doGenerate",
                "ai.model.id": "m",
                "ai.model.provider": "anthropic.messages",
                "ai.usage.inputTokens": 10,
                "ai.usage.outputTokens": 5,
                "ai.response.providerMetadata": json.dumps(metadata),
            },
            scope="ai",
        )


class TestAggregates:
    def test_an_agents_sum_is_per_turn(self) -> None:
        found = call(
            span(
                {
                    "gen_ai.operation.name": "invoke_agent",
                    "gen_ai.usage.input_tokens": 500,
                    "gen_ai.usage.output_tokens": 50,
                }
            )
        )
        assert (found.kind, found.granularity) == ("agent", "per-turn")

    def test_pydantic_ai_sums_up_under_keys_of_its_own(self) -> None:
        found = call(
            span(
                {
                    "gen_ai.operation.name": "invoke_agent",
                    "model_name": "gpt-5.1",
                    "gen_ai.aggregated_usage.input_tokens": 500,
                    "gen_ai.aggregated_usage.output_tokens": 50,
                    "gen_ai.aggregated_usage.cache_read.input_tokens": 300,
                    "gen_ai.aggregated_usage.details.reasoning_tokens": 20,
                },
                scope="pydantic-ai",
            )
        )
        assert (found.granularity, found.usage) == ("per-turn", Usage(500, 50, 300, 0, reasoning=20))
        assert found.model == "gpt-5.1"

    def test_streamed_logfire_requests_leave_the_usage_to_the_log_span(self) -> None:
        request = span(CHAT | {"logfire.span_type": "span", "gen_ai.response.model": "gpt-5.1"}, scope="logfire.openai")
        log = span(chat(input_tokens=10, output_tokens=1) | {"logfire.span_type": "log"}, scope="logfire.openai")
        assert (call(request).kind, call(log).kind, call(log).usage) == ("other", "llm", Usage(10, 1))

    def test_a_failed_logfire_request_stays_a_call(self) -> None:
        view = span(CHAT | {"logfire.span_type": "span"}, scope="logfire.openai", status_code=2)
        assert call(view).kind == "llm"

    def test_llamaindex_makes_an_llm_span_of_preparing_one(self) -> None:
        view = span({"openinference.span.kind": "LLM", "llm.model_name": "m"}, "OpenAI._prepare_chat_with_tools")
        assert call(view).kind == "other"


class TestMoney:
    @pytest.mark.parametrize(
        ("key", "value", "scope"),
        [
            ("gen_ai.usage.cost", 0.25, "openlit.instrumentation.openai"),
            ("operation.cost", 0.25, "pydantic-ai"),
            ("gen_ai.cost.total_cost", 0.25, "litellm"),
            ("litellm.cost.total", "0.25", "litellm"),
            ("hidden_params", '{"response_cost": 0.25}', "litellm"),
            ("gen_ai.usage.cost", 0.25, "my-app"),
        ],
    )
    def test_a_librarys_estimate(self, key: str, value: Any, scope: str) -> None:
        found = call(span(chat(input_tokens=1, output_tokens=1) | {key: value}, scope=scope)).reported
        assert found is not None
        assert (found.amount, found.billed) == (USD // 4, False)

    def test_openrouter_says_what_it_charged(self) -> None:
        found = call(span(chat(input_tokens=1, output_tokens=1, total_cost=0.25))).reported
        assert found is not None
        assert (found.amount, found.billed, found.key) == (USD // 4, True, "gen_ai.usage.total_cost")

    @pytest.mark.parametrize("key", ["github.copilot.cost", "github.copilot.aiu"])
    def test_copilot_counts_in_no_currency(self, key: str) -> None:
        view = span(chat(input_tokens=1, output_tokens=1) | {key: 3.0}, scope="github.copilot")
        assert call(view).reported is None

    def test_sentrys_total_tokens_are_dollars(self) -> None:
        view = span({"sentry.op": "gen_ai.chat", "gen_ai.cost.total_tokens": 0.25, "gen_ai.usage.input_tokens": 1})
        found = call(view).reported
        assert found is not None
        assert found.amount == USD // 4

    @pytest.mark.parametrize(
        ("attributes", "amount"),
        [
            (
                {"langfuse.observation.type": "generation", "langfuse.observation.cost_details": '{"total": 0.25}'},
                USD // 4,
            ),
            ({"mlflow.spanType": '"LLM"', "mlflow.llm.cost": '{"total_cost": 0.25}'}, USD // 4),
            ({"openinference.span.kind": "AGENT", "llm.cost.total": 0.25}, USD // 4),
        ],
    )
    def test_a_cost_without_usage(self, attributes: dict[str, Any], amount: int) -> None:
        found = call(span(attributes))
        assert found.reported is not None
        assert (found.granularity, found.reported.amount) == ("cost-only", amount)

    @pytest.mark.parametrize("value", [-0.1, float("nan"), float("inf"), True, "much", "", None, 1e300, [0.25]])
    def test_what_is_no_amount_is_none(self, value: Any) -> None:
        assert call(span(chat(input_tokens=1, output_tokens=1) | {"gen_ai.usage.cost": value})).reported is None

    def test_cost_keys_that_came_in_are_remembered(self) -> None:
        view = span(chat(input_tokens=1, output_tokens=1, cost=0.25) | {"llm.cost.total": 0.25})
        assert call(view).present == {"gen_ai.usage.cost", "llm.cost.total"}


class TestTiers:
    @pytest.mark.parametrize(
        ("key", "value", "context"),
        [
            ("openai.response.service_tier", "flex", (("service_tier", "flex"),)),
            ("openai.response.service_tier", "default", (("service_tier", "default"),)),
            ("openai.response.service_tier", "auto", ()),
            ("gen_ai.openai.response.service_tier", "priority", (("service_tier", "priority"),)),
            ("anthropic.response.service_tier", "batch", (("service_tier", "batch"),)),
            ("anthropic.response.service_tier", "standard", ()),
            ("gen_ai.openai.request.service_tier", "FLEX", (("service_tier", "flex"),)),
            ("anthropic.response.speed", "fast", (("speed", "fast"),)),
            ("openai.response.service_tier", 3, ()),
        ],
    )
    def test_a_tier_is_handed_to_pricing(self, key: str, value: Any, context: tuple[tuple[str, str], ...]) -> None:
        assert call(span(chat(input_tokens=1, output_tokens=1) | {key: value})).price_context == context

    def test_the_tier_that_answered_beats_the_one_that_was_asked(self) -> None:
        view = span(
            chat(input_tokens=1, output_tokens=1)
            | {"gen_ai.openai.request.service_tier": "flex", "openai.response.service_tier": "priority"}
        )
        assert call(view).price_context == (("service_tier", "priority"),)

    def test_claude_codes_fast_mode(self) -> None:
        view = span(
            {"span.type": "llm_request", "input_tokens": 1, "output_tokens": 1, "speed": "fast"},
            "claude_code.llm_request",
        )
        assert call(view).price_context == (("speed", "fast"),)


class TestNamesAndPlaces:
    def test_a_quoted_model_name(self) -> None:
        assert call(span(chat(input_tokens=1) | {"gen_ai.request.model": '"gpt-5.1"'})).model == "gpt-5.1"

    def test_a_provider_that_only_the_scope_tells(self) -> None:
        view = span(
            {"openinference.span.kind": "LLM", "llm.model_name": "m", "llm.token_count.prompt": 1},
            scope="openinference.instrumentation.bedrock",
        )
        assert call(view).provider == "aws.bedrock"

    @pytest.mark.parametrize(("behind", "provider"), [("bedrock", "aws.bedrock"), ("firstParty", "anthropic")])
    def test_claude_code_on_another_cloud(self, behind: str, provider: str) -> None:
        view = span(
            {"span.type": "llm_request", "gen_ai.system": "anthropic", "anthropic.provider": behind, "input_tokens": 1},
            "claude_code.llm_request",
        )
        assert call(view).provider == provider

    def test_claude_codes_subagents(self) -> None:
        view = span({"span.type": "llm_request", "agent_id": "a2", "parent_agent_id": "a1"}, "claude_code.llm_request")
        assert (call(view).agent_id, call(view).agent_parent_id) == ("a2", "a1")

    def test_claude_codes_request_id_is_the_response_id(self) -> None:
        view = span({"span.type": "llm_request", "request_id": "req_1"}, "claude_code.llm_request")
        assert call(view).response_id == "req_1"


class TestToolArguments:
    def test_strands_has_them_in_an_event(self) -> None:
        view = span(
            {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "t"},
            scope="strands.telemetry.tracer",
            events=[PlainEvent("gen_ai.tool.message", PlainAttributes({"content": '{"city": "a"}'}))],
        )
        tool = call(view).tool
        assert tool is not None
        assert tool.arguments == '{"city": "a"}'

    def test_strands_latest_form(self) -> None:
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
        tool = call(view).tool
        assert tool is not None
        assert tool.arguments == {"city": "a"}

    def test_what_langchain_wraps_around_them_changes_from_call_to_call(self) -> None:
        wrapped = {"input_str": "{'city': 'a'}", "tags": ["seq:step:1"], "metadata": {"langgraph_step": 2}}
        view = span(
            {"traceloop.span.kind": "tool", "gen_ai.tool.name": "t", "gen_ai.tool.call.arguments": json.dumps(wrapped)}
        )
        tool = call(view).tool
        assert tool is not None
        assert tool.arguments == "{'city': 'a'}"

    def test_a_tools_definition_is_not_its_arguments(self) -> None:
        view = span({"openinference.span.kind": "TOOL", "tool.name": "t", "tool.parameters": '{"type":"object"}'})
        tool = call(view).tool
        assert tool is not None
        assert tool.arguments is None


class TestBadCounts:
    @pytest.mark.parametrize("value", [-1, 2**63, 1e300, float("nan"), float("inf"), 1.5, True, "many", [1], {"a": 1}])
    def test_what_is_no_count_is_a_problem(self, value: Any) -> None:
        found = call(span(chat(input_tokens=value, output_tokens=7)))
        assert found.problem
        assert found.usage == Usage(None, 7)

    @pytest.mark.parametrize("value", ["12", 12.0, " 12 ", "12.0"])
    def test_a_count_may_be_spelled_otherwise(self, value: Any) -> None:
        found = call(span(chat(input_tokens=value, output_tokens=7)))
        assert (found.usage, found.problem) == (Usage(12, 7), "")

    def test_a_bad_cache_count_spoils_no_other(self) -> None:
        found = call(span(chat(input_tokens=12, output_tokens=7, cache_read__input_tokens=-1)))
        assert (found.usage, found.problem != "") == (Usage(12, 7), True)

    def test_a_split_larger_than_the_writes(self) -> None:
        found = call(
            span(
                chat(input_tokens=100, output_tokens=7, cache_write__input_tokens=10)
                | {"anthropic.usage.cache_creation.ephemeral_1h_input_tokens": 20}
            )
        )
        assert found.problem

    @pytest.mark.parametrize("details", ['{"input": -1}', '{"input": "x", "output": 1}', "[]", "{", "null", 3])
    def test_bad_usage_objects(self, details: Any) -> None:
        found = call(span({"langfuse.observation.type": "generation", "langfuse.observation.usage_details": details}))
        assert found.usage in (None, Usage())


class TestMadeSpans:
    def test_a_files_span(self) -> None:
        found = call(
            span(
                {
                    "spanledger.source": "file:mux",
                    "spanledger.granularity": "per-session-aggregate",
                    "spanledger.note": "n",
                    "gen_ai.operation.name": "chat",
                    "gen_ai.request.model": "m",
                    "gen_ai.usage.input_tokens": 1,
                    "gen_ai.usage.output_tokens": 1,
                    "spanledger.cost.reported_usd": 0.25,
                    "gen_ai.usage.cost": 0.25,
                    "spanledger.task.id": "t",
                    "spanledger.task.kind": "judge",
                    "spanledger.session.parent_id": "p",
                    "spanledger.source.service_tier": "flex",
                }
            )
        )
        assert (found.source, found.granularity, found.note) == ("file:mux", "per-session-aggregate", "n")
        assert (found.task_id, found.task_kind, found.session_parent_id) == ("t", "judge", "p")
        assert found.reported is not None
        assert (found.reported.amount, found.reported.billed) == (USD // 4, False)
        assert (found.price_context, found.present) == ((("service_tier", "flex"),), {"gen_ai.usage.cost"})

    def test_what_was_really_charged(self) -> None:
        found = call(
            span(
                {
                    "spanledger.source": "file:mux",
                    "spanledger.cost.reported_usd": 0.0,
                    "spanledger.source.charged": True,
                    "gen_ai.operation.name": "chat",
                }
            )
        )
        assert found.reported is not None
        assert (found.reported.amount, found.reported.billed) == (0, True)

    def test_a_closing_span(self) -> None:
        found = call(span({"spanledger.source": "file:mux", "spanledger.session.closed": True}))
        assert (found.kind, found.session_closed, found.usage) == ("other", True, None)

    def test_a_tool_call_that_its_source_signed(self) -> None:
        found = call(
            span(
                {
                    "spanledger.source": "file:mux",
                    "gen_ai.operation.name": "execute_tool",
                    "gen_ai.tool.name": "bash",
                    "spanledger.tool.signature": "h1:00000000:1",
                    "spanledger.tool.signature_scope": "truncated",
                }
            )
        )
        assert found.tool is not None
        assert (found.tool.signature, found.tool.signature_scope) == ("h1:00000000:1", "truncated")
