"""Ordered, shuffled, doubled, restarted: every row of every view is the same."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ResourceLogs
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from chats import set_attributes
from every_view import NO_SUMS, Sent, Views, differences, every_view
from reported_twice import Traces
from spanledger_processor.accounting.account import enter
from spanledger_processor.accounting.cross_trace_index import recent_traces
from spanledger_processor.config import load
from spanledger_processor.enrichment import Reading
from spanledger_processor.enrichment.logs import LogStage, encoding
from spanledger_processor.ledger.memory_store import MemoryStore
from spanledger_processor.otlp.wire import finished
from spanledger_processor.server.wiring import make_budgets, make_stage, make_tenant_of
from spanledger_processor.signing import Signer

NOW = 1_795_500_000_000_000_000
_CONFIG = load(
    None,
    [
        "processor.dimensions.team=[app.team]",
        "processor.tools.prices=[{tool: search, usd: 0.01}]",
        "processor.budgets=["
        "{name: session, amount: 0.01, period: session, thresholds: [50, 100]}, "
        "{name: run, amount: 0.01, period: run, thresholds: [50, 100]}]",
    ],
)
_BUDGETS = make_budgets(_CONFIG.processor)
_TRACES = 1000
_DIMENSIONS = ("service", "project", "user", "team")


@dataclass
class Ledger:
    """A process over a ledger in memory; `restart` ends it."""

    store: MemoryStore = field(default_factory=MemoryStore)

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Begin anew with what is stored."""
        self.store.cache.clear()
        signer = Signer(b"the key of the tests, 32 bytes..")
        self._stage = make_stage(_CONFIG, signer)
        self._logs = LogStage(make_tenant_of(_CONFIG.processor), signer.sign)
        with self.store.snapshot() as reader:
            known = recent_traces(reader, _TRACES)
        self._enter(finished(self._stage.knowing(known, NOW)))

    def take(self, sent: Iterable[Sent]) -> None:
        """Send spans in one request."""
        request, logs = ExportTraceServiceRequest(), ExportLogsServiceRequest()
        for one in sent:
            group = logs.resource_logs.add() if one.logged else request.resource_spans.add()
            for key, text in one.resource.items():
                group.resource.attributes.add(key=key).value.string_value = text
            if isinstance(group, ResourceLogs):
                events = group.scope_logs.add()
                events.scope.name = one.scope
                events.log_records.append(_event_of(one.span))
            else:
                scoped = group.scope_spans.add()
                scoped.scope.name = one.scope
                scoped.spans.append(one.span)
        self._enter(self._stage.read(request.SerializeToString(), {}, NOW))
        spans = self._logs.read(logs.SerializeToString(), {}).spans
        if spans:
            self._enter(finished(self._stage.reading_synthesized(finished(encoding(spans)), {}, NOW)))

    def _enter(self, reading: Reading) -> None:
        assert not reading.failures
        for batch in reading.batches:
            with self.store.unit() as unit:
                enter(batch, unit)
        self._stage.entered(reading)

    def views(self) -> Views:
        """Every view of it."""
        with self.store.snapshot() as reader:
            return every_view(reader, NOW, _BUDGETS, _DIMENSIONS)


def _event_of(span: Span) -> LogRecord:
    event = LogRecord(time_unix_nano=span.end_time_unix_nano, trace_id=span.trace_id, attributes=span.attributes)
    event.event_name = "gen_ai.client.inference.operation.details"
    if span.parent_span_id:
        event.span_id = span.parent_span_id
    return event


_SENT_TWICE = {"one": ("read", "a"), "two": ("search", "a")}
"""Calls that several spans may report, by their ids: what they name beside sessions and runs is the same."""
_MODELS = ("gpt-4o-mini", "gpt-4o-mini", "claude-haiku-4-5", "no such model")


