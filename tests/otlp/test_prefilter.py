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


def test_hits_are_the_markers_that_stand_in_the_bytes() -> None:
    marks = Prefilter((b"gen_ai.", b"openinference.", b"traceloop."))
    assert marks.hits(b"..traceloop.x..gen_ai.system") == (b"gen_ai.", b"traceloop.")
    assert marks.hits(b"nothing") == ()


@given(st.lists(WORDS, max_size=6, unique=True), st.lists(SPANS, max_size=4))
def test_a_span_holds_a_hit_exactly_if_it_holds_a_marker(markers: list[bytes], spans: list[bytes]) -> None:
    """Also where markers overlap in the bytes, or hold one another."""
    hits = Prefilter(tuple(markers)).hits(b"\x12".join(spans))
    for span in spans:
        assert any(hit in span for hit in hits) == any(marker in span for marker in markers)


@pytest.mark.parametrize("at", [0, 1, 4090, 4093, 4095, 4096, 4097, 12_285, 12_288, 2**20 - 5, 2**20 + 7])
def test_a_marker_is_found_wherever_it_stands_in_a_large_body(at: int) -> None:
    marks = Prefilter((b"gen_ai.", b"lk."))
    assert marks.hits(b"x" * at + b"gen_ai." + b"x" * 5000) == (b"gen_ai.",)


@given(st.lists(st.sampled_from([b"gen_ai.", b"lk.", b"session.id", b"run_id", b"user", b" "]), max_size=8))
def test_of_words_of_which_any_will_do_all_are_hits_or_none(words: list[bytes]) -> None:
    any_of = (b"session.id", b"run_id")
    hits = Prefilter((b"gen_ai.", b"lk."), any_of).hits(b"|".join(words))
    expected = {word for word in words if word in (b"gen_ai.", b"lk.")}
    assert set(hits) == expected | (set(any_of) if set(any_of) & set(words) else set())


def test_words_of_which_any_will_do_need_no_searches_of_their_own() -> None:
    """Each set of words that is left to look for needs one, which takes as long as to search a request twice."""
    names = tuple(b"name-%d-" % number for number in range(10))
    marks = Prefilter((b"gen_ai.",), names)
    prefilter._search.cache_clear()
    for number in range(2**10):
        text = b"".join(name for at, name in enumerate(names) if number >> at & 1)
        for body in (text, text + b"gen_ai.", b"gen_ai." + text):
            marks.hits(body + b" " * 5000 + body)
    assert prefilter._search.cache_info().misses <= 4


def test_no_markers_no_hits() -> None:
    assert Prefilter(()).hits(b"anything") == ()


def items_of(spans: list[bytes]) -> Items:
    (group,) = parse_traces(
        message(1, message(2, *(message(2, span) for span in spans), message(3, b"abc.abc.")))
    ).groups
    return group.items


def holding(items: Items, marks: tuple[bytes, ...]) -> list[int]:
    """The places of all items that hold a mark, each found from behind the one before."""
    places: list[int] = []
    while (place := finished(next_holding(items, places[-1] + 1 if places else 0, marks))) < len(items):
        places.append(place)
    return places


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
    """Counted: 4 of 20,000, and searches, each of windows that grow."""
    looked_at, searches = [0], [0]
    search = prefilter._search

    def counted(body: bytes, start: int, end: int, marks: tuple[bytes, ...]) -> bool:
        looked_at[0] += 1
        return holds(body, start, end, marks)

    def searching(marks: tuple[bytes, ...]) -> Any:
        searches[0] += 1
        return search(marks)

    monkeypatch.setattr(prefilter, "holds", counted)
    monkeypatch.setattr(prefilter, "_search", searching)
    items = items_of([b"gen_ai.", *[b"x" * 120] * 20_000, b"gen_ai."])
    assert holding(items, (b"gen_ai.",)) == [0, 20_001]
    assert looked_at == [5]
    assert searches[0] < 100


class Searched(bytes):
    """Bytes that note how many of them are searched in one go."""

    most = 0

    def find(self, sub: Any, start: Any = None, end: Any = None) -> int:
        self.most = max(self.most, end - start)
        return super().find(sub, start, end)


@pytest.mark.parametrize("at", [0, SEARCHED - 4, SEARCHED, SEARCHED + 3, 3 * SEARCHED - 8])
def test_a_long_text_is_searched_a_piece_at_a_time(at: int) -> None:
    """Counted: bytes. Nobody else runs while Python searches 60 MiB, which takes 30 ms for each mark."""
    text = bytearray(b"x" * 3 * SEARCHED)
    assert not holds(bytes(text), 0, len(text), (b"spanledger.", b"y"))
    text[at : at + 8] = b"a mark: "
    body = Searched(text)
    assert holds(body, 0, len(body), (b"spanledger.", b"a mark: "))
    assert not holds(body, at + 1, len(body), (b"a mark: ",))
    assert body.most <= SEARCHED
