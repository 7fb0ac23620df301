"""The OpenTelemetry GenAI convention, from 1.27 to the repository of its own, and the names it has left behind."""

from __future__ import annotations

from spanledger_processor.dialects.normalize import Input, Output
from spanledger_processor.dialects.schema import (
    ANSWER,
    ANY_INPUT,
    FIRST_CHUNK,
    ContentKeys,
    CostKey,
    Detection,
    Dialect,
    FirstToken,
    GroupingKeys,
    Kinds,
    Library,
    Precedence,
    ScopedSpan,
    Source,
    Tokens,
    ToolKeys,
    UsageText,
    has,
)
from spanledger_processor.dialects.values import text
from spanledger_processor.model import Call, Kind
from spanledger_processor.units import USD

OPERATIONS: dict[str, Kind] = {
    "chat": "llm",
    "generate_content": "llm",
    "text_completion": "llm",
    "completion": "llm",
    "llm": "llm",
    "llm_request": "llm",
    "llm_call": "llm",
    "responses": "llm",
    "fetch_response": "llm",
    "realtime_inference": "llm",
    "embeddings": "embedding",
    "embedding": "embedding",
    "rerank": "rerank",
    "retrieval": "retrieval",
    "vectordb": "retrieval",
    "search_memory": "retrieval",
    "execute_tool": "tool",
    "tool": "tool",
    "tool_call": "tool",
    "invoke_agent": "agent",
    "agent": "agent",
    "create_agent": "agent",
    "agent_call": "agent",
    "invoke_workflow": "workflow",
    "workflow": "workflow",
    "task": "workflow",
    "agent_step": "workflow",
    "execute_task": "workflow",
    "execute_event_loop_cycle": "workflow",
    "handle_conversation_turn": "workflow",
    "user_prompt": "workflow",
    "schedule_tool_calls": "workflow",
    "plan": "other",
    "execute_hook": "other",
    "create_memory": "other",
    "update_memory": "other",
    "upsert_memory": "other",
    "delete_memory": "other",
    "create_memory_store": "other",
    "delete_memory_store": "other",
    "gen_ai.invocation.internal": "other",
}
"""Values of gen_ai.operation.name: the convention's, and those seen (docs/formats/genai.md#12-operations)."""

TOKENS = Tokens(
    input=("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens"),
    output=("gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens"),
    total=("gen_ai.usage.total_tokens", "llm.usage.total_tokens"),
    cache_read=(
        "gen_ai.usage.cache_read.input_tokens",
        "gen_ai.usage.cache_read_input_tokens",
        "gen_ai.usage.cache_read_tokens",
    ),
    cache_write=(
        "gen_ai.usage.cache_write.input_tokens",
        "gen_ai.usage.cache_creation.input_tokens",
        "gen_ai.usage.cache_creation_input_tokens",
        "gen_ai.usage.cache_write_input_tokens",
        "gen_ai.usage.cache_creation_tokens",
        "gen_ai.usage.cache_write_tokens",
    ),
    cache_write_5m=("anthropic.usage.cache_creation.ephemeral_5m_input_tokens",),
    cache_write_1h=("anthropic.usage.cache_creation.ephemeral_1h_input_tokens",),
    reasoning=(
        "gen_ai.usage.reasoning.output_tokens",
        "gen_ai.usage.reasoning_tokens",
        "gen_ai.usage.reasoning_output_tokens",
        "llm.usage.reasoning_tokens",
    ),
    parts={
        "input_audio": ("gen_ai.usage.audio.input_tokens",),
        "input_image": ("gen_ai.usage.image.input_tokens",),
        "cache_read_audio": ("gen_ai.usage.audio.cache_read.input_tokens",),
        "cache_read_image": ("gen_ai.usage.image.cache_read.input_tokens",),
        "output_audio": ("gen_ai.usage.audio.output_tokens",),
        "output_image": ("gen_ai.usage.image.output_tokens",),
        "web_searches": (
            "gen_ai.usage.server_tool_use.web_search_requests",
            "anthropic.usage.server_tool_use.web_search_requests",
            "gen_ai.usage.web_search_requests",
        ),
        "search_units": ("gen_ai.usage.search_units",),
    },
    unclassed={
        "video tokens": ("gen_ai.usage.video.input_tokens", "gen_ai.usage.video.output_tokens"),
        "code executions": (
            "gen_ai.usage.server_tool_use.code_execution_requests",
            "anthropic.usage.server_tool_use.code_execution_requests",
        ),
    },
    text={"input": ("gen_ai.usage.text.input_tokens",), "output": ("gen_ai.usage.text.output_tokens",)},
)

