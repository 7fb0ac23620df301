"""`spanledger explain`: the same answers as the stage gives, with the reasons, for files of every form."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from chats import COST, USAGE, chat, request, set_attributes, without
from commands import answer, output, run
from requests_out import Counts
from spanledger_exporters import ACCEPTED, Delivery
from spanledger_processor.accounting.account import enter
from spanledger_processor.accounting.facts import Batch, Ruling
from spanledger_processor.config import load
from spanledger_processor.explain import explainer
from spanledger_processor.ledger.store import Unit
from spanledger_processor.otlp.json_form import to_json
from spanledger_processor.server import ledger_link, slices
from spanledger_processor.server.handler import Handler
from spanledger_processor.server.ledger_link import LocalLedger
from spanledger_processor.server.wiring import make_log_stage, make_stage
from spanledger_processor.signing.signer import Signer
from spanledger_processor.telemetry.registry import Registry
from spanledger_processor.telemetry.stage_metrics import StageMetrics
from spanledger_processor.telemetry.table import TABLE
from stores import WriterInMemory

CAPTURES = Path(__file__).parents[1] / "data" / "otlp"
DOUBLE = CAPTURES / "otel-genai" / "S3-anthropic+double" / "001.traces.binpb"
AGENTS = CAPTURES / "pydantic-ai" / "S6-usage-on-agent" / "001.traces.binpb"
STEPS = CAPTURES / "voltagent" / "steps" / "001.traces.binpb"
GEMINI = CAPTURES / "openinference" / "S3-gemini" / "001.traces.binpb"


def _truth(capture: Path) -> list[dict[str, Any]]:
    """The calls that the model server billed."""
    calls = json.loads((capture.parent / "truth.json").read_text())["calls"]
    return [call for call in calls if call["status"] == 200]


REPORTS = Path(__file__).parents[1] / "data" / "reports"


def _counted(reported: dict[str, Any]) -> list[dict[str, Any]]:
    return [span for span in reported["spans"] if span["role"] == "counted"]


@pytest.mark.parametrize("capture", [DOUBLE, AGENTS, GEMINI], ids=lambda path: path.parent.name)
def test_what_counts_is_what_was_billed(capture: Path) -> None:
    truth = sorted((call["response_id"], call["output_total"]) for call in _truth(capture))
    counted = _counted(answer("explain", str(capture)))
    assert sorted(span["usage"]["output"] for span in counted) == sorted(output for _, output in truth)


def test_a_duplicate_names_the_span_that_counts(tmp_path: Path) -> None:
    """Two libraries saw each call: five count, and each of the other five points at one of them."""
    reported = answer("explain", str(DOUBLE))
    counted = {span["span_id"]: span for span in _counted(reported)}
    twins = [span for span in reported["spans"] if span["role"] == "duplicate"]
    assert len(twins) == len(counted) == 5
    for twin in twins:
        other = counted.pop(twin["duplicate_of"])
        assert other["scope"] != twin["scope"]
        assert other["usage"]["output"] == twin["usage"]["output"]
        assert other["why"] == "rule 3: of the 2 spans that tell of this call it is the one that counts"
        assert f"span {twin['duplicate_of']}" in twin["why"]
        assert "they share a response or call id" in twin["why"]


def test_an_agent_in_place_of_its_call_and_the_call_name_rule_6() -> None:
    """Rule 6: an agent that tells all steps of the one call right below it counts in that call's place.

    Two of the three agents made several steps; the third repeats its one call, which counts by rule 8.
    """
    counted, duplicates = _rules(answer("explain", str(STEPS)))
    assert sorted(counted) == ["rule 6", "rule 6", "rule 8"]
    assert duplicates == ["rule 6", "rule 6"]


def test_reports_of_one_call_in_two_traces_name_rule_2() -> None:
    """Rule 2: a span whose call is counted in another trace is a duplicate."""
    one, other = chat(), chat()
    assert one.trace_id != other.trace_id
    for span in (one, other):
        set_attributes(span, {"gen_ai.response.id": "resp_0123456789abcdef"})
        span.start_time_unix_nano, span.end_time_unix_nano = 1_790_000_000_000_000_000, 1_790_000_001_000_000_000
    counted, duplicate = _rules(answer("explain", "-", given=request(one, other)))
    assert counted == ["rule 2"]
    assert duplicate == ["rule 2"]


def test_a_span_above_a_duplicate_alone_names_rule_4() -> None:
    """Rule 4: a span above others with usage repeats them, also where what is below is counted in another trace."""
    elsewhere, agent, call = chat(), chat(), chat()
    set_attributes(agent, {"gen_ai.operation.name": "invoke_agent"})
    call.trace_id, call.parent_span_id = agent.trace_id, agent.span_id
    elsewhere.span_id, call.span_id = b"counted.", b"and this"  # of reports alike that with the greatest id counts
    for span in (elsewhere, call):
        set_attributes(span, {"gen_ai.response.id": "resp_0123456789abcdef", "gen_ai.usage.output_tokens": 50})
    for span in (elsewhere, agent, call):
        span.start_time_unix_nano, span.end_time_unix_nano = 1_790_000_000_000_000_000, 1_790_000_001_000_000_000
    spans = answer("explain", "-", given=request(elsewhere, call, agent))["spans"]
    assert [span["role"] for span in spans] == ["counted", "duplicate", "repeats_children"]
    assert spans[2]["why"].startswith("rule 4: ")
    assert "(0 counted here)" in spans[2]["why"]


def _rules(reported: dict[str, Any]) -> tuple[list[str], list[str]]:
    """The rules that the spans which count name, and those which duplicates do."""
    roles = ("counted", "duplicate")
    counted, duplicates = ([span for span in reported["spans"] if span["role"] == role] for role in roles)
    return [span["why"].split(":")[0] for span in counted], [span["why"].split(":")[0] for span in duplicates]


def test_a_span_that_is_nearly_a_duplicate_says_why_it_counts() -> None:
    """Two services classify the same text for two sessions, one token out: two calls."""
    one, other = answer("explain", str(REPORTS / "28-probe-false-twins" / "in.json"))["spans"]
    assert (one["role"], other["role"]) == ("counted", "counted")
    assert f"not the call of span {one['span_id']}" in other["why"]
    assert "two sessions" in other["why"]


def test_an_agent_that_repeats_its_children() -> None:
    reported = answer("explain", str(AGENTS))
    agents = [span for span in reported["spans"] if span["role"] == "repeats_children"]
    assert {agent["kind"] for agent in agents} == {"agent"}
    whole = sum(Decimal(span["cost"]["cost_usd_exact"]) for span in _counted(reported))
    assert any(f"(6 counted here), worth ${whole}" in agent["why"] for agent in agents)


def test_the_arithmetic() -> None:
    """1000 x $0.15 and 100 x $0.60 a million tokens."""
    reported = answer("explain", "-", given=request(chat()))
    (span,) = reported["spans"]
    *lines, computed = span["arithmetic"][1:]
    assert [line.split() for line in lines] == [
        ["input", "1,000", "x", "$0.15", "/", "MTok", "=", "$0.00015"],
        ["output", "100", "x", "$0.60", "/", "MTok", "=", "$0.00006"],
    ]
    assert computed == "computed $0.00021, an estimate (not told, and sold at a price of its own: cache read)"
    assert span["cost"]["cost_usd"] == COST
    assert span["cost"]["source"] == "computed"
    assert span["dialect"] == "otel"
    assert "gen_ai.operation.name" in span["recognised_by"]


def test_session_and_run_say_where_they_come_from() -> None:
    parent, child = chat(), chat()
    child.trace_id, child.parent_span_id = parent.trace_id, parent.span_id
    set_attributes(parent, {"session.id": "s", "spanledger.run.id": "r"})
    reported = answer("explain", "-", given=request(parent, child))
    first, second = reported["spans"]
    assert first["session"] == {"id": "s", "source": "attribute", "why": "session.id of the span"}
    assert first["run"] == {"id": "r", "source": "attribute", "why": "spanledger.run.id of the span"}
    assert second["session"]["source"] == "parent"
    alone = answer("explain", "-", given=request(chat()))["spans"][0]
    assert alone["session"] is None
    assert alone["run"] is None


def test_why_there_is_no_price() -> None:
    span = chat()
    set_attributes(span, {"gen_ai.request.model": "acme-7b"})
    (reported,) = answer("explain", "-", given=request(span))["spans"]
    assert reported["cost"]["unpriced"] == "unknown_model"
    assert 'not listed: "acme-7b" at openai' in reported["arithmetic"][0]
    assert "processor.pricing.overrides can price it" in reported["why"]
    override = 'processor.pricing.overrides=[{model: "acme-*", input: 1, output: 1}]'
    (reported,) = answer("explain", "-", "--set", override, given=request(span))["spans"]
    assert reported["cost"]["price"] == "override/acme-*"
    assert reported["cost"]["cost_usd_exact"] == "0.0011"


def test_tool_calls_that_repeat() -> None:
    reported = answer("explain", str(CAPTURES / "pydantic-ai" / "S3" / "001.traces.binpb"))
    tools = [span["tool"] for span in reported["spans"] if span["tool"]]
    assert [tool["signature_scope"] for tool in tools] == ["full"] * 4
    assert max(tool["repeats"] for tool in tools) == 3
    assert len({tool["signature"] for tool in tools}) == 2
    assert [tool["loop"] for tool in tools].count(True) == 1


FORMS: dict[str, Callable[[bytes], bytes]] = {
    "protobuf": lambda body: body,
    "json": lambda body: to_json("traces", body),
    "json over many lines": lambda body: json.dumps(json.loads(to_json("traces", body)), indent=2).encode(),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_tells_the_same(form: str) -> None:
    body = AGENTS.read_bytes()
    reported = answer("explain", "-", given=FORMS[form](body))
    reference = answer("explain", str(AGENTS))
    for span in (*reported["spans"], *reference["spans"]):
        span.pop("tool")  # signed with a key that ends with each command
    assert reported == reference


def test_lines_as_a_file_exporter_writes_them() -> None:
    """A trace may be spread over lines; other signals are passed over and counted."""
    parts = [request(chat()), request(chat())]
    lines = b"\n".join(to_json("traces", body) for body in parts)
    metrics = (CAPTURES / "pydantic-ai" / "S3" / "002.metrics.binpb").read_bytes()
    shown = output("explain", "-", given=lines + b"\n" + to_json("metrics", metrics) + b"\n")
    assert "2 GenAI spans: $0.00042 in all" in shown
    assert "1 request of metrics: passed on untouched" in shown


def test_our_own_output_is_explained_as_it_was(tmp_path: Path) -> None:
    """The file that `serve` writes holds what was appended; it is taken off and decided anew."""
    body = ExportTraceServiceRequest.FromString(request(chat()))
    (span,) = body.resource_spans[0].scope_spans[0].spans
    for key, value in {"spanledger.kind": "llm", "spanledger.cost.usd": 99.0, "gen_ai.usage.cost": 99.0}.items():
        set_attributes(span, {key: value})
    reported = answer("explain", "-", given=body.SerializeToString())
    assert reported["marked"] == 1
    assert reported["spans"][0]["cost"]["cost_usd"] == COST
    assert reported["spans"][0]["cost"]["reported_usd_exact"] is None


async def test_requests_are_accounted_for_as_the_server_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """A large one in the same parts, and plain spans that came before once, with the first call of their trace."""
    monkeypatch.setattr(slices, "_LARGE_SPANS", 20)
    monkeypatch.setattr(slices, "ACCOUNTED_AT_ONCE", 80)
    one = chat().trace_id
    named = Span(name="GET", trace_id=one, span_id=b"the root")
    set_attributes(named, {"session.id": "s"})
    first, second = request(chat(trace_id=one)), request(chat(trace_id=one))
    bodies = [request(named), first, second, request(*(chat(trace_id=one) for _ in range(60)))]
    entered: dict[str, list[int]] = {"explain": [], "serve": []}

    def counting(who: str) -> Callable[[Batch, Unit], Ruling]:
        def count(batch: Batch, unit: Unit) -> Ruling:
            entered[who].append(len(batch.facts))
            return enter(batch, unit)

        return count

    monkeypatch.setattr(explainer, "enter", counting("explain"))
    monkeypatch.setattr(ledger_link, "enter", counting("serve"))
    config, signer = load(None, ()), Signer(b"k" * 32)
    stages, delivery = (make_stage(config, signer), make_log_stage(config, signer)), Delivery([], Counts())
    handler = Handler(*stages, LocalLedger(WriterInMemory()), delivery, StageMetrics(Registry(TABLE), 0))  # type: ignore[arg-type]
    for body in bodies:
        assert await handler.handle("traces", body, {}, asyncio.get_running_loop().time() + 60) == ACCEPTED
    replayed = explainer.replay(config, signer, bodies)
    assert entered["explain"] == entered["serve"]
    assert entered["serve"][:2] == [2, 1]
    assert len(entered["serve"]) > 3
    assert {span.decision.session_id for span in replayed.spans} == {"s"}


def test_spans_that_are_no_genai() -> None:
    span = chat()
    del span.attributes[:]
    assert answer("explain", "-", given=request(span)) == {
        "spans": [],
        "plain_spans": 1,
        "unreadable_spans": 0,
        "marked": 0,
        "late_correction_usd_exact": "0",
    }


def test_a_repeat_that_shows_too_late() -> None:
    """An agent's own usage, sent before the call below it: the spans add up to more than the ledger, and it is told."""
    agent, call = chat(), chat()
    set_attributes(agent, {"gen_ai.operation.name": "invoke_agent"})
    call.trace_id, call.parent_span_id = agent.trace_id, agent.span_id
    set_attributes(call, {"gen_ai.usage.input_tokens": 400, "gen_ai.usage.output_tokens": 50})
    lines = b"\n".join(to_json("traces", request(span)) for span in (agent, call))
    reported = answer("explain", "-", given=lines)
    sent = sum(Decimal(span["cost"]["cost_usd_exact"]) for span in reported["spans"] if span["cost"])
    ledger = Decimal(400) * Decimal("0.15") / 10**6 + Decimal(50) * Decimal("0.60") / 10**6
    assert sent - Decimal(reported["late_correction_usd_exact"]) == ledger
    assert "not in the ledger" in output("explain", "-", given=lines)


