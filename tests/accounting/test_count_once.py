"""Which span is counted, and what the ledger says, in every order of arrival."""

from __future__ import annotations

import itertools

import pytest

from ledger_in_memory import NOW, TENANT, MakeFact, MemoryLedger
from spanledger_processor.accounting.facts import Fact
from spanledger_processor.accounting.trace_state import Memory
from spanledger_processor.ledger.dimensions import costs
from spanledger_processor.ledger.store import Table
from spanledger_processor.model import Cost, Usage
from spanledger_processor.units import NS_PER_DAY

GOOGLES = "opentelemetry.instrumentation.google_genai"


def test_agent_span_that_repeats_its_children_adds_nothing(ledger: MemoryLedger, fact: MakeFact) -> None:
    agent, one, two = fact("a", kind="agent", cost=70), fact("c1", "a", "llm", 30), fact("c2", "a", "llm", 40)
    decisions = ledger.take([one, two, agent])
    assert ledger.total.cost == 70
    assert decisions[2].repeats_children
    assert decisions[2].cost is None
    assert decisions[2].subtree == 70


def test_agent_span_with_the_only_usage_of_its_subtree_counts(ledger: MemoryLedger, fact: MakeFact) -> None:
    decisions = ledger.take([fact("step", "a", "tool"), fact("a", kind="agent", cost=70)])
    assert ledger.total.cost == 70
    assert not decisions[1].repeats_children


def test_links_between_may_be_plain_spans(ledger: MemoryLedger, fact: MakeFact) -> None:
    ledger.take([fact("c", "plain", "llm", 30), fact("plain", "a"), fact("a", kind="agent", cost=30)])
    assert ledger.total.cost == 30


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_every_order_gives_the_same_ledger_and_the_books_balance(
    ledger: MemoryLedger, fact: MakeFact, order: tuple[int, ...]
) -> None:
    spans = [
        fact("a", kind="agent", cost=75, length=100),
        fact("p", "a", start=1, length=50),
        fact("c1", "p", "llm", 30, start=2),
        fact("c2", "p", "llm", 40, start=20),
    ]
    for place in order:
        ledger.take([spans[place]])
    assert ledger.total.cost == 70
    assert ledger.sent == 70 + ledger.correction


def test_children_before_parents_need_no_correction(ledger: MemoryLedger, fact: MakeFact) -> None:
    for span in (fact("c1", "a", "llm", 30), fact("c2", "a", "llm", 40), fact("a", kind="agent", cost=70)):
        ledger.take([span])
    assert ledger.correction == 0


def test_a_parent_sent_first_takes_its_cost_off_its_children(ledger: MemoryLedger, fact: MakeFact) -> None:
    ledger.take([fact("a", kind="agent", cost=70)])
    (child,) = ledger.take([fact("c1", "a", "llm", 30)])
    assert child.cost is not None
    assert (child.cost.amount, child.cost.computed) == (0, 30)
    assert (ledger.total.cost, ledger.correction) == (30, 40)
    ledger.take([fact("c2", "a", "llm", 40)])
    assert (ledger.total.cost, ledger.correction, ledger.sent) == (70, 0, 70)


def test_an_agent_whose_links_are_not_known_is_judged_by_time(ledger: MemoryLedger, fact: MakeFact) -> None:
    ledger.take([fact("c", "unseen", "llm", 30, start=10, length=5), fact("a", kind="agent", cost=30, length=100)])
    assert ledger.total.cost == 30


def test_a_response_reported_by_two_libraries_is_counted_once(ledger: MemoryLedger, fact: MakeFact) -> None:
    outer = fact("outer", kind="llm", cost=30, response_id="r1", scope="one", length=100)
    inner = fact("inner", "outer", "llm", 30, response_id="r1", scope="two", start=5)
    decisions = ledger.take([outer, inner])
    assert ledger.total.cost == 30
    assert sorted(bool(d.duplicate_of) for d in decisions) == [False, True]


