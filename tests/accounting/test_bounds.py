"""Deciding on a trace takes steps that grow with its spans and not with their square: lines run, no seconds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import pytest

from counted_work import lines_run
from ledger_in_memory import NOW, TENANT, make_fact
from spanledger_processor.accounting import cross_trace_index, shared_calls, trace, trace_set, twins
from spanledger_processor.accounting import totals as totals_module
from spanledger_processor.accounting.account import enter
from spanledger_processor.accounting.facts import Batch, Fact
from spanledger_processor.accounting.grouping import Named
from spanledger_processor.accounting.one_call import one_call
from spanledger_processor.accounting.totals import Totals
from spanledger_processor.accounting.trace import Span
from spanledger_processor.ledger.keys import total_key
from spanledger_processor.ledger.memory_store import MemoryStore
from spanledger_processor.ledger.sums import Sums

MS = 1_000_000
SMALL, FACTOR = 250, 4
GROWTH = 1.35
"""Steps a span may grow by while the trace grows by `FACTOR`: n log n, and windows that small traces do not fill."""


def _two_libraries(number: int, apart: int) -> Iterator[Fact]:
    for place in range(number // 2):
        for scope in ("one", "two"):
            yield make_fact(f"{scope}{place}", "root", "llm", 77, scope=scope, start=place * apart, length=90 * MS)


def _one_after_the_other(number: int) -> Iterator[Fact]:
    """Equal counts; the second library's clock is far off, so that no report of it is one of the first's calls."""
    for place in range(number // 2):
        yield make_fact(f"a{place}", "root", "llm", 77, scope="one", start=place * 100 * MS, length=90 * MS)
        yield make_fact(f"b{place}", "root", "llm", 77, scope="two", start=-(place + 1) * 100 * MS, length=90 * MS)


def _constant_id(number: int) -> Iterator[Fact]:
    for place in range(number):
        yield make_fact(f"c{place}", "root", "llm", 77, response_id="chatcmpl-1", start=place * 100 * MS, length=MS)


def _pairs_with_ids(number: int) -> Iterator[Fact]:
    for place in range(number // 2):
        for scope in ("one", "two"):
            yield make_fact(f"{scope}{place}", "root", "llm", place + 1, scope=scope, response_id=f"r{place}")


def _chain(number: int) -> Iterator[Fact]:
    for place in range(number):
        yield make_fact(f"n{place}", f"n{place - 1}" if place else "", "agent", place + 1, session="" if place else "s")


def _agents_of_unknown_calls(number: int) -> Iterator[Fact]:
    for place in range(number // 2):
        yield make_fact(f"a{place}", "", "agent", 1000 + place, start=place * 100 * MS, length=10 * MS)
        yield make_fact(f"c{place}", f"gone{place}", "llm", place + 1, start=place * 100 * MS + 50 * MS, length=MS)


def _silent_below(number: int) -> Iterator[Fact]:
    yield make_fact("top", "", "llm", 5)
    for place in range(number - 1):
        fact = make_fact(f"s{place}", f"s{place - 1}" if place else "top", "llm", 0)
        assert fact.call is not None
        assert fact.cost is not None
        fact.call.usage, fact.cost.amount, fact.cost.unpriced = None, None, "no_usage"
        yield fact


def _many_libraries(number: int) -> Iterator[Fact]:
    for place in range(number):
        yield make_fact(f"c{place}", "root", "llm", 77, scope=f"library {place}", start=place * 100 * MS, length=MS)


def _distinct(number: int) -> Iterator[Fact]:
    for place in range(number):
        yield make_fact(f"c{place}", "root", "llm", place + 1, start=place)


def _two_traces(number: int) -> Iterator[Fact]:
    for place in range(number // 2):
        for scope in ("one", "two"):
            yield make_fact(f"{scope}{place}", "root", "llm", place + 1, scope=scope, trace=scope, start=place * MS)


SHAPES: dict[str, Callable[[int], Iterator[Fact]]] = {
    "equal counts at once, two libraries": lambda number: _two_libraries(number, 0),
    "equal counts in a row, two libraries": lambda number: _two_libraries(number, 100 * MS),
    "equal counts, two libraries, no twins": _one_after_the_other,
    "one id for all": _constant_id,
    "each id twice": _pairs_with_ids,
    "a chain of agents": _chain,
    "agents whose links are not known": _agents_of_unknown_calls,
    "calls without usage below one another": _silent_below,
    "as many libraries as calls": _many_libraries,
    "different counts": _distinct,
    "two libraries, each in a trace of its own": _two_traces,
}


@pytest.mark.parametrize("shape", SHAPES)
def test_steps_a_span_do_not_grow_with_the_trace(shape: str) -> None:
    def steps_a_span(number: int) -> float:
        facts = list(SHAPES[shape](number))
        with MemoryStore().unit() as unit:
            return lines_run(lambda: enter(Batch(TENANT, facts, NOW), unit)) / number

    steps_a_span(SMALL)  # fills what is cached
    assert steps_a_span(SMALL * FACTOR) < GROWTH * steps_a_span(SMALL)


def _tools_that_carry_usage(number: int) -> Iterator[Fact]:
    for place in range(number):
        yield make_fact(f"t{place}", "root", "tool", place + 1, start=place * MS)


NOT_PLAIN: dict[str, Callable[[int], Iterator[Fact]]] = {
    "equal counts at once, two libraries": lambda number: _two_libraries(number, 0),
    "equal counts, two libraries, no twins": _one_after_the_other,
    "each id twice": _pairs_with_ids,
    "a chain of agents": _chain,
    "agents whose links are not known": _agents_of_unknown_calls,
    "tools that carry usage": _tools_that_carry_usage,
}
"""Traces of which every part is decided on by the whole rules, not by what is new (`accounting/incremental`)."""


@pytest.mark.parametrize("shape", NOT_PLAIN)
def test_steps_a_span_do_not_grow_while_a_trace_that_is_not_plain_comes_in_parts(
    shape: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each part matches the spans that the rules still look at, and no others: 4,096, here 48. So all of a trace takes
    steps in proportion to its spans, from its 4,097th span on, however long it gets.
    """
    most, part, parts = 48, 8, 96
    monkeypatch.setattr(trace, "MAX_SPANS", most)
    monkeypatch.setattr(trace, "_SLACK", most // 8)
    monkeypatch.setattr(trace, "_MOST_AWAITED", most // 8)
    monkeypatch.setattr(trace_set, "SEGMENT_SPANS", most // 12)
    facts, store, steps = list(NOT_PLAIN[shape](part * parts)), MemoryStore(), list[int]()
    for number in range(parts):
        with store.unit() as unit:
            batch = Batch(TENANT, facts[number * part : (number + 1) * part], NOW + number * MS)
            steps.append(lines_run(partial(enter, batch, unit)))
    quarter = parts // 4
    assert sum(steps[-quarter:]) < 1.1 * sum(steps[-2 * quarter : -quarter])
    assert max(steps[-quarter:]) < 1.5 * max(steps[quarter : 2 * quarter])


def test_steps_do_not_grow_with_the_traces_that_hold_equal_calls() -> None:
    """Another library's calls of these counts fill many long traces, at other times: none of them is a twin."""

    def steps(traces: int) -> int:
        with MemoryStore().unit() as unit:
            for number in range(traces):
                begun = number * 1_000 * MS
                known = [
                    make_fact(f"{number}-{place}", "root", "llm", 77, trace=f"t{number}", start=begun + place, length=1)
                    for place in range(128)
                ]
                enter(Batch(TENANT, known, NOW + number * MS), unit)
            calls = [
                make_fact(f"n{place}", "root", "llm", 77, trace="new", scope="other", start=-place * 100 * MS - 10**9)
                for place in range(64)
            ]
            return lines_run(lambda: enter(Batch(TENANT, calls, NOW + 10**9), unit))

    steps(4)  # fills what is cached
    assert steps(16) < GROWTH * steps(4)


def test_the_runs_of_a_request_have_no_more_sessions_added_up_than_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """512 runs of a thousand sessions each took half a minute, in which others went on as `not_accounted`."""
    looked_into: list[str] = []
    run_of = Totals.run_of

    def watched(self: Totals, session_id: str) -> Named:
        looked_into.append(session_id)
        return run_of(self, session_id)

    runs, sessions, bound = 8, 10, 25
    monkeypatch.setattr(totals_module, "_MOST_SESSIONS_OF_RUNS", bound)

    def call(run: int, session: int, name: str) -> Fact:
        place = f"{run} {session}"
        return make_fact(name, "", "llm", 5, trace=f"t{place} {name}", session=f"s{place}", run=f"r{run}")

    def own(run: int, session: int) -> Fact:
        """A call whose trace names no run: it is part of the only one that its session names."""
        return make_fact("own", "", "llm", 5, trace=f"t{run} {session}", session=f"s{run} {session}")

    with MemoryStore().unit() as unit:
        for run in range(runs):
            enter(Batch(TENANT, [call(run, session, "first") for session in range(sessions)], NOW), unit)
            enter(Batch(TENANT, [own(run, session) for session in range(sessions)], NOW), unit)
        monkeypatch.setattr(Totals, "run_of", watched)
        ruling = enter(Batch(TENANT, [call(run, 0, "last") for run in range(runs)], NOW + 1), unit)
    costs = [ruling.decisions[run].run_cost for run in range(runs)]
    assert len(looked_into) <= bound
    assert sorted(set(costs), key=str) == [(2 * sessions + 1) * 5, None]
    assert costs.count((2 * sessions + 1) * 5) == bound // sessions


def _reports_of_one_call(traces: int, libraries: int) -> Iterator[list[Fact]]:
    """Requests, one a trace: as many libraries report the very same call in each."""
    for trace_number in range(traces):
        yield [
            make_fact(
                f"{trace_number}-{place}",
                "",
                "llm",
                77,
                trace=f"t{trace_number}",
                scope=f"library {place}",
                response_id="r",
            )
            for place in range(libraries)
        ]


def test_steps_a_span_are_bounded_where_many_libraries_report_a_call_in_many_traces() -> None:
    """All reports of all traces were compared with one another for each new one: 16 spans took 19 s."""

    def steps_a_span(libraries: int) -> float:
        with MemoryStore().unit() as unit:
            *known, last = _reports_of_one_call(8, libraries)
            for number, request in enumerate(known):
                enter(Batch(TENANT, request, NOW + number * MS), unit)
            return lines_run(lambda: enter(Batch(TENANT, last, NOW + 10**9), unit)) / libraries

    steps_a_span(6)  # fills what is cached
    assert steps_a_span(24) < GROWTH * steps_a_span(6)


@contextmanager
def _comparisons() -> Iterator[list[str]]:
    """What comes out of each comparison of two spans of two traces."""
    compared: list[str] = []

    def watched(one: Span, other: Span, *, one_trace: bool) -> str:
        compared.append(one_call(one, other, one_trace=one_trace))
        return compared[-1]

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(shared_calls, "one_call", watched)
        yield compared


REPORTED_BY_MANY: dict[str, Callable[[int], Fact]] = {
    "one call by as many libraries as traces": lambda place: make_fact(
        f"a{place}", "", "llm", 100, trace=f"t{place}", response_id=UNIQUE, scope=f"library {place}", session="s"
    ),
    "one call by a library in each trace": lambda place: make_fact(
        f"a{place}", "", "llm", 100, trace=f"t{place}", response_id=UNIQUE, scope="one"
    ),
    "one id in five sessions": lambda place: make_fact(
        f"a{place}",
        "",
        "llm",
        100,
        trace=f"t{place}",
        response_id=UNIQUE,
        scope=f"l{place % 3}",
        session=f"{place % 5}",
    ),
    "one id for all calls of two libraries": lambda place: make_fact(
        f"a{place}",
        "",
        "llm",
        100,
        trace=f"t{place}",
        response_id="chatcmpl-1",
        scope=f"l{place % 2}",
        start=place // 2 * 1_000 * MS,
        length=999 * MS,
    ),
}
UNIQUE = "r-0123456789abcdef"


@pytest.mark.parametrize("shape", REPORTED_BY_MANY)
@pytest.mark.parametrize("at_once", [1, 25])
def test_a_span_is_compared_with_no_more_than_are_looked_at(shape: str, at_once: int) -> None:
    """With what is looked at of the index, and as many for the calls that these are one with already, or may be."""
    spans, most = 150, 2 * cross_trace_index.MOST_COMPARED
    made = 0
    with MemoryStore().unit() as unit:
        for first in range(0, spans, at_once):
            facts = [REPORTED_BY_MANY[shape](place) for place in range(first, first + at_once)]
            with _comparisons() as compared:
                enter(Batch(TENANT, facts, NOW + first * MS), unit)
            made = len(compared)
            assert made <= most * at_once
    assert made


def test_traces_that_share_many_calls_are_compared_call_by_call() -> None:
    """A further trace has all calls of sixteen others: each is compared with these sixteen, and they are not again."""
    traces, calls = 17, 40
    made = 0
    with MemoryStore().unit() as unit:
        for number in range(traces):
            facts = [
                make_fact(
                    f"{number}-{place}",
                    "",
                    "llm",
                    100 + place,
                    trace=f"t{number}",
                    response_id=f"{UNIQUE}{place}",
                    scope=f"library {number}",
                    start=place * 1_000 * MS,
                )
                for place in range(calls)
            ]
            with _comparisons() as compared:
                enter(Batch(TENANT, facts, NOW + number * MS), unit)
            made = len(compared)
            assert made <= number * calls
        assert Sums.unpack(unit.get(total_key(TENANT)) or b"").calls == calls
    assert made > calls


@pytest.mark.parametrize("bound", [None, 50])
def test_the_calls_of_a_request_that_would_take_too_many_comparisons_are_looked_at_one_by_one(
    bound: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two calls of two sessions, each told by six libraries in four traces, and a report that may be of either one."""
    reports, traces = 6, 8
    if bound is not None:
        monkeypatch.setattr(twins, "_MOST_COMPARED_TOGETHER", bound)

    def report(trace: int, library: int, session: str) -> Fact:
        name = f"{trace}-{library}"
        return make_fact(name, "", "llm", 77, trace=f"t{trace}", scope=name, response_id=UNIQUE, session=session)

    with MemoryStore().unit() as unit:
        for number in range(traces):
            known = [report(number, library, f"s{number % 2}") for library in range(reports)]
            enter(Batch(TENANT, known, NOW + number * MS), unit)
        with _comparisons() as compared:
            enter(Batch(TENANT, [report(traces, 0, "")], NOW + traces * MS), unit)
        assert Sums.unpack(unit.get(total_key(TENANT)) or b"").calls == 2
    of_a_call = reports * cross_trace_index.MOST_COMPARED
    if bound is None:
        assert len(compared) > cross_trace_index.MOST_COMPARED + 50 + of_a_call
    else:
        assert len(compared) <= cross_trace_index.MOST_COMPARED + bound + of_a_call
