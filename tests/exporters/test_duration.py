"""Durations as Go writes them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from spanledger_exporters.settings import Duration, parse, render


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("0s", 0),
        ("5s", 5),
        (" 5s ", 5),
        ("200ms", 0.2),
        ("1m30s", 90),
        ("1h0m0.5s", 3600.5),
        (".5s", 0.5),
        ("1.s", 1),
        ("10us", 1e-5),
        ("10µs", 1e-5),
        ("10μs", 1e-5),
        ("1ns", 1e-9),
        ("90d", 7_776_000),
        ("1d12h", 129_600),
    ],
)
def test_what_is_a_duration(text: str, seconds: float) -> None:
    assert parse(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text",
    ["", " ", "5", "s", "5 s", "-5s", "+5s", "5S", "5sec", "1e3s", "0x1s", "٣s", "1..5s", ".s", "5s;", "1s" * 51],
)
def test_what_is_none(text: str) -> None:
    with pytest.raises(ValueError, match="not a duration"):
        parse(text)


def test_not_longer_than_gos_can_be() -> None:
    assert parse("106751d") == 106_751 * 86400
    with pytest.raises(ValueError, match="292 years"):
        parse("106752d")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (5, "5s"),
        (90, "90s"),
        (300, "5m"),
        (0.2, "200ms"),
        (86400, "24h"),
        (7_776_000, "90d"),
        (1e-5, "10us"),
    ],
)
def test_they_are_written_in_the_largest_unit_that_fits(seconds: float, text: str) -> None:
    assert render(seconds) == text


@given(st.integers(0, 10**15).map(lambda nanoseconds: nanoseconds / 1e9))
def test_what_is_written_reads_back(seconds: float) -> None:
    assert parse(render(seconds)) == pytest.approx(seconds, abs=1e-9)


@pytest.mark.parametrize("value", [5, 1.5, True, None, [], -1])
def test_a_number_needs_a_unit(value: object) -> None:
    """Go reads a bare number as nanoseconds, which nobody means. Zero needs none."""
    with pytest.raises(ValidationError, match="a duration needs a unit, such as 5s"):
        TypeAdapter(Duration).validate_python(value)
    assert TypeAdapter(Duration).validate_python(0) == 0
