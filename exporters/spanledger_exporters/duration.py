"""Durations as the Collector writes them ("5s", "1m30s", "200ms"), held as seconds."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer

_NANOSECONDS = {
    "d": 86400 * 10**9,
    "h": 3600 * 10**9,
    "m": 60 * 10**9,
    "s": 10**9,
    "ms": 10**6,
    "us": 10**3,
    "µs": 10**3,
    "μs": 10**3,
    "ns": 1,
}
_PART = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h|d)", re.ASCII)
_LONGEST = 100
"""Characters: no duration that a person writes is longer."""
_MOST = (2**63 - 1) / 1e9
"""Seconds: what the nanoseconds of Go's time.Duration can hold."""


def parse(text: str) -> float:
    """Seconds of a Go duration string; "d" (24 h) is ours, since retention is told in days.

    Raises:
        ValueError: it is not a duration, or negative.
    """
    trimmed = text.strip()
    if trimmed == "0":
        return 0.0
    seconds, position = 0.0, 0
    while position < len(trimmed) <= _LONGEST and (part := _PART.match(trimmed, position)):
        seconds += float(part[1]) * _NANOSECONDS[part[2]] / 1e9
        position = part.end()
    if not trimmed or position != len(trimmed):
        raise ValueError("not a duration: write a number with a unit, such as 200ms, 5s, 1m30s, 24h or 90d")
    if seconds > _MOST:
        raise ValueError("longer than a duration can be (292 years)")
    return seconds


def render(seconds: float) -> str:
    """A duration string that reads back as `seconds`, in the largest unit that fits it whole (a day is 24h)."""
    nanoseconds = round(seconds * 1e9)
    for unit, size in _NANOSECONDS.items():
        count, rest = divmod(nanoseconds, size)
        if not rest and count >= (2 if unit == "d" else 1):
            return f"{count}{unit}"
    return "0s"


def _read(value: Any) -> Any:
    if isinstance(value, str):
        return parse(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != 0:
        raise ValueError("a duration needs a unit, such as 5s")
    return 0.0


Duration = Annotated[float, BeforeValidator(_read, json_schema_input_type=str), PlainSerializer(render)]
"""A pydantic field type: reads a Go duration string, holds float seconds. Defaults are given in seconds."""
