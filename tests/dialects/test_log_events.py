"""Log events that report calls become spans, with the truth of the recordings and never with their content."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from dialect_truth import compare, truth
from dialect_view import CAPTURES, PlainAttributes, PlainView
from gaps import NO_ARGUMENTS
from spanledger_processor.dialects import detect
from spanledger_processor.dialects.log_events import LOG_MARKERS, synthesize
from spanledger_processor.model import Call, ToolCall
from spanledger_processor.otlp.encoding import SynthesizedSpan, delimited
from spanledger_processor.otlp.envelope import ScopeGroup
from spanledger_processor.otlp.request import parse_logs
from spanledger_processor.otlp.views import LogView
from spanledger_processor.signing.signer import Signer
from spanledger_processor.synthesized import PLAN

SIGNER = Signer(b"k" * 32)


def records(folder: Path) -> list[tuple[LogView, ScopeGroup]]:
    found = [
        (LogView.parse(record), group)
        for path in sorted(folder.glob("*.logs.binpb"))
        for group in parse_logs(path.read_bytes())
        for record in group.items
    ]
    assert found, folder
    return found


def spans(folder: Path, tenant: str = "") -> list[SynthesizedSpan]:
    made = (synthesize(record, group, tenant, SIGNER.sign) for record, group in records(folder))
    return [span for span in made if span is not None]


def reported(folder: Path) -> list[tuple[LogView, SynthesizedSpan]]:
    """Return the records that spans are made from, and those."""
    made = [(record, synthesize(record, group)) for record, group in records(folder)]
    found = [(record, span) for record, span in made if span is not None]
    assert found, folder
    return found


def read_back(span: SynthesizedSpan) -> Call:
    view = PlainView(
        PlainAttributes(span.attributes), span.name, span.scope_name, span.scope_version, PlainAttributes(span.resource)
    )
    call = detect(view)
    assert call is not None
    return call


CLIENTS = ["claude-code/logs-only", "claude-code/tools", "claude-code/subagent", "codex/logs-only", "codex/tools"]
TOLD = [
    *CLIENTS,
    "gemini-cli/tools",
    "otel-genai/S1-gemini",
    "otel-genai/S7-openai-chat",
    "google-adk/S3",
    "openlit/S1-anthropic",
    "openlit/S3-anthropic",
]


@pytest.mark.parametrize("name", TOLD)
def test_logs_tell_every_call_as_it_was_billed(name: str) -> None:
    calls = [read_back(span) for span in spans(CAPTURES / name)]
    usages = [(call.dialect, call.usage) for call in calls if call.usage is not None]
    compared = compare(usages, truth(CAPTURES / name))
    assert compared.wrong == []
    assert (compared.reported, len(usages)) == (compared.calls, compared.calls)
    assert all(call.source.startswith("log:") and call.granularity == "per-message" for call in calls)


@pytest.mark.parametrize("name", ["claude-code/logs-only", "claude-code/subagent"])
def test_claude_codes_logs_tell_the_split_that_its_spans_lack(name: str) -> None:
    calls = [read_back(span) for span in spans(CAPTURES / name)]
    hours = sum(call.usage.cache_write_1h or 0 for call in calls if call.usage is not None)
    assert hours == sum(usage.cache_write_1h or 0 for usage in truth(CAPTURES / name)) > 0


@pytest.mark.parametrize("name", [*CLIENTS, "gemini-cli/tools"])
def test_tool_executions_are_signed_by_their_arguments(name: str) -> None:
    """Equal calls have equal signatures, others have others; arguments that were not logged leave the name."""
    folder = CAPTURES / name
    tools = [call.tool for span in spans(folder) if (call := read_back(span)).kind == "tool"]
    executed = json.loads((folder / "truth.json").read_text(encoding="utf-8"))["tool_executions"]
    signatures = [tool.signature for tool in tools if tool is not None]
    scopes = {tool.signature_scope for tool in tools if tool is not None}
    assert len(signatures) == len(executed)
    assert scopes == {"name_only" if name in NO_ARGUMENTS else "full"}
    if name not in NO_ARGUMENTS:
        wanted = [SIGNER.sign(ToolCall(call["name"], call["arguments"])) for call in executed]
        signed = {signature.value for signature in wanted if signature is not None}
        assert len(set(signatures)) == len(signed)


@pytest.mark.parametrize("name", TOLD)
def test_content_stays_in_the_log(name: str) -> None:
    kept = {"gen_ai.tool.name", "gen_ai.tool.call.id", "anthropic.provider", "workflow.run_id"}
    for _, span in reported(CAPTURES / name):
        assert all(key.startswith(("gen_ai.", "spanledger.")) or key in kept for key in span.attributes)
        words = json.dumps(dict(span.attributes))
        assert not any(word in words for word in ("echo hi", "weather", "terse geography"))


@pytest.mark.parametrize("name", TOLD)
def test_the_same_record_gives_the_same_span(name: str) -> None:
    once, again = spans(CAPTURES / name, "t"), spans(CAPTURES / name, "t")
    assert once == again
    assert len({span.span_id for span in once}) == len(once)


def test_tenants_share_no_ids() -> None:
    one, other = spans(CAPTURES / "codex/logs-only", "one"), spans(CAPTURES / "codex/logs-only", "other")
    assert len(one) == len(other) > 0
    assert not {span.span_id for span in one} & {span.span_id for span in other}
    assert not {span.trace_id for span in one if not span.parent_id} & {
        span.trace_id for span in other if not span.parent_id
    }


def test_a_record_joins_the_trace_that_it_names() -> None:
    for record, span in reported(CAPTURES / "claude-code/subagent"):
        assert (span.trace_id, span.parent_id) == (record.trace_id, record.span_id)


def test_records_without_a_trace_share_one_by_session() -> None:
    found = spans(CAPTURES / "claude-code/logs-only")
    assert len({span.trace_id for span in found}) == 1
    assert {span.parent_id for span in found} == {b""}


def test_a_calls_time_is_the_events_less_its_duration() -> None:
    record, group = next(
        (record, group)
        for record, group in records(CAPTURES / "claude-code/logs-only")
        if record.body == "claude_code.api_request"
    )
    span = synthesize(record, group)
    assert span is not None
    assert (span.end_ns, span.end_ns - span.start_ns) == (record.time_ns, 103_000_000)


@pytest.mark.parametrize("name", TOLD)
def test_the_prefilter_lets_every_event_through(name: str) -> None:
    for record, _ in reported(CAPTURES / name):
        assert any(mark in record.raw for mark in LOG_MARKERS)


@pytest.mark.parametrize("name", TOLD)
def test_ids_do_not_depend_on_how_a_record_is_encoded(name: str) -> None:
    """A Collector between writes what it read anew: here with the attributes last and first, and an empty body."""
    for record, group in records(CAPTURES / name):
        again = LogRecord.FromString(record.raw)
        attributes = b"".join(delimited(6, each.SerializeToString()) for each in again.attributes)
        del again.attributes[:]
        if not again.HasField("body"):
            again.body.SetInParent()
        encoded = attributes + again.SerializeToString()
        first, second = synthesize(record, group), synthesize(LogView.parse(encoded), group)
        assert (first and (first.trace_id, first.span_id)) == (second and (second.trace_id, second.span_id))


@pytest.mark.parametrize("name", ["mastra/openai-tools", "otel-openai-v2/S1-openai-chat"])
def test_other_logs_report_no_call(name: str) -> None:
    assert spans(CAPTURES / name) == []


class Record:
    """A log record out of plain values."""

    def __init__(self, attributes: dict[str, Any], name: str = "", body: Any = None) -> None:
        self.attributes = PlainAttributes(attributes)
        self.severity_number = 0
        self.event_name, self.body = name, body
        self.time_ns, self.observed_ns = 0, 5 * 10**18
        self.trace_id, self.span_id, self.raw = b"", b"", json.dumps(attributes).encode()


class Group:
    scope_name, scope_version = "scope", "1"
    resource_attributes = PlainAttributes()


def from_plain(attributes: dict[str, Any], name: str = "", body: Any = None) -> SynthesizedSpan | None:
    group: Any = Group()
    group.resource_attributes = type("Resource", (PlainAttributes,), {})()
    record: Any = Record(attributes, name, body)
    return synthesize(record, group)


CLAUDE = {"session.id": "s", "model": "m", "input_tokens": "10", "output_tokens": 5.0, "request_id": "r"}


def test_counts_may_be_strings_or_doubles() -> None:
    span = from_plain(CLAUDE, body="claude_code.api_request")
    assert span is not None
    assert (span.attributes["gen_ai.usage.input_tokens"], span.attributes["gen_ai.usage.output_tokens"]) == (10, 5)


@pytest.mark.parametrize(
    "change",
    [
        {"input_tokens": -1},
        {"output_tokens": "x"},
        {"cache_read_tokens": 1.5},
        {"input_tokens": None, "output_tokens": None},
        {"input_tokens": 0, "output_tokens": 0},
    ],
)
def test_what_is_no_usage_makes_no_span(change: dict[str, Any]) -> None:
    assert from_plain(CLAUDE | change, body="claude_code.api_request") is None


def test_time_comes_from_the_timestamp_else_from_the_observer() -> None:
    stamped = from_plain(CLAUDE | {"event.timestamp": "2026-11-22T15:34:46.096Z"}, body="claude_code.api_request")
    plain = from_plain(CLAUDE | {"event.timestamp": "yesterday"}, body="claude_code.api_request")
    assert stamped is not None
    assert plain is not None
    assert (stamped.end_ns, plain.end_ns) == (1795361686096 * 10**6, 5 * 10**18)


@pytest.mark.parametrize("duration", ["x", -1, 10**15, None, True])
def test_a_duration_that_makes_no_sense_is_none(duration: Any) -> None:
    span = from_plain(CLAUDE | {"duration_ms": duration}, body="claude_code.api_request")
    assert span is not None
    assert span.end_ns - span.start_ns in (0, 10**6)


def test_fast_mode_reaches_pricing() -> None:
    span = from_plain(CLAUDE | {"speed": "fast"}, body="claude_code.api_request")
    assert span is not None
    assert read_back(span).price_context == (("speed", "fast"),)


def test_the_cost_that_was_logged_is_an_estimate() -> None:
    span = from_plain(CLAUDE | {"cost_usd": 0.25}, body="claude_code.api_request")
    assert span is not None
    reported = read_back(span).reported
    assert reported is not None
    assert (reported.amount, reported.billed) == (250_000_000_000, False)


def test_a_raw_body_tells_the_split() -> None:
    body = {
        "id": "msg_1",
        "usage": {
            "input_tokens": 10,
            "output_tokens": 5,
            "cache_creation_input_tokens": 30,
            "cache_creation": {"ephemeral_5m_input_tokens": 10, "ephemeral_1h_input_tokens": 20},
        },
    }
    span = from_plain(
        {"session.id": "s", "model": "m", "request_id": "r", "body": json.dumps(body)},
        body="claude_code.api_response_body",
    )
    assert span is not None
    usage = read_back(span).usage
    assert usage is not None
    assert (usage.input, usage.cache_write, usage.cache_write_1h) == (40, 30, 20)


def test_two_events_of_one_response_are_two_spans_of_one_id() -> None:
    """The accounting joins them by the response's id and takes what tells more."""
    body = '{"usage": {"input_tokens": 10, "output_tokens": 5, "cache_read_input_tokens": 0}}'
    request = from_plain(CLAUDE, body="claude_code.api_request")
    answer = from_plain({"session.id": "s", "request_id": "r", "body": body}, body="claude_code.api_response_body")
    assert request is not None
    assert answer is not None
    assert request.span_id != answer.span_id
    assert request.attributes["gen_ai.response.id"] == answer.attributes["gen_ai.response.id"] == "r"


