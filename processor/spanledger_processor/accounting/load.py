"""Amounts that are summed over spans: money and tokens by class, side by side."""

from __future__ import annotations

from typing import TypeAlias

TOKENS = ("input", "output", "cache_read", "cache_write", "cache_write_1h", "reasoning")
"""The token classes, in the order of `Usage` and of a claim's tokens."""

Load: TypeAlias = tuple[int, int, int, int, int, int, int]
"""1e-12 USD, then tokens in the order of `TOKENS`."""

EMPTY: Load = (0, 0, 0, 0, 0, 0, 0)


def plus(one: Load, other: Load, sign: int = 1) -> Load:
    """The sum, or with `sign` -1 the difference; parts may become negative."""
    a, b, c, d, e, f, g = one
    h, i, j, k, m, n, o = other
    if sign < 0:
        return a - h, b - i, c - j, d - k, e - m, f - n, g - o
    return a + h, b + i, c + j, d + k, e + m, f + n, g + o


def beyond(whole: Load, credit: Load) -> Load:
    """What is left of `whole` after what `credit` has paid, part by part, never below 0."""
    if credit is EMPTY or credit == EMPTY:
        return whole
    a, b, c, d, e, f, g = (max(0, x - max(0, y)) for x, y in zip(whole, credit, strict=True))
    return a, b, c, d, e, f, g
