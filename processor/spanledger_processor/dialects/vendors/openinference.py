"""OpenInference (Arize): `llm.*` and `openinference.span.kind`."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from spanledger_processor.dialects import texts
from spanledger_processor.dialects.normalize import Input, Output
from spanledger_processor.dialects.outcome import add_bought
from spanledger_processor.dialects.responses import sold_by_the_call
from spanledger_processor.dialects.schema import (
    ANSWER,
    ANY_INPUT,
    ContentKeys,
    CostKey,
    Detection,
    Dialect,
    GroupingKeys,
    Kinds,
    Library,
    Mark,
    Precedence,
    ScopedSpan,
    Source,
    Tokens,
    ToolKeys,
    UsageText,
)
from spanledger_processor.dialects.values import text
from spanledger_processor.dialects.vendors.otel import ENDPOINTS, PROPOSED_COST
from spanledger_processor.model import CALLS, Call

TOKENS = Tokens(
    input=("llm.token_count.prompt",),
    output=("llm.token_count.completion",),
    total=("llm.token_count.total",),
    cache_read=(
        "llm.token_count.prompt_details.cache_read",
        "metadata.usage.cached_prompt_tokens",  # BeeAI: `ChatModelUsage`, LiteLLM's counts
        "llm.token_count.prompt_details.cache_input",
    ),
    cache_write=("llm.token_count.prompt_details.cache_write", "metadata.usage.cached_creation_tokens"),
    reasoning=("llm.token_count.completion_details.reasoning",),
    parts={
        "input_audio": ("llm.token_count.prompt_details.audio",),
        "output_audio": ("llm.token_count.completion_details.audio",),
    },
)

_JS = "@arizeai/openinference-instrumentation-"
_COHERE = "openinference.instrumentation.cohere"
_BEEAI = "openinference.instrumentation.beeai"
_LITELLM = "openinference.instrumentation.litellm"
_MOST_MESSAGES = 128
_MESSAGE = "llm.output_messages.{}.message."
_ROLE, _TOOL_CALL = _MESSAGE + "role", _MESSAGE + "tool_calls.0.tool_call.function.name"
_AGENT_SDK_JS = _JS + "claude-agent-sdk"


def _prepared(view: ScopedSpan, call: Call) -> None:
    """Make no call of LlamaIndex' LLM span around getting a request ready: nothing is sent there."""
    if call.kind == "llm" and call.usage is None and "._prepare_" in view.name:
        call.kind = "other"


def _without_caches(view: ScopedSpan, call: Call) -> None:
    """Leave spans of the Claude Agent SDK (JavaScript) unpriced: they lack cached input, nearly all there is."""
    if call.usage is not None and call.usage.cache_read is None and view.scope_name == _AGENT_SDK_JS:
        call.problem = "the span leaves cached input out"


def _stream(view: ScopedSpan, call: Call) -> None:
    """Doubt the output of Anthropic's streams in LangChain for JavaScript: it adds the first event's tokens to all.

    `_makeMessageChunkFromAnthropicEvent` of @langchain/anthropic 1.5.11.
    """
    if view.scope_name != _JS + "langchain" or call.usage is None:
        return
    get = view.attributes.marked
    if get("output.value", (b"AIMessageChunk",)) and get("metadata", (b"@langchain/anthropic",)):
        call.estimate = True
        call.note = call.note or "the output holds the first event's tokens of the stream twice"


def _billed_by_cohere(view: ScopedSpan, call: Call) -> None:
    """Doubt the counts of Cohere's streams: all tokens of the prompt, where Cohere bills only the user's.

    `_get_attributes_from_usage` of openinference-instrumentation-cohere 0.1.15; the answer on other spans has both.
    """
    if view.scope_name != _COHERE or call.usage is None or call.kind != "llm":
        return
    whole = view.attributes.get("output.mime_type") == "application/json"  # else it is what the model wrote
    if not (whole and view.attributes.marked("output.value", (b'"billed_units"',))):
        call.estimate = True
        call.note = call.note or "Cohere bills fewer tokens than it counts, and the span tells those it counted"


def _hosted_tools(view: ScopedSpan, call: Call) -> None:
    """Read the output items of OpenAI's responses, which stand among the tool calls by their types, of LiteLLM's."""
    if view.scope_name != _LITELLM or call.kind != "llm" or call.usage is None:
        return
    get, found = view.attributes.get, list[str]()
    for index in range(_MOST_MESSAGES):
        if get(_ROLE.format(index)) is None:
            break
        found.append(text(get(_TOOL_CALL.format(index))))
    add_bought(call, sold_by_the_call(found))


