"""Calls that several traces report: what is counted is a function of the set of spans, in whatever order they come."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger_in_memory import NOW, TENANT, make_fact
from spanledger_processor.accounting.account import enter
from spanledger_processor.accounting.facts import Batch, Fact
from spanledger_processor.ledger.keys import corrections_key, total_key
from spanledger_processor.ledger.memory_store import MemoryStore
from spanledger_processor.ledger.store import Key, Reader, Table
from spanledger_processor.ledger.sums import Sums
from spanledger_processor.model import Cost, Usage

SECOND = 10**9
UNIQUE = "r-0123456789abcdef"
Order: TypeAlias = list[list[int]]
"""The spans of each request."""


@dataclass(frozen=True)
class Report:
    """A span that reports a call, and what it tells of it; a plain one without `kind`."""

    name: str
    parent: str = ""
    trace: str = "A"
    kind: str = "llm"
    tells: str = "all"
    given: int = 100
    response: str = ""
    scope: str = "one"
    model: str = "gpt"
    session: str = ""
    start: int = 0
    length: int = SECOND
    logged: bool = False
    run: str = ""
    span: str = ""
    """Its id, if that is not its name."""


TOLD = {
    "all": Usage(output=20),
    "another output": Usage(output=50),
    "a cache": Usage(output=20, cache_read=40),
    "no output": Usage(),
    "no model": Usage(output=20),
    "nothing": None,
}


def fact_of(report: Report) -> Fact:
    """The prices are of no list: more of each class costs more."""
    usage = TOLD[report.tells]
    fact = make_fact(
        report.span or report.name,
        report.parent,
        report.kind,
        trace=report.trace,
        scope=report.scope,
        session=report.session,
        run=report.run,
        start=report.start,
        length=report.length,
        response_id=report.response,
        model="" if report.tells == "no model" else report.model,
        source="log:client" if report.logged else "span",
        agent_id=report.name if report.kind == "agent" else "",
    )
    fact.digest = report.name.encode()
    if not report.kind:
        return fact
    if usage is None:
        fact.cost = Cost(unpriced="no_usage")
        return fact
    assert fact.call is not None
    output = None if report.kind == "embedding" else usage.output
    fact.call.usage = Usage(report.given, output, usage.cache_read)
    amount = 10 * report.given + 40 * (output or 0) - 9 * (usage.cache_read or 0)
    fact.cost = Cost(amount, "computed", amount, input=amount, price="p")
    if report.tells == "no model":
        fact.cost = Cost(unpriced="no_model")
    return fact


@dataclass
class Counted:
    """What a ledger holds, and whether it is what was sent less what was corrected."""

    calls: int = 0
    cost: int = 0
    unpriced: int = 0
    tokens: tuple[int, ...] = ()
    sessions: dict[str, tuple[int, int]] = field(default_factory=dict)
    runs: dict[str, int] = field(default_factory=dict)
    agents: dict[str, int] = field(default_factory=dict)
    speeds: dict[str, dict[int, int]] = field(default_factory=dict)


def counted(reports: list[Report], order: Order) -> Counted:
    """Account for requests of these spans, and return what is counted."""
    sent = 0
    with MemoryStore().unit() as unit:
        for number, request in enumerate(order):
            ruling = enter(Batch(TENANT, [fact_of(reports[place]) for place in request], NOW + number), unit)
            costs = [ruling.decisions[index].cost for index in ruling.fresh]
            sent += sum(cost.amount or 0 for cost in costs if cost is not None)
        total = _sums(unit, total_key(TENANT))
        assert sent == total.cost + _sums(unit, corrections_key(TENANT)).cost
        sessions, runs = (
            [Sums.unpack(record) for _, record in unit.scan(table, TENANT)] for table in (Table.SESSION, Table.RUN)
        )
        dimensions = [Sums.unpack(record) for _, record in unit.scan(Table.DIMENSION, TENANT)]
        days = [Sums.unpack(record) for _, record in unit.scan(Table.DAY, TENANT)]
    agents = [sums for sums in dimensions if sums.labels["dimension"] == "agent" and sums.calls]
    of_agents = {sums.labels["value"]: sums.cost for sums in agents}
    speeds = {sums.labels["model"]: {**sums.speeds} for sums in days if any(sums.speeds.values())}
    of_sessions = {sums.labels.get("id", ""): (sums.calls, sums.cost) for sums in sessions if sums.calls}
    of_runs = {sums.labels.get("id", ""): sums.cost for sums in runs if sums.calls}
    return Counted(total.calls, total.cost, total.unpriced, tuple(total.usage), of_sessions, of_runs, of_agents, speeds)


def _sums(reader: Reader, key: Key) -> Sums:
    record = reader.get(key)
    return Sums() if record is None else Sums.unpack(record)


def one_by_one(places: tuple[int, ...] | list[int]) -> Order:
    return [[place] for place in places]


@st.composite
def drawn_reports(draw: st.DrawFn) -> list[Report]:
    """Three to six spans of two or three traces that may report calls of one another, by id or by usage, and name
    sessions and runs. Log events of several traces may have one id.
    """
    traces = draw(st.sampled_from([["A", "B"], ["A", "B"], ["A", "B", "C"]]))
    sessions = draw(st.sampled_from([[""], ["", "", "", "s", "t"]]))
    reports: list[Report] = []
    for number in range(draw(st.integers(3, 6))):
        trace = draw(st.sampled_from(traces))
        above = ["", *(report.span or report.name for report in reports if report.trace == trace)]
        is_event = draw(st.sampled_from([False, False, False, True]))
        event = "" if not is_event or any(one.span and one.trace == trace for one in reports) else "event"
        reports.append(
            Report(
                f"s{number}",
                draw(st.sampled_from([*above, *above[1:], "gone"])),
                trace,
                draw(st.sampled_from(["llm", "llm", "llm", "embedding", "other", "agent"])),
                draw(st.sampled_from([*TOLD, "all"])),
                draw(st.sampled_from([100, 100, 100, 8853])),
                draw(st.sampled_from(["", "", UNIQUE, UNIQUE, "q"])),
                draw(st.sampled_from(["one", "two", "three"])),
                draw(st.sampled_from(["gpt", "gpt", "claude-sonnet-4-5"])),
                draw(st.sampled_from(sessions)),
                draw(st.sampled_from([0, 0, 0, 1, SECOND // 10, 2 * SECOND])),
                draw(st.sampled_from([SECOND, SECOND, SECOND - 5, 3 * SECOND])),
                is_event,
                draw(st.sampled_from(["", "", "", "", "r", "q"])),
                event,
            )
        )
    return reports


FOUND: dict[str, tuple[int, int, list[Report]]] = {
    "an embedding below a report of another trace's call": (
        1,
        1000,
        [
            Report("d", tells="no model", response=UNIQUE),
            Report("e", "d", kind="embedding", scope="two", start=1, length=SECOND - 2),
            Report("f", trace="B", tells="no model", response=UNIQUE, session="s"),
        ],
    ),
    "an embedding above a report of another trace's call": (
        1,
        1000,
        [
            Report("a", kind="embedding"),
            Report("c", "a", scope="two", tells="no model", response=UNIQUE, start=1, length=SECOND - 2),
            Report("b", trace="B", scope="three", tells="nothing", response=UNIQUE),
        ],
    ),
    "of two reports in a trace the poorer has the id": (
        1,
        1800,
        [
            Report("x", response=UNIQUE, scope="two"),
            Report("y"),
            Report("z", trace="B", scope="three", response=UNIQUE, length=3 * SECOND),
        ],
    ),
    "a report of a further trace fits two calls of another session each": (
        2,
        3600,
        [
            Report("x", trace="A", session="s", response=UNIQUE),
            Report("y", trace="B", session="t", response=UNIQUE, scope="two"),
            Report("z", trace="C", tells="nothing", response=UNIQUE, scope="three"),
        ],
    ),
    "a session that a span gets from another trace is not one that its own names": (
        2,
        1800,
        [
            Report("x", trace="B", tells="no model", session="u"),
            Report("y", scope="two", response=UNIQUE),
            Report("z", scope="two", response=UNIQUE, session="s"),
        ],
    ),
    "a second call below a span that told one again": (
        2,
        3600,
        [
            Report("x"),
            Report("y", "x", scope="three"),
            Report("z", trace="B"),
            Report("w", "x", scope="two", model="claude-sonnet-4-5"),
        ],
    ),
    "spans of a trace get a session of a report in another one, beside a call of a second session": (
        2,
        90770,
        [
            Report("x", scope="two", session="s", model="claude"),
            Report("y", given=8853, session="u", model="claude"),
            Report("z", trace="B", tells="a cache", scope="three", model="claude"),
            Report("w", trace="B", given=8853, scope="two", model="claude"),
        ],
    ),
    "a sum that shares an id": (
        3,
        5400,
        [
            Report("x"),
            Report("y", "x", scope="two", model="claude-sonnet-4-5"),
            Report("z", trace="B", scope="three", response=UNIQUE),
            Report("w", "x", kind="agent", scope="three", response=UNIQUE),
        ],
    ),
}
"""Calls and cost of spans that came to more or less in some order of arrival."""


@pytest.mark.parametrize("found", FOUND)
def test_spans_that_came_to_more_in_some_order_come_to_one_sum(found: str) -> None:
    calls, cost, reports = FOUND[found]
    orders = [one_by_one(order) for order in itertools.permutations(range(len(reports)))]
    results = [counted(reports, order) for order in orders]
    assert {(result.calls, result.cost) for result in results} == {(calls, cost)}
    assert all(result == results[0] for result in results)


def test_a_session_that_two_traces_name_late_is_that_of_their_shared_calls() -> None:
    """The one call has a session at first that a report in the other trace names; the other got it from there."""
    calls = [
        Report("a", tells="a cache", given=2512, response=UNIQUE),
        Report("b", trace="B", tells="no output", given=2512, response=UNIQUE, session="s2", logged=True),
        Report("c", given=8493, scope="two", logged=True),
        Report("d", trace="B", given=8493),
    ]
    plain = [
        Report("p", kind="", session="s3", start=3 * SECOND),
        Report("q", trace="B", kind="", session="s3", start=3 * SECOND),
    ]
    for order in itertools.permutations(range(4)):
        for late in ([4, 5], [5, 4]):
            result = counted([*calls, *plain], one_by_one([*order, *late]))
            assert result.sessions == {"s3": (2, 111290)}


@pytest.mark.parametrize(("runs", "run"), [(("r", "q"), "q"), (("r", ""), "r"), (("", "q"), "q")])
def test_a_call_stands_in_the_run_that_the_trace_of_one_report_names(runs: tuple[str, str], run: str) -> None:
    """Of two reports alike that counts of which the trace names a run, else the one with the greatest id."""
    reports = [
        Report("x", response=UNIQUE),
        Report("y", trace="B", response=UNIQUE, scope="two"),
        Report("p", kind="", run=runs[0], start=3 * SECOND),
        Report("q", trace="B", kind="", run=runs[1], start=3 * SECOND),
    ]
    for order in itertools.permutations(range(4)):
        if order.index(0) < order.index(2) and order.index(1) < order.index(3):
            assert counted(reports, one_by_one(order)).runs == {run: 1800}


def test_a_call_is_of_the_agent_above_one_of_its_reports() -> None:
    reports = [
        Report("y", response=UNIQUE),
        Report("lead", trace="B", kind="agent", tells="nothing", start=-1, length=2 * SECOND),
        Report("x", "lead", trace="B", response=UNIQUE, scope="two"),
    ]
    for order in itertools.permutations(range(3)):
        assert counted(reports, one_by_one(order)).agents == {"lead": 1800}


def test_of_reports_alike_the_one_with_the_greatest_id_tells_how_fast_the_call_was() -> None:
    reports = [
        Report("y", response=UNIQUE, length=2 * SECOND),
        Report("x", trace="B", response=UNIQUE, scope="two"),
    ]
    only = counted([reports[0]], [[0]])
    assert only.speeds != counted([reports[1]], [[0]]).speeds
    assert [counted(reports, order) for order in ([[0], [1]], [[1], [0]], [[0, 1]])] == [only] * 3


@pytest.mark.parametrize("trace", ["A", "B"])
def test_of_reports_alike_one_that_has_a_length_tells_how_fast_the_call_was(trace: str) -> None:
    """A log event has none where it does not tell it, whatever its id."""
    reports = [
        Report("a", response=UNIQUE),
        Report("z", trace=trace, response=UNIQUE, scope="two", length=0, logged=True),
    ]
    only = counted(reports[:1], [[0]])
    assert only.speeds
    assert [counted(reports, order) for order in ([[0], [1]], [[1], [0]], [[0, 1]])] == [only] * 3


def test_the_later_of_two_reports_alike_is_sent_as_the_duplicate_of_the_first_whichever_counts() -> None:
    """What was sent stays as it is, and what comes later adds nothing to sums over spans."""
    reports = [Report("x", response=UNIQUE), Report("y", trace="B", response=UNIQUE, scope="two", length=SECOND - 5)]
    for first, second in (reports, reversed(reports)):
        with MemoryStore().unit() as unit:
            sent = enter(Batch(TENANT, [fact_of(first)], NOW), unit).decisions[0]
            ruling = enter(Batch(TENANT, [fact_of(second)], NOW + 1), unit)
            repeated = enter(Batch(TENANT, [fact_of(first), fact_of(second)], NOW + 2), unit)
        decision = ruling.decisions[0]
        assert sent.cost is not None
        assert (sent.cost.amount, decision.cost, decision.usage) == (1800, None, None)
        assert (decision.duplicate_of, decision.reason[0]) == (first.name.encode().hex(), "same id")
        assert (decision.session_cost, ruling.correction) == (None, 0)
        assert [repeated.decisions[0], repeated.decisions[1]] == [sent, decision]


def test_log_events_of_one_id_in_two_traces_count_in_the_session_of_the_greatest_trace() -> None:
    """The id of a log event's span stands for its response: it is the same in each trace that has the event."""
    reports = [
        Report("a", response=UNIQUE, logged=True, span="event"),
        Report("b", trace="B", response=UNIQUE, logged=True, span="event"),
        Report("p", given=7, session="s", start=3 * SECOND),
        Report("q", trace="B", given=8, session="t", start=6 * SECOND),
    ]
    for order in itertools.permutations(range(4)):
        assert counted(reports, one_by_one(order)).sessions == {"s": (1, 870), "t": (2, 2680)}


