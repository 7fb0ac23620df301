"""Rows of a library that changed what its counts mean hold for the versions that they were read in."""

from __future__ import annotations

import json
import re
import subprocess
from typing import Any

import pytest

from dialect_view import chat, read, span
from spanledger_processor.dialects import detect
from spanledger_processor.dialects.registry import DIALECTS
from spanledger_processor.dialects.values import version_of
from spanledger_processor.model import Usage
from tools.sources import newer, read_last, released

OPENINFERENCE = {
    "openinference.span.kind": "LLM",
    "llm.token_count.prompt": 40,
    "llm.token_count.completion": 1,
    "llm.token_count.prompt_details.cache_read": 30,
}


@pytest.mark.parametrize(
    ("scope", "version", "total"),
    [
        ("openinference.instrumentation.claude_agent_sdk", "0.1.12", 70),
        ("openinference.instrumentation.claude_agent_sdk", "0.1.13", 40),
        ("openinference.instrumentation.claude_agent_sdk", "0.1.22", 40),
        ("openinference.instrumentation.bedrock", "0.1.59", 70),
        ("openinference.instrumentation.bedrock", "0.1.60", 40),
        ("@arizeai/openinference-instrumentation-claude-agent-sdk", "0.3.1", 70),
        ("@arizeai/openinference-instrumentation-bedrock", "0.5.1", 70),
        ("openinference.instrumentation.anthropic", "0.1.13", 70),
        ("openinference.instrumentation.anthropic", "0.1.14", 40),
        ("openinference.instrumentation.anthropic", "3.1.0", 40),
        ("openinference.instrumentation.langchain", "0.1.55", 40),
    ],
)
def test_openinference_by_version(scope: str, version: str, total: int) -> None:
    """Read in the wheels and packages of these releases: `LLM_TOKEN_COUNT_PROMPT` is a sum from the fix on."""
    usage = read(span(OPENINFERENCE, scope=scope, version=version)).usage
    assert usage is not None
    assert usage.input == total


@pytest.mark.parametrize(
    ("scope", "version", "total"),
    [
        ("opentelemetry.instrumentation.anthropic", "0.38.7", 40),  # agentops 0.4.2 to 0.4.6
        ("agentops.instrumentation.anthropic", "0.31.0", 70),  # from 0.4.7
    ],
)
def test_agentops_on_anthropic_by_scope(scope: str, version: str, total: int) -> None:
    """agentops 0.4.6 holds a copy of OpenLLMetry's instrumentation: `input_tokens = prompt + read + creation`."""
    reported = chat(input_tokens=40, output_tokens=1, cache_read__input_tokens=30) | {
        "gen_ai.request.type": "completion"
    }
    usage = read(span(reported | {"gen_ai.provider.name": "anthropic"}, scope=scope, version=version)).usage
    assert usage is not None
    assert usage.input == total


@pytest.mark.parametrize(
    ("model", "key", "total", "estimate"),
    [
        ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", "cache_read.input_tokens", 40, False),
        ("claude-sonnet-4-5", "cache_read.input_tokens", 40, True),  # Anthropic's own API: 1.54 to 1.57 leave it out
        ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", "cache_read_input_tokens", 40, True),
        ("gpt-4.1", "cache_read_input_tokens", 40, False),
    ],
)
def test_strands_adds_bedrocks_caches_up_from_1_54(model: str, key: str, total: int, *, estimate: bool) -> None:
    """strands.telemetry.metrics, `_total_prompt_tokens`: the release that has it has the convention's keys as well."""
    reported = chat(input_tokens=40, output_tokens=1, total_tokens=41) | {"event_loop.cycle_id": "1"}
    reported |= {"gen_ai.request.model": model, f"gen_ai.usage.{key}": 30, "gen_ai.provider.name": "strands-agents"}
    call = read(span(reported, scope="strands.telemetry.tracer"))
    assert call.usage is not None
    assert (call.usage.input, call.estimate) == (total, estimate)