def test_a_raw_body_without_a_request_id_is_no_second_call() -> None:
    """A gateway may drop the header that the id comes from; `api_request`, always there, counts the call."""
    body = '{"id": "msg_1", "usage": {"input_tokens": 10, "output_tokens": 5}}'
    assert from_plain({"session.id": "s", "body": body}, body="claude_code.api_response_body") is None


def test_cursor() -> None:
    span = from_plain(
        {
            "cursor.conversation.id": "c",
            "cursor.event.id": "e",
            "cursor.model.name": "m",
            "cursor.api.request.input_tokens": 10,
            "cursor.api.request.output_tokens": 5,
            "cursor.api.request.cache_read_tokens": 100,
        },
        name="cursor.api.request",
    )
    assert span is not None
    assert (span.attributes["gen_ai.usage.input_tokens"], span.attributes["gen_ai.conversation.id"]) == (110, "c")


def test_qwen_code() -> None:
    span = from_plain(
        {
            "event.name": "qwen-code.api_response",
            "session.id": "s",
            "model": "qwen3-coder",
            "input_token_count": 10,
            "output_token_count": 5,
            "cached_content_token_count": 4,
            "thoughts_token_count": 2,
        }
    )
    assert span is not None
    assert (span.attributes["spanledger.source"], span.attributes["gen_ai.usage.output_tokens"]) == ("log:qwen_code", 5)


@pytest.mark.parametrize(
    ("client", "login", "plan"),
    [
        ("gemini_cli.", "oauth-personal", "subscription"),
        ("gemini_cli.", "gemini-api-key", None),
        ("gemini_cli.", "vertex-ai", None),
        ("qwen-code.", "qwen-oauth", "subscription"),
        ("qwen-code.", "openai", None),
    ],
)
def test_a_login_at_google_or_qwen_pays_by_no_token(client: str, login: str, plan: str | None) -> None:
    """@google/gemini-cli-core 0.40.0: `AuthType` of core/contentGenerator is `auth_type` of an `api_response`."""
    counts = {"input_token_count": 10, "output_token_count": 5, "auth_type": login}
    span = from_plain({"event.name": f"{client}api_response", "session.id": "s", "model": "m"} | counts)
    assert span is not None
    assert span.attributes.get(PLAN) == plan


def test_codex_reports_a_response_once() -> None:
    """Two events say that a response is complete; the one without counts is none."""
    event = {"event.name": "codex.sse_event", "event.kind": "response.completed", "conversation.id": "c"}
    assert from_plain(event) is None
    assert from_plain(event | {"input_token_count": "1", "output_token_count": "1"}) is not None
