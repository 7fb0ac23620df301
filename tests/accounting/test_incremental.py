"""Differential: what is known of a long trace says of its new spans what the rules say of all its spans."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ledger_in_memory import make_fact
from odd_traces import spans
from spanledger_processor.accounting.count_once import match
from spanledger_processor.accounting.decide import span_of
from spanledger_processor.accounting.facts import Fact
from spanledger_processor.accounting.incremental import Incremental
from spanledger_processor.accounting.one_call import DOUBTS
from spanledger_processor.accounting.trace import COUNTED, Trace


@given(spans(), st.integers(1, 11))
def test_incremental_says_what_match_says(facts: list[Fact], known_spans: int) -> None:
    """Whatever a trace holds already, and whatever comes: the same roles, and no doubt that only `match` sees."""
    trace = Trace()
    arrived = {fact.span_id: span_of(fact) for fact in facts if fact.trace_id == b"t1"}
    for span in list(arrived.values())[:known_spans]:
        trace.add(span)
    known = Incremental.of(trace, match(trace).roles)
    if known is not None:
        assert known.roles == match(trace).roles
    for span in list(arrived.values())[known_spans:]:
        trace.add(span)
        if known is None or not known.add(trace, [span]):
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