@pytest.mark.parametrize(
    ("model", "told", "usage", "estimate"),
    [
        ("claude-sonnet-4-5", (40, 1, 41, 60), Usage(100, 1, 60), False),
        ("claude-sonnet-4-5", (100, 1, 101, 60), Usage(160, 1, 60), True),  # its VercelModel would mean 100
        ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", (100, 1, 161, 60), Usage(160, 1, 60), False),
        ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", (100, 1, 101, 60), Usage(100, 1, 60), True),
        ("gpt-4o", (100, 1, 101, 60), Usage(100, 1, 60), False),
    ],
)
def test_strands_for_javascript_copies_the_providers_counts(
    model: str, told: tuple[int, int, int, int], usage: Usage, *, estimate: bool
) -> None:
    """@strands-agents/sdk 1.0.0 to 1.19.0, models/anthropic.js, bedrock.js, vercel.js and openai; telemetry/tracer.js:
    scope and `gen_ai.system` are `getServiceName()`.
    """
    given, output, total, cached = told
    reported = chat(input_tokens=given, output_tokens=output, total_tokens=total, cache_read__input_tokens=cached)
    reported |= {"gen_ai.event.start_time": "2026-11-30T00:00:00.000Z", "gen_ai.request.model": model}
    reported |= {"gen_ai.provider.name": "weather-app", "gen_ai.usage.cache_read_input_tokens": cached}
    call = read(span(reported, "chat", "weather-app"))
    assert (call.dialect, call.provider, call.usage, call.estimate) == ("strands", "", usage, estimate)


@pytest.mark.parametrize(
    ("provider", "reasoning", "usage", "estimate"),
    [
        ("anthropic", {}, Usage(160, 9, 60), True),  # up to 1.12 a stream's first event is added to its last one
        ("aws.bedrock", {}, Usage(160, 9, 60), False),
        ("gcp.gemini", {"reasoning_tokens": 4}, Usage(100, 13, 60, reasoning=4), True),  # up to 1.6
        ("gcp.gemini", {"reasoning__output_tokens": 4}, Usage(100, 9, 60, reasoning=4), True),  # from 1.7 on
        ("gcp.gemini", {"reasoning__output_tokens": 0}, Usage(100, 9, 60, reasoning=0), False),
        ("openai", {"reasoning__output_tokens": 4}, Usage(100, 9, 60, reasoning=4), False),
    ],
)
def test_pipecat_copies_the_providers_counts(
    provider: str, reasoning: dict[str, int], usage: Usage, *, estimate: bool
) -> None:
    """pipecat-ai 0.0.80 to 1.14.0, `_process_context` of services/anthropic/llm.py, aws/llm.py and google/llm.py."""
    reported = chat(input_tokens=100, output_tokens=9, cache_read__input_tokens=60, **reasoning)
    call = read(span(reported | {"gen_ai.provider.name": provider}, "llm", "pipecat"))
    assert (call.dialect, call.usage, call.estimate) == ("pipecat", usage, estimate)


@pytest.mark.parametrize(
    ("scope", "kind"),
    [("logfire.openai", "other"), ("logfire.anthropic", "other"), ("logfire.openai_agents", "llm")],
)
def test_logfire_logs_the_usage_of_streams_of_two_integrations_alone(scope: str, kind: str) -> None:
    """`record_streaming` of logfire-sdk 5.4.0, which `instrument_llm_provider` calls; a stream of the OpenAI Agents SDK
    whose usage was not asked for tells 0.
    """
    reported = chat(input_tokens=0, output_tokens=0) | {"logfire.span_type": "span"}
    call = read(span(reported, "Chat completion with {gen_ai.request.model!r}", scope))
    assert (call.kind, call.usage) == (kind, None)


