"""OpenLIT SDKs, Python and TypeScript."""

from __future__ import annotations

from dataclasses import replace

from spanledger_processor.dialects.normalize import Input, Output
from spanledger_processor.dialects.outcome import add_bought
from spanledger_processor.dialects.responses import sold_by_the_call
from spanledger_processor.dialects.schema import (
    ANSWER,
    ANY_INPUT,
    FIRST_CHUNK,
    ContentKeys,
    Detection,
    FirstToken,
    GroupingKeys,
    Kinds,
    Precedence,
    ScopedSpan,
    Source,
    ToolKeys,
    has,
)
from spanledger_processor.dialects.usage import forget_zero_writes
from spanledger_processor.dialects.values import flag, text
from spanledger_processor.dialects.vendors.otel import COSTS, OPERATIONS, OTEL, TOKENS
from spanledger_processor.model import Call, Kind

_HERE = "openlit.instrumentation."


_CACHES = ("gen_ai.usage.cache_read.input_tokens", "gen_ai.usage.cache_creation.input_tokens")


def _kind(view: ScopedSpan) -> Kind | None:
    """Return `workflow` for a span of the application's own (`start_trace`), which has its result and nothing else."""
    if view.scope_name == "openlit" and not has(view, "gen_ai.operation.name", "gen_ai.request.model"):
        return "workflow"
    return None


def _langchain(view: ScopedSpan, call: Call) -> None:
    if view.scope_name.startswith((_HERE + "langchain", _HERE + "langgraph")):
        forget_zero_writes(call)


def _stream(view: ScopedSpan, call: Call) -> None:
    """Forget that nothing was cached in a stream of Anthropic's: the last event's usage is written over the first's.

    `process_chunk` of openlit 1.45.0: an event that does not repeat the caches leaves 0 for both.
    """
    usage = call.usage
    if (
        view.scope_name != _HERE + "anthropic"
        or usage is None
        or not flag(view.attributes.get("gen_ai.request.stream"))
    ):
        return
    if not usage.cache_read and not usage.cache_write:
        usage.cache_read = usage.cache_write = None
        call.estimate = True
        call.note = call.note or "the span may have lost what was cached: OpenLIT takes it from a stream's last event"


def _made_up(view: ScopedSpan, call: Call) -> None:
    """Doubt counts of a stream of OpenAI's whose usage never came: OpenLIT splits the texts into tokens itself.

    `common_chat_logic` of openlit 1.45.0: where usage came, its caches are told, also those of 0.
    """
    if view.scope_name != _HERE + "openai" or call.kind != "llm" or call.usage is None:
        return
    if flag(view.attributes.get("gen_ai.request.stream")) and not any(map(view.attributes.is_filled, _CACHES)):
        call.estimate = True
        call.note = call.note or "OpenLIT made these counts of the texts: the stream told no usage"


def _hosted_tools(view: ScopedSpan, call: Call) -> None:
    """Read the output items of OpenAI's responses, of which the span lists the types without their ending."""
    listed = text(view.attributes.get("openai.response.built_in_tools"))
    if listed and call.kind == "llm" and call.usage is not None:
        add_bought(call, sold_by_the_call(f"{item.strip()}_call" for item in listed.split(",")))