def test_a_response_reported_in_two_traces_is_counted_once(ledger: MemoryLedger, fact: MakeFact) -> None:
    ledger.take([fact("one", kind="llm", cost=30, response_id="r1", scope="one", trace="t1")])
    (second,) = ledger.take([fact("two", kind="llm", cost=30, response_id="r1", scope="two", trace="t2")])
    assert ledger.total.cost == 30
    assert second.duplicate_of == b"one".hex()


def test_a_server_that_reuses_one_id_for_every_call_loses_none(ledger: MemoryLedger, fact: MakeFact) -> None:
    calls = [fact(f"c{n}", kind="llm", cost=30, response_id="chatcmpl-1", start=n * 100) for n in range(3)]
    ledger.take(calls)
    assert ledger.total.cost == 90


def test_a_wrapper_that_carries_the_id_of_its_last_call_repeats_all_its_calls(
    ledger: MemoryLedger, fact: MakeFact
) -> None:
    wrapper = fact("w", kind="llm", cost=70, response_id="r2", scope="wrapper", length=100)
    ledger.take([wrapper, fact("c1", "w", "llm", 30, response_id="r1"), fact("c2", "w", "llm", 40, response_id="r2")])
    assert ledger.total.cost == 70


def test_a_failed_call_without_usage_does_not_hide_its_parents_usage(ledger: MemoryLedger, fact: MakeFact) -> None:
    failed = fact("c", "a", "llm", 0)
    assert failed.call is not None
    failed.call.usage, failed.cost = None, Cost(unpriced="no_usage")
    ledger.take([failed, fact("a", kind="agent", cost=70)])
    assert ledger.total.cost == 70


def test_a_retried_request_adds_nothing_and_gets_the_same_attributes(ledger: MemoryLedger, fact: MakeFact) -> None:
    spans = [fact("c1", kind="llm", cost=30, session="s"), fact("c2", kind="llm", cost=40, session="s")]
    first = ledger.take(spans)
    again = ledger.take(spans)
    assert again == first
    assert ledger.total.cost == 70
    assert (ledger.replays, ledger.conflicts) == (2, 0)


def test_a_span_twice_in_one_request_is_counted_once(ledger: MemoryLedger, fact: MakeFact) -> None:
    decisions = ledger.take([fact("c1", kind="llm", cost=30), fact("c1", kind="llm", cost=30)])
    assert ledger.total.cost == 30
    assert decisions[0] == decisions[1]


def test_same_ids_with_other_usage_is_a_conflict_and_the_first_wins(ledger: MemoryLedger, fact: MakeFact) -> None:
    ledger.take([fact("c1", kind="llm", cost=30)])
    (again,) = ledger.take([fact("c1", kind="llm", cost=99)])
    assert again.cost is not None
    assert again.cost.amount == 30
    assert (ledger.total.cost, ledger.conflicts) == (30, 1)


def test_aliases_are_written_beside_the_cost_but_never_over_one_that_came_in(
    ledger: MemoryLedger, fact: MakeFact
) -> None:
    ledger.aliases = ("gen_ai.usage.cost", "operation.cost")
    (plain,) = ledger.take([fact("c1", kind="llm", cost=30)])
    (taken,) = ledger.take([fact("c2", kind="llm", cost=30, present=frozenset({"operation.cost"}))])
    assert plain.aliases == ("gen_ai.usage.cost", "operation.cost")
    assert taken.aliases == ("gen_ai.usage.cost",)


def test_running_totals_count_up_span_by_span(ledger: MemoryLedger, fact: MakeFact) -> None:
    decisions = ledger.take([fact(f"c{n}", kind="llm", cost=10, session="s") for n in range(3)])
    assert [d.session_cost for d in decisions] == [10, 20, 30]
    (later,) = ledger.take([fact("c9", kind="llm", cost=5, session="s", trace="t2")])
    assert (later.session_cost, later.run_cost) == (35, 35)


SECOND = 10**9


def test_two_libraries_that_write_into_two_traces_count_a_call_once(ledger: MemoryLedger, fact: MakeFact) -> None:
    """No id in common, no session: another scope, equal usage, one inside the other."""
    ledger.take([fact("outer", kind="llm", cost=30, scope="one", trace="t1", length=SECOND)])
    (second,) = ledger.take([fact("inner", kind="llm", cost=30, scope="two", trace="t2", start=5, length=SECOND - 9)])
    assert second.duplicate_of == b"outer".hex()
    assert ledger.total.cost == 30


