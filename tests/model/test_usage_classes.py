"""The usage classes: declared once, in an order that stored records rely on, and vectors of them that add up."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from spanledger_processor import model
from spanledger_processor.model import CLASS_NAMES, NO_SPEND, USAGE_CLASSES, UsageVector

COUNTS = st.integers(-(10**6), 10**18)
VECTORS = st.builds(UsageVector, COUNTS, st.tuples(*[COUNTS] * len(USAGE_CLASSES)))

CONTRACT = (
    *("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "cache_write_1h_tokens"),
    *("reasoning_tokens", "input_audio_tokens", "input_image_tokens", "cache_read_audio_tokens"),
    *("cache_read_image_tokens", "output_audio_tokens", "output_image_tokens", "web_searches", "search_units"),
)
"""The names in docs/contract.md#attributes-added, in the order in which records hold them."""


def test_the_classes_have_the_names_and_the_order_that_records_rely_on() -> None:
    assert tuple(one.attribute for one in USAGE_CLASSES[: len(CONTRACT)]) == CONTRACT


def test_the_named_indexes_are_those_of_the_classes() -> None:
    for name in ("input", "output", "cache_read", "cache_write", "reasoning"):
        assert getattr(model, name.upper()) == CLASS_NAMES.index(name)


def test_a_class_stands_below_what_it_is_part_of() -> None:
    for place, one in enumerate(USAGE_CLASSES):
        assert all(CLASS_NAMES.index(whole) < place for whole in one.part_of)


@given(VECTORS, VECTORS)
def test_what_is_added_can_be_taken_out_again(one: UsageVector, other: UsageVector) -> None:
    assert one + other - other == one
    assert one - one == NO_SPEND
    assert not one - one
    assert (one + other).cost == one.cost + other.cost


@given(VECTORS, VECTORS)
def test_what_is_left_uncovered_is_between_nothing_and_the_whole(one: UsageVector, credit: UsageVector) -> None:
    left = one.uncovered(credit)
    if not credit:
        assert left == one
        return
    for count, whole, paid in zip(left.counts, one.counts, credit.counts, strict=True):
        assert count == max(0, whole - max(0, paid))
    assert left.cost == max(0, one.cost - max(0, credit.cost))


def test_a_vector_of_a_version_with_fewer_or_more_classes_is_read() -> None:
    assert UsageVector.read(5, (1, 2)).counts == (1, 2, *[0] * (len(USAGE_CLASSES) - 2))
    assert UsageVector.read("5", [*range(len(USAGE_CLASSES)), 99]) == UsageVector(5, tuple(range(len(USAGE_CLASSES))))