def test_what_mirascope_traces_is_a_call() -> None:
    """`attach_mirascope_response` of mirascope 2.8.2: a span of `ops.trace` has the answer, and no key of the
    convention; one of a function has neither.
    """
    usage = {"input_tokens": 100, "output_tokens": 9, "cache_read_tokens": 60, "cache_write_tokens": 5}
    reported = {
        "mirascope.response.provider_id": "anthropic",
        "mirascope.response.model_id": "anthropic/claude-sonnet-4-5",
        "mirascope.response.usage": json.dumps({**usage, "reasoning_tokens": 0, "total_tokens": 109}),
    }
    call = read(span(reported, "ask.call", "mirascope.ops"))
    assert (call.kind, call.provider, call.model) == ("llm", "anthropic", "anthropic/claude-sonnet-4-5")
    assert call.usage == Usage(100, 9, 60, 5, reasoning=0)
    assert detect(span({"mirascope.type": "trace"}, "ask", "mirascope.ops")) is None


@pytest.mark.parametrize(
    ("provider", "version", "total"),
    [
        ("bedrock", "1.39.0", 70),
        ("bedrock", "1.40.0", 40),
        ("anthropic", "0.1.8", 70),
        ("anthropic", "0.1.9", 40),
        ("anthropic", "2.68.0", 40),
        ("openai", "0.1.0", 40),
    ],
)
def test_pydantic_ai_by_version(provider: str, version: str, total: int) -> None:
    """pydantic_ai.models.bedrock and .anthropic: `_map_usage` adds the caches up from these releases on."""
    attributes: dict[str, Any] = chat(input_tokens=40, output_tokens=1, cache_read__input_tokens=30)
    usage = read(span(attributes | {"gen_ai.provider.name": provider}, scope="pydantic-ai", version=version)).usage
    assert usage is not None
    assert usage.input == total


def test_rows_were_read_in_versions_that_they_hold_for() -> None:
    for source in (source for dialect in DIALECTS for source in dialect.sources if source.package):
        first, last = map(version_of, source.read)
        assert source.package.startswith(("pypi:", "npm:"))
        assert source.since <= first <= last
        assert not source.before or last < source.before


def test_what_is_newer_than_what_was_read() -> None:
    assert newer("0.1.9", ["0.1.8", "0.1.9", "0.1.10", "0.2.0a1", "0.2"]) == ["0.1.10", "0.2"]
    assert newer("1.2b0", ["1.0b0", "1.2b0", "1.3b0", "1.4rc1"]) == ["1.3b0"]  # no release is final
    assert newer("1.0.0b261022", ["1.0.0b261022", "1.0.0b261105"]) == ["1.0.0b261105"]
    assert newer("1.2b0", ["1.3b0", "1.3"]) == ["1.3"]
    assert read_last()["pypi:openinference-instrumentation-bedrock"] == "0.1.61"


def test_a_row_of_earlier_releases_is_not_out_of_date(monkeypatch: pytest.MonkeyPatch) -> None:
    """The AI SDK's vocabulary up to version 6 is not read in version 7, which has another one."""
    served = subprocess.CompletedProcess([], 0, stdout='["5.0.1", "6.0.1", "6.0.2", "7.0.1"]')
    monkeypatch.setattr(subprocess, "run", lambda command, **_: served if command[2] == "ai" else None)
    assert newer("6.0.1", released("npm:ai@6")) == ["6.0.2"]
    assert newer("6.0.1", released("npm:ai@6.0")) == ["6.0.2"]
    assert newer("6.0.1", released("npm:ai")) == ["6.0.2", "7.0.1"]


def test_the_ai_sdk_6_tells_no_parts_in_its_early_releases() -> None:
    """ai 6.0.0 to 6.0.90 write an inclusive sum under the keys of version 5: Anthropic's own usage tells."""
    reported: dict[str, Any] = {
        "ai.operationId": "ai.generateText.doGenerate",
        "ai.model.provider": "anthropic.messages",
    }
    reported |= {"ai.usage.outputTokens": 1, "ai.usage.cachedInputTokens": 30}
    metadata = '{"anthropic": {"usage": {"input_tokens": 40, "cache_read_input_tokens": 30, "output_tokens": 1}}}'
    for given in (40, 70):
        call = read(
            span(reported | {"ai.usage.inputTokens": given, "ai.response.providerMetadata": metadata}, scope="ai")
        )
        assert call.usage is not None
        assert (call.usage.input, call.estimate) == (70, False)


