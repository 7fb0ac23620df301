"""Logfire's own integrations (OpenAI, Anthropic): the convention's keys and the provider's usage as it came."""

from __future__ import annotations

from dataclasses import replace

from spanledger_processor.dialects.normalize import Input
from spanledger_processor.dialects.schema import (
    ANY_INPUT,
    NO_CLASSES,
    ContentKeys,
    CostKey,
    Detection,
    GroupingKeys,
    Precedence,
    ScopedSpan,
    Source,
    ToolKeys,
    UsageText,
    has,
)
from spanledger_processor.dialects.vendors.otel import OTEL, PROPOSED_COST
from spanledger_processor.model import Call, Kind

_ERROR = 2
_STREAMS = ("logfire.openai", "logfire.anthropic")
"""Scopes of `instrument_llm_provider`, which alone logs the usage of a stream when it ends (`record_streaming`)."""


def _kind(view: ScopedSpan) -> Kind | None:
    return "tool" if has(view, "gen_ai_tool_name") else None


def _streamed(view: ScopedSpan, call: Call) -> None:
    """Make the first of two spans of a streamed request no model call: the usage is on the log span that follows."""
    if (
        call.kind == "llm"
        and view.scope_name in _STREAMS
        and call.usage is None
        and not call.response_id
        and view.status_code != _ERROR
        and view.attributes.get("logfire.span_type") == "span"
    ):
        call.kind = "other"
        call.note = "streamed: the usage is on the log span that follows"


LOGFIRE = replace(
    OTEL,
    name="logfire",
    precedence=Precedence.CONVENTION_KEYS,
    rank=6,
    about="Logfire's integrations for OpenAI and Anthropic",
    detection=Detection(
        keys=("gen_ai_tool_name",), scopes=("logfire",), requires=("gen_ai.operation.name", "gen_ai.request.model")
    ),
    kind_of=_kind,
    content=ContentKeys(
        unread={
            "logfire.json_schema": NO_CLASSES,
            "request_data": ANY_INPUT,
        },
        keys={
            "response_data": ANY_INPUT,
            "arguments": ("tool_arguments",),
            "result": ("tool_results",),
            "logfire.msg": ANY_INPUT,
            "async_result": ("tool_results",),
        },
        prefixes=("logfire.",),
        plain=(
            "logfire.msg_template",
            "logfire.scrubbed",
            "logfire.span_type",
            "logfire.tags",
            "logfire.level_num",
            "logfire.pending_parent_id",
            "logfire.version",
            "logfire.metrics",
            "logfire.sample_rate",
            "logfire.disable_console_log",
            "logfire.null_args",
        ),
    ),
    usage_texts=(
        *OTEL.usage_texts,
        UsageText("usage"),  # spans of the OpenAI Agents SDK
        UsageText("response_data"),
        UsageText("response_data", ("usage",), whole=True),  # of Anthropic, before usage had keys of its own
    ),
    sources=(
        Source(
            Input.INCLUSIVE,
            before=(5, 3),
            why="OpenAI's counts; response_data has the classes, and all of Anthropic's",
            package="pypi:logfire@5.2",
            read=("3.8.0", "5.2.0"),
        ),
        Source(
            Input.INCLUSIVE,
            why="adds the classes up; gen_ai.usage.raw or response_data has them",
            package="pypi:logfire-sdk",
            read=("5.4.0", "5.4.0"),
        ),
    ),
    offers=("gen_ai.tool.definitions",),
    costs=(PROPOSED_COST, CostKey("operation.cost")),
    tool=ToolKeys(
        name=("gen_ai.tool.name", "gen_ai_tool_name"),
        arguments=("gen_ai.tool.call.arguments", "arguments"),
        result=("gen_ai.tool.call.result", "tool_response"),
        call_id=("gen_ai.tool.call.id",),
    ),
    groups=GroupingKeys(session=("gen_ai.conversation.id", "session_id")),
    rules=(_streamed,),
    notes=(
        "`session_id` may be scrubbed: a value that begins with `[Scrubbed` is none.",
        "A stream that is let go of before its end may leave no log span: then the call is in no sum.",
    ),
)
