"""Money leaves the ledger twice: as a double, correctly rounded, and with every digit; times as calendars hold them."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanledger_processor.ledger.rows import date_of, exact_usd, money, row, time_of, usd
from spanledger_processor.ledger.sums import Sums


@given(st.integers(-(10**30), 10**30))
def test_every_digit_is_there(amount: int) -> None:
    text = exact_usd(amount)
    assert Fraction(text) * 10**12 == amount
    assert "E" not in text


@given(st.integers(0, 10**24))
def test_the_double_is_the_nearest(amount: int) -> None:
    """No double is nearer: what is left is at most half of the distance to either neighbour."""
    near = usd(amount)
    exact = Fraction(amount, 10**12)
    for other in (near * (1 + 2**-52), near * (1 - 2**-52)):
        assert abs(Fraction(near) - exact) <= abs(Fraction(other) - exact)


def test_both_ways() -> None:
    assert money(1_500_000_000_000) == {"cost_usd": 1.5, "cost_usd_exact": "1.5"}
    assert money(0) == {"cost_usd": 0.0, "cost_usd_exact": "0"}
    assert money(1) == {"cost_usd": 1e-12, "cost_usd_exact": "0.000000000001"}
    assert money(20 * 10**12)["cost_usd_exact"] == "20"
    assert money(-15 * 10**11) == {"cost_usd": -1.5, "cost_usd_exact": "-1.5"}


@pytest.mark.parametrize(
    ("at_ns", "reported"),
    [
        (0, None),
        (1_769_774_400_123_456_789, "2026-01-30T12:00:00.123Z"),
        (2**64 - 1, "2554-07-21T23:34:33.709Z"),
        (10**21, None),
    ],
)
def test_times(at_ns: int, reported: str | None) -> None:
    """Span times are whatever the network says; what no calendar holds is told as none."""
    assert time_of(at_ns) == reported


@pytest.mark.parametrize(("day", "reported"), [(0, "1970-01-01"), (20_483, "2026-01-30"), (2**32 - 1, None)])
def test_days(day: int, reported: str | None) -> None:
    assert date_of(day) == reported


def test_the_dearest_model_comes_first_and_unpriced_reasons_in_order() -> None:
    sums = Sums(cost=3 * 10**12, calls=4, unpriced=2)
    sums.models = {"a": 10**12, "b": 2 * 10**12}
    sums.reasons = {"unknown_model": 1, "no_usage": 1}
    found = row(sums)
    assert [(model["model"], model["cost_usd_exact"]) for model in found["models"]] == [("b", "2"), ("a", "1")]
    assert list(found["unpriced"]) == ["no_usage", "unknown_model"]
    assert "closed" not in found
    assert "parent_id" not in found