@pytest.mark.parametrize(
    ("details", "estimate"),
    [({"cached_tokens": 20}, True), ({"cached_tokens": 20, "cache_creation_tokens": 30}, False)],
)
def test_litellm_left_cache_writes_out_for_some_releases(details: dict[str, int], *, estimate: bool) -> None:
    """litellm 1.70.0, llms/anthropic/chat/transformation.py: `prompt_tokens` is input and reads; 1.80.0 adds writes."""
    reported: dict[str, Any] = {"prompt_tokens": 100, "completion_tokens": 5, "cache_creation_input_tokens": 30}
    reported |= {"cache_read_input_tokens": 20, "prompt_tokens_details": details}
    attributes = chat(input_tokens=100, output_tokens=5) | {
        "litellm.call_id": "1",
        "metadata.usage_object": str(reported),
    }
    call = read(span(attributes, "litellm_request", "litellm"))
    assert call.usage is not None
    assert (call.usage.cache_write, call.estimate) == (30, estimate)


def test_a_usage_object_that_contradicts_itself_is_no_sure_price() -> None:
    reported = {"prompt_tokens": 100, "completion_tokens": 5, "cache_creation_input_tokens": 2000}
    attributes = chat(input_tokens=100, output_tokens=5) | {
        "litellm.call_id": "1",
        "metadata.usage_object": str(reported),
    }
    assert read(span(attributes, "litellm_request", "litellm")).problem


@pytest.mark.parametrize(("given", "usage"), [(40, Usage(340, 1, 300)), (400, Usage(400, 1, 300))])
def test_openinference_on_langchain_copied_anthropics_own_counts(given: int, usage: Usage) -> None:
    """openinference.instrumentation.langchain._tracer up to 0.1.54: `input_tokens` of Anthropic beside its caches."""
    reported = {"openinference.span.kind": "LLM", "llm.token_count.completion": 1, "llm.token_count.prompt": given}
    reported |= {"llm.token_count.prompt_details.cache_read": 300}
    call = read(span(reported, scope="openinference.instrumentation.langchain", version="0.1.54"))
    assert (call.usage, call.estimate) == (usage, given > 300)


def test_openinference_on_gemini_left_thoughts_out_of_streams() -> None:
    """openinference.instrumentation.google_genai._stream: candidates and the total up to 0.1.8, then all of them."""
    reported = {"openinference.span.kind": "LLM", "llm.token_count.prompt": 40, "llm.token_count.completion": 5}
    reported |= {"llm.token_count.total": 75}
    scope = "openinference.instrumentation.google_genai"
    assert read(span(reported, scope=scope, version="0.1.8")).usage == Usage(40, 35, reasoning=30)
    later = read(span(reported, scope=scope, version="0.1.9"))
    assert (later.usage, later.estimate) == (Usage(40, 5), True)  # by then a total that differs says something else


@pytest.mark.parametrize(
    ("model", "told", "cached"),
    [
        ("gemini-2.5-flash", "", 0),
        ("projects/1/locations/global/endpoints/2", "", 0),
        ("openai/gpt-5.1", "", None),
        ("claude-sonnet-4-5", "", None),
        ("openai/gpt-5.1", '"cached_content_token_count":0,', 0),
    ],
)
@pytest.mark.parametrize("version", ["", "2.13.0"])
def test_adk_tells_no_caches_of_models_that_its_adapters_do_not_read_them_of(
    version: str, model: str, told: str, cached: int | None
) -> None:
    """`LiteLlm` of google-adk 1.14.1 and `ApigeeLlm` of 2.13.0 fill Gemini's counts without those of caches."""
    answer = f'{{"usage_metadata":{{{told}"candidates_token_count":5,"prompt_token_count":40,"total_token_count":45}}}}'
    reported = chat(input_tokens=40, output_tokens=5) | {"gcp.vertex.agent.llm_response": answer}
    reported["gen_ai.request.model"] = model
    call = read(span(reported, scope="gcp.vertex.agent", version=version))
    assert call.usage is not None
    assert (call.usage.input, call.usage.output, call.usage.cache_read) == (40, 5, cached)