MODELS = ("gen_ai.response.model",)
REQUESTED = ("gen_ai.request.model",)
PROVIDERS = ("gen_ai.provider.name", "gen_ai.system")

SERVED = (
    "openai.response.service_tier",
    "gen_ai.openai.response.service_tier",
    "anthropic.response.service_tier",
    "gen_ai.response.service_tier",
    "anthropic.usage.service_tier",
    "gen_ai.usage.service_tier",
    "aws.bedrock.response.service_tier",
    "anthropic.response.speed",
    "anthropic.usage.speed",
    "gen_ai.response.speed",
    "anthropic.response.inference_geo",
    "anthropic.usage.inference_geo",
    "gen_ai.usage.inference_geo",
)
ASKED = (
    "openai.request.service_tier",
    "gen_ai.openai.request.service_tier",
    "anthropic.request.service_tier",
    "gen_ai.request.service_tier",
    "anthropic.request.speed",
    "gen_ai.request.speed",
    "anthropic.request.inference_geo",
)
ENDPOINTS = ("server.address", "gen_ai.openai.api_base", "url.full")
ANSWERED = (
    "gen_ai.response.model",
    "gen_ai.response.finish_reasons",
    "gen_ai.response.time_to_first_chunk",
    "gen_ai.output.messages",
)
"""Keys that nothing but a response gives: an answer began."""