@pytest.mark.parametrize(
    "other",
    [
        {"scope": "one"},  # one library reports a call once
        {"cost": 31},  # other usage
        {"start": 60 * SECOND},  # another time
        {"response_id": "r2"},  # another response: different ids are never one call
        {"model": "claude"},  # another model
    ],
)
def test_calls_that_are_not_one_are_both_counted(
    ledger: MemoryLedger, fact: MakeFact, other: dict[str, object]
) -> None:
    ledger.take([fact("a", kind="llm", cost=30, scope="one", trace="t1", length=SECOND, response_id="r1")])
    second = {"cost": 30, "scope": "two", "trace": "t2", "length": SECOND, **other}
    ledger.take([fact("b", kind="llm", **second)])
    assert ledger.total.calls == 2


def test_equal_usage_pairs_one_to_one(ledger: MemoryLedger, fact: MakeFact) -> None:
    """Two calls of equal usage at the same time, each told by two libraries, are two calls."""
    for library in ("one", "two"):
        for number in range(2):
            ledger.take([fact(f"{library}{number}", kind="llm", cost=30, scope=library, trace=f"{library}{number}")])
    assert (ledger.total.calls, ledger.total.cost) == (2, 60)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_a_library_reports_a_call_once_in_other_traces_too(
    ledger: MemoryLedger, fact: MakeFact, order: tuple[int, ...]
) -> None:
    """Two equal calls at the same time, without ids: one library tells both, another one of them."""
    reports = [
        fact(name, kind="llm", cost=30, trace=name, scope=scope, length=SECOND)
        for name, scope in (("a1", "one"), ("b1", "two"), ("b2", "two"))
    ]
    for place in order:
        ledger.take([reports[place]])
    assert (ledger.total.cost, ledger.total.calls) == (60, 2)


def test_one_library_that_reports_one_response_from_two_processes_counts_it_once(
    ledger: MemoryLedger, fact: MakeFact
) -> None:
    """A proxy and its client, instrumented alike: the same id, at the same time."""
    ledger.take([fact("client", kind="llm", cost=30, scope="litellm", trace="t1", response_id="r", length=SECOND)])
    ledger.take([fact("proxy", kind="llm", cost=30, scope="litellm", trace="t2", response_id="r", start=5)])
    assert ledger.total.calls == 1


def test_a_later_report_that_knows_more_carries_only_what_it_adds(ledger: MemoryLedger, fact: MakeFact) -> None:
    """A span without the 1h split, then the log event that has it: the ledger holds the log's amount, once."""
    span, event = (
        fact("span", kind="llm", cost=30, scope="s", trace="t1", response_id="r"),
        fact("log", kind="llm", cost=45, scope="l", trace="t2", response_id="r", source="log:client", length=0),
    )
    assert span.call is not None
    assert event.call is not None
    span.call.usage, event.call.usage = Usage(20, 5, 0, 10), Usage(20, 5, 0, 10, 4)
    (first,), (second,) = ledger.take([span]), ledger.take([event])
    assert first.cost is not None
    assert second.cost is not None
    assert (first.cost.amount, second.cost.amount) == (30, 15)
    assert second.usage == Usage(0, 0, 0, 0, 4)
    assert (ledger.total.cost, ledger.total.spent["cache_write_1h"], ledger.correction) == (45, 4, 0)


@pytest.mark.parametrize("traced", [True, False])
def test_two_events_of_one_response_a_moment_apart_are_one_call(
    ledger: MemoryLedger, fact: MakeFact, *, traced: bool
) -> None:
    """Claude Code logs the counts, and up to milliseconds later the raw answer, which alone has the cache split."""
    span = fact("span", kind="llm", cost=30, scope="spans", response_id="r", length=SECOND)
    counts = fact("counts", kind="llm", cost=30, scope="events", response_id="r", source="log:client", length=SECOND)
    answer = fact("answer", kind="llm", cost=45, scope="events", response_id="r", source="log:client", length=0)
    answer.start_ns = answer.end_ns = counts.end_ns + 1_000_000
    assert counts.call is not None
    assert answer.call is not None
    counts.call.usage, answer.call.usage = Usage(20, 5, 0, 10), Usage(20, 5, 0, 10, 4)
    if traced:
        assert span.call is not None
        span.call.usage = Usage(20, 5, 0, 10)
        ledger.take([span])
    ledger.take([counts, answer])
    assert (ledger.total.calls, ledger.total.spent["input"], ledger.total.spent["cache_write_1h"]) == (1, 20, 4)


