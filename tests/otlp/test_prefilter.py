"""The prefilter."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otlp_bytes import message
from spanledger_processor.otlp import prefilter
from spanledger_processor.otlp.envelope import Items
from spanledger_processor.otlp.prefilter import Prefilter, next_holding
from spanledger_processor.otlp.request import parse_traces
from spanledger_processor.otlp.values import SEARCHED, holds
from spanledger_processor.otlp.wire import finished

WORDS = st.text("abc.", min_size=1, max_size=4).map(str.encode)
SPANS = st.text("abc.", max_size=20).map(str.encode)


def test_a_marker_that_stands_in_the_bytes_is_a_hit() -> None:
    marks = Prefilter((b"gen_ai.", b"openinference.", b"traceloop."))
    assert marks.hits(b"..traceloop.x..gen_ai.system")
    assert not marks.hits(b"nothing")


@given(st.lists(WORDS, max_size=6, unique=True), SPANS)
def test_bytes_are_a_hit_exactly_if_they_hold_a_marker(markers: list[bytes], text: bytes) -> None:
    """Also where markers overlap in the bytes, or hold one another."""
    assert Prefilter(tuple(markers)).hits(text) == any(marker in text for marker in markers)


@pytest.mark.parametrize("at", [0, 1, 506, 511, 512, 4090, 12_285, 12_288, 2**20 - 5, 2**20 + 7])
def test_a_marker_is_found_wherever_it_stands_in_a_large_body(at: int) -> None:
    marks = Prefilter((b"gen_ai.", b"lk."))
    assert marks.hits(b"x" * at + b"gen_ai." + b"x" * 5000)


def test_nothing_is_searched_behind_the_first_marker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted: bytes of a megabyte."""
    searched: list[int] = []
    search, overlap = prefilter._search((b"gen_ai.",))

    def counted(view: memoryview) -> list[tuple[int, int, int]]:
        searched.append(len(view))
        return search(view)

    monkeypatch.setattr(prefilter, "_search", lambda _: (counted, overlap))
    assert Prefilter((b"gen_ai.",)).hits(b"gen_ai." + b"x" * 2**20)
    assert sum(searched) <= 1024


def test_no_markers_no_hits() -> None:
    assert not Prefilter(()).hits(b"anything")


def items_of(spans: list[bytes]) -> Items:
    (group,) = parse_traces(
        message(1, message(2, *(message(2, span) for span in spans), message(3, b"abc.abc.")))
    ).groups
    return group.items


def holding(items: Items, marks: tuple[bytes, ...]) -> list[int]:
    """The places of all items that hold a mark, each found from behind the one before."""
    places: list[int] = []
    while True:
        place, mark = finished(next_holding(items, places[-1] + 1 if places else 0, marks))
        if place == len(items):
            return places
        assert mark in marks
        assert mark in items[place]
        places.append(place)


MANY_SPANS = st.lists(
    st.text("abc.", max_size=12).map(str.encode) | st.sampled_from([b".b" * 23, b"x" * 97]), min_size=1
)
"""Lengths of 46 and 97 bytes are written as "." and "a", in front of the span."""


@settings(max_examples=200)
@given(st.lists(WORDS, max_size=4, unique=True), st.lists(MANY_SPANS, max_size=8), st.sampled_from([1, 7, 4096]))
def test_the_spans_that_hold_a_marker_are_found(markers: list[bytes], parts: list[list[bytes]], window: int) -> None:
    """Beside others, after many without one, and across the windows that are searched."""
    spans = [b"x", *(span for part in parts for span in (*part, *[b"x" * 46] * 9))]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(prefilter, "_FIRST_WINDOW", window)
        found = holding(items_of(spans), tuple(markers))
    assert found == [place for place, span in enumerate(spans) if any(marker in span for marker in markers)]


def test_between_two_spans_with_a_marker_others_are_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted: searches, each of windows that grow, for 20,000 spans."""
    searches = [0]
    search, overlap = prefilter._search((b"gen_ai.",))

    def searching(view: memoryview) -> list[tuple[int, int, int]]:
        searches[0] += 1
        return search(view)

    monkeypatch.setattr(prefilter, "_search", lambda _: (searching, overlap))
    items = items_of([b"gen_ai.", *[b"x" * 120] * 20_000, b"gen_ai."])
    assert holding(items, (b"gen_ai.",)) == [0, 20_001]
    assert searches[0] < 100


class Searched(bytes):
    """Bytes that note how many of them are searched in one go."""

    most = 0

    def find(self, *of: Any) -> int:
        Searched.most = max(Searched.most, len(self))
        return super().find(*of)

    def __getitem__(self, place: Any) -> Any:
        return Searched(super().__getitem__(place))


@pytest.mark.parametrize("at", [0, SEARCHED - 4, SEARCHED, SEARCHED + 3, 3 * SEARCHED - 8])
def test_a_long_text_is_searched_a_piece_at_a_time(at: int) -> None:
    """Counted: bytes. Nobody else runs while Python searches 60 MiB, which takes 30 ms for each mark."""
    text = bytearray(b"x" * 3 * SEARCHED)
    assert not holds(bytes(text), (b"spanledger.", b"y"))
    text[at : at + 8] = b"a mark: "
    body = Searched(text)
    assert holds(body, (b"spanledger.", b"a mark: "))
    assert not holds(body[at + 1 :], (b"a mark: ",))
    assert 0 < Searched.most <= SEARCHED
