"""What is told of a session that ended, and what is warned of: once, also after a restart, and never counted."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast
from unittest.mock import AsyncMock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from chats import chat, request, set_attributes
from spanledger_exporters import Verdict
from spanledger_processor.accounting import totals
from spanledger_processor.accounting.account import enter
from spanledger_processor.config import load
from spanledger_processor.enrichment import write
from spanledger_processor.ledger import queries
from spanledger_processor.ledger.budgets import LargeRun, due_runs
from spanledger_processor.ledger.crossings import crossings
from spanledger_processor.ledger.facts import Facts, Lifecycle
from spanledger_processor.ledger.keys import session_key
from spanledger_processor.ledger.runs import one_run
from spanledger_processor.ledger.store import StateError, tenant_hash
from spanledger_processor.ledger.warning_rules import WarningRules, cost_rise, warning_row
from spanledger_processor.ledger.writer import LedgerWriter
from spanledger_processor.server import session_watch
from spanledger_processor.server.http_api import close_session
from spanledger_processor.server.notices import Notice, log_request, sentence
from spanledger_processor.server.session_watch import EVENT, SessionWatch
from spanledger_processor.server.wiring import (
    are_watched,
    make_budgets,
    make_lifecycle,
    make_stage,
    make_warnings,
    summary_wait,
)
from spanledger_processor.signing.signer import Signer
from spanledger_processor.units import USD
from stores import WriterInMemory

MINUTE, HOUR = 60 * 10**9, 3600 * 10**9
START = 1_769_774_400 * 10**9
"""2026-01-30 12:00 UTC."""
TENANT = tenant_hash("")
NO_WARNINGS = tuple(
    f"processor.warnings.{name}.enabled=false" for name in ("failure_rate", "unpriced_share", "cost_rise")
)


class World:
    """A ledger, a clock, and exporters that take what is told, or refuse it."""

    def __init__(self, *sets: str) -> None:
        self.config = load(None, sets, {"HOME": "/nowhere", "XDG_STATE_HOME": "/nowhere"})
        self.ledger = WriterInMemory()
        self.store = self.ledger.store
        self.now_ns = START
        self.signer = Signer(b"k" * 32)
        self.stage = make_stage(self.config, self.signer)
        self.traces: list[bytes] = []
        self.logs: list[bytes] = []
        self.answers = {"traces": Verdict.ACCEPTED, "logs": Verdict.ACCEPTED}
        self.counts: list[tuple[str, str]] = []

    async def _deliver(self, signal: str, _: bytes, body: bytes) -> Verdict:
        (self.traces if signal == "traces" else self.logs).append(body)
        return self.answers[signal]

    def process(self) -> SessionWatch:
        """A process that has just started."""
        watch = SessionWatch(
            cast(LedgerWriter, self.ledger),
            make_lifecycle(self.config.processor),
            self.signer,
            self._deliver,
            lambda *what: self.counts.append(what),
            lambda: self.now_ns,
        )
        watch.summaries = 30.0
        return watch

    def take(self, *spans: Span) -> bytes:
        """Account for spans as `serve` does; return what is sent on."""
        return self.take_request(request(*spans))

    def take_request(self, body: bytes) -> bytes:
        reading = self.stage.read(body, {}, self.now_ns)
        decisions = []
        for batch in reading.batches:
            with self.store.unit() as unit:
                decisions.append(enter(batch, unit).decisions)
        return write(reading, decisions)

    def close(self, session: str) -> None:
        with self.store.unit() as unit:
            assert close_session(TENANT, session, self.now_ns, unit)

    def answer(self, session: str) -> dict[str, Any]:
        with self.store.snapshot() as reader:
            found = queries.session(reader, TENANT, session, Lifecycle(), self.now_ns)
        assert found is not None
        return found

    def total(self) -> dict[str, Any]:
        with self.store.snapshot() as reader:
            return queries.total(reader, TENANT)

    @property
    def spans(self) -> list[Span]:
        """The summary spans that were told."""
        requests = map(ExportTraceServiceRequest.FromString, self.traces)
        return [span for one in requests for span in one.resource_spans[0].scope_spans[0].spans]


def call(session: str, at_ns: int = START, **attributes: Any) -> Span:
    span = chat(start_time_unix_nano=at_ns, end_time_unix_nano=at_ns + 10**9)
    set_attributes(span, {"gen_ai.conversation.id": session, **attributes})
    return span


def tool(session: str, at_ns: int, **attributes: Any) -> Span:
    span = Span(trace_id=b"t" * 15 + bytes([at_ns // 10**9 % 256]), span_id=b"s" * 7 + bytes([at_ns // 10**9 % 256]))
    span.start_time_unix_nano, span.end_time_unix_nano = at_ns, at_ns + 10**6
    named = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "read", "gen_ai.conversation.id": session}
    set_attributes(span, {**named, "gen_ai.tool.call.arguments": '{"path": "a"}', **attributes})
    return span


def plain(value: AnyValue) -> Any:
    which = value.WhichOneof("value")
    if which == "array_value":
        return [plain(one) for one in value.array_value.values]
    if which == "kvlist_value":
        return attributes(value.kvlist_value.values)
    return getattr(value, which or "string_value")


def attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: plain(pair.value) for pair in cast("list[KeyValue]", pairs)}


async def test_a_stale_session_is_told_once_also_by_the_next_process() -> None:
    world = World()
    world.take(call("a"), call("a", START + MINUTE))
    watch = world.process()
    await watch.send_summaries()
    world.now_ns = START + MINUTE + 4 * HOUR
    await watch.send_summaries()
    assert world.traces == [], "it is idle until four hours after its last activity"
    world.now_ns += 2 * 10**9
    await watch.send_summaries()
    await watch.send_summaries()
    await world.process().send_summaries()
    assert (len(world.traces), len(world.logs), world.counts) == (1, 1, [("stale", "told")])


async def test_what_is_told_is_what_the_ledger_answers() -> None:
    """Of the span: kind, granularity, no `cost.usd` and no usage, linked to the last span of the session."""
    world = World()
    last = call(
        "a",
        START + MINUTE,
        **{"gen_ai.agent.name": "helper", "spanledger.task.id": "t1", "spanledger.task.kind": "judge"},
    )
    failed = call("a", START + 10**9)
    failed.status.code = Status.StatusCode.STATUS_CODE_ERROR
    unknown = call("a", START + 2 * 10**9, **{"gen_ai.request.model": "nobody-knows-me"})
    tools = [tool("a", START + second * 10**9) for second in (10, 11, 12)]
    world.take(call("a"), failed, unknown, *tools, last)
    world.now_ns = START + 5 * HOUR
    await world.process().send_summaries()
    (span,) = world.spans
    found, reported = world.answer("a"), attributes(span.attributes)
    assert (reported["spanledger.kind"], reported["spanledger.granularity"]) == ("summary", "session-summary")
    assert not [key for key in reported if key.startswith(("spanledger.cost.", "spanledger.usage.", "gen_ai."))]
    assert reported["spanledger.session.id"] == reported["spanledger.run.id"] == "a"
    for name in ("state", "cost_usd", "cost_usd_exact", "calls", "tool_calls", "spans", "failures", "loops"):
        assert reported[f"spanledger.summary.{name}"] == found[name], name
    assert (found["state"], found["failures"], found["loops"]) == ("stale", 1, 1)
    assert reported["spanledger.summary.unpriced_calls"] == 1
    assert reported["spanledger.summary.input_tokens"] == found["tokens"]["input"] == 4000
    assert [(link.trace_id, link.span_id) for link in span.links] == [(last.trace_id, last.span_id)]
    assert (span.start_time_unix_nano, span.end_time_unix_nano) == (START, START + MINUTE + 10**9)

    events = [(event.name, attributes(event.attributes)) for event in span.events]
    models = [row for name, row in events if name == "spanledger.summary.model"]
    assert sum(row.get("spanledger.summary.cost_usd", 0) for row in models) == pytest.approx(found["cost_usd"])
    for counted in ("calls", "input_tokens", "output_tokens"):
        assert sum(row[f"spanledger.summary.{counted}"] for row in models) == reported[f"spanledger.summary.{counted}"]
    assert [row["spanledger.summary.model"] for row in models if "spanledger.summary.cost_usd" not in row] == [
        "openai/nobody-knows-me"
    ]
    by_agent = {
        row["spanledger.summary.agent"]: row["spanledger.summary.calls"]
        for name, row in events
        if name == "spanledger.summary.agent"
    }
    assert by_agent == {"helper": 1, "": 3}
    assert [row for name, row in events if name == "spanledger.summary.unpriced"] == [
        {"spanledger.summary.reason": "unknown_model", "spanledger.summary.calls": 1}
    ]
    (record,) = ExportLogsServiceRequest.FromString(world.logs[0]).resource_logs[0].scope_logs[0].log_records
    assert (record.event_name, record.trace_id, record.span_id) == (EVENT, span.trace_id, span.span_id)
    said = attributes(record.attributes)
    assert {key: said[key] for key in reported} == reported
    assert [(row["task"], row["kind"], row["calls"]) for row in said["spanledger.summary.tasks"]] == [
        ("t1", "judge", 1)
    ]


async def test_of_a_session_without_any_price_no_cost_is_told() -> None:
    world = World()
    world.take(call("a", START, **{"gen_ai.request.model": "nobody-knows-me", "gen_ai.agent.name": "helper"}))
    world.now_ns = START + 5 * HOUR
    await world.process().send_summaries()
    (span,) = world.spans
    events = [attributes(event.attributes) for event in span.events]
    assert not [key for row in (attributes(span.attributes), *events) for key in row if "cost" in key]
    (record,) = ExportLogsServiceRequest.FromString(world.logs[0]).resource_logs[0].scope_logs[0].log_records
    expected = "session a stale: cost unknown, 1 call, 1 without a price, 0 tool calls, 0 failures, 0 loops"
    assert record.body.string_value == expected


async def test_a_closed_session_is_told_when_nothing_has_come_for_a_while() -> None:
    world = World()
    world.take(call("a"))
    world.now_ns = START + MINUTE
    world.close("a")
    watch = world.process()
    world.now_ns += 29 * 10**9
    await watch.send_summaries()
    assert world.traces == []
    world.now_ns += 10**9
    await watch.send_summaries()
    assert world.counts == [("closed", "told")]


@pytest.mark.parametrize("ahead_ns", [2 * 10**9, 30 * 24 * HOUR], ids=["seconds", "days"])
async def test_a_session_whose_clock_is_ahead_can_be_closed(ahead_ns: int) -> None:
    """And its last activity stays what it is; what is done after that re-opens it."""
    world = World()
    world.take(call("a", START + ahead_ns))
    before = world.answer("a")
    world.close("a")
    after = world.answer("a")
    assert (before["state"], after["state"]) == ("active", "closed")
    assert after["last"] == before["last"]
    world.now_ns += MINUTE
    world.take(call("a", START + ahead_ns + MINUTE))
    assert world.answer("a")["state"] == "active"


@pytest.mark.parametrize("setting", [{}, {"processor.sessions.lifecycle.active": "60s"}], ids=["default", "sooner"])
async def test_a_stale_session_is_told_when_nothing_came_for_as_long_as_one_is_active(setting: dict[str, str]) -> None:
    """Old data that are replayed are stale at once, and the replay may pause for longer than closed sessions wait."""
    world = World(*(f"{name}={value}" for name, value in setting.items()))
    active_ns = 60 * 10**9 if setting else 300 * 10**9
    world.take(call("a", START - 30 * 24 * HOUR))
    world.now_ns = START + active_ns // 2
    world.take(call("a", START - 29 * 24 * HOUR))
    watch = world.process()
    world.now_ns += active_ns - 10**9
    await watch.send_summaries()
    assert world.traces == []
    world.now_ns += 10**9
    await watch.send_summaries()
    assert world.counts == [("stale", "told")]


async def test_a_session_that_goes_on_and_ends_again_is_told_anew() -> None:
    world = World()
    world.take(call("a"))
    watch = world.process()
    world.now_ns = START + 5 * HOUR
    await watch.send_summaries()
    world.close("a")
    world.now_ns += HOUR
    await watch.send_summaries()
    assert len(world.traces) == 1, "that a session which was told of is closed is no news"
    world.take(call("a", world.now_ns))
    await watch.send_summaries()
    world.now_ns += 5 * HOUR
    await watch.send_summaries()
    first, second = world.spans
    assert first.span_id != second.span_id
    assert attributes(second.attributes)["spanledger.summary.calls"] == 2


async def test_what_an_exporter_refuses_is_told_again_with_the_same_ids() -> None:
    world = World()
    world.take(call("a"))
    world.now_ns = START + 5 * HOUR
    world.answers["logs"] = Verdict.RETRYABLE
    await world.process().send_summaries()
    assert world.counts == []
    world.answers["logs"] = Verdict.ACCEPTED
    await world.process().send_summaries()
    assert world.counts == [("stale", "told")]
    assert world.traces[0] == world.traces[1]


async def test_what_is_refused_for_good_holds_up_no_other_session() -> None:
    """As by a destination that takes no logs."""
    world = World()
    world.take(call("a"), call("b"))
    world.now_ns = START + 5 * HOUR
    world.answers["logs"] = Verdict.PERMANENT
    watch = world.process()
    await watch.send_summaries()
    await watch.send_summaries()
    assert (len(world.spans), world.counts) == (2, [("stale", "refused")] * 2)


async def test_of_a_summary_only_what_was_not_accepted_is_sent_again() -> None:
    world = World()
    world.take(call("a"))
    world.now_ns = START + 5 * HOUR
    watch = world.process()
    world.answers["logs"] = Verdict.RETRYABLE
    await watch.send_summaries()
    world.answers["logs"] = Verdict.ACCEPTED
    await watch.send_summaries()
    assert (len(world.traces), len(world.logs), world.counts) == (1, 2, [("stale", "told")])


async def test_many_sessions_that_ended_go_together() -> None:
    """As after old data were replayed: a hundred at a time, each in one request of each signal."""
    world = World()
    world.take(*(call(f"session-{number}", START + number) for number in range(250)))
    world.now_ns = START + 5 * HOUR
    watch = world.process()
    for count in (100, 200, 250):
        await watch.send_summaries()
        assert len(world.spans) == len(world.counts) == count
    assert (len(world.traces), len(world.logs)) == (3, 3)
    assert len({attributes(span.attributes)["spanledger.session.id"] for span in world.spans}) == 250


async def test_a_summary_is_sent_and_counted_once_where_the_ledger_cannot_mark_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World()
    world.take(call("a"))
    world.now_ns = START + 5 * HOUR
    watch = world.process()
    with monkeypatch.context() as failing:
        failing.setattr(world.ledger, "submit", AsyncMock(side_effect=StateError("no room")))
        with pytest.raises(StateError):
            await watch.send_summaries()
    assert world.counts == []
    await watch.send_summaries()
    await watch.send_summaries()
    assert (len(world.traces), len(world.logs), world.counts) == (1, 1, [("stale", "told")])


async def test_models_without_a_price_beyond_the_limit_have_no_cost_together() -> None:
    world = World()
    world.take(call("a", START, **{"gen_ai.request.model": "gpt-4o-mini", "gen_ai.response.model": "gpt-4o-mini"}))
    for number in range(70):
        name = f"nobody-knows-{number}"
        world.take(call("a", START + number * 10**9, **{"gen_ai.request.model": name, "gen_ai.response.model": name}))
    world.now_ns = START + 5 * HOUR
    await world.process().send_summaries()
    (span,) = world.spans
    rows = [attributes(event.attributes) for event in span.events if event.name == "spanledger.summary.model"]
    (others,) = [row for row in rows if row.get("spanledger.summary.other")]
    assert others["spanledger.summary.calls"] == 71 - 64
    assert "spanledger.summary.cost_usd" not in others
    assert [row["spanledger.summary.model"] for row in rows if "spanledger.summary.cost_usd" in row] == [
        "openai/gpt-4o-mini"
    ]


async def test_a_request_of_summaries_stays_small() -> None:
    """Of sessions with many agents: what receivers take by default is four times as much."""
    world = World()
    for session in range(30):
        agents = [{"gen_ai.agent.name": f"{number}-" + "x" * 400} for number in range(70)]
        world.take(*(call(f"session-{session}", START + number, **one) for number, one in enumerate(agents)))
    world.now_ns = START + 5 * HOUR
    await world.process().send_summaries()
    assert len(world.counts) == 30
    assert 1 < len(world.traces) < 30
    assert max(map(len, world.traces + world.logs)) <= 2**20


async def test_sessions_from_before_it_was_switched_on_are_not_summed_up() -> None:
    """As in a ledger of a release that had it off: only those of which something comes from then on."""
    world = World("processor.sessions.summary.enabled=false", *NO_WARNINGS)
    world.take(*(call(f"session-{number}", START + number) for number in range(50)))
    world.config = load(None, (), {"HOME": "/nowhere", "XDG_STATE_HOME": "/nowhere"})
    world.stage = make_stage(world.config, world.signer)
    world.take(call("session-7", START + MINUTE))
    world.now_ns = START + 5 * HOUR
    await world.process().send_summaries()
    assert [attributes(span.attributes)["spanledger.session.id"] for span in world.spans] == ["session-7"]


@pytest.mark.parametrize(
    ("sets", "wait"),
    [
        ((), 30.0),
        (("processor.sessions.summary.enabled=false",), None),
        (("processor.sessions.summary.wait_duration=5s",), 5.0),
        (("exporters={debug: {signals: [metrics]}}",), None),
        (("exporters={debug: {signals: [logs]}}",), 30.0),
    ],
    ids=["default", "off", "sooner", "only metrics", "only logs"],
)
def test_summaries_are_sent_unless_switched_off_or_no_exporter_takes_them(
    sets: tuple[str, ...], wait: float | None
) -> None:
    config = load(None, sets, {"HOME": "/nowhere", "XDG_STATE_HOME": "/nowhere"})
    assert summary_wait(config) == wait
    assert are_watched(config), "for warnings, in any case"
    without = load(None, (*sets, *NO_WARNINGS), {"HOME": "/nowhere", "XDG_STATE_HOME": "/nowhere"})
    assert are_watched(without) == (wait is not None)
    assert make_warnings(without.processor) == WarningRules()


def test_beside_the_component_there_is_nothing_to_send_summaries_to(tmp_path: Path) -> None:
    """Its Collector delivers by itself; warnings are looked for all the same."""
    (tmp_path / "enricher.yaml").write_text("receivers: {enricher: }")
    config = load(tmp_path / "enricher.yaml", (), {"HOME": "/nowhere", "XDG_STATE_HOME": "/nowhere"})
    assert summary_wait(config) is None
    assert make_warnings(config.processor) != WarningRules()


def test_warnings_are_on_with_thresholds_of_their_own() -> None:
    config = load(None, (), {"HOME": "/nowhere", "XDG_STATE_HOME": "/nowhere"})
    assert make_warnings(config.processor) == WarningRules((20, 5), (5, 20), (5.0, USD))
    for name, field in (("failure_rate", 0), ("unpriced_share", 1), ("cost_rise", 2)):
        off = load(None, (f"processor.warnings.{name}.enabled=false",), {"HOME": "/", "XDG_STATE_HOME": "/"})
        rules = make_warnings(off.processor)
        values = (rules.failure_rate, rules.unpriced_share, rules.cost_rise)
        assert [value is None for value in values] == [number == field for number in range(3)]


async def test_a_summary_that_comes_back_passes_as_it_is_and_is_not_counted() -> None:
    """Nor is the session active again by it."""
    world = World()
    world.take(call("a"))
    world.now_ns = START + 5 * HOUR
    watch = world.process()
    await watch.send_summaries()
    before, session = world.total(), world.answer("a")
    assert world.take_request(world.traces[0]) == world.traces[0]
    assert (world.total(), world.answer("a")) == (before, session)
    world.now_ns += 5 * HOUR
    await watch.send_summaries()
    assert len(world.traces) == 1


@pytest.mark.parametrize("forge", ["another id", "another session", "another key"])
async def test_a_forged_summary_is_moved_aside_and_not_counted(forge: str) -> None:
    world = World()
    world.take(call("a"), call("b"))
    world.now_ns = START + 5 * HOUR
    await world.process().send_summaries()
    before = world.total()
    message = ExportTraceServiceRequest.FromString(world.traces[0])
    span = message.resource_spans[0].scope_spans[0].spans[0]
    if forge == "another id":
        span.span_id = b"12345678"
    elif forge == "another session":
        set_attributes(span, {"spanledger.session.id": "mine"})
    else:
        world.stage = make_stage(world.config, Signer(b"x" * 32))
    sent = ExportTraceServiceRequest.FromString(world.take_request(message.SerializeToString()))
    reported = attributes(sent.resource_spans[0].scope_spans[0].spans[0].attributes)
    assert reported["spanledger.forged.kind"] == "summary"
    assert "spanledger.summary.cost_usd" not in reported
    assert world.total() == before


async def test_without_the_setting_nothing_is_told() -> None:
    world = World("processor.sessions.summary.enabled=false", *NO_WARNINGS)
    world.take(call("a"))
    world.now_ns = START + 5 * HOUR
    watch = world.process()
    await watch.send_summaries()
    assert world.traces == [], "what came while it was off is not told later"


async def test_much_that_fails_is_warned_of_once_a_session() -> None:
    world = World()
    watch = world.process()
    watch.rules = WarningRules(failure_rate=(20, 5))

    async def fail(number: int, *, ok: int) -> None:
        spans = [call("a", START + second * 10**9) for second in range(number + ok)]
        for span in spans[:number]:
            span.status.code = Status.StatusCode.STATUS_CODE_ERROR
        world.take(*spans)
        await watch.store_warnings()

    def warned() -> list[dict[str, Any]]:
        with world.store.snapshot() as reader:
            return [warning_row(one) for one in crossings(reader, TENANT, warnings=True)]

    await fail(4, ok=0)
    assert warned() == [], "four of four are too few to tell"
    await fail(1, ok=20)
    (row,) = warned()
    assert (row["warning"], row["session"], row["failed"], row["spans"], row["share"]) == (
        "failure_rate",
        "a",
        5,
        25,
        0.2,
    )
    await fail(50, ok=0)
    watch = world.process()
    watch.rules = WarningRules(failure_rate=(20, 5))
    await watch.store_warnings()
    assert warned() == [row]


async def test_a_session_that_is_no_longer_active_is_looked_at_when_it_ended() -> None:
    """As after a replay of old data, or a restart that took longer than a session is active."""
    world = World("processor.sessions.summary.enabled=false")
    spans = [call("a", START + second * 10**9) for second in range(5)]
    for span in spans:
        span.status.code = Status.StatusCode.STATUS_CODE_ERROR
    world.take(*spans)
    world.now_ns = START + 5 * HOUR
    watch = world.process()
    watch.summaries, watch.rules = None, WarningRules(failure_rate=(20, 5))
    await watch.send_summaries()
    with world.store.snapshot() as reader:
        assert [one.value for one in crossings(reader, TENANT, warnings=True)] == ["a"]
    assert world.traces == []


async def test_much_without_a_price_is_warned_of_once_a_day() -> None:
    world = World()
    watch = world.process()
    watch.rules = WarningRules(unpriced_share=(5, 20))
    unknown = {"gen_ai.request.model": "nobody-knows-me"}
    world.take(*(call("a", START + second * 10**9) for second in range(18)), call("a", START, **unknown))
    await watch.store_warnings()
    with world.store.snapshot() as reader:
        assert list(crossings(reader, TENANT, warnings=True)) == []
    world.take(call("a", START + 19 * 10**9))
    await watch.store_warnings()
    await watch.store_warnings()
    with world.store.snapshot() as reader:
        (one,) = crossings(reader, TENANT, warnings=True)
    assert warning_row(one)["day"] == "2026-01-30"
    assert sentence(Notice((one,))) == "2026-01-30: 1 of 20 (5%) calls have no price (spanledger unpriced)"
    (record,) = (
        ExportLogsServiceRequest.FromString(log_request(Notice((one,)))).resource_logs[0].scope_logs[0].log_records
    )
    assert record.event_name == "spanledger.warning.unpriced_share"
    assert attributes(record.attributes)["spanledger.warning.unpriced"] == 1
    world.now_ns += 24 * HOUR
    await watch.store_warnings()
    with world.store.snapshot() as reader:
        assert len(list(crossings(reader, TENANT, warnings=True))) == 1, "nothing was called on the next day"


async def test_a_day_whose_calls_come_late_is_warned_of_too() -> None:
    """After an outage, or just after midnight: each of the last 31 days is looked at in turn, and told of once."""
    world = World()
    watch = world.process()
    watch.rules = WarningRules(unpriced_share=(5, 20))
    unknown = {"gen_ai.request.model": "nobody-knows-me"}
    for days in (1, 3, 31, 32):
        at_ns = START - days * 24 * HOUR
        world.take(*(call("a", at_ns + second * 10**9, **(unknown if second < 5 else {})) for second in range(20)))
    for _ in range(2 * 31):
        await watch.store_warnings()
    with world.store.snapshot() as reader:
        days_told = sorted(one.since for one in crossings(reader, TENANT, warnings=True))
    assert days_told == ["2025-12-30", "2026-01-27", "2026-01-29"]


def facts_of(costs: Mapping[int, int]) -> Facts:
    """Facts of a session that spent so much in these minutes of its time."""
    facts = Facts()
    facts.spend([START + minute * 64 * 10**9 for minute in costs], [*costs.values()])
    return facts


@pytest.mark.parametrize(
    ("costs", "rise"),
    [
        ({0: USD, 1: USD, 2: USD, 3: USD, 4: 5 * USD}, (5 * USD, USD)),
        ({0: USD, 1: USD, 2: USD, 3: USD, 4: 5 * USD - 1}, None),
        ({0: USD, 1: USD, 2: USD, 3: 5 * USD}, None),
        ({0: USD, 1: USD, 2: USD, 3: USD, 4: 50 * USD, 5: USD}, None),
        ({0: USD // 100, 1: USD // 100, 2: USD // 100, 3: USD // 100, 9: USD // 2}, None),
        ({0: USD // 100, 1: USD // 100, 2: USD // 100, 3: USD // 100, 500: USD}, (USD, USD // 100)),
        ({minute: USD * (minute + 1) for minute in range(20)}, None),
        ({}, None),
    ],
    ids=["five times", "less", "too short", "over", "little money", "after a pause", "slow growth", "nothing"],
)
def test_a_rise_is_sudden_and_against_the_session_itself(
    costs: Mapping[int, int], rise: tuple[int, int] | None
) -> None:
    assert cost_rise(facts_of(costs), 5.0, USD) == rise


async def test_a_rise_of_cost_is_warned_of() -> None:
    world = World()
    watch = world.process()
    watch.rules = WarningRules(cost_rise=(5.0, USD))
    for minute in range(6):
        world.take(call("a", START + minute * 64 * 10**9, **{"gen_ai.usage.output_tokens": 10**5}))
    world.take(call("a", START + 6 * 64 * 10**9, **{"gen_ai.usage.output_tokens": 2 * 10**6}))
    world.now_ns = START + 7 * MINUTE
    await watch.store_warnings()
    with world.store.snapshot() as reader:
        (one,) = crossings(reader, TENANT, warnings=True)
    row = warning_row(one)
    assert (row["session"], row["cost_usd_exact"], row["usual_usd_exact"]) == ("a", "1.20015", "0.06015")
    assert sentence(Notice((one,))) == "session a: spends $1.20 at a stretch, 20.0 times the usual $0.060150"


def notes_of_budgets(world: World) -> list[tuple[str, str, int, int]]:
    with world.store.snapshot() as reader:
        kept = crossings(reader, TENANT, warnings=False)
        return [(one.budget, one.value, one.threshold, one.used) for one in kept]


def due(world: World) -> list[LargeRun]:
    with world.store.snapshot() as reader:
        return due_runs(reader)


def cost_of(body: bytes) -> int:
    """What is on the spans that were sent on, in 1e-12 USD."""
    spans = [one for group in ExportTraceServiceRequest.FromString(body).resource_spans for one in group.scope_spans]
    told = [attributes(span.attributes) for scope in spans for span in scope.spans]
    return sum(round(one["spanledger.cost.usd"] * USD) for one in told)


async def test_a_run_of_too_many_sessions_for_a_request_has_its_thresholds_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Once for each, also by the next process, and by what all of its sessions have spent."""
    monkeypatch.setattr(totals, "MOST_SESSIONS", 2)
    world = World('processor.budgets=[{"name": "run", "amount": 0.01, "period": "run", "thresholds": [50, 100]}]')
    budgets = make_budgets(world.config.processor)
    spent, half, number = 0, 0, 0
    while spent < budgets[0].amount:
        before, at_ns = spent, START + number * MINUTE
        body = world.take(call(f"s{number}", at_ns, **{"spanledger.run.id": "nightly"}))
        spent, number = spent + cost_of(body), number + 1
        watch = world.process()
        watch.budgets = budgets
        await watch.add_up_runs()
        assert due(world) == [], "nothing is due until more is spent"
        if spent >= budgets[0].amount // 2 > before:
            half = spent
    assert number > 3
    assert sorted(notes_of_budgets(world)) == [("run", "nightly", 50, half), ("run", "nightly", 100, spent)]
    body = world.take(call("last", START + number * MINUTE, **{"spanledger.run.id": "nightly"}))
    (span,) = ExportTraceServiceRequest.FromString(body).resource_spans[0].scope_spans[0].spans
    told = attributes(span.attributes)
    assert (told["spanledger.budget.name"], told["spanledger.budget.used"]) == ("run", spent / budgets[0].amount)
    assert "spanledger.run.cost_usd" not in told


