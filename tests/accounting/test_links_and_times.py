"""Parent links of a trace, rings among them, against walking up link by link."""

from __future__ import annotations

from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from spanledger_processor.accounting.links_and_times import Forest
from spanledger_processor.accounting.trace import Span


@st.composite
def links(draw: st.DrawFn, *, rings: bool = False) -> dict[bytes, Span]:
    spans: dict[bytes, Span] = {}
    for number in draw(st.permutations(range(draw(st.integers(1, 12))))):
        parent = draw(st.integers(-2, 11 if rings else number - 1))
        span_id = bytes((number,))
        spans[span_id] = Span(span_id, {-1: b"", -2: b"unknown"}.get(parent, bytes((max(parent, 0),))))
    return spans


def _ancestors(spans: dict[bytes, Span], span_id: bytes) -> Iterator[bytes]:
    while (span_id := spans[span_id].parent_id) in spans:
        yield span_id


@given(links())
def test_without_rings_it_says_what_the_links_say(spans: dict[bytes, Span]) -> None:
    forest = Forest(spans)
    amounts = {span_id: 1 + span_id[0] for span_id in spans}
    sums = forest.sums_below(amounts)
    for span_id in spans:
        below = {other for other in spans if span_id in _ancestors(spans, other)}
        assert {other for other in spans if forest.is_above(span_id, other)} == below
        assert sums.get(span_id, 0) == sum(amounts[other] for other in below)
        assert forest.below_any({span_id}) == below
        top = [span_id, *_ancestors(spans, span_id)][-1]
        assert (span_id in forest.unlinked()) == (spans[top].parent_id == b"unknown")


@given(links(rings=True), st.randoms())
def test_a_ring_has_one_top_whatever_the_order(spans: dict[bytes, Span], random: object) -> None:
    shuffled = list(spans.items())
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    one, other = Forest(spans), Forest(dict(shuffled))
    for span_id in spans:
        assert not one.is_above(span_id, span_id)
        assert [one.is_above(span_id, below) for below in spans] == [other.is_above(span_id, below) for below in spans]


@given(links(rings=True), st.sets(st.integers(0, 11)))
def test_the_forest_of_some_spans_says_of_them_what_that_of_all_says(
    spans: dict[bytes, Span], chosen: set[int]
) -> None:
    wanted = [span_id for span_id in spans if span_id[0] in chosen]
    some, whole = Forest.above(spans, wanted), Forest(spans)
    amounts = {span_id: 1 + span_id[0] for span_id in wanted}
    assert some.sums_below(amounts) == whole.sums_below(amounts)
    assert some.unlinked() & {*wanted} == whole.unlinked() & {*wanted}
    for span_id in spans:
        assert [some.is_above(span_id, below) for below in wanted] == [
            whole.is_above(span_id, below) for below in wanted
        ]