OPENLIT = replace(
    OTEL,
    name="openlit",
    precedence=Precedence.CONVENTION_KEYS,
    rank=7,
    about="OpenLIT SDKs",
    detection=Detection(
        keys=("openlit.agent.version_hash",),
        scopes=("openlit", "@openlit/"),
        requires=("gen_ai.operation.name", "gen_ai.output.messages"),
    ),
    kind_of=_kind,
    kinds=(
        Kinds(
            "gen_ai.operation.name",
            {
                **OPERATIONS,
                "framework": "workflow",
                "agent": "agent",
                "retrieve": "retrieval",
                "image": "llm",
                "audio": "llm",
                "speech": "llm",
            },
        ),
    ),
    tokens=replace(
        TOKENS,
        cache_read=(
            *TOKENS.cache_read,
            "gen_ai.usage.prompt_tokens_details.cached_tokens",
            "gen_ai.usage.prompt_tokens_details.cache_read",
        ),
        cache_write=(
            *TOKENS.cache_write,
            "gen_ai.usage.prompt_tokens_details.cache_creation_tokens",
            "gen_ai.usage.prompt_tokens_details.cache_write",
        ),
        reasoning=(
            *TOKENS.reasoning,
            "gen_ai.usage.completion_tokens_details.reasoning_tokens",
            "gen_ai.usage.completion_tokens_details.reasoning",
        ),
        unclassed={
            **TOKENS.unclassed,
            "web searches": ("openai.response.web_search.citations_count",),
        },
    ),
    content=ContentKeys(
        keys={
            "gen_ai.tool.args": ("tool_arguments",),
            "gen_ai.content.prompt": ANY_INPUT,
            "gen_ai.content.completion": ANSWER,
            "gen_ai.content.*": ANY_INPUT,
        },
        prefixes=("openlit.",),
        plain=("openlit.agent.version_hash",),
    ),
    first_token=(FIRST_CHUNK, FirstToken("gen_ai.server.time_to_first_token", "s")),
    sources=(
        Source(
            Input.INCLUSIVE,
            _HERE + "claude_agent_sdk",
            why="adds the classes up",
            package="pypi:openlit",
            read=("1.40.0", "1.45.0"),
        ),
        Source(
            Input.INCLUSIVE,
            _HERE + "litellm",
            why="LiteLLM's counts",
            package="pypi:openlit",
            read=("1.30.0", "1.45.0"),
        ),
        Source(
            Input.INCLUSIVE,
            _HERE + "langchain",
            why="LangChain's usage_metadata",
            package="pypi:openlit",
            read=("1.30.0", "1.45.0"),
        ),
        Source(
            Input.EXCLUSIVE,
            _HERE + "anthropic",
            why="copies Anthropic's own counts",
            package="pypi:openlit",
            read=("1.20.0", "1.45.0"),
        ),
        Source(
            Input.EXCLUSIVE,
            _HERE + "bedrock",
            why="copies Bedrock's own counts",
            package="pypi:openlit",
            read=("1.20.0", "1.45.0"),
        ),
        Source(
            scope=_HERE + "google",
            output=Output.EXCLUSIVE,
            why="candidates only; thoughts stand beside them",
            package="pypi:openlit",
            read=("1.20.0", "1.45.0"),
        ),
        Source(
            scope=_HERE + "vertexai",
            output=Output.EXCLUSIVE,
            why="candidates only; thoughts are not reported",
            package="pypi:openlit",
            read=("1.20.0", "1.45.0"),
        ),
        Source(
            Input.EXCLUSIVE,
            providers=("anthropic", "aws", "bedrock"),
            why="copies the provider's own counts",
            package="pypi:openlit",
            read=("1.20.0", "1.45.0"),
        ),
        Source(
            providers=("gcp", "google", "gemini", "vertex"),
            output=Output.EXCLUSIVE,
            why="candidates only; thoughts stand beside them",
            package="pypi:openlit",
            read=("1.20.0", "1.45.0"),
        ),
        Source(
            Input.INCLUSIVE,
            why="OpenAI's counts",
            package="pypi:openlit",
            read=("1.20.0", "1.45.0"),
        ),
    ),
    costs=tuple(replace(cost, reliable=False) for cost in COSTS),
    rules=(_langchain, _stream, _made_up, _hosted_tools),
    tool=ToolKeys(
        name=("gen_ai.tool.name",),
        arguments=("gen_ai.tool.call.arguments", "gen_ai.tool.args", "gen_ai.tool.input"),
        result=("gen_ai.tool.call.result", "gen_ai.tool.output"),
        call_id=("gen_ai.tool.call.id",),
    ),
    groups=GroupingKeys(session=("gen_ai.conversation.id", "session.id")),
    notes=(
        "Its cost ignores caches: ours goes before it.",
        "LLM spans carry the tool that the model asked for; only `execute_tool` is a tool execution.",
        "A stream of Anthropic's without caches may have had some: OpenLIT takes them from the last event.",
        "A stream without usage gets counts that OpenLIT makes up: of OpenAI's an estimate, as caches are missing then;"
        " on a log event nothing says so.",
    ),
)