async def test_what_is_spent_while_a_run_is_added_up_makes_it_due_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(totals, "MOST_SESSIONS", 2)
    world = World('processor.budgets=[{"name": "run", "amount": 1e-9, "period": "run"}]')
    for number in range(4):
        world.take(call(f"s{number}", START + number * MINUTE, **{"spanledger.run.id": "nightly"}))
    watch = world.process()
    watch.budgets = make_budgets(world.config.processor)
    submit = world.ledger.submit

    async def submit_later(work: Any, **more: Any) -> Any:
        monkeypatch.setattr(world.ledger, "submit", submit)
        world.take(call("late", START + HOUR, **{"spanledger.run.id": "nightly"}))
        return await submit(work, **more)

    monkeypatch.setattr(world.ledger, "submit", submit_later)
    await watch.add_up_runs()
    assert [one.id for one in due(world)] == ["nightly"]
    await watch.add_up_runs()
    assert due(world) == []
    with world.store.snapshot() as reader:
        total = one_run(reader, TENANT, "nightly")
        assert total is not None
        assert (total.calls, LargeRun.read(reader, TENANT, "nightly").spent) == (5, total.cost)


async def test_runs_of_many_sessions_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is time for one only, the next one is added up next, although the first spends on."""
    monkeypatch.setattr(totals, "MOST_SESSIONS", 2)
    monkeypatch.setattr(session_watch, "_ADDING_S", -1.0)
    world = World('processor.budgets=[{"name": "run", "amount": 1e-9, "period": "run", "thresholds": [100]}]')
    watch = world.process()
    watch.budgets = make_budgets(world.config.processor)
    runs = ["a", "b", "c"]
    for round_ in range(3):
        for run in runs:
            for number in range(3):
                at_ns = START + (9 * round_ + 3 * runs.index(run) + number) * MINUTE
                world.take(call(f"{run}{number}", at_ns, **{"spanledger.run.id": run}))
        await watch.add_up_runs()
    assert sorted(value for _, value, *_ in notes_of_budgets(world)) == runs


async def test_a_budget_by_a_value_is_told_of_large_runs_that_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(totals, "MOST_SESSIONS", 2)
    of_red = (
        '{"name": "red", "amount": 1e-9, "period": "run", "dimension": "team", "value": "red", "thresholds": [100]}'
    )
    world = World(f"processor.budgets=[{of_red}]", "processor.dimensions.team=[team]")
    for run, team in (("a", "red"), ("b", "blue")):
        for number in range(4):
            of_team = {"team": team} if number == 0 else {}
            world.take(call(f"{run}{number}", START + number * MINUTE, **{"spanledger.run.id": run, **of_team}))
    watch = world.process()
    watch.budgets = make_budgets(world.config.processor)
    await watch.add_up_runs()
    assert [(name, run) for name, run, *_ in notes_of_budgets(world)] == [("red", "a")]
    for run, named in (("a", "red"), ("b", None)):
        body = world.take(call(f"{run}-last", START + HOUR + ord(run), **{"spanledger.run.id": run}))
        (span,) = ExportTraceServiceRequest.FromString(body).resource_spans[0].scope_spans[0].spans
        assert attributes(span.attributes).get("spanledger.budget.name") == named


FAR = 2**64 - 10**10
"""The end of the times that OTLP can tell: in the year 2554."""


async def test_a_time_far_ahead_of_the_clock_keeps_no_session_active_and_hides_no_later_end() -> None:
    """Of a call, of a tool, and of an agent: the arrival stands for it. What goes on and ends again is told anew."""
    for far in (call("a", FAR), tool("a", FAR), call("a", START, **{"gen_ai.operation.name": "invoke_agent"})):
        for at_ns in (FAR, START + 25 * HOUR):
            world = World()
            far.end_time_unix_nano = at_ns
            world.take(far)
            row = world.answer("a")
            assert row["state"] == "active"
            assert row["last"].startswith("2026-01-30T12:00:00")
            world.now_ns += 6 * MINUTE
            assert world.answer("a")["state"] == "idle"
            world.now_ns += 4 * HOUR
            watch = world.process()
            await watch.send_summaries()
            assert world.counts == [("stale", "told")]
            world.take(call("a", world.now_ns))
            assert world.answer("a")["state"] == "active"
            world.now_ns += 5 * HOUR
            await watch.send_summaries()
            assert world.counts == [("stale", "told")] * 2
            world.close("a")
            world.now_ns += HOUR
            world.take(call("a", world.now_ns))
            assert world.answer("a")["state"] == "active", "what is done later re-opens it"


def test_a_call_far_ahead_of_the_clock_hides_no_rise_of_cost() -> None:
    """Its cost stands at the day of its price, so that the stretches before stay as short as they were."""
    world, rises = World(), []
    for with_far in (False, True):
        session = f"s{int(with_far)}"
        if with_far:
            world.take(call(session, FAR))
        for minute in range(0, 20, 2):
            world.take(call(session, START - HOUR + minute * MINUTE))
        with world.store.snapshot() as reader:
            facts = reader.sums(session_key(TENANT, session)).facts
        assert facts is not None
        rises.append((facts.cost_unit_s, facts.active_ms(0)))
    assert rises[1][0] <= 4096
    assert rises[1][1] - rises[0][1] <= 1000


@settings(max_examples=30)
@given(st.data())
def test_times_ahead_of_the_clock_are_the_same_in_any_order(data: st.DataObject) -> None:
    offsets = data.draw(
        st.lists(st.sampled_from([-HOUR, -MINUTE, 0, MINUTE, HOUR, FAR - START]), min_size=1, max_size=5)
    )
    spans = [call("a", START + offset) for offset in offsets]
    for number, span in enumerate(spans):
        span.trace_id, span.span_id = bytes([number + 1]) * 16, bytes([number + 1]) * 8
        set_attributes(span, {"gen_ai.response.id": f"r{number}"})
    answers = []
    for order in (spans, data.draw(st.permutations(spans))):
        world = World()
        cut = data.draw(st.integers(0, len(order)))
        for part in (order[:cut], order[cut:], order):
            world.take(*part)
        answers.append(world.answer("a"))
    assert answers[0] == answers[1]
    assert answers[0]["calls"] == len(spans)
    assert answers[0]["last"] < "2026-01-30T13:01"
