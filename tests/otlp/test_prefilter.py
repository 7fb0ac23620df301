"""The prefilter."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanledger_processor.otlp.prefilter import Prefilter

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


def test_no_markers_no_hits() -> None:
    assert Prefilter(()).hits(b"anything") == ()