@pytest.mark.parametrize(
    ("version", "model", "told", "output"),
    [
        ("2.13.0", "openai/gpt-5.1", 163, 151),
        ("2.13.0", "gpt-5.1", 163, 151),
        ("2.13.0", "gemini/gemini-2.5-flash", 163, 151),
        ("2.13.0", "apigee/openai/gpt-5.1", 163, 151),
        ("2.13.0", "gemini-2.5-flash", 163, 163),
        ("2.13.0", "claude-sonnet-4-5", 163, 163),
        ("2.13.0", "projects/p/locations/l/publishers/google/models/gemini-2.5-flash", 163, 163),
        ("2.13.0", "apigee/gemini-2.5-flash", 163, 163),
        ("2.2.0", "openai/gpt-5.1", 151, 151),
        ("2.2.0", "gemini-2.5-flash", 151, 163),
    ],
)
@pytest.mark.parametrize("content", [True, False])
def test_adk_adds_the_reasoning_to_an_output_of_litellms_that_holds_it(
    version: str, model: str, told: int, output: int, *, content: bool
) -> None:
    """`LiteLlm` of google-adk 2.13.0 takes `completion_tokens` for candidates, `_token_usage` adds the thoughts."""
    key = "experimental__reasoning_tokens" if version < "2.3" else "reasoning__output_tokens"
    reported = chat(input_tokens=40, output_tokens=told, cache_read__input_tokens=30, **{key: 12})
    reported |= {"gcp.vertex.agent.event_id": "1", "gen_ai.request.model": model}
    if content:
        candidates, total = (151, 40 + 151) if output == 151 else (151, 40 + 163)
        reported["gcp.vertex.agent.llm_response"] = (
            f'{{"usage_metadata":{{"cached_content_token_count":30,"candidates_token_count":{candidates},'
            f'"prompt_token_count":40,"thoughts_token_count":12,"total_token_count":{total}}}}}'
        )
    usage = read(span(reported, scope="gcp.vertex.agent", version=version)).usage
    assert usage is not None
    assert (usage.input, usage.output, usage.cache_read, usage.reasoning) == (40, output, 30, 12)


@pytest.mark.parametrize("in_javascript", [True, False])
@pytest.mark.parametrize(
    ("tools", "output", "cached"), [(19, 25, 30), (None, 25, 30)], ids=["with tokens of tools", "without"]
)
def test_early_adk_leaves_the_tokens_of_tools_out_of_the_input(
    tools: int | None, output: int, cached: int, *, in_javascript: bool
) -> None:
    """google-adk 1.14.1: `prompt_token_count`; only with those of tools do the span and the answer on it agree."""
    of_tools = "" if tools is None else f'"tool_use_prompt_token_count":{tools},'
    total = 40 + (tools or 0) + 25
    answer = (
        f'{{"usage_metadata":{{"cached_content_token_count":30,"candidates_token_count":5,{of_tools}'
        f'"prompt_token_count":40,"thoughts_token_count":20,"total_token_count":{total}}}}}'
    )
    if in_javascript:
        answer = re.sub("_([a-z])", lambda found: found[1].upper(), answer)
    reported = chat(input_tokens=40, output_tokens=5) | {"gcp.vertex.agent.llm_response": answer}
    reported["gen_ai.request.model"] = "gemini-2.5-flash"
    call = read(span(reported, scope="gcp.vertex.agent"))
    assert call.usage == Usage(40 + (tools or 0), output, cached, reasoning=20)
    assert not call.estimate


