"""Every recording, cut and ordered in every way: the ledger equals what the model server billed, to the token."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from captures import (
    TOKENS,
    Call,
    Capture,
    Order,
    Request,
    all_at_once,
    backwards,
    captures,
    numbers_in,
    one_by_one,
    shuffled,
    twice,
)
from every_view import Views, differences, every_view
from gaps import GAPS, NO_ARGUMENTS, NO_TOOL_SPANS, SILENT_SESSIONS, UNNAMED, reported_calls
from pipelines import TENANT, Pipeline
from spanledger_processor.config import load
from spanledger_processor.ledger import dimensions
from spanledger_processor.ledger import queries as questions
from spanledger_processor.model import USAGE_CLASSES
from spanledger_processor.server.wiring import make_budgets

ORDERS: dict[str, Order] = {
    "as recorded": list,
    "one by one": one_by_one,
    "all at once": all_at_once,
    "backwards": backwards,
    "each twice": twice,
    "shuffled 1": shuffled(1),
    "shuffled 2": shuffled(2),
    "shuffled 3": shuffled(3),
}

every_capture = pytest.mark.parametrize("capture", captures(), ids=lambda capture: capture.name)


def tokens_of(calls: list[Call]) -> dict[str, int]:
    """The model servers sold text: of the other classes there is nothing in their logs."""
    nothing = {one.name: 0 for one in USAGE_CLASSES if one.unit == "token"}
    return nothing | {name: sum(call.tokens[name] for call in calls) for name in TOKENS}


def cost_of(calls: list[Call]) -> Decimal:
    return sum((round(call.cost, 12) for call in calls), Decimal(0))


def check(pipeline: Pipeline, capture: Capture) -> None:
    """What must hold of any ledger and its spans, and what this recording's truth says."""
    calls, ledger = reported_calls(capture), pipeline.ledger()
    cost, correction = Decimal(ledger["cost_usd_exact"]), Decimal(ledger["late_correction_usd_exact"])
    assert ledger["tokens"] == tokens_of(calls)
    assert ledger["calls"] == len(calls), (ledger["calls"], len(calls))
    assert cost == cost_of(calls)
    assert pipeline.sent_cost() == cost + correction
    for question in (questions.sessions, questions.runs, questions.models):
        assert sum(Decimal(row["cost_usd_exact"]) for row in pipeline.parts(question)) == cost
    for name in ("service", "project", "user", "agent", "model", "provider"):
        values = pipeline.parts(lambda reader, tenant, name=name: dimensions.values(reader, tenant, name)[0])
        assert sum(Decimal(row["cost_usd_exact"]) for row in values) == cost
        assert all(row["cost_usd"] >= 0 and row["calls"] > 0 for row in values)
    for session in pipeline.parts(questions.sessions):
        (found,) = pipeline.parts(
            lambda reader, tenant, name=session["id"]: [questions.session(reader, tenant, name) or {}]
        )
        if found["agents"]:
            by_agent = sum(Decimal(row["cost_usd_exact"]) for row in found["agents"])
            assert by_agent == Decimal(session["cost_usd_exact"])
        if session["id"]:
            assert sum(row["calls"] for row in found["tools"]) <= session["tool_calls"]
    assert pipeline.repeats_differ == []


@every_capture
@pytest.mark.parametrize("order", ORDERS)
def test_tokens_and_cost_are_the_truth_in_every_order(capture: Capture, order: str) -> None:
    pipeline = Pipeline()
    pipeline.take(ORDERS[order](capture.requests))
    check(pipeline, capture)


_BY_DEFAULT = ("gen_ai.operation.name", "gen_ai.agent.name", "gen_ai.agent.description", "gen_ai.conversation.id")


def _without_traces(requests: Sequence[Request]) -> list[Request]:
    """Gemini CLI's requests as they are by default: with `telemetry.traces` off its spans keep four attributes."""
    kept: list[Request] = []
    for signal, body in requests:
        if signal == "traces":
            request = ExportTraceServiceRequest.FromString(body)
            for span in (one for part in request.resource_spans for scope in part.scope_spans for one in scope.spans):
                reported = [pair for pair in span.attributes if pair.key in _BY_DEFAULT]
                del span.attributes[:]
                span.attributes.extend(reported)
            body = request.SerializeToString()
        kept.append((signal, body))
    return kept


@pytest.mark.parametrize("order", ORDERS)
def test_gemini_cli_by_default_tells_its_calls_in_logs_alone(order: str) -> None:
    """`runInDevTraceSpan` of @google/gemini-cli-core 0.61.0."""
    (capture,) = [one for one in captures() if one.name == "gemini-cli/tools"]
    pipeline = Pipeline()
    pipeline.take(ORDERS[order](_without_traces(capture.requests)))
    check(pipeline, capture)
    assert pipeline.ledger()["calls"] == len(reported_calls(capture))


