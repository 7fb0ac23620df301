"""The prefilter."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from spanledger_processor.wire.marks import Marks

WORDS = st.binary(min_size=1, max_size=3)


def test_hits_are_the_markers_that_stand_in_the_bytes():
    marks = Marks((b"gen_ai.", b"openinference.", b"traceloop."))
    assert marks.hits(b"..traceloop.x..gen_ai.system") == (b"gen_ai.", b"traceloop.")
    assert marks.hits(b"nothing") == ()


@given(st.lists(WORDS, max_size=6), st.lists(st.binary(max_size=20), max_size=4))
def test_something_has_a_hit_exactly_if_it_holds_a_marker(markers, spans):
    """Markers that hold others are left out, which must change no answer."""
    hits = Marks(tuple(markers)).hits(b"|".join(spans))
    for span in spans:
        assert any(hit in span for hit in hits) == any(marker in span for marker in markers)
