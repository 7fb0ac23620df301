"""Percentiles of how fast calls were, beside those of the calls themselves."""

from __future__ import annotations

from collections import Counter
from math import ceil

from hypothesis import given
from hypothesis import strategies as some

from spanledger_processor.ledger.sums import Sums, percentiles, speeds_of

calls = some.lists(some.integers(2, 3_600_000), min_size=1, max_size=200)


@given(calls)
def test_percentiles_are_at_most_a_tenth_off(durations_ms: list[int]) -> None:
    counts = Counter(bucket for ms in durations_ms for bucket in speeds_of([(ms * 10**6, ms * 10**6, 1000)]))
    found, ordered = percentiles(counts), sorted(durations_ms)
    for share in (50, 90, 99):
        exact = ordered[ceil(len(ordered) * share / 100) - 1] / 1000
        assert abs(found["duration_s"][f"p{share}"] / exact - 1) < 0.1
        assert found["first_token_s"][f"p{share}"] == found["duration_s"][f"p{share}"]
        slowest_first = sorted(1000 / (ms / 1000) for ms in durations_ms)
        rate = slowest_first[ceil(len(ordered) * share / 100) - 1]
        assert abs(found["output_tokens_per_s"][f"p{share}"] / rate - 1) < 0.1
    assert found["duration_s"]["calls"] == len(durations_ms)


@given(calls, calls)
def test_they_add_up_in_any_order_and_are_kept(one: list[int], other: list[int]) -> None:
    both = Sums()
    for durations in (one, other):
        both.add(Sums(speeds=dict(Counter(bucket for ms in durations for bucket in speeds_of([(ms * 10**6, 0, 0)])))))
    together = Counter(bucket for ms in one + other for bucket in speeds_of([(ms * 10**6, 0, 0)]))
    assert Sums.unpack(both.pack()).speeds == dict(together)


def test_what_is_not_known_is_not_there() -> None:
    assert speeds_of([(0, 10**9, 100)]) == []
    assert speeds_of([(-1, 0, 100)]) == []
    assert percentiles({}) == {}
    assert percentiles(dict.fromkeys(speeds_of([(10**9, 0, 0)]), 1)).keys() == {"duration_s"}
    assert len(speeds_of([(1 << 62, 1, 1 << 62)])) == 3
