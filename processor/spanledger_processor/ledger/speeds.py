"""How fast calls were: their duration, the time to the first token, and output tokens a second, as counts by bucket.

A bucket reaches to 1.19 times its beginning, so that any set of calls fits in few numbers, which add up in any order; a
percentile is the middle of its bucket, 9 % off at most. The tokens a second are those of the whole call, from when it
began: what waits for the answer sees no more.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import log2
from typing import Any

_STEPS = 4
"""Buckets from a number to its double."""
_BUCKETS = 128
_DURATION, _FIRST_TOKEN, _RATE = range(3)
_PERCENTILES = (50, 90, 99)


def speeds_of(duration_ns: int, first_token_ns: int, output: int) -> list[int]:
    """Return the buckets of a call: of its duration, and of what else is known of it; none without a duration."""
    if duration_ns <= 0:
        return []
    result = [_bucket(_DURATION, duration_ns / 10**6)]
    if first_token_ns > 0:
        result.append(_bucket(_FIRST_TOKEN, first_token_ns / 10**6))
    if output > 0:
        result.append(_bucket(_RATE, output * 10**12 / duration_ns))
    return result


def _bucket(kind: int, milli: float) -> int:
    """Return the bucket of a number of thousandths: ms, or tokens in 1,000 s."""
    return kind * _BUCKETS + min(int(_STEPS * log2(milli)), _BUCKETS - 1) if milli > 1 else kind * _BUCKETS


def percentiles(speeds: Mapping[int, int]) -> dict[str, Any]:
    """Return calls and percentiles of what is known: seconds, and output tokens a second; nothing if nothing is."""
    rows = {}
    for kind, name in ((_DURATION, "duration_s"), (_FIRST_TOKEN, "first_token_s"), (_RATE, "output_tokens_per_s")):
        counts = sorted((bucket, calls) for bucket, calls in speeds.items() if bucket // _BUCKETS == kind)
        total = sum(calls for _, calls in counts)
        if total > 0:
            rows[name] = {"calls": total, **{f"p{share}": _at(counts, total, share) for share in _PERCENTILES}}
    return rows


def _at(counts: list[tuple[int, int]], total: int, share: int) -> float:
    """Return the middle of the bucket in which the call stands that `share` percent are not above."""
    left = -(-total * share // 100)
    for bucket, calls in counts:
        left -= calls
        if left <= 0:
            return float(f"{2 ** ((bucket % _BUCKETS + 0.5) / _STEPS) / 1000:.3g}")
    return 0.0