@every_capture
def test_as_recorded_the_spans_add_up_by_themselves(capture: Capture) -> None:
    """In the order in which clients send, no correction is needed: the sums over spans are the truth."""
    pipeline = Pipeline()
    pipeline.take(capture.requests)
    assert pipeline.ledger()["late_correction_usd_exact"] == "0"
    assert pipeline.sent_cost() == cost_of(reported_calls(capture))
    assert pipeline.sent_tokens() == tokens_of(reported_calls(capture))


@pytest.mark.parametrize("seed", [None, 1])
def test_all_recordings_in_one_ledger_are_the_sum_of_their_truths(seed: int | None) -> None:
    """The recordings share their numbers of tokens: no call of one is taken for a call of another."""
    requests = [request for capture in captures() for request in capture.requests]
    pipeline = Pipeline()
    pipeline.take(requests if seed is None else shuffled(seed)(requests))
    calls = [call for capture in captures() for call in reported_calls(capture)]
    assert pipeline.ledger()["tokens"] == tokens_of(calls)
    assert Decimal(pipeline.ledger()["cost_usd_exact"]) == cost_of(calls)


@every_capture
def test_a_restart_in_the_middle_changes_nothing(capture: Capture, tmp_path: Path) -> None:
    requests = one_by_one(capture.requests)
    middle = len(requests) // 2
    pipeline = Pipeline(tmp_path)
    pipeline.take(requests[:middle])
    pipeline.restart()
    pipeline.take(requests[max(0, middle - 2) :])
    check(pipeline, capture)
    pipeline.store.close()


@every_capture
def test_every_view_is_the_same_in_every_order(capture: Capture) -> None:
    """All rows of all routes, less the fields that `every_view.NO_SUMS` names."""
    recorded = _views(capture.requests)
    assert recorded["/api/v1/summary "]["total"]["spans"] > 0
    for order in (shuffled(1), shuffled(2), backwards, lambda requests: twice(all_at_once(requests))):
        assert [*differences(recorded, _views(order(capture.requests)))] == []


def _views(requests: Sequence[Request]) -> Views:
    pipeline = Pipeline(sets=["processor.budgets=[{name: session, amount: 0.001, period: session}]"])
    pipeline.take(requests)
    budgets = make_budgets(load(None, pipeline.sets).processor)
    with pipeline.store.snapshot() as reader:
        return every_view(reader, pipeline.now_ns(), budgets, ("service", "project", "user"))


@every_capture
def test_sessions_are_the_clients(capture: Capture) -> None:
    """All that was spent is attributed to the sessions that the client named, and to each of them."""
    named = {capture.truth["session_id"], *capture.truth.get("session_ids", ())} - {None}
    if not named or capture.name in UNNAMED:
        assert not any(name.encode() in capture.bytes for name in named)
        named = {""}
    pipeline = Pipeline()
    pipeline.take(capture.requests)
    spent = {row["id"] for row in pipeline.parts(questions.sessions) if row["calls"]}
    assert spent == named - SILENT_SESSIONS.get(capture.name, set())


@pytest.mark.parametrize(
    "capture",
    [one for one in captures() if one.truth["tool_executions"] and one.name not in NO_ARGUMENTS | NO_TOOL_SPANS],
    ids=lambda capture: capture.name,
)
def test_equal_tool_calls_have_equal_signatures_and_others_have_not(capture: Capture) -> None:
    """As many different signatures, each counted as often, as there were different tool calls, whoever tells them."""
    pipeline = Pipeline()
    pipeline.take(capture.requests)
    times: dict[tuple[object, ...], int] = {}
    for (trace_id, _), span in pipeline.sent.items():
        if span.get("spanledger.tool.signature_scope") == "full":
            where = (span.get("spanledger.session.id") or trace_id, span["spanledger.tool.signature"])
            times[where] = max(times.get(where, 0), span["spanledger.tool.repeats"])
    counted: Counter[object] = Counter()
    for (_, signature), count in times.items():
        counted[signature] += count
    truth = Counter(
        orjson.dumps([call["name"], call["arguments"]], option=orjson.OPT_SORT_KEYS)
        for call in capture.truth["tool_executions"]
    )
    missing = Counter(truth.values()) - Counter(counted.values())
    assert not missing, "tools that the truth does not list (handing over, ending) may be there as well"


def _loops(executions: list[dict[str, Any]]) -> int:
    """How many calls of a truth were the third or a later one in a row of one session; the results are equal."""
    rows: dict[str, list[object]] = {}
    loops = 0
    for call in executions:
        row = rows.setdefault(call.get("session", ""), [])
        row.append((call["name"], call["arguments"]))
        loops += len(row) >= 3 and row[-1] == row[-2] == row[-3]
    return loops


_MORE_TOOLS = {
    "google-adk/S6": 1,
    "openai-agents-openinference/S6": 1,
    "smolagents-openinference/S3": 1,
}
"""Tools beside those of the truth: handing over, ending."""