def test_for_people() -> None:
    shown = output("explain", str(DOUBLE))
    assert "anthropic.messages.create span " in shown
    assert "  counts   $0.002019, computed" in shown
    assert "  counts   nothing, it is a duplicate: rule 3: span " in shown
    assert "15 GenAI spans: $0.011601 in all" in shown


def test_content_is_never_shown() -> None:
    """Arguments and messages are in this capture; nothing of them is in the answer."""
    capture = CAPTURES / "pydantic-ai" / "S3" / "001.traces.binpb"
    assert b"alpha" in capture.read_bytes()
    for reported in (output("explain", str(capture)), json.dumps(answer("explain", str(capture)))):
        assert "alpha" not in reported


def test_a_request_that_failed_before_an_answer_says_so() -> None:
    """No other span is in its trace, so none tells anything of it."""
    refused = without(chat(), *USAGE)
    set_attributes(refused, {"error.type": "429"})
    refused.status.code = Status.STATUS_CODE_ERROR
    (reported,) = answer("explain", "-", given=request(refused))["spans"]
    assert (reported["role"], reported["why"], reported["cost"]) == ("none", "failed before an answer: no call", None)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"hello", "neither OTLP in protobuf"),
        (b"", "it is empty"),
        (b" \n", "it is empty"),
        (b"{}", "holds none of resourceSpans"),
        (b'{"resourceSpans": 3}', "resourceSpans: must be an array"),
        (b'{"resourceSpans": []}\n{"resourceSpans": [}\n', "line 2: "),
    ],
)
def test_what_is_no_otlp(data: bytes, problem: str) -> None:
    result = run("explain", "-", given=data)
    assert result.exit_code == 1
    assert problem in result.stderr
    assert "Traceback" not in result.stderr


def test_a_file_that_is_not_there() -> None:
    assert run("explain", "nowhere.json").exit_code == 2


def test_nothing_is_kept(tmp_path: Path) -> None:
    output("explain", str(GEMINI), "--set", f"state.path={tmp_path / 'state'}")
    assert not (tmp_path / "state").exists()


def test_a_call_without_a_session_says_which_attribute_to_set() -> None:
    (reported,) = answer("explain", "-", given=request(chat()))["spans"]
    assert reported["session"] is None
    assert "set gen_ai.conversation.id on its spans" in reported["session_missing"]
    assert "OTEL_RESOURCE_ATTRIBUTES=" in output("explain", "-", given=request(chat()))
    own = "processor.sessions.keys=[app.chat]"
    (reported,) = answer("explain", "-", "--set", own, given=request(chat()))["spans"]
    assert "set app.chat on its spans" in reported["session_missing"]