PROPOSED_COST = CostKey(
    "gen_ai.usage.cost.amount", currency="gen_ai.usage.cost.currency", said_by="gen_ai.usage.cost.source"
)
COSTS = (
    PROPOSED_COST,
    CostKey("gen_ai.usage.cost_in_usd_ticks", "billed", unit=USD // 10**10),  # xai_sdk's own spans: what xAI charged
    CostKey("gen_ai.usage.cost"),
    CostKey("operation.cost"),
    CostKey("llm.cost.total"),
    CostKey("gen_ai.usage.cost_usd"),
)

TOOL = ToolKeys(
    name=("gen_ai.tool.name",),
    arguments=("gen_ai.tool.call.arguments", "gen_ai.tool.args", "gen_ai.tool.input"),
    result=("gen_ai.tool.call.result", "gen_ai.tool.output"),
    call_id=("gen_ai.tool.call.id", "gen_ai.tool.call_id"),
)

RAW = (UsageText("gen_ai.usage.raw"),)

GROUPS = GroupingKeys(
    session=("gen_ai.conversation.id", "session.id", "gen_ai.realtime_session.id"),
    run=("gen_ai.agent.run_id",),
    agent=("gen_ai.agent.id",),
)

_CALLS = ("gen_ai.request.model", "gen_ai.response.model", *TOKENS.input, *TOKENS.output)


def without_operation(view: ScopedSpan) -> Kind | None:
    """Return the kind of a span whose operation is missing or unknown: the keys that it has tell.

    An operation that is named and unknown may be anything: what it used counts, as `other`.
    """
    named = bool(text(view.attributes.get("gen_ai.operation.name")))
    if has(view, *_CALLS) and not named:
        return "embedding" if view.name.startswith("embed") else "llm"
    if has(view, "gen_ai.tool.name") and not has(view, *TOKENS.input):
        return "tool"
    return "other" if named else None


_PARAMETERS, _VALUE = "code.function.parameters.", ".value"


def function_parameters(view: ScopedSpan, call: Call) -> None:
    """Gather the arguments of a tool, of which Google's instrumentation gives each an attribute of its own."""
    if call.tool is None or call.tool.arguments is not None:
        return
    if not view.scope_name.startswith("opentelemetry.instrumentation.google_genai"):
        return
    arguments = {
        key[len(_PARAMETERS) : -len(_VALUE)]: view.attributes.get(key)
        for key in view.attributes.keys()  # noqa: SIM118 - a C map behind a thin object, not a dict
        if key.startswith(_PARAMETERS) and key.endswith(_VALUE)
    }
    call.tool.arguments = arguments or None


SOURCES = (
    Source(
        Input.EXCLUSIVE,
        "opentelemetry.instrumentation.genai.bedrock",
        absent_cache_is_zero=True,
        why="copies Bedrock's own counts",
        package="pypi:opentelemetry-instrumentation-genai-bedrock",
        read=("1.2b0", "1.3b0"),
    ),
    Source(
        Input.EXCLUSIVE,
        "opentelemetry.instrumentation.botocore",
        why="copies Bedrock's own counts; caches from 0.66b0, of the Converse API only",
        package="pypi:opentelemetry-instrumentation-botocore",
        read=("0.51b0", "0.66b2"),
    ),
    Source(
        Input.INCLUSIVE,
        "opentelemetry.instrumentation.genai.anthropic",
        has=("gen_ai.request.stream",),
        lacks=("gen_ai.response.finish_reasons",),
        output=Output.BEGUN,
        absent_cache_is_zero=True,
        why="tells why an answer ended, and counts from the first event on",
        package="pypi:opentelemetry-instrumentation-genai-anthropic",
        read=("1.3b0", "1.3b0"),
    ),
    Source(
        Input.INCLUSIVE,
        "opentelemetry.instrumentation.genai.anthropic",
        absent_cache_is_zero=True,
        why="adds the classes up and leaves out classes of 0",
        package="pypi:opentelemetry-instrumentation-genai-anthropic",
        read=("1.0b0", "1.3b0"),
    ),
    Source(
        Input.INCLUSIVE,
        "opentelemetry.instrumentation.genai.openai_agents",
        why="OpenAI's counts, without caches",
        package="pypi:opentelemetry-instrumentation-genai-openai-agents",
        read=("1.0b0", "1.3b0"),
    ),
    Source(
        Input.INCLUSIVE,
        "opentelemetry.instrumentation.genai.openai",
        since=(1, 2),
        absent_cache_is_zero=True,
        why="OpenAI's counts, without classes of 0",
        package="pypi:opentelemetry-instrumentation-genai-openai",
        read=("1.2b0", "1.3b0"),
    ),
    Source(
        Input.INCLUSIVE,
        "opentelemetry.instrumentation.genai.openai",
        why="OpenAI's counts; up to 1.1 chat completions without caches",
        package="pypi:opentelemetry-instrumentation-genai-openai",
        read=("1.0b0", "1.1b0"),
    ),
    Source(
        Input.INCLUSIVE,
        "opentelemetry.instrumentation.genai.",
        why="follows the convention; some of them tell no caches",
        package="pypi:opentelemetry-util-genai",
        read=("0.1b0", "1.3b0"),
    ),
    Source(
        Input.INCLUSIVE,
        "opentelemetry.instrumentation.google_genai",
        since=(1,),
        has=("gen_ai.request.stream",),
        lacks=("gen_ai.response.finish_reasons",),
        output=Output.BEGUN,
        absent_cache_is_zero=True,
        why="tells why an answer ended, and counts from the first piece on",
        package="pypi:opentelemetry-instrumentation-google-genai",
        read=("1.3b0", "1.3b0"),
    ),
    Source(
        Input.INCLUSIVE,
        "opentelemetry.instrumentation.google_genai",
        since=(1,),
        absent_cache_is_zero=True,
        why="follows the convention and leaves out classes of 0",
        package="pypi:opentelemetry-instrumentation-google-genai",
        read=("1.0b0", "1.3b0"),
    ),
    Source(
        Input.INCLUSIVE,
        "opentelemetry.instrumentation.google_genai",
        output=Output.FROM_TOTAL,
        why="candidates only, and no total",
        package="pypi:opentelemetry-instrumentation-google-genai",
        read=("0.1b0", "0.7b2"),
    ),
    Source(
        Input.INCLUSIVE,
        "opentelemetry.",
        why="follows the convention",
        package="pypi:opentelemetry-instrumentation-openai-v2",
        read=("2.0b0", "2.4b0"),
    ),
    Source(
        Input.UNSURE,
        providers=("anthropic", "aws", "bedrock", "amazon"),
        why="hand-made spans often copy these providers' own counts, which exclude caches",
    ),
    Source(Input.PRESUMED, why="the convention"),
)

OTEL = Dialect(
    name="otel",
    precedence=Precedence.CONVENTION,
    rank=2,
    about="OpenTelemetry GenAI semantic conventions",
    detection=Detection(
        keys=(
            "gen_ai.operation.name",
            "gen_ai.request.model",
            "gen_ai.response.model",
            "gen_ai.tool.name",
            *TOKENS.input,
            *TOKENS.output,
        )
    ),
    kinds=(Kinds("gen_ai.operation.name", OPERATIONS),),
    kind_else=without_operation,
    request_model=REQUESTED,
    response_model=MODELS,
    provider=PROVIDERS,
    response_id=("gen_ai.response.id",),
    tokens=TOKENS,
    usage_texts=RAW,
    first_token=(FIRST_CHUNK, FirstToken("gen_ai.latency.time_to_first_token", "s")),
    sources=SOURCES,
    libraries=(Library("opentelemetry.instrumentation.google_genai*", calls_again=True),),
    costs=COSTS,
    served=SERVED,
    asked=ASKED,
    endpoints=ENDPOINTS,
    output_type=("gen_ai.output.type",),
    answered=ANSWERED,
    content=ContentKeys(
        unread={
            "gen_ai.input.messages": ANY_INPUT,
            "gen_ai.system_instructions": ("system_instructions",),
            "gen_ai.tool.definitions": ("system_instructions",),
            "gen_ai.task.input": ANY_INPUT,
            "gen_ai.task.output": ANY_INPUT,
        },
        keys={
            "gen_ai.output.messages": ANSWER,
            "gen_ai.tool.description": ("system_instructions",),
            "gen_ai.agent.description": ("system_instructions",),
            "gen_ai.tool.call.arguments": ("tool_arguments",),
            "gen_ai.tool.call.result": ("tool_results",),
            "gen_ai.retrieval.query.text": ("prompts",),
            "gen_ai.retrieval.query": ("prompts",),
            "gen_ai.retrieval.documents*": ("tool_results",),
            "gen_ai.evaluation.explanation": ("completions",),
            "gen_ai.input": ANY_INPUT,
            "gen_ai.output": ANY_INPUT,
            "code.function.parameters.*": ("tool_arguments",),
            "code.function.return.value": ("tool_results",),
            "exception.message": ANY_INPUT,
            "exception.stacktrace": ANY_INPUT,
            "error.message": ANY_INPUT,
            "http.request.body*": ANY_INPUT,
            "http.response.body*": ANY_INPUT,
            "process.command": ("prompts",),
            "process.command_args": ("prompts",),
            "process.command_line": ("prompts",),
            "user.*": ("user_ids",),
            "user.id": ("user_ids",),
            "enduser.id": ("user_ids",),
            "enduser.*": ("user_ids",),
            "user_id": ("user_ids",),
            "userId": ("user_ids",),
            "gen_ai.request.user": ("user_ids",),
            "gen_ai.user.*": ("user_ids",),
        },
        prefixes=("gen_ai.",),
        plain=(
            "gen_ai.agent.name",
            "gen_ai.agent.version",
            "gen_ai.agent.run_id",
            "gen_ai.agent.call.id",
            "gen_ai.agent.tools",
            "gen_ai.conversation.id",
            "gen_ai.data_source.id",
            "gen_ai.embeddings.*",
            "gen_ai.evaluation.name",
            "gen_ai.evaluation.score.*",
            "gen_ai.event.start_time",
            "gen_ai.event.end_time",
            "gen_ai.openai.*",
            "gen_ai.output.type",
            "gen_ai.prompt.name",
            "gen_ai.provider.name",
            "gen_ai.request.choice.count",
            "gen_ai.request.encoding_formats",
            "gen_ai.request.is_stream",
            "gen_ai.request.stop_sequences",
            "gen_ai.request.*_penalty",
            "gen_ai.request.type",
            "gen_ai.response.finish_reason",
            "gen_ai.response.finish_reasons",
            "gen_ai.response.id",
            "gen_ai.response.model",
            "gen_ai.response.state",
            "gen_ai.response.status",
            "gen_ai.response.time_to_first_chunk",
            "gen_ai.sdk.version",
            "gen_ai.system",
            "gen_ai.task.id",
            "gen_ai.task.kind",
            "gen_ai.task.name",
            "gen_ai.task.parent.id",
            "gen_ai.task.status",
            "gen_ai.token.type",
            "gen_ai.tool.call.id",
            "gen_ai.tool.call_id",
            "gen_ai.tool.call.decision.*",
            "gen_ai.tool.name",
            "gen_ai.tool.type",
            "gen_ai.tool.status",
            "gen_ai.usage.*",
            "gen_ai.workflow.name",
            "gen_ai.workflow.nodes",
            "gen_ai.workflow.edges",
            "gen_ai.application_name",
            "gen_ai.environment",
            "gen_ai.cost.*",
            "user.agent",
            "user_agent.*",
        ),
    ),
    tool=TOOL,
    groups=GROUPS,
    tool_rules=(function_parameters,),
)