@st.composite
def spans(draw: st.DrawFn) -> list[Sent]:
    """Spans of up to three traces: agents and sub-agents, calls, tools that are called again, plain ones; any of them
    may name a session, a run, a parent session.
    """
    sessions = draw(st.sampled_from([["s1"], ["s1", "s2"], ["s1", "s2", "s3"]]))
    above: dict[int, list[int]] = {trace: [0] for trace in (1, 2, 3)}
    sent: list[Sent] = []
    kinds = ["", "", "call", "call", "agent", "tool", "tool", "tool"]
    for number in range(1, draw(st.integers(2, 10)) + 1):
        trace, kind = draw(st.sampled_from([1, 1, 1, 2, 3])), draw(st.sampled_from(kinds))
        attributes = draw(_attributes(kind, number))
        if named := draw(st.sampled_from(["", "", "", *sessions])):
            attributes["session.id"] = named
        if not draw(st.integers(0, 7)):
            attributes["workflow.run_id"] = draw(st.sampled_from(["r", "q"]))
        if not draw(st.integers(0, 7)):
            attributes["spanledger.session.parent_id"] = draw(st.sampled_from(["s1", "above", "beside"]))
        resource = {}
        sent_twice = attributes.get("gen_ai.tool.call.id") in _SENT_TWICE
        if not sent_twice and not draw(st.integers(0, 9)):
            resource = {"session.id": sessions[-1], "service.namespace": "shop"}
        span = Span(name=f"span {number}", trace_id=trace.to_bytes(16, "big"), span_id=number.to_bytes(8, "big"))
        parent = 0 if sent_twice else draw(st.sampled_from(above[trace]))
        span.parent_span_id = parent.to_bytes(8, "big") if parent else b""
        above[trace].append(number)
        span.start_time_unix_nano = NOW - (100 - number) * 10**9
        span.end_time_unix_nano = span.start_time_unix_nano + draw(st.sampled_from([5, 500, 5000])) * 10**6
        if not draw(st.integers(0, 5)):
            span.status.code = span.status.STATUS_CODE_ERROR
        set_attributes(span, attributes)
        sent.append(Sent(span, resource, draw(st.sampled_from(["one", "one", "other"]))))
    return sent