def _events(view: ScopedSpan, call: Call) -> None:
    """Make no call of a span that BeeAI's instrumentation makes of an event: it has the kind of the one above it."""
    if call.usage is None and view.scope_name == _BEEAI and "metadata.class_name" not in view.attributes:
        call.kind = "other" if call.kind in CALLS else call.kind


def _refused(view: ScopedSpan) -> bool:
    """Return whether the result of a failed call of LangChain's or BeeAI's is made of the refusal, or of nothing.

    `_generate_response_from_error` of langchain-core 1.8.3: at most a generation without text, whose message has the
    HTTP status. BeeAI's explains the error (`record_exception`): only messages show that an answer began.
    """
    if view.scope_name == _BEEAI:
        return _ROLE.format(0) not in view.attributes
    if not view.scope_name.startswith("openinference.instrumentation.langchain"):
        return False
    return bool(view.attributes.derived("output.value", (b"generations",), _is_of_error))


def _is_of_error(value: Any) -> bool:
    parsed = texts.parse(value)
    listed = parsed.get("generations") if isinstance(parsed, dict) else None
    if not isinstance(listed, list):
        return False
    made = [one for inner in listed if isinstance(inner, list) for one in inner]
    return all(isinstance(one, dict) and not one.get("text") and _has_failed(one) for one in made)


def _has_failed(generation: Mapping[str, Any]) -> bool:
    """Return whether the message of a generation has the HTTP status of a failure."""
    node: Any = generation
    for step in ("message", "kwargs", "response_metadata", "status_code"):
        node = node.get(step) if isinstance(node, dict) else None
    return isinstance(node, int) and node >= HTTPStatus.BAD_REQUEST