def test_usage_from_a_raw_answer_stands_in_only_where_no_span_of_the_trace_has_any(
    ledger: MemoryLedger, fact: MakeFact
) -> None:
    raw = fact("raw", kind="agent", cost=30, trace="t1")
    assert raw.call is not None
    raw.call.usage, raw.call.fallback = None, raw.call.usage
    (alone,) = ledger.take([raw])
    assert (alone.usage, ledger.total.cost) == (Usage(30, 100), 30)
    ledger.take([fact("call", kind="llm", cost=20, trace="t1")])
    assert ledger.total.cost == 20
    assert ledger.sent == 20 + ledger.correction


def test_a_parent_that_knows_more_of_its_only_call_is_counted_in_its_place(
    ledger: MemoryLedger, fact: MakeFact
) -> None:
    parent, child = fact("p", kind="llm", cost=18, length=SECOND), fact("c", "p", "llm", 30, start=5)
    assert parent.call is not None
    assert child.call is not None
    parent.call.usage, child.call.usage = Usage(20, 5, 8), Usage(20, 5)
    above, below = ledger.take([parent, child])
    assert below.duplicate_of == b"p".hex()
    assert above.usage == Usage(20, 5, 8)
    assert ledger.total.cost == 18


def test_a_parent_that_knows_the_output_of_its_only_call_is_counted_in_its_place(
    ledger: MemoryLedger, fact: MakeFact
) -> None:
    """A stream was cut: Anthropic's SDK tells the input alone, the instrumentation above it what had come by then."""
    parent, child = fact("p", kind="llm", cost=18, length=SECOND), fact("c", "p", "llm", start=5)
    assert parent.call is not None
    assert child.call is not None
    parent.call.usage, child.call.usage = Usage(20, 1, 8), Usage(20, None, 8, 0, 0)
    child.cost = Cost(unpriced="no_usage")
    above, below = ledger.take([parent, child])
    assert below.duplicate_of == b"p".hex()
    assert above.usage == Usage(20, 1, 8)
    assert (ledger.total.cost, ledger.total.calls, ledger.total.unpriced) == (18, 1, 0)


@pytest.mark.parametrize("trace", ["t", "u"])
@pytest.mark.parametrize("first", ["plain", "tiered"])
def test_of_two_equal_reports_the_one_that_tells_the_tier_counts(
    ledger: MemoryLedger, fact: MakeFact, trace: str, first: str
) -> None:
    """LiteLLM's two spans of a call, an SDK's and a framework's: the other is priced at the standard tier."""
    plain = fact("zz", kind="llm", scope="a", response_id="r", trace="t", length=SECOND)
    tiered = fact("aa", kind="llm", scope="b", response_id="r", trace=trace, length=SECOND)
    for report, amount in (plain, 40), (tiered, 20):
        assert report.call is not None
        report.call.usage = Usage(20, 5, 0, 0)
        report.cost = Cost(amount, "computed", amount, input=amount)
    assert tiered.call is not None
    tiered.call.price_context = (("service_tier", "flex"),)
    for report in (plain, tiered) if first == "plain" else (tiered, plain):
        ledger.take([report])
    assert (ledger.total.calls, ledger.total.cost) == (1, 20)


def test_a_call_without_usage_says_nothing_where_a_span_below_tells_it(ledger: MemoryLedger, fact: MakeFact) -> None:
    silent = fact("p", kind="llm")
    silent.cost = Cost(unpriced="no_usage")
    ledger.take([silent, fact("c", "p", "llm", 30)])
    assert (ledger.total.calls, ledger.total.unpriced) == (1, 0)