@st.composite
def _attributes(draw: st.DrawFn, kind: str, number: int) -> dict[str, Any]:
    if kind == "agent":
        return {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": draw(st.sampled_from(["lead", "helper"]))}
    if kind == "tool":
        ids = ["", str(number), *_SENT_TWICE]
        one, of = draw(st.sampled_from(ids)), draw(st.sampled_from(["a", "a", "b"]))
        tool, of = _SENT_TWICE.get(one) or (draw(st.sampled_from(["read", "search"])), of)
        call = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": tool}
        if one:
            call["gen_ai.tool.call.id"] = one
        if draw(st.integers(0, 4)):
            call["gen_ai.tool.call.arguments"] = json.dumps({"of": of})
        if result := draw(st.sampled_from(["", "", "1", "2"])):
            call["gen_ai.tool.call.result"] = result
        return call
    if kind == "call":
        model = draw(st.sampled_from(_MODELS))
        tokens = {"gen_ai.usage.input_tokens": 1000 * number + number, "gen_ai.usage.output_tokens": 100 + number}
        call = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": model}
        more = {"app.team": draw(st.sampled_from(["red", "blue"]))} if draw(st.booleans()) else {}
        task = {"spanledger.task.id": "t", "spanledger.task.kind": "judge"} if draw(st.booleans()) else {}
        return {**call, **tokens, **more, **task}
    return {}


def _in_requests(sent: list[Sent], data: st.DataObject) -> Ledger:
    """A ledger that has taken spans in a drawn order, cut into requests, some of them again, restarted in between."""
    ledger, order = Ledger(), data.draw(st.permutations(range(len(sent))))
    again = data.draw(st.lists(st.sampled_from(order), max_size=3))
    cuts = data.draw(st.sets(st.integers(0, len(order) + len(again))))
    request: list[Sent] = []
    taken: list[Sent] = []
    for place, index in enumerate([*order, *again]):
        request.append(sent[index])
        if place in cuts:
            ledger.take(request)
            taken, request = [*taken, *request], []
            if data.draw(st.integers(0, 3)) == 0:
                ledger.restart()
                ledger.take(_of_no_call_yet(taken))
    ledger.take(request)
    return ledger


def _of_no_call_yet(taken: list[Sent]) -> list[Sent]:
    """The plain spans that only memory holds: they are kept until their trace has a GenAI span, and are sent again."""
    known = {one.span.trace_id for one in taken if one.is_genai}
    return [one for one in taken if one.span.trace_id not in known]


@settings(max_examples=60, deadline=None)
@given(sent=spans(), data=st.data())
def test_every_view_is_the_same_in_every_order(sent: list[Sent], data: st.DataObject) -> None:
    whole = Ledger()
    whole.take(sent)
    assert [*differences(whole.views(), _in_requests(sent, data).views())] == []


_FOUND = ((5429, 40), (5560, 40))
"""An agent whose loops were taken back after it left a session; a log event that two traces have under one id."""


@pytest.mark.parametrize(("seed", "number"), [*((seed, 30) for seed in range(24, 48)), *_FOUND])
def test_every_view_is_the_same_whichever_report_of_a_call_comes_first(seed: int, number: int) -> None:
    """Spans of agents and tools that up to three traces report, each in a request of its own: as they began, backwards,
    in another order and then all of them again, after a restart; and in one request.
    """
    sent, draw = Traces(seed, number, NOW).spans(), random.Random(seed)
    shuffled = draw.sample(sent, len(sent))
    views = _taken([one] for one in sent).views()
    again = _taken([one] for one in shuffled)
    again.restart()
    for one in sent:
        again.take([one])
    for ledger in (_taken([one] for one in reversed(sent)), again, _taken([shuffled])):
        assert [*differences(views, ledger.views())] == []


def _taken(requests: Iterable[list[Sent]]) -> Ledger:
    ledger = Ledger()
    for request in requests:
        ledger.take(request)
    return ledger


_DAY = 86_400 * 10**9
_AROUND = st.sampled_from([0, 1, NOW - 3 * _DAY, NOW - 60 * 10**9, NOW, NOW + _DAY // 2, NOW + 2 * _DAY])
_TIMES = {"first": "last", "start": "end", "since": "until"}


@given(spans(), st.data())
@settings(max_examples=60, deadline=None)
def test_nothing_ends_before_it_begins_whatever_clocks_say(sent: list[Sent], data: st.DataObject) -> None:
    """Of spans that end before they start, without times, and from clocks that are ahead."""
    for one in sent:
        one.span.start_time_unix_nano = data.draw(_AROUND)
        one.span.end_time_unix_nano = max(0, data.draw(_AROUND) - data.draw(st.integers(0, 10)))
    ledger = Ledger()
    ledger.take(sent)
    with patch.dict(NO_SUMS, clear=True):  # times and all
        found = list(_rows(ledger.views()))
    assert found
    for row in found:
        for begin, end in _TIMES.items():
            if row.get(begin) and row.get(end):
                assert row[begin] <= row[end], row


def test_a_session_is_as_old_as_the_latest_time_of_its_spans() -> None:
    """A call that says it ended 50 s before it began was done when it began."""
    span = Span(name="chat", trace_id=bytes([1] * 16), span_id=bytes([1] * 8), start_time_unix_nano=NOW - 10**9)
    span.end_time_unix_nano = span.start_time_unix_nano - 50 * 10**9
    set_attributes(span, {"gen_ai.operation.name": "chat", "session.id": "s", "gen_ai.request.model": _MODELS[0]})
    set_attributes(span, {"gen_ai.usage.input_tokens": 10, "gen_ai.usage.output_tokens": 10})
    ledger = Ledger()
    ledger.take([Sent(span, {}, "library")])
    with patch.dict(NO_SUMS, clear=True):
        row = ledger.views()["/api/v1/sessions/{id} s"]
    assert row["first"] == row["last"] == row["last_span"]["end"]
    assert (row["state"], row["active_seconds"]) == ("active", 0)


def _rows(views: Any) -> Iterator[dict[str, Any]]:
    if isinstance(views, dict):
        yield views
    for inner in views.values() if isinstance(views, dict) else views if isinstance(views, list) else ():
        yield from _rows(inner)