def test_a_session_that_a_trace_names_after_a_call_of_another_one_lent_it_is_named_by_its_calls() -> None:
    """The call x has the session first because its trace has y, to which z of another trace lends it. Once a span
    names it, x names more than its report in a run.
    """
    reports = [
        Report("x", given=8853, response=UNIQUE),
        Report("y", response="r-of-another-call", start=3 * SECOND),
        Report(
            "z", trace="B", response="r-of-another-call", scope="two", tells="nothing", session="s", start=3 * SECOND
        ),
        Report("w", trace="C", given=8853, response=UNIQUE, scope="two", run="r"),
        Report("p", kind="", session="s", start=9 * SECOND),
    ]
    for order in itertools.permutations(range(5)):
        if order.index(4) > min(order.index(0), order.index(1)):  # a plain span alone is kept elsewhere
            result = counted(reports, one_by_one(order))
            assert (result.sessions, result.runs) == ({"s": (2, 91130)}, {}), order


def test_reports_beside_a_call_whose_own_calls_are_not_found_stop_nothing() -> None:
    """A request whose spans could not be decided on would not be accounted for at all."""
    reports = [
        Report("c", "b", trace="B", given=7, start=14 * SECOND, model=""),
        Report("l", trace="B", given=2000, start=2 * SECOND, logged=True, model=""),
        Report("b", trace="B", given=2000, start=2 * SECOND + 1, scope="two", session="s2", model=""),
        Report("x", given=2000, model=""),
        Report("y", kind="", scope="two", session="s0", start=14 * SECOND),
    ]
    for order in itertools.permutations(range(5)):
        if order.index(3) < order.index(4):
            result = counted(reports, one_by_one(order))
            assert (result.calls, result.cost) == (2, 21670)


MOST_IN_EVERY_ORDER = 4


@settings(max_examples=50)
@given(drawn_reports(), st.data())
def test_what_is_counted_is_the_same_in_every_order(reports: list[Report], data: st.DataObject) -> None:
    places = range(len(reports))
    if len(reports) <= MOST_IN_EVERY_ORDER:
        orders = [one_by_one(order) for order in itertools.permutations(places)]
    else:
        orders = [one_by_one(order) for order in data.draw(st.lists(st.permutations(places), min_size=8, max_size=8))]
    for drawn in data.draw(st.lists(st.permutations(places), min_size=3, max_size=3)):
        cut = data.draw(st.integers(1, len(reports) - 1))
        orders.append([drawn[:cut], drawn[cut:]])
    whole = counted(reports, [[*places]])
    for order in orders:
        assert counted(reports, order) == whole, order
