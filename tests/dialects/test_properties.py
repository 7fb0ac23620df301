"""Whatever a span holds, it is read without an error, and what is read makes sense."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from dialect_view import PlainAttributes, PlainEvent, PlainView
from spanledger_processor.dialects import MARKERS, detect
from spanledger_processor.dialects.keys import keys_of
from spanledger_processor.dialects.normalize import Counts, Input, Output, normalize
from spanledger_processor.dialects.registry import DIALECTS
from spanledger_processor.dialects.values import MAX_COUNT
from spanledger_processor.model import Usage

KEYS = sorted({key for dialect in DIALECTS for key in keys_of(dialect)})
WORDS = sorted({value for dialect in DIALECTS for kinds in dialect.kinds for value in kinds.table})
SCOPES = sorted({scope for dialect in DIALECTS for scope in dialect.detection.scopes})
NAMES = sorted({name for dialect in DIALECTS for name in dialect.detection.names})

TEXTS = st.one_of(
    st.text(max_size=20),
    st.sampled_from(WORDS),
    st.sampled_from(['{"usage": {"input_tokens": 1', "{'usage': {'prompt_tokens': 1}}", "[[[[", '"x"', "12", "1e400"]),
    st.recursive(st.integers(), lambda inner: st.dictionaries(st.sampled_from([*KEYS, "usage"]), inner)).map(str),
)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.one_of(TEXTS, st.integers(-5, 2**63), st.floats(), st.booleans(), st.binary(max_size=8), st.none()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(KEYS), inner, max_size=3)),
    max_leaves=6,
)
ATTRIBUTES = st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=12).map(PlainAttributes)
VIEWS = st.builds(
    PlainView,
    ATTRIBUTES,
    st.one_of(st.text(max_size=10), st.sampled_from(NAMES)),
    st.one_of(st.text(max_size=10), st.sampled_from(SCOPES)),
    st.one_of(st.text(max_size=10), st.sampled_from(["1.2.3", "0.27.0", "2"])),
    ATTRIBUTES,
    events=st.lists(st.builds(PlainEvent, st.text(max_size=10), ATTRIBUTES), max_size=2),
)
COUNTS = st.one_of(st.none(), st.integers(0, 1000))


@given(VIEWS)
def test_no_attribute_makes_reading_fail(view: PlainView) -> None:
    call = detect(view)
    if call is None:
        return
    for usage in (call.usage, call.fallback):
        if usage is not None:
            assert all(count is None or 0 <= count <= 5 * MAX_COUNT for count in _classes(usage))
    assert call.reported is None or call.reported.amount >= 0


@given(VIEWS)
def test_what_is_known_gets_past_the_prefilter(view: PlainView) -> None:
    written = "\n".join([view.name, *view.attributes]).encode("utf-8", "surrogatepass")
    assert detect(view) is None or any(mark in written for mark in MARKERS)


@given(
    st.builds(Counts, COUNTS, COUNTS, COUNTS, COUNTS, COUNTS, COUNTS, COUNTS, COUNTS),
    st.sampled_from(Input),
    st.sampled_from(Output),
)
def test_normalized_counts_are_consistent_or_a_problem(counts: Counts, means: Input, output: Output) -> None:
    normalized = normalize(counts, means, output)
    usage = normalized.usage
    if normalized.problem or usage.input is None:
        return
    assert usage.input >= (usage.cache_read or 0) + (usage.cache_write or 0)
    assert (usage.cache_write_1h or 0) <= (usage.cache_write or 0)
    assert usage.input >= (counts.input or 0)
    assert usage.output is None or usage.output >= (counts.output or 0)


@given(VIEWS)
def test_reading_twice_says_the_same(view: PlainView) -> None:
    assert detect(view) == detect(view)


def _classes(usage: Usage) -> list[int | None]:
    return [
        usage.input,
        usage.output,
        usage.cache_read,
        usage.cache_write,
        usage.cache_write_1h,
        usage.reasoning,
    ]
