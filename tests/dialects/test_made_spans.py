"""Spans that Spanledger made."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dialect_view import chat, read, span
from spanledger_processor import synthesized
from spanledger_processor.dialects.log_events import CONVENTION, synthesize
from spanledger_processor.model import CLASS_NAMES
from spanledger_processor.otlp import json_form
from spanledger_processor.otlp.request import parse_logs
from spanledger_processor.otlp.views import LogView
from spanledger_processor.pricing import Pricer
from spanledger_processor.units import USD


def test_a_files_span() -> None:
    found = read(
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
    assert found.price_context == (("service_tier", "flex"),)
    assert found.present == {"gen_ai.usage.cost"}


def test_what_was_really_charged() -> None:
    found = read(
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


def test_a_closing_span() -> None:
    found = read(span({"spanledger.source": "file:mux", "spanledger.session.closed": True}))
    assert (found.kind, found.session_closed, found.usage) == ("other", True, None)


def test_a_tool_call_that_its_source_signed() -> None:
    found = read(
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


def test_every_usage_class_has_its_key_on_synthesized_spans() -> None:
    assert tuple(sorted(synthesized.USAGE)) == tuple(sorted(CLASS_NAMES))
    given = {key: 1000 - 10 * number for number, key in enumerate(synthesized.USAGE.values())}
    usage = read(span({synthesized.SOURCE: "log:x", **given})).usage
    assert usage is not None
    assert [getattr(usage, name) for name in synthesized.USAGE] == list(given.values())


CALL: dict[str, Any] = chat(input_tokens=1000, output_tokens=100, cache_read__input_tokens=0)
CALL |= {"gen_ai.response.id": "r"}
BYOK = {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100, "cost": 0, "is_byok": True}
SEARCHED = {"role": "assistant", "parts": [{"type": "server_tool_call", "id": "1", "name": "web_search"}]}


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"openai.response.service_tier": "priority", "server.address": "eu.api.openai.com"},
        {"server.address": "api.groq.com", "gen_ai.request.model": "openai/gpt-oss-120b"},
        {"gen_ai.usage.audio.input_tokens": 900, "gen_ai.usage.image.output_tokens": 50},
        {"gen_ai.output.type": "image"},
        {"gen_ai.output.messages": json.dumps([SEARCHED])},
        {"gen_ai.usage.cost.amount": 0.5, "gen_ai.usage.cost.source": "provider"},
        {"gen_ai.usage.cost.amount": 0, "gen_ai.usage.cost.source": "provider"},
        {"gen_ai.usage.cost": 0.5},
        {"gen_ai.usage.raw": json.dumps(BYOK | {"cost_details": {"upstream_inference_cost": 0.004}})},
        {"gen_ai.usage.raw": json.dumps(BYOK)},
        {"gen_ai.usage.total_tokens": 5000},
        {"gen_ai.request.model": "arn:aws:bedrock:us-east-1:1:provisioned-model/abc"},
        {"gen_ai.operation.name": "frobnicate"},
        {"litellm.call_id": "1", "litellm.cache_hit": True},
        {"litellm.call_id": "1", "llm.cost.total": 0},
        {"telemetry.sdk.name": "openlit", "gen_ai.usage.cost": 0.5},
    ],
)
def test_an_event_tells_what_a_span_with_its_attributes_tells(given: dict[str, Any]) -> None:
    """The convention's event has the attributes of the span, so both are one call with one price."""

    def pair(key: str, value: Any) -> dict[str, Any]:
        kind = {bool: "boolValue", int: "intValue", float: "doubleValue"}.get(type(value), "stringValue")
        return {"key": key, "value": {kind: value}}

    attributes = CALL | given
    record = {"eventName": CONVENTION, "attributes": [pair(*item) for item in attributes.items()]}
    logs = {"resourceLogs": [{"scopeLogs": [{"scope": {"name": "x"}, "logRecords": [record]}]}]}
    (group,) = parse_logs(json_form.to_protobuf("logs", json.dumps(logs).encode()))
    made = synthesize(LogView.parse(group.items[0]), group)
    assert made is not None
    by_span, by_event = read(span(attributes, scope="x")), read(span(dict(made.attributes)))
    assert (by_event.kind, by_event.model, by_event.plan) == (by_span.kind, by_span.model, by_span.plan)
    assert by_event.usage == by_span.usage
    at = 1_795_400_000 * 10**9
    one, other = Pricer().cost(by_span, at), Pricer().cost(by_event, at)
    assert (one.amount, one.source, one.unpriced, one.estimate) == (
        other.amount,
        other.source,
        other.unpriced,
        other.estimate,
    )
    assert (by_span.note or one.note) == (by_event.note or other.note)