def test_an_agent_that_contains_a_loose_call_repeats_it_also_where_the_calls_twin_is_counted(
    ledger: MemoryLedger, fact: MakeFact
) -> None:
    """The call counts in another trace; its own, whose links upwards were not seen, still tells what an agent holds."""
    ledger.take([fact("twin", kind="llm", cost=30, scope="two", trace="t2", length=SECOND)])
    ledger.take([fact("call", "unseen", "llm", 30, scope="one", trace="t1", length=SECOND)])
    ledger.take([fact("agent", kind="agent", cost=30, trace="t1", length=9 * SECOND)])
    assert (ledger.total.cost, ledger.total.calls) == (30, 1)


@pytest.mark.parametrize("names_it", ["first", "second"])
@pytest.mark.parametrize("richer", ["first", "second"])
def test_of_twins_in_two_traces_either_may_name_the_session(
    ledger: MemoryLedger, fact: MakeFact, names_it: str, richer: str
) -> None:
    """A framework's span names it, the SDK's, in a trace of its own, tells more of the tokens."""
    for order in ("first", "second"):
        span = fact(
            order,
            kind="llm",
            cost=30,
            scope=order,
            trace=order,
            length=SECOND,
            session="s" if order == names_it else "",
        )
        assert span.call is not None
        span.call.usage = Usage(30, 100, 4 if order == richer else None)
        ledger.take([span])
    assert {name: sums.cost for name, sums in ledger.table(Table.SESSION).items() if sums.cost} == {"s": 30}


@pytest.mark.parametrize("name", ["openai/gpt-4o", "gpt-4o-2024-08-06", "GPT-4o", "gpt-4o-latest"])
def test_one_model_may_have_two_names(ledger: MemoryLedger, fact: MakeFact, name: str) -> None:
    ledger.take([fact("a", kind="llm", cost=30, scope="one", trace="t1", length=SECOND, model="gpt-4o")])
    ledger.take([fact("b", kind="llm", cost=30, scope="two", trace="t2", length=SECOND, model=name)])
    assert ledger.total.calls == 1


