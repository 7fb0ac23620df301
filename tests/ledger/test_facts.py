"""Facts of a session do not depend on the order in which its spans are told, and stay within their bounds."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanledger_processor.ledger.facts import EARLIEST_NS, Facts, Lifecycle
from spanledger_processor.ledger.sums import Sums

S = 10**9
START = 1_795_000_000 * S
spans = st.lists(st.tuples(st.integers(0, 40_000), st.integers(0, 900), st.integers(0, 200_000)), max_size=30)


def of(reported: list[tuple[int, int, int]]) -> Facts:
    facts = Facts(turns=len(reported))
    starts, sizes = [START + at * S for at, _, _ in reported], [size for _, _, size in reported]
    facts.act(starts, [START + (at + length) * S for at, length, _ in reported])
    facts.grow(starts, sizes)
    facts.spend(starts, sizes)
    for at, length, _ in reported:
        facts.say("team", str(at), str(length))
        facts.end((START + (at + length) * S, str(at).encode(), str(length).encode()))
    facts.loops = sum(length > 800 for _, length, _ in reported)
    return facts


@given(spans, st.data())
def test_in_any_order_and_any_parts(reported: list[tuple[int, int, int]], data: st.DataObject) -> None:
    """Parts that are told by several requests, stored between them, told twice, and taken out again once."""
    shuffled = list(data.draw(st.permutations(reported)))
    cut = data.draw(st.integers(0, len(reported)))
    facts = Facts()
    for part in (shuffled[:cut], shuffled[cut:]):
        facts.add(of(part))
        facts = Facts.unpack(facts.pack())
    assert facts == of(reported)
    again = facts.copy()
    again.add(of(shuffled[:cut]))
    again.add(of(shuffled[:cut]), -1)
    assert again == facts


def test_active_time_leaves_long_pauses_out() -> None:
    """10 s, a pause of 4 min, 20 s, a pause of an hour, 5 s."""
    facts = of([(0, 10, 0), (250, 20, 0), (3870, 5, 0)])
    assert facts.active_ms(300_000) == 275_000
    assert facts.active_ms(60_000) == 35_000
    assert facts.active_ms(7_200_000) == 3_875_000


def test_a_clock_that_was_never_set_is_no_activity() -> None:
    facts = Facts()
    facts.act([0, EARLIEST_NS - 1, START], [START, EARLIEST_NS, START + S])
    facts.grow([0], [7])
    assert facts.active_ms(300_000) == 1000
    assert facts.sizes == {}


def test_a_span_of_weeks_is_no_activity_in_between() -> None:
    facts = Facts()
    facts.act([START], [START + 30 * 86_400 * S])
    assert facts.active_ms(300_000) == 0


def test_what_is_kept_is_bounded_and_the_largest_context_is_never_lost() -> None:
    draw = random.Random(7)
    reported = [(draw.randrange(10**7), 1, draw.randrange(10**6)) for _ in range(3000)]
    facts = of(reported)
    assert len(facts.costs) <= 32
    assert sum(facts.costs.values()) == sum(cost for _, _, cost in reported)
    assert len(facts.pack()[3]) <= 512
    assert len(facts.sizes) <= 64
    assert max(facts.sizes.values()) == max(size for *_, size in reported)
    assert len(facts.values["team"]) == 3


@pytest.mark.parametrize(
    ("after_s", "state"),
    [(0, "active"), (300, "active"), (301, "idle"), (14_400, "idle"), (14_401, "stale"), (-3600, "active")],
)
def test_lifecycle(after_s: int, state: str) -> None:
    assert Lifecycle().state(Sums(last_ns=START), START + after_s * S) == state
    assert Lifecycle().state(Sums(last_ns=START, closed_ns=START), START + after_s * S) == "closed"


def test_an_activity_far_ahead_of_the_clock_does_not_keep_a_session_active() -> None:
    for ahead_s in (301, 3600, 20 * 3600, 10**8):
        session = Sums(last_ns=START + ahead_s * S, arrival_ms=START // 10**6)
        states = [Lifecycle().state(session, START + after_s * S) for after_s in (0, 300, 600, 4 * 3600 + 1, 21 * 3600)]
        assert states == ["active", "active", "idle", "stale", "stale"]
    near = Sums(last_ns=START + 200 * S, arrival_ms=START // 10**6)
    assert [Lifecycle().state(near, START + after_s * S) for after_s in (500, 501)] == ["active", "idle"]