@pytest.mark.parametrize(
    ("version", "thoughts", "output", "estimate"),
    [("2.2.0", 30, 35, False), ("1.20.0", None, 5, True), ("2.3.0", 3, 5, False), ("2.13.0", 3, 5, False)],
)
def test_adk_leaves_thoughts_out_before_2_3(version: str, thoughts: int | None, output: int, *, estimate: bool) -> None:
    """google.adk.telemetry.tracing up to 2.2.0: `candidates_token_count`; from 2.3.0 `_token_usage` adds thoughts."""
    key = "experimental__reasoning_tokens" if version < "2.3" else "reasoning__output_tokens"
    reported: dict[str, Any] = chat(input_tokens=40, output_tokens=5) | {"gcp.vertex.agent.event_id": "1"}
    if thoughts is not None:
        reported |= chat(**{key: thoughts})
    reported["gen_ai.request.model"] = "gemini-2.5-flash"
    call = read(span(reported, scope="gcp.vertex.agent", version=version))
    assert call.usage is not None
    assert (call.usage.output, call.estimate) == (output, estimate)


@pytest.mark.parametrize(
    ("scope", "version", "cached"),
    [
        ("opentelemetry.instrumentation.genai.openai", "1.1b0", None),
        ("opentelemetry.instrumentation.genai.openai", "1.2b0", 0),
        ("opentelemetry.instrumentation.genai.openai_agents", "1.3b0", None),
        ("opentelemetry.instrumentation.genai.llama_index", "1.3b0", None),
        ("opentelemetry.instrumentation.genai.anthropic", "1.0b0", 0),
    ],
)
def test_an_absent_class_is_zero_only_where_the_library_tells_it(scope: str, version: str, cached: int | None) -> None:
    """In these releases chat completions, agents and LlamaIndex set no `cache_read_input_tokens` at all."""
    usage = read(span(chat(input_tokens=40, output_tokens=1), scope=scope, version=version)).usage
    assert usage is not None
    assert usage.cache_read == cached


@pytest.mark.parametrize(
    ("provider", "hour", "given", "total", "estimate"),
    [
        ("anthropic", None, 40, 340, True),  # up to 3.11: `usage.input_tokens` as it came, in the total as well
        ("anthropic", None, 400, 400, True),  # which release wrote it is not told
        ("anthropic", 0, 400, 400, False),  # told from the release on that adds the classes up
        ("openai", None, 400, 400, False),
    ],
)
def test_mlflow_copied_anthropics_own_counts(
    provider: str, hour: int | None, given: int, total: int, *, estimate: bool
) -> None:
    """mlflow.anthropic.autolog: `_parse_usage`; mlflow 3.10.0, 3.11.1, 3.12.0 and 3.18.0 were read."""
    reported = {"input_tokens": given, "output_tokens": 1, "total_tokens": given + 1, "cache_read_input_tokens": 300}
    reported |= {"cache_creation_input_tokens": 0} | (
        {} if hour is None else {"cache_creation_input_tokens_above_1hr": 0}
    )
    attributes = {"mlflow.spanType": "CHAT_MODEL", "mlflow.chat.tokenUsage": json.dumps(reported)}
    call = read(span(attributes | {"mlflow.message.format": json.dumps(provider)}, scope="mlflow.tracing.provider"))
    assert call.usage is not None
    assert (call.usage.input, call.usage.cache_read, call.estimate) == (total, 300, estimate)


@pytest.mark.parametrize(("given", "estimate"), [(40, False), (400, True)])
def test_sentry_tells_no_release(given: int, *, estimate: bool) -> None:
    """sentry_sdk.integrations.anthropic: 2.50.0 copies `input_tokens`, 2.56.0 and 2.75.0 add the caches."""
    reported = chat(input_tokens=given, output_tokens=1, input_tokens__cached=300) | {"gen_ai.system": "anthropic"}
    assert read(span(reported | {"sentry.op": "gen_ai.chat", "gen_ai.provider.name": None})).estimate is estimate


