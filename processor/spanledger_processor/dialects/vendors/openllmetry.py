"""OpenLLMetry (Traceloop), Python and JavaScript."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import takewhile
from typing import Any

from spanledger_processor.dialects import texts
from spanledger_processor.dialects.normalize import Input, Output
from spanledger_processor.dialects.outcome import add_bought
from spanledger_processor.dialects.responses import ESCAPED, sold_by_the_call
from spanledger_processor.dialects.schema import (
    ANSWER,
    ANY_INPUT,
    ContentKeys,
    Detection,
    GroupingKeys,
    Kinds,
    Library,
    Precedence,
    ScopedSpan,
    Source,
    ToolKeys,
    UsageText,
)
from spanledger_processor.dialects.usage import forget_zero_writes
from spanledger_processor.dialects.values import text
from spanledger_processor.dialects.vendors.litellm import REQUEST_TYPES
from spanledger_processor.dialects.vendors.otel import ANSWERED, OPERATIONS, OTEL
from spanledger_processor.model import CLASS_NAMES, Call, Kind, Usage

_TOOL_CALL = "gen_ai.completion.0.tool_calls.{}.name"
_MOST_TOOL_CALLS = 128
_OUTPUT = "gen_ai.output.messages"
_CHOICE_MARKS, _PART_MARKS = (b'"parts"', ESCAPED), (b'"finish_reason"', ESCAPED)
_STREAMED = ("gen_ai.is_streaming", "llm.is_streaming")
_PY = "opentelemetry.instrumentation."
_JS = "@traceloop/instrumentation-"

_SCOPES = tuple(
    _PY + name
    for name in (
        "agno",
        "alephalpha",
        "anthropic",
        "bedrock",
        "cohere",
        "crewai",
        "google_generativeai",
        "groq",
        "haystack",
        "langchain",
        "litellm",
        "llamaindex",
        "mistralai",
        "ollama",
        "openai.v",
        "openai_agents",
        "replicate",
        "sagemaker",
        "together",
        "transformers",
        "vertexai",
        "voyageai",
        "watsonx",
        "writer",
    )
)


def _kind(view: ScopedSpan) -> Kind | None:
    """Return what a step of LlamaIndex' agents is that names a tool (`new_span` of its instrumentation 0.62.4)."""
    return "tool" if view.scope_name == _PY + "llamaindex" and view.attributes.is_filled("tool.name") else None


def _unwrap(_: ScopedSpan, call: Call) -> None:
    """Take arguments out of what LangChain and decorators wrap them in, which changes from call to call."""
    if call.tool is None:
        return
    value = texts.parse(call.tool.arguments)
    if isinstance(value, Mapping):
        call.tool.arguments = unwrapped(value, call.tool.arguments)


def _langchain(view: ScopedSpan, call: Call) -> None:
    if view.scope_name in (_PY + "langchain", _JS + "langchain"):
        forget_zero_writes(call)
    if view.scope_name == _PY + "langchain" and call.usage is not None and call.kind == "llm":
        is_chat = text(view.attributes.get("gen_ai.operation.name")) == "chat"
        choices = view.attributes.derived(_OUTPUT, _CHOICE_MARKS, _choices) or 1
        if is_chat and choices > 1:
            _share(call.usage, choices)
            call.estimate = True
            call.note = call.note or "the usage of all its choices, each of which is told to have used all of it"


