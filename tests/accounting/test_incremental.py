"""Differential: what is known of a long trace says of its new spans what the rules say of all its spans."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ledger_in_memory import MemoryLedger, make_fact
from odd_traces import SPANS, spans
from spanledger_processor.accounting.count_once import match
from spanledger_processor.accounting.decide import span_of
from spanledger_processor.accounting.facts import Fact
from spanledger_processor.accounting.incremental import Incremental
from spanledger_processor.accounting.one_call import DOUBTS
from spanledger_processor.accounting.trace import COUNTED, Trace
from spanledger_processor.ledger.store import Table
from spanledger_processor.model import Cost


@st.composite
def plain(draw: st.DrawFn) -> list[Fact]:
    """Spans of one plain trace in an order in which it stays plain: agents and tools come before what is below them."""
    facts: list[Fact] = []
    above, calls = ["", "gone"], ["p0"]
    for number in range(draw(st.integers(2, SPANS))):
        kind = draw(st.sampled_from(["llm", "llm", "tool", "agent", "other", ""])) if number else "llm"
        cost = 1_000 + number if kind == "llm" else None
        response = f"plain{number}" if kind == "llm" and draw(st.booleans()) else ""
        parent = draw(st.sampled_from([*above, *calls] if kind == "tool" else above))
        facts.append(make_fact(f"p{number}", parent, kind, cost, start=draw(st.integers(0, 30))))
        if call := facts[-1].call:
            call.response_id = response
        if kind == "llm":
            calls.append(f"p{number}")
        elif parent not in calls:  # a call below a tool of a call would be below a call
            above.append(f"p{number}")
    return facts


@given(plain(), st.integers(1, SPANS))
def test_a_plain_trace_is_never_left_to_match(facts: list[Fact], known_spans: int) -> None:
    """So that the comparison below is of traces that get so far: each span of these is taken in, with the same role."""
    _compare(facts, known_spans, always=True)


@given(st.one_of(spans(), st.tuples(plain(), spans()).map(lambda both: [*both[0], *both[1]])), st.integers(1, 11))
def test_incremental_says_what_match_says(facts: list[Fact], known_spans: int) -> None:
    """Whatever a trace holds already, and whatever comes: the same roles, and no doubt that only `match` sees."""
    _compare(facts, known_spans)


def _compare(facts: list[Fact], known_spans: int, *, always: bool = False) -> None:
    """Take spans in after `known_spans` of them until one ends it, which is none where it is `always` to go on."""
    trace = Trace()
    arrived = {fact.span_id: span_of(fact) for fact in facts if fact.trace_id == b"t1"}
    for span in list(arrived.values())[:known_spans]:
        trace.add(span)
    known = Incremental.of(trace, match(trace).roles)
    assert known is not None or not always
    if known is not None:
        assert known.roles == match(trace).roles
    for span in list(arrived.values())[known_spans:]:
        trace.add(span)
        if known is None or not known.add(trace, [span]):
            assert not always, span
            return
        found = match(trace)
        assert known.roles == found.roles
        assert not [reason for reason in found.reasons.values() if reason.code in DOUBTS]


def test_calls_of_one_library_are_decided_on_incrementally() -> None:
    """The case that is to be fast, so that the comparison above is of more than traces which are left to `match`."""
    trace = Trace()
    first, *later = (span_of(make_fact(f"s{number}", "", "llm", 100 + number)) for number in range(4))
    trace.add(first)
    known = Incremental.of(trace, match(trace).roles)
    assert known is not None
    for span in later:
        trace.add(span)
        assert known.add(trace, [span])
    assert known.roles == match(trace).roles == dict.fromkeys(trace.spans, COUNTED)


def test_a_trace_that_was_lent_a_session_and_names_it_itself_is_decided_on_as_a_whole() -> None:
    """Its call is lent none any more, whether its trace is in memory or not: `MemoryLedger` compares both."""
    ledger, unique = MemoryLedger(), "r-0123456789abcdef"
    poorer = make_fact("poorer", "", "llm", trace="B", session="s", scope="two", response_id=unique)
    poorer.cost = Cost(unpriced="no_usage")
    ledger.take([poorer])
    ledger.take([make_fact("richer", "", "llm", 7, trace="C", response_id=unique)])
    assert ledger.table(Table.SESSION)["s"].cost == 7
    ledger.take([make_fact("names", "", "llm", 9, trace="C", session="s", response_id="another")])
    assert (ledger.total.calls, ledger.table(Table.SESSION)["s"].cost) == (2, 16)