def test_mastras_and_livekits_own_names_of_classes() -> None:
    """@mastra/otel-exporter 1.4.0, `formatUsageMetrics`; livekit.agents.telemetry.trace_types 1.8.9."""
    mastra = chat(
        input_tokens=100,
        output_tokens=50,
        audio_input_tokens=60,
        audio_output_tokens=40,
        cached_input_tokens=20,
        cache_creation__input_tokens=15,
        cache_creation__5m_input_tokens=5,
        cache_creation__1h_input_tokens=10,
    )
    assert read(span(mastra | {"mastra.span.type": "model_inference"})).usage == Usage(
        100, 50, 20, 15, 10, input_audio=60, output_audio=40
    )
    livekit = chat(
        input_tokens=100, output_tokens=50, input_audio_tokens=60, output_audio_tokens=40, input_cached_tokens=20
    )
    assert read(span(livekit | {"lk.realtime_model_metrics": "{}"})).usage == Usage(
        100, 50, 20, input_audio=60, output_audio=40
    )


def test_logfire_kept_anthropics_usage_in_the_response() -> None:
    """logfire 4.0.0, `on_response` of its Anthropic integration: no usage but in `response_data`."""
    usage = {"input_tokens": 10, "output_tokens": 5, "cache_read_input_tokens": 30, "cache_creation_input_tokens": 0}
    reported = chat() | {"response_data": json.dumps({"message": {"role": "assistant"}, "usage": usage})}
    assert read(span(reported, scope="logfire.anthropic", version="4.0.0")).usage == Usage(40, 5, 30, 0)
    flat = chat(input_tokens=40, output_tokens=5)
    used = {"prompt_tokens": 40, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 30}}
    openai = read(span(flat | {"response_data": json.dumps({"usage": used})}, scope="logfire.openai", version="4.0.0"))
    assert openai.usage == Usage(40, 5, 30)


def test_what_openlit_does_not_tell_leaves_a_doubt() -> None:
    """openlit 1.45.0: `vertexai` tells candidates and no thoughts; of a search only that its answer has citations."""
    reported = chat(input_tokens=40, output_tokens=5, cache_read__input_tokens=0)
    assert read(span(reported, scope="openlit.instrumentation.vertexai")).estimate
    cited = reported | {"openai.response.web_search.citations_count": 3}
    assert read(span(cited, scope="openlit.instrumentation.openai")).unclassed == ("web searches",)
    assert read(span(reported, scope="openlit.instrumentation.openai")).unclassed == ()


def test_a_stream_in_langchain_js_tells_its_cache_writes_apart_and_the_first_events_output_twice() -> None:
    """@langchain/anthropic 1.5.11, `_makeMessageChunkFromAnthropicEvent`."""
    split = {"ephemeral_5m_input_tokens": 10, "ephemeral_1h_input_tokens": 20}
    first = {"cache_creation_input_tokens": 30, "cache_read_input_tokens": 60, "cache_creation": split}
    added = {"input_tokens": 100, "output_tokens": 6, "total_tokens": 106}
    details = {"input_token_details": {"cache_read": 60, "cache_creation": 30}}
    message = {"response_metadata": {"usage": first}, "usage_metadata": added | details}
    reported = {
        "openinference.span.kind": "LLM",
        "llm.token_count.prompt": 100,
        "llm.token_count.completion": 6,
        "llm.token_count.prompt_details.cache_read": 60,
        "metadata": json.dumps({"ls_provider": "anthropic", "versions": {"@langchain/anthropic": "1.5.11"}}),
    }
    scope = "@arizeai/openinference-instrumentation-langchain"

    def of(kind: str, usage: dict[str, Any]) -> tuple[Usage | None, bool]:
        generation = {"message": {"id": ["langchain_core", "messages", kind], "kwargs": message | usage}}
        output = {"output.value": json.dumps({"generations": [[generation]]})}
        call = read(span(reported | output, scope=scope, version="4.1.1"))
        return call.usage, call.estimate

    assert of("AIMessageChunk", {}) == (Usage(100, 6, 60, 30, 20), True)
    assert of("AIMessage", {}) == (Usage(100, 6, 60, 30, 20), False)
    others = {"response_metadata": {"usage": first | {"cache_read_input_tokens": 50}}}
    assert of("AIMessage", others) == (Usage(100, 6, 60, 30), False)