OPENINFERENCE = Dialect(
    name="openinference",
    precedence=Precedence.CONVENTION,
    rank=1,
    about="OpenInference (Arize Phoenix and AX), Python and JavaScript",
    detection=Detection(keys=("openinference.span.kind", *TOKENS.input, *TOKENS.output)),
    kinds=(
        Kinds(
            "openinference.span.kind",
            {
                "llm": "llm",
                "embedding": "embedding",
                "reranker": "rerank",
                "retriever": "retrieval",
                "tool": "tool",
                "agent": "agent",
                "chain": "workflow",
                "guardrail": "other",
                "evaluator": "other",
                "prompt": "other",
                "unknown": "other",
            },
        ),
    ),
    otherwise="llm",
    request_model=("llm.request.model_name",),
    response_model=(
        "llm.response.model_name",
        "llm.model_name",
        "embedding.model_name",
        "reranker.model_name",
    ),
    provider=("llm.provider", "llm.system"),
    response_id=("llm.response.id",),
    answers=("output.value",),
    tokens=TOKENS,
    asked_in=("llm.invocation_parameters",),
    endpoints=ENDPOINTS,
    content=ContentKeys(
        unread={
            "embedding.embeddings.*.embedding.text": ANY_INPUT,
            "embedding.embeddings.*.embedding.vector": ANY_INPUT,
            "input.value": ANY_INPUT,
            "llm.input_messages.*.message.content": ANY_INPUT,
            "llm.input_messages.*.message.contents.*.message_content.image.image.url": ANY_INPUT,
            "llm.input_messages.*.message.contents.*.message_content.text": ANY_INPUT,
            "llm.input_messages.*.message.tool_calls.*.tool_call.function.arguments": ANY_INPUT,
            "llm.output_messages.*.message.content": ANSWER,
            "llm.output_messages.*.message.contents.*.message_content.text": ANSWER,
            "llm.output_messages.*.message.tool_calls.*.tool_call.function.arguments": ANSWER,
            "llm.prompt_template.template": ("prompts",),
            "llm.prompt_template.variables": ("prompts",),
            "llm.tools.*.tool.json_schema": ("system_instructions",),
            "reranker.input_documents.*.document.content": ("tool_results",),
            "reranker.output_documents.*.document.content": ("tool_results",),
            "retrieval.documents.*.document.content": ("tool_results",),
        },
        keys={
            "output.value": ANY_INPUT,
            "input.*": ANY_INPUT,
            "output.*": ANY_INPUT,
            "llm.input_messages.*": ANY_INPUT,
            "llm.output_messages.*": ANSWER,
            "llm.prompt_template.*": ("prompts",),
            "llm.prompts.*": ANY_INPUT,
            "llm.choices.*": ("completions",),
            "llm.tools.*": ("system_instructions",),
            "llm.function_call": ("tool_arguments",),
            "llm.invocation_parameters": ANY_INPUT,
            "tool.parameters": ("tool_arguments",),
            "tool.description": ("system_instructions",),
            "tool.json_schema": ("system_instructions",),
            "tool_call.function.arguments": ("tool_arguments",),
            "embedding.embeddings.*": ANY_INPUT,
            "embedding.text": ("prompts",),
            "embedding.vector": ("prompts",),
            "embedding.invocation_parameters": ("prompts",),
            "retrieval.documents.*": ("tool_results",),
            "document.*": ("tool_results",),
            "reranker.query": ("prompts",),
            "reranker.input_documents.*": ("tool_results",),
            "reranker.output_documents.*": ("tool_results",),
            "message.*": ANY_INPUT,
            "metadata": ANY_INPUT,
            "tag.tags": ANY_INPUT,
            "image.url": ("prompts",),
            "audio.url": ("prompts",),
            "audio.transcript": ("prompts",),
            "prompt.*": ("prompts",),
            "session.input*": ("prompts",),
            "crew_agents": ANY_INPUT,
            "crew_tasks": ANY_INPUT,
            "crew_inputs": ("prompts",),
            "flow_inputs": ("prompts",),
            "formatted_*": ("prompts",),
            "function_calling_llm": ANY_INPUT,
            "smolagents.task": ("prompts",),
            "smolagents.system_prompt": ("system_instructions",),
        },
        prefixes=(
            "input.",
            "output.",
            "embedding.",
            "reranker.",
            "retrieval.",
            "tool.",
            "tool_call.",
            "prompt.",
            "agno.",
            "crew_",
            "smolagents.",
        ),
        spans_named_by_content=("openinference.instrumentation.crewai",),
        plain=(
            "input.mime_type",
            "output.mime_type",
            "embedding.model_name",
            "reranker.model_name",
            "reranker.top_k",
            "tool.name",
            "tool.id",
            "tool_call.id",
            "tool_call.function.name",
            "tool.cache_function",
            "tool.call_id",
            "tool.type",
            "tool.status",
            "prompt.id",
            "prompt.vendor",
            "prompt.url",
            "graph.*",
            "agno.agent.id",
            "agno.run.id",
            "agno.session.id",
            "agno.team.id",
            "agno.tools",
            "crew_id",
            "crew_key",
            "crew_number_of_*",
            "smolagents.max_steps",
            "smolagents.tools_names",
            "document.id",
            "document.score",
        ),
    ),
    answered=(
        "llm.output_messages.0.message.role",
        "llm.output_messages.0.message.content",
        "llm.output_messages.0.message.contents.0.message_content.type",
        "llm.output_messages.0.message.tool_calls.0.tool_call.function.name",
        "llm.finish_reason",
        "output.value",
    ),
    refused=_refused,
    own_cache=(Mark("metadata", path=("cache_hit",)),),
    usage_texts=(UsageText("output.value"), UsageText("metadata")),
    fallback_texts=(UsageText("output.value"),),
    libraries=(
        Library("openinference.instrumentation.google_genai*", calls_again=True),
        Library(_JS + "langchain", adds_first_count=True),
    ),
    sources=(
        Source(
            Input.EXCLUSIVE,
            "openinference.instrumentation.bedrock",
            before=(0, 1, 60),
            why="copies Bedrock's own counts",
            package="pypi:openinference-instrumentation-bedrock",
            read=("0.1.1", "0.1.59"),
        ),
        Source(
            Input.INCLUSIVE,
            "openinference.instrumentation.bedrock",
            why="adds the classes up",
            package="pypi:openinference-instrumentation-bedrock",
            read=("0.1.60", "0.1.61"),
        ),
        Source(
            Input.EXCLUSIVE,
            "openinference.instrumentation.claude_agent_sdk",
            before=(0, 1, 13),
            why="copies Anthropic's own counts",
            package="pypi:openinference-instrumentation-claude-agent-sdk",
            read=("0.1.0", "0.1.12"),
        ),
        Source(
            Input.INCLUSIVE,
            "openinference.instrumentation.claude_agent_sdk",
            why="adds the classes up",
            package="pypi:openinference-instrumentation-claude-agent-sdk",
            read=("0.1.13", "0.1.22"),
        ),
        Source(
            Input.EXCLUSIVE,
            _AGENT_SDK_JS,
            why="copies Anthropic's own counts",
            package="npm:" + _AGENT_SDK_JS,
            read=("0.2.1", "0.3.1"),
        ),
        Source(
            Input.EXCLUSIVE,
            "openinference.instrumentation.agno",
            providers=("anthropic", "aws", "bedrock"),
            why="Agno copies the provider's own counts",
            package="pypi:openinference-instrumentation-agno",
            read=("0.1.1", "1.0.15"),
        ),
        Source(
            Input.EXCLUSIVE,
            "openinference.instrumentation.anthropic",
            before=(0, 1, 14),
            why="copies Anthropic's own counts, without caches",
            package="pypi:openinference-instrumentation-anthropic",
            read=("0.1.0", "0.1.13"),
        ),
        Source(
            Input.INCLUSIVE,
            "openinference.instrumentation.anthropic",
            why="adds the classes up",
            package="pypi:openinference-instrumentation-anthropic",
            read=("0.1.14", "3.1.0"),
        ),
        Source(
            Input.UNSURE,
            "openinference.instrumentation.langchain",
            before=(0, 1, 55),
            why="copies the provider's own counts where LangChain passes them on: Anthropic's exclude caches",
            package="pypi:openinference-instrumentation-langchain",
            read=("0.1.29", "0.1.54"),
        ),
        Source(
            Input.INCLUSIVE,
            "openinference.instrumentation.langchain",
            why="adds Anthropic's classes up",
            package="pypi:openinference-instrumentation-langchain",
            read=("0.1.55", "0.1.80"),
        ),
        Source(
            Input.INCLUSIVE,
            "openinference.instrumentation.google_genai",
            before=(0, 1, 9),
            output=Output.FROM_TOTAL,
            why="candidates only where it streams; the total has the thoughts",
            package="pypi:openinference-instrumentation-google-genai",
            read=("0.1.0", "0.1.8"),
        ),
        Source(
            Input.INCLUSIVE,
            "openinference.instrumentation.google_genai",
            why="adds thoughts and tool tokens",
            package="pypi:openinference-instrumentation-google-genai",
            read=("0.1.9", "1.4.14"),
        ),
        Source(
            Input.INCLUSIVE,
            "openinference.instrumentation.",
            why="OpenInference counts caches in",
            package="pypi:openinference-instrumentation-openai",
            read=("0.1.0", "0.1.66"),
        ),
        Source(
            Input.EXCLUSIVE,
            _JS + "anthropic",
            before=(0, 2),
            why="copies Anthropic's own counts, without caches",
            package=f"npm:{_JS}anthropic",
            read=("0.1.7", "0.1.22"),
        ),
        Source(
            Input.INCLUSIVE,
            _JS + "anthropic",
            why="adds the classes up",
            package=f"npm:{_JS}anthropic",
            read=("0.2.8", "0.2.8"),
        ),
        Source(
            Input.EXCLUSIVE,
            _JS + "bedrock",
            why="copies Bedrock's own counts",
            package=f"npm:{_JS}bedrock",
            read=("0.4.14", "0.5.1"),
        ),
        Source(
            Input.INCLUSIVE,
            "@arizeai/openinference-instrumentation",
            why="OpenInference counts caches in",
            package="npm:@arizeai/openinference-instrumentation-openai",
            read=("2.0.2", "4.2.7"),
        ),
        Source(Input.UNSURE, providers=("anthropic", "aws", "bedrock"), why="hand-made, or a translator's"),
        Source(Input.PRESUMED, why="OpenInference counts caches in"),
    ),
    costs=(PROPOSED_COST, CostKey("llm.cost.total"), CostKey("gen_ai.usage.cost")),
    tool=ToolKeys(
        name=("tool.name",),
        arguments=("input.value",),
        result=("output.value",),
        call_id=("tool_call.id", "tool.id"),
        name_from_span=True,
    ),
    rules=(_events, _prepared, _without_caches, _stream, _hosted_tools, _billed_by_cohere),
    groups=GroupingKeys(session=("session.id",), agent=("graph.node.id",), agent_parent=("graph.node.parent_id",)),
    notes=(
        "LlamaIndex and Haystack: the service tier is not among the parameters that are read: what a call asks for"
        " costs what the standard tier does, without a mark. A stream of LlamaIndex ends its span before the client's"
        " begins, in a trace of its own: it is one more call, `no_usage`. Instrument the client alone.",
        "Told without usage, `no_usage` (run): calls of DSPy, also those that its own cache answered, which no key"
        " tells; streams of LangChain.js, Groq, Portkey and OpenAI's library for JavaScript, and its embeddings. Where"
        " the client is instrumented as well, a stream of LangChain.js is one more call, too.",
        "Not told at all (run): calls of Instructor, `generate` of Ollama, embeddings and responses of Portkey, images."
        " AutoGen's (AgentChat) have no caches: an estimate. Instrument the client as well.",
    ),
)