def _share(usage: Usage, choices: int) -> None:
    """Take the usage of a call that gave several choices once: it is added up over the messages, each has all of it.

    `set_chat_response_usage` of opentelemetry-instrumentation-langchain 0.62.4. Choices of a text completion are no
    messages: of those it tells what the provider counted, once.
    """
    counts = {name: number for name in CLASS_NAMES if (number := getattr(usage, name))}
    if not any(number % choices for number in counts.values()):
        for name, number in counts.items():
            setattr(usage, name, number // choices)


def _choices(value: Any) -> int:
    messages = texts.parse(value)
    return len(messages) if isinstance(messages, list) else 0


def _untold_tools(view: ScopedSpan, call: Call) -> None:
    """Doubt the price of an answer of OpenAI's that ended with a tool of OpenAI's, which is left out of it."""
    if view.scope_name == _PY + "openai.v1" and call.usage is not None and call.kind == "llm":
        reasons = view.attributes.get("gen_ai.response.finish_reasons")
        called = isinstance(reasons, list) and "tool_call" in reasons
        if called and view.attributes.derived(_OUTPUT, _PART_MARKS, _names_no_call):
            call.unclassed = tuple(dict.fromkeys((*call.unclassed, "server-side tools")))


def _names_no_call(value: Any) -> bool:
    """Return whether no part of the output messages is a call of a tool, though that was what the answer ended with.

    `_derive_finish_reason` of opentelemetry-instrumentation-openai 0.62.4: it was one of those that OpenAI runs.
    """
    messages = texts.parse(value)
    parts = (
        [message.get("parts") for message in messages if isinstance(message, dict)]
        if isinstance(messages, list)
        else []
    )
    kinds = [
        part.get("type") for listed in parts if isinstance(listed, list) for part in listed if isinstance(part, dict)
    ]
    return bool(parts) and "tool_call" not in kinds


def _hosted_tools(view: ScopedSpan, call: Call) -> None:
    """Read the output items of OpenAI's responses, which stand among the tool calls by their types."""
    get = view.attributes.get
    if call.kind != "llm" or call.usage is None or get(_TOOL_CALL.format(0)) is None:
        return
    names = list(takewhile(bool, (text(get(_TOOL_CALL.format(index))) for index in range(_MOST_TOOL_CALLS))))
    add_bought(call, sold_by_the_call(names))


def _stream(view: ScopedSpan, call: Call) -> None:
    """Doubt the output of a stream: the first event's tokens, which the last event's hold, are added to these."""
    if view.scope_name == _PY + "anthropic" and call.usage is not None and any(map(view.attributes.get, _STREAMED)):
        call.estimate = True
        call.note = call.note or "the output holds the first event's tokens of the stream twice"


def _crew(view: ScopedSpan, call: Call) -> None:
    """Name the model of a crew's usage, which none reports, where all of its agents have the same."""
    if call.fallback is None or call.model:
        return
    agents = texts.parse(view.attributes.get("crewai.crew.agents"))
    agents = [one for one in agents if isinstance(one, Mapping)] if isinstance(agents, list) else []
    models = {text(agent.get("llm")) for agent in agents}
    if len(models) == 1 and (model := models.pop()):
        call.request_model = model
        call.estimate = True
        call.note = call.note or "a crew's usage: priced as calls of the model that its agents name"


def unwrapped(value: Mapping[str, Any], given: Any) -> Any:
    """Return `inputs` or `input_str` of a LangChain callback, `kwargs` of a decorated function; else what was given."""
    if "input_str" in value:
        return value["inputs"] if value.get("inputs") is not None else value["input_str"]
    if value.keys() == {"args", "kwargs"}:
        return value["kwargs"] if not value["args"] else given
    return given


OPENLLMETRY = replace(
    OTEL,
    name="openllmetry",
    precedence=Precedence.CONVENTION_KEYS,
    rank=11,
    about="OpenLLMetry (Traceloop), Python and JavaScript",
    detection=Detection(
        keys=("traceloop.span.kind", "llm.request.type"),
        scopes=(*_SCOPES, _JS, "@traceloop/", "traceloop."),
        requires=("gen_ai.operation.name", "gen_ai.request.model", "gen_ai.system"),
    ),
    content=ContentKeys(
        unread={
            "gen_ai.completion.*.content": ANSWER,
            "gen_ai.completion.*.reasoning": ANSWER,
            "gen_ai.completion.*.tool_calls.*.arguments": ANSWER,
            "gen_ai.prompt.*.content": ANY_INPUT,
            "gen_ai.prompt.*.tool_calls.*.arguments": ANY_INPUT,
            "llm.request.functions.*.description": ("system_instructions",),
            "llm.request.functions.*.parameters": ("system_instructions",),
        },
        keys={
            "gen_ai.prompt.*": ANY_INPUT,
            "gen_ai.prompt": ANY_INPUT,
            "gen_ai.completion.*": ANSWER,
            "gen_ai.completion": ANSWER,
            "llm.prompts*": ANY_INPUT,
            "llm.completions*": ANSWER,
            "llm.request.functions.*": ("system_instructions",),
            "llm.request.tools*": ("system_instructions",),
            "traceloop.entity.input": ANY_INPUT,
            "traceloop.entity.output": ANY_INPUT,
            "traceloop.prompt.*": ANY_INPUT,
            "traceloop.association.properties.user_id": ("user_ids",),
            "traceloop.association.properties.user*": ("user_ids",),
            "db.query.text": ("prompts",),
            "pinecone.query.result.*": ("tool_results",),
            "chroma.query.*": ("prompts",),
            "milvus.*.data": ("prompts",),
            "llm.user": ("user_ids",),
        },
        prefixes=("llm.", "traceloop."),
        plain=(
            "gen_ai.prompt.name",
            "gen_ai.prompt.version",
            "gen_ai.prompt.id",
            "llm.request.type",
            "llm.is_streaming",
            "llm.headers",
            "llm.chat.stop_sequences",
            "llm.finish_reason",
            "llm.response.finish_reason",
            "llm.response.stop_reason",
            "llm.provider",
            "llm.system",
            "llm.model_name",
            "llm.request.model_name",
            "llm.response.model_name",
            "llm.response.id",
            "llm.request.id",
            "llm.usage.*",
            "llm.token_count.*",
            "llm.cost.*",
            "llm.vendor",
            "llm.chat_message_count",
            "traceloop.association.properties.langgraph_*",
            "traceloop.association.properties.lc_*",
            "traceloop.association.properties.ls_*",
            "traceloop.association.properties.*checkpoint_ns",
            "traceloop.entity.name",
            "traceloop.entity.path",
            "traceloop.entity.version",
            "traceloop.span.kind",
            "traceloop.workflow.name",
            "traceloop.correlation.id",
            "traceloop.prompt.key",
            "traceloop.prompt.version*",
        ),
    ),
    answered=(
        *ANSWERED,
        "gen_ai.completion.0.content",
        "gen_ai.completion.0.role",
        "gen_ai.completion.0.finish_reason",
    ),
    kind_of=_kind,
    kinds=(
        Kinds("gen_ai.operation.name", OPERATIONS),
        Kinds(
            "traceloop.span.kind",
            {"workflow": "workflow", "task": "workflow", "agent": "agent", "tool": "tool", "unknown": "other"},
        ),
        Kinds("llm.request.type", REQUEST_TYPES),
    ),
    libraries=(
        Library(_PY + "google_generativeai*", calls_again=True),
        Library(_PY + "anthropic", adds_first_count=True),
    ),
    sources=(
        Source(
            Input.EXCLUSIVE,
            _PY + "bedrock",
            why="copies Bedrock's own counts",
            package="pypi:opentelemetry-instrumentation-bedrock",
            read=("0.30.0", "0.62.4"),
        ),
        Source(
            Input.EXCLUSIVE,
            _PY + "llamaindex",
            providers=("anthropic",),
            why="copies Anthropic's own counts, from 0.60.0 with caches",
            package="pypi:opentelemetry-instrumentation-llamaindex",
            read=("0.40.0", "0.62.4"),
        ),
        Source(
            Input.INCLUSIVE,
            _PY + "anthropic",
            why="adds the classes up",
            package="pypi:opentelemetry-instrumentation-anthropic",
            read=("0.40.0", "0.62.4"),
        ),
        Source(
            Input.EXCLUSIVE,
            _JS + "anthropic",
            before=(0, 28),
            why="copies Anthropic's own counts",
            package=f"npm:{_JS}anthropic",
            read=("0.8.0", "0.27.0"),
        ),
        Source(Input.INCLUSIVE, _JS + "anthropic", why="adds the classes up"),
        Source(
            Input.EXCLUSIVE,
            _JS + "bedrock",
            before=(0, 28),
            why="copies Bedrock's own counts",
            package=f"npm:{_JS}bedrock",
            read=("0.5.29", "0.27.0"),
        ),
        Source(Input.INCLUSIVE, _JS + "bedrock", why="adds the classes up where it tells them"),
        Source(
            providers=("gcp", "google", "gemini", "vertex"),
            output=Output.FROM_TOTAL,
            why="candidates only; the total has the thoughts",
            package="pypi:opentelemetry-instrumentation-google-generativeai",
            read=("0.21.5", "0.62.4"),
        ),
        Source(
            Input.INCLUSIVE,
            why="OpenAI's and LangChain's counts",
            package="pypi:opentelemetry-instrumentation-openai",
            read=("0.0.1", "0.62.4"),
        ),
    ),
    tool=ToolKeys(
        name=("gen_ai.tool.name", "tool.name", "traceloop.entity.name"),
        arguments=("gen_ai.tool.call.arguments", "tool.arguments", "traceloop.entity.input"),
        result=("gen_ai.tool.call.result", "traceloop.entity.output"),
        call_id=("gen_ai.tool.call.id",),
    ),
    groups=GroupingKeys(
        session=(
            "traceloop.association.properties.session_id",
            "gen_ai.conversation.id",
            "traceloop.association.properties.conversation_id",
            "traceloop.association.properties.thread_id",
            "traceloop.association.properties.chat_id",
        ),
        run=("traceloop.association.properties.run_id",),
    ),
    offers=("gen_ai.tool.definitions",),
    usage_texts=(*OTEL.usage_texts, UsageText("traceloop.entity.output", ("raw",))),  # of LlamaIndex
    fallback_texts=(UsageText("crewai.crew.usage_metrics"),),
    rules=(_langchain, _hosted_tools, _untold_tools, _stream, _crew),
    tool_rules=(_unwrap, *OTEL.tool_rules),
    notes=(
        "A crew's usage (`crewai.crew.usage_metrics`) counts where no call below it tells its own: at the price of the"
        " one model that all its agents name, an estimate; of several, without one. Instrument every client that the"
        " crew uses: where one call below it tells its own usage, those that do not are missing.",
        "LlamaIndex makes no span of its `OpenAI` class, whose calls the client's instrumentation tells, and names no"
        " model where it streams: `no_model`. The answer that it keeps beside its counts has what these lack.",
        "Agno: an agent's span tells what a run used that does not stream, without caches: an estimate. Streamed runs"
        " and teams tell nothing (run). Instrument the clients as well.",
        "JavaScript: streams of OpenAI's chat completions and responses and LlamaIndex' tell no usage, embeddings are"
        " not told, and caches of OpenAI's and LangChain's calls are not told: an estimate (run).",
        "Streamed Anthropic calls hold the output tokens of the first event twice, a few; no key says how many. With"
        " `create(stream=True)` the span says that it streams, and is an estimate; with `messages.stream()` it"
        " does not.",
    ),
)