def test_a_stream_of_openlit_on_anthropic_says_nothing_of_caches_by_zeros() -> None:
    """openlit 1.45.0, `process_chunk`: the last event's caches, 0 where it has none, replace those of the first."""
    reported = chat(input_tokens=40, output_tokens=5, cache_read__input_tokens=0, cache_creation__input_tokens=0)
    streamed = {**reported, "gen_ai.request.stream": True}
    lost = read(span(streamed, scope="openlit.instrumentation.anthropic"))
    assert (lost.usage, lost.estimate) == (Usage(40, 5), True)
    kept = read(span({**reported, "gen_ai.request.stream": False}, scope="openlit.instrumentation.anthropic"))
    assert (kept.usage, kept.estimate) == (Usage(40, 5, 0, 0), False)
    some = {**streamed, "gen_ai.usage.cache_read.input_tokens": 30}
    assert read(span(some, scope="openlit.instrumentation.anthropic")).usage == Usage(70, 5, 30, 0)
    assert read(span(streamed, scope="openlit.instrumentation.openai")).usage == Usage(40, 5, 0, 0)


def test_google_tools_are_in_the_prompt_of_the_ai_sdk_6() -> None:
    """@ai-sdk/google 3.0.141, `convertGoogleUsage`: the total of the input is `promptTokenCount` alone."""
    own = {"promptTokenCount": 40, "toolUsePromptTokenCount": 200, "candidatesTokenCount": 1, "totalTokenCount": 241}
    reported: dict[str, Any] = {
        "ai.operationId": "ai.generateText.doGenerate",
        "ai.model.provider": "google.generative-ai",
    }
    reported |= {"ai.usage.inputTokens": 40, "ai.usage.outputTokens": 1, "ai.usage.inputTokenDetails.noCacheTokens": 40}
    reported["ai.response.providerMetadata"] = json.dumps({"google": {"usageMetadata": own}})
    call = read(span(reported, scope="ai"))
    assert call.usage is not None
    assert call.usage.input == 240


def test_datadogs_spans_are_of_their_kind() -> None:
    """ddtrace.llmobs._utils.set_gen_ai_apm_tags, 4.15.0: the operation is the kind of the span, and caches are in."""
    kinds = {"llm": "llm", "embedding": "embedding", "agent": "agent", "workflow": "workflow", "task": "workflow"}
    for name, kind in kinds.items():
        reported = chat(input_tokens=40, output_tokens=1) | {"gen_ai.operation.name": name}
        call = read(
            span(reported | {"gen_ai.usage.cache_write_input_tokens": 30.0, "gen_ai.provider.name": "anthropic"})
        )
        assert call.usage is not None
        assert (call.dialect, call.kind, call.usage.input, call.estimate) == ("ddtrace", kind, 40, False)


def test_what_openai_bills_beside_the_list_is_marked() -> None:
    """the documentation in @ai-sdk/openai 4.0.118: writes for 12 hours are billed at a higher rate."""
    for details in (
        {"cached_tokens": 0, "cache_write_tokens": 30, "cache_write_tokens_details": {"ttl_12h_tokens": 30}},
        {"cached_tokens": 0, "orchestration_input_tokens": 12},
    ):
        usage = {"input_tokens": 40, "input_tokens_details": details, "output_tokens": 1, "total_tokens": 41}
        reported = OPENINFERENCE | {"output.value": json.dumps({"object": "response", "usage": usage})}
        del reported["llm.token_count.prompt_details.cache_read"]
        assert read(span(reported, scope="openinference.instrumentation.openai", version="0.1.66")).unclassed
