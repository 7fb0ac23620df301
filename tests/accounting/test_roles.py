"""Roles that `match` finds: of spans above forgotten ones, and of reports of which one leaves reasoning out."""

from __future__ import annotations

import pytest

from spanledger_processor.accounting.count_once import match
from spanledger_processor.accounting.trace import COUNTED, DUPLICATE, REPEATS, Claim, Span, Trace
from spanledger_processor.model import Usage, counts_of

SECOND = 10**9


def _claim(amount: int | None, output: int = 77, reasoning: int | None = None) -> Claim:
    tokens = tuple(counts_of(Usage(812, output, reasoning=reasoning)))
    return Claim(tokens, amount, "" if amount else "unknown_model", model="gpt-4o")


PRICED = _claim(1000)


def _span(name: bytes, parent: bytes = b"", kind: str = "llm", claim: Claim | None = PRICED, scope: str = "a") -> Span:
    return Span(name, parent, 0, SECOND, kind, scope, claim=claim)


def _roles(*spans: Span) -> dict[bytes, str]:
    return match(Trace({span.span_id: span for span in spans})).roles


@pytest.mark.parametrize(
    ("output", "is_one_call"),
    [(57, True), (77, True), (97, False), (20, False)],
    ids=["without", "with", "more", "less"],
)
def test_a_library_that_leaves_reasoning_out_reports_the_same_call(output: int, *, is_one_call: bool) -> None:
    """One library says 77 tokens of output, 20 of them reasoning; the other knows of no reasoning."""
    knows = _span(b"1", claim=_claim(1000, reasoning=20))
    less = _span(b"2", claim=_claim(None, output), scope="b")
    assert _roles(knows, less) == {b"1": COUNTED, b"2": DUPLICATE + b"1".hex() if is_one_call else COUNTED}


def test_an_agent_above_forgotten_calls_repeats_them() -> None:
    agent = _span(b"agent", kind="agent")
    assert _roles(agent) == {b"agent": COUNTED}
    agent.carries_below = True
    assert _roles(agent) == {b"agent": REPEATS}


def test_an_agent_above_a_span_that_stands_above_forgotten_calls_repeats_them() -> None:
    agent, step = _span(b"agent", kind="agent"), _span(b"step", b"agent", kind="", claim=None)
    assert _roles(agent, step) == {b"agent": COUNTED}
    step.carries_below = True
    assert _roles(agent, step) == {b"agent": REPEATS}


@pytest.mark.parametrize("forgotten_below", ["upper", "step", ""])
def test_a_span_above_one_call_and_forgotten_ones_does_not_count_in_its_place(forgotten_below: str) -> None:
    """The upper span has a price, the call below has none: it counts in the call's place if that is all below it."""
    upper = _span(b"upper")
    call = _span(b"call", b"upper", claim=_claim(None), scope="b")
    step = _span(b"step", b"upper", kind="", claim=None)
    for span in (upper, step):
        span.carries_below = span.span_id.decode() == forgotten_below
    in_place = {b"upper": COUNTED, b"call": DUPLICATE + b"upper".hex()}
    assert _roles(upper, call, step) == ({b"upper": REPEATS, b"call": COUNTED} if forgotten_below else in_place)