@every_capture
@pytest.mark.parametrize(
    "order", ["as recorded", "all at once", "each twice", "one by one", "backwards", "shuffled 1", "shuffled 2"]
)
def test_every_tool_call_counts_once_and_every_loop_is_seen(capture: Capture, order: str) -> None:
    """Loops by the ledger and on spans, wherever arguments are on the wire; a call's other report says the same."""
    executions = capture.truth.get("tool_executions") or []
    expected = 0 if capture.name in NO_ARGUMENTS else _loops(executions)
    pipeline = Pipeline()
    pipeline.take(ORDERS[order](capture.requests))
    with pipeline.store.snapshot() as reader:
        rows, _ = dimensions.tools(reader, TENANT, 0, None, 100)
    calls = len(executions) + _MORE_TOOLS.get(capture.name, 0)
    assert sum(row["calls"] for row in rows) == pipeline.ledger()["tool_calls"] == calls
    assert sum(row["loops"] for row in rows) == expected
    if order in ("one by one", "backwards", "shuffled 1", "shuffled 2"):
        return  # the ledger's number is right in any order; a mark stays where the loop came to be seen
    looping = [span for span in pipeline.sent.values() if span.get("spanledger.tool.loop")]
    sources = {span.get("spanledger.source", "") for span in looping}
    assert len(looping) == expected * max(1, len(sources))


@pytest.mark.parametrize("signals", [("traces",), ("logs",), ("traces", "logs")], ids=" and ".join)
def test_what_a_sub_agent_of_claude_code_did_belongs_to_its_session(signals: tuple[str, ...]) -> None:
    """Whatever tells of it, under an agent of its own."""
    capture = next(one for one in captures() if one.name == "claude-code/subagent")
    pipeline = Pipeline()
    pipeline.take([request for request in capture.requests if request[0] in signals])
    (session,) = pipeline.parts(questions.sessions)
    assert (session["calls"], session["tool_calls"]) == (len(capture.calls), len(capture.truth["tool_executions"]))
    (whole,) = pipeline.parts(lambda reader, tenant: [questions.session(reader, tenant, session["id"]) or {}])
    by_agent = {row["id"]: (row["calls"], row["tool_calls"]) for row in whole["agents"]}
    assert by_agent == {"": (4, 2), "a75950d43c48f402f": (3, 2)}


@pytest.mark.parametrize("name", sorted(NO_ARGUMENTS | NO_TOOL_SPANS))
def test_arguments_that_are_not_told_are_not_there(name: str) -> None:
    """No argument of the truth is in the bytes where tool spans stand without them."""
    capture = next(found for found in captures() if found.name == name)
    pipeline = Pipeline()
    pipeline.take(capture.requests)
    kinds = {span.get("spanledger.tool.signature_scope") for span in pipeline.sent.values()} - {None}
    assert kinds == (set() if name in NO_TOOL_SPANS else {"name_only"})
    calls = capture.truth["tool_executions"]
    words = {word for call in calls for word in call["arguments"].values() if isinstance(word, str)}
    assert words
    if name in NO_ARGUMENTS:
        assert not [word for word in words if word.encode() in capture.bytes]


@pytest.mark.parametrize("name", GAPS)
def test_a_gap_is_one(name: str) -> None:
    """What the table calls missing is nowhere in the bytes; and a span whose price hangs on it says so."""
    capture = next(found for found in captures() if found.name == name)
    gap, shown = GAPS[name], numbers_in(capture)
    for call in capture.truth["calls"]:
        lost = (gap.kept and call["seq"] not in gap.kept) or call["seq"] in gap.bare
        for missing in (*gap.classes, *(("input", "output") if lost else ())):
            number = {
                "cache_write_1h": call["cache_write_1h"],
                "cache_read": call["cache_read"],
                "reasoning": call["reasoning"],
                "input": call["uncached_input"] + call["cache_read"],
                "output": call["output_total"],
            }[missing]
            assert number < 20 or number not in shown, f"{missing} of call {call['seq']} is there: {number}"


@pytest.mark.parametrize(
    "name", [name for name, gap in GAPS.items() if {"cache_read", "cache_write_1h"} & {*gap.classes}]
)
def test_a_price_that_a_gap_leaves_open_is_marked(name: str) -> None:
    capture = next(found for found in captures() if found.name == name)
    pipeline = Pipeline()
    pipeline.take(capture.requests)
    priced = [span for span in pipeline.sent.values() if span.get("spanledger.cost.usd")]
    assert priced
    open_to_doubt = [
        span
        for span in priced
        if span.get("spanledger.usage.cache_read_tokens") is None or span.get("spanledger.usage.cache_write_tokens")
    ]
    assert all(span.get("spanledger.cost.estimate") for span in open_to_doubt)
    assert open_to_doubt