@pytest.mark.parametrize(("model", "cost"), [("gpt-4o-mini", 2), ("gpt-4o-2024-08-06", 30)])
def test_a_span_above_a_call_of_another_model_lends_it_no_price(
    ledger: MemoryLedger, fact: MakeFact, model: str, cost: int
) -> None:
    """The span above knows more classes of equal usage; only of the same model does it count in the call's place."""
    above = fact("above", kind="llm", cost=30, scope="one", length=SECOND, model="gpt-4o")
    below = fact("below", "above", kind="llm", cost=2, scope="two", start=1, length=SECOND // 2, model=model)
    assert above.call is not None
    assert below.call is not None
    above.call.usage, below.call.usage = Usage(1000, 500, 0, 0), Usage(1000, 500)
    ledger.take([above, below])
    assert (ledger.total.cost, ledger.total.calls) == (cost, 1)


def test_twins_that_end_on_both_sides_of_a_period_find_each_other(ledger: MemoryLedger, fact: MakeFact) -> None:
    """The index is cut by time; a call that ends at a cut is looked for on both sides of it."""
    to_cut = -NOW % (600 * SECOND)
    ledger.take([fact("a", kind="llm", cost=30, scope="one", trace="t1", start=to_cut - SECOND, length=SECOND + 2)])
    ledger.take([fact("b", kind="llm", cost=30, scope="two", trace="t2", start=to_cut - SECOND, length=SECOND - 2)])
    assert ledger.total.calls == 1


@pytest.mark.parametrize(("scope", "estimate"), [(GOOGLES, True), ("ai", False)])
@pytest.mark.parametrize("at_once", [True, False])
def test_a_tool_below_a_call_of_googles_shows_that_it_was_several(
    ledger: MemoryLedger, fact: MakeFact, scope: str, *, at_once: bool, estimate: bool
) -> None:
    """opentelemetry-instrumentation-google-genai 1.3b0 wraps `Models.generate_content`, which calls the functions."""
    tool, call = fact("t", "c", "tool", start=2, length=2), fact("c", "", "llm", 30, scope=scope)
    other = fact("d", "", "llm", 40, start=20, scope=scope)
    decisions = (
        ledger.take([tool, call, other]) if at_once else [d for one in (tool, call, other) for d in ledger.take([one])]
    )
    costs = [decision.cost for decision in decisions[1:]]
    assert [cost is not None and cost.estimate for cost in costs] == [estimate, False]
    assert ("called the model again" in decisions[1].note) is estimate
    assert ledger.total.cost == 70


def test_a_tool_that_comes_too_late_to_mark_the_call_above_it_says_so(ledger: MemoryLedger, fact: MakeFact) -> None:
    """A span cannot be marked once it has been sent (docs/counting.md#in-doubt)."""
    (call,) = ledger.take([fact("c", "", "llm", 30, scope=GOOGLES)])
    (tool,) = ledger.take([fact("t", "c", "tool", start=2, length=2)])
    (other,) = ledger.take([fact("u", "d", "tool", start=2, length=2)])
    assert (call.note, other.note) == ("", "")
    assert b"c".hex() in tool.note
    assert "several calls" in tool.note


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_the_report_that_tells_most_counts_though_a_step_above_it_has_a_twin(
    ledger: MemoryLedger, fact: MakeFact, order: tuple[int, ...]
) -> None:
    """A log event, a step and the call below it: only the call knows what was cached, and is priced by it."""
    second = 10**9
    event = fact("e", "", "llm", 128, trace="logs", scope="two", start=second, length=0, source="log:client")
    step = fact("s", "", "other", 128, length=15 * second)
    call = fact("c", "s", "llm", 128, scope="one", length=second, response_id="r")
    assert call.call is not None
    call.call.usage, call.cost = Usage(128, 100, cache_read=100), Cost(30, "computed", 30, price="p")
    for place in order:
        ledger.take([(event, step, call)[place]])
    assert (ledger.total.cost, ledger.total.calls, ledger.total.usage[2]) == (30, 1, 100)
    assert ledger.sent == 30 + ledger.correction


_HELD = {"length": 10**9, "response_id": "msg_0123456789abcdef"}


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_the_report_that_tells_most_counts_though_another_of_its_trace_has_a_twin(
    ledger: MemoryLedger, fact: MakeFact, order: tuple[int, ...]
) -> None:
    """Three libraries in two traces: one that adds a stream's first token, one that does not, one with all classes."""
    one, two = (
        fact("a", "", "llm", 30, trace="one", scope="one", **_HELD),
        fact("b", "", "llm", 30, scope="two", **_HELD),
    )
    most = fact("c", "b", "llm", 30, scope="three", **_HELD)
    assert one.call is not None
    assert most.call is not None
    one.call.usage, most.call.usage = Usage(30, 101), Usage(30, 100, 0, 20, 5)
    for place in order:
        ledger.take([(one, two, most)[place]])
    assert (ledger.total.cost, ledger.total.calls, ledger.total.usage[1], ledger.total.usage[4]) == (30, 1, 100, 5)
    assert ledger.sent == ledger.total.cost + ledger.correction


@pytest.mark.parametrize("trace", ["t1", "t2"])
@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_report_that_leaves_caches_out_is_of_the_call_that_another_tells_with_them(
    ledger: MemoryLedger, fact: MakeFact, order: tuple[int, int], trace: str
) -> None:
    """Bedrock's `invoke_model`: one library copies the input without caches, one above or beside it adds them up."""
    ids = {} if trace == "t1" else _HELD
    poor = fact("p", "r", "llm", 23, trace=trace, scope="one", **ids)
    rich = fact("r", "", "llm", 40, scope="two", **ids)
    assert rich.call is not None
    rich.call.usage = Usage(123, 100, cache_read=80, cache_write=20)
    for place in order:
        ledger.take([(poor, rich)[place]])
    assert (ledger.total.cost, ledger.total.calls, ledger.total.usage[:4]) == (40, 1, (123, 100, 80, 20))


def test_two_calls_of_one_id_whose_inputs_differ_by_more_than_caches_are_two(
    ledger: MemoryLedger, fact: MakeFact
) -> None:
    one, two = (
        fact("a", "", "llm", 24, scope="one", **_HELD),
        fact("b", "", "llm", 40, scope="two", trace="t2", **_HELD),
    )
    assert two.call is not None
    two.call.usage = Usage(123, 100, cache_read=80, cache_write=20)
    ledger.take([one, two])
    assert ledger.total.calls == 2


def _steps(fact: MakeFact) -> list[Fact]:
    """VoltAgent: an agent of three steps that hands over to another one; each call tells its last step."""
    scope = "@voltagent/core"
    return [
        fact("upper", kind="agent", cost=60, scope=scope, length=100),
        fact("call", "upper", "llm", 30, scope=scope, start=1, length=98),
        fact("hand", "upper", "tool", scope=scope, start=20, length=60),
        fact("lower", "hand", "agent", 90, scope=scope, start=21, length=50),
        fact("last", "lower", "llm", 50, scope=scope, start=22, length=48),
    ]


@pytest.mark.parametrize("order", list(itertools.permutations(range(5))))
def test_an_agent_that_tells_all_steps_of_its_one_call_counts_for_it(
    ledger: MemoryLedger, fact: MakeFact, order: tuple[int, ...]
) -> None:
    """@voltagent/core 2.10.0: `llm.usage.*` is of the last step, the agent's `usage.*` of all, without sub-agents."""
    spans = _steps(fact)
    for place in order:
        ledger.take([spans[place]])
    assert (ledger.total.cost, ledger.total.calls) == (150, 2)
    assert ledger.sent == 150 + ledger.correction


def test_an_agent_of_two_calls_repeats_them(ledger: MemoryLedger, fact: MakeFact) -> None:
    upper, call = _steps(fact)[:2]
    ledger.take([upper, call, fact("again", "upper", "llm", 20, scope="@voltagent/core", start=2)])
    assert (ledger.total.cost, ledger.total.calls) == (50, 2)


@pytest.mark.parametrize("cost", [20, 30])
def test_an_agent_that_tells_no_more_than_its_call_repeats_it(ledger: MemoryLedger, fact: MakeFact, cost: int) -> None:
    scope = "@voltagent/core"
    agent, call = ledger.take([fact("a", kind="agent", cost=cost, scope=scope), fact("c", "a", "llm", 30, scope=scope)])
    assert (ledger.total.cost, ledger.total.calls) == (30, 1)
    assert agent.repeats_children
    assert call.cost is not None


def test_calls_of_a_client_below_a_call_of_several_steps_count(ledger: MemoryLedger, fact: MakeFact) -> None:
    upper, call = _steps(fact)[:2]
    ledger.take([upper, call, *(fact(f"s{n}", "call", "llm", 20 + n, start=2 * n) for n in (1, 2))])
    assert (ledger.total.cost, ledger.total.calls) == (43, 2)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_of_two_reports_alike_that_which_names_a_session_counts(
    ledger: MemoryLedger, fact: MakeFact, order: tuple[int, ...]
) -> None:
    reports = [
        fact("a", "", "llm", 30, scope="one", response_id="r", session="s"),
        fact("b", "", "llm", 30, scope="two", response_id="r"),
    ]
    decided = dict(zip(order, ledger.take([reports[place] for place in order]), strict=True))
    assert [decided[place].duplicate_of for place in (0, 1)] == ["", b"a".hex()]


def test_of_two_agents_of_the_same_times_neither_repeats_the_other(ledger: MemoryLedger, fact: MakeFact) -> None:
    """Their links are not known, and each contains the other: only a longer one is around it."""
    ledger.take([fact("a", "gone", "agent", 30), fact("b", "lost", "agent", 40)])
    assert (ledger.total.cost, ledger.total.calls) == (70, 2)


def test_a_report_that_leaves_reasoning_out_is_found(ledger: MemoryLedger, fact: MakeFact) -> None:
    """Gemini CLI's spans count output without thoughts (docs/formats/genai.md)."""
    whole, part = fact("a", "", "llm", 30, scope="one"), fact("b", "", "llm", 30, scope="two")
    assert whole.call is not None
    assert part.call is not None
    whole.call.usage, part.call.usage = Usage(30, 100, reasoning=60), Usage(30, 40)
    ledger.take([whole, part])
    assert (ledger.total.cost, ledger.total.calls) == (30, 1)


@pytest.mark.parametrize("richer", ["", "X", "Z"])
@pytest.mark.parametrize("order", list(itertools.permutations("XYZW")))
def test_a_report_counts_where_the_one_it_gave_way_to_is_above_others(
    ledger: MemoryLedger, fact: MakeFact, order: tuple[str, ...], richer: str
) -> None:
    """Two reports of one answer in two traces beside one that proves to be a wrapper of another call in a third."""
    second = 10**9
    spans = {
        "X": fact("x", "", "llm", 50, trace="a", scope="one", length=5 * second, response_id="r-0123456789abcdef"),
        "Y": fact("y", "x", "llm", 3, trace="a", scope="two", start=second, length=second, response_id="other"),
        "Z": fact("z", "", "llm", 50, trace="b", scope="two", length=5 * second, response_id="r-0123456789abcdef"),
        "W": fact("w", "", "llm", 50, trace="c", scope="three", length=5 * second, response_id="r-0123456789abcdef"),
    }
    if richer:
        spans[richer].agent = "planner"
    for name in order:
        with ledger.store.snapshot() as reader:
            ledger._memory = Memory.of(reader)  # each request reads what is stored
        ledger.take([spans[name]])
    assert (ledger.total.cost, ledger.total.calls) == (53, 2)
    assert ledger.sent == 53 + ledger.correction


@pytest.mark.parametrize("order", list(itertools.permutations(range(2))))
@pytest.mark.parametrize("key", ["dimensions", "agent"])
def test_of_equal_reports_in_two_traces_that_which_names_more_counts(
    ledger: MemoryLedger, fact: MakeFact, order: tuple[int, ...], key: str
) -> None:
    """Whichever comes first: a team's spend is that team's."""
    one = fact("b", kind="llm", cost=30, response_id="r-0123456789abcdef", scope="one", trace="t1")
    two = fact("a", kind="llm", cost=30, response_id="r-0123456789abcdef", scope="two", trace="t2")
    setattr(two, key, "planner" if key == "agent" else ("team", "red"))
    for place in order:
        ledger.take([(one, two)[place]])
    name, value = (key, "planner") if key == "agent" else ("team", "red")
    day = NOW // NS_PER_DAY
    with ledger.store.snapshot() as reader:
        assert costs(reader, TENANT, name, 0, day + 1) == {value: (30, 0)}
    assert ledger.sent == 30 + ledger.correction


ADK = "gcp.vertex.agent"
"""google-adk 1.14.1: `call_llm` holds the tools that the answer asked for, and the agents that it handed over to."""


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("order", list(itertools.permutations(range(5))))
def test_a_call_above_what_its_answer_asked_for_counts(
    ledger: MemoryLedger, fact: MakeFact, order: tuple[int, ...], *, plain: bool
) -> None:
    spans = [
        fact("asks", kind="llm", cost=30, scope=ADK),
        fact("tool", "asks", "tool", scope=ADK),
        fact("asked", "tool", "llm", 40, scope=ADK),
        fact("agent", "asked") if plain else fact("agent", "asked", "agent", scope=ADK),
        fact("handed over", "agent", "llm", 50, scope=ADK),
    ]
    for place in order:
        ledger.take([spans[place]])
    assert ledger.total.cost == 120
    assert ledger.sent == 120 + ledger.correction


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_a_call_above_its_own_report_does_not(ledger: MemoryLedger, fact: MakeFact, order: tuple[int, ...]) -> None:
    spans = [
        fact("asks", kind="llm", cost=30, scope=ADK),
        fact("its client", "asks", "llm", 30),
        fact("tool", "asks", "tool", scope=ADK),
        fact("asked", "tool", "llm", 40, scope=ADK),
    ]
    for place in order:
        ledger.take([spans[place]])
    assert ledger.total.cost == 70


def test_a_call_of_another_library_above_a_tool_repeats_what_is_below(ledger: MemoryLedger, fact: MakeFact) -> None:
    ledger.take([fact("c", kind="llm", cost=70), fact("t", "c", "tool"), fact("d", "t", "llm", 40)])
    assert ledger.total.cost == 40
