"""What attributes, spans and their events give when asked."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from otlp_bytes import attribute, message, varint
from spanledger_processor.otlp.encoding import any_value
from spanledger_processor.otlp.views import Attributes, SpanView, head_of
from spanledger_processor.otlp.wire import MalformedError

INT_TAG = b"\x18"
INT64 = st.integers(-(2**63), 2**63 - 1)
VALUES = st.recursive(
    st.none() | st.booleans() | INT64 | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


def attributes(*fields: bytes) -> Attributes:
    return SpanView.parse(b"".join(fields)).attributes


@given(VALUES)
def test_every_value_comes_back_as_it_was(value: Any) -> None:
    encoded = any_value(value).SerializeToString()
    assert same(attributes(attribute(b"k", encoded)).get("k"), value)


def same(one: Any, other: Any) -> bool:
    """Equal in value and type; NaN is NaN."""
    return repr(one) == repr(other)


@pytest.mark.parametrize("number", [0, 1, 127, 128, 16383, 16384, 2**21 - 1, 2**21, 2**56, 2**63 - 1, -1, -(2**63)])
@pytest.mark.parametrize("padding", [0, 1])
def test_whole_numbers_of_every_length_also_longer_than_needed(number: Any, padding: int) -> None:
    """Most are read without protobuf, by a path that must agree with it."""
    unsigned = number % 2**64
    encoded = b"\x18" + varint(unsigned, padding if unsigned < 2**56 else 0)
    assert AnyValue.FromString(encoded).int_value == number
    assert attributes(attribute(b"k", encoded)).get("k") == number


@pytest.mark.parametrize("size", [0, 1, 126, 127, 128, 16_383, 16_384, 20_000, 2**21 - 1, 2**21])
def test_text_of_every_length(size: int) -> None:
    encoded = message(1, b"x" * size)
    assert attributes(attribute(b"k", encoded)).get("k") == "x" * size


@pytest.mark.parametrize("size", [200, 20_000, 2**21])
def test_long_text_that_is_not_utf_8_or_has_more_behind_it(size: int) -> None:
    text = b"x" * size
    assert (
        attributes(attribute(b"k", message(1, text + b"\xed\xa0\x80"))).get("k")
        == "x" * size + 3 * "\N{REPLACEMENT CHARACTER}"
    )
    assert attributes(attribute(b"k", message(1, text) + b"\x18\x05")).get("k") == 5


@pytest.mark.parametrize(
    ("encoded", "value"),
    [
        (b"", None),
        (b"\x18\x05" + message(1, b"x"), "x"),
        (message(1, b"x") + b"\x18\x05", 5),
        (b"\x18\x05\x18\x07", 7),
        (message(1, b"a") + message(1, b"b"), "b"),
        (b"\x0a\x81\x00x", "x"),
        (message(1, b"x") + message(1000, b"later"), "x"),
        (b"\x18\x05" + message(1000, b"later"), 5),
        (message(1000, b"later"), None),
        (message(5), []),
        (message(6), {}),
        (message(7), b""),
        (message(5, message(1)), [None]),
        (message(6, attribute(b"a", b"\x10\x01", 1), attribute(b"a", b"\x10\x00", 1)), {"a": False}),
    ],
)
def test_values_that_senders_write_in_unusual_ways(encoded: bytes, value: Any) -> None:
    """The last of several wins; fields of a later version are passed over."""
    assert same(attributes(attribute(b"k", encoded)).get("k"), value)


@pytest.mark.parametrize("encoded", [b"\x0a", b"\x0a\x05a", b"\x18", b"\x18\xff", b"\x21\x00", b"\x2a\x02\x0a\x09"])
def test_a_value_that_cannot_be_read_is_refused_by_its_key(encoded: bytes) -> None:
    with pytest.raises(MalformedError, match="attribute 'k'"):
        attributes(attribute(b"k", encoded)).get("k")


def test_of_a_key_that_stands_twice_the_last_value_counts() -> None:
    found = attributes(attribute(b"k", message(1, b"first")), attribute(b"k", message(1, b"last")))
    assert found.get("k") == "last"
    assert list(found.keys()) == ["k"]


def test_a_key_value_with_fields_of_a_later_version_is_found() -> None:
    """protobuf's maps leave such an entry out; the last of equal keys still wins."""
    later = message(9, message(1, b"k"), message(2, message(1, b"later")), b"\x18\x01")
    found = attributes(attribute(b"k", message(1, b"early")), later, attribute(b"other", b"\x10\x01"))
    assert (found.get("k"), found.get("other"), "k" in found) == ("later", True, True)
    assert sorted(found.keys()) == ["k", "other"]
    assert attributes(later, attribute(b"k", message(1, b"last"))).get("k") == "last"


def test_a_key_value_without_key_or_value() -> None:
    found = attributes(message(9), message(9, message(1, b"bare")))
    assert found.get("bare") is None
    assert "bare" in found
    assert found.get("") is None


def test_of_many_keys_those_that_are_there() -> None:
    found = attributes(attribute(b"a", b""), attribute(b"b", b""), attribute(b"\xff", b""))
    assert found.among(frozenset({"a", "c", "�"})) == {"a"}


@pytest.mark.parametrize("number", [0, 1, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152, (1 << 28) - 1])
def test_integers_of_several_keys(number: int) -> None:
    found = attributes(attribute(b"a", INT_TAG + varint(number)), attribute(b"b", INT_TAG + varint(7)))
    assert found.integers(("a", "b", "a")) == [found.get("a"), 7, number]


@pytest.mark.parametrize(
    "value",
    [
        *(INT_TAG + varint(1 << 28), INT_TAG + varint((1 << 64) - 1), INT_TAG + b"\x80\x80\x80\x80\x80\x01"),
        *(INT_TAG, INT_TAG + b"\x80", INT_TAG + b"\x01\x01", INT_TAG + b"\x01" + INT_TAG + b"\x02", b""),
        *(message(1, b"7"), b"\x10\x01", b"\x21" + bytes(8), message(5, b""), message(7, b"\x07")),
    ],
)
def test_values_of_which_one_is_no_small_integer(value: bytes) -> None:
    found = attributes(attribute(b"a", INT_TAG + varint(7)), attribute(b"b", value))
    assert found.integers(("a", "b")) is None
    assert found.integers(("a", "c")) is None


def test_absent_keys_are_none_and_asking_adds_nothing() -> None:
    found = attributes(attribute(b"k", message(1, b"v")))
    assert found.get("absent") is None
    assert "absent" not in found
    assert list(found.keys()) == ["k"]


def test_text_that_is_not_utf_8_shows_replacement_characters() -> None:
    found = attributes(attribute(b"k", message(1, b"a\xffb")), attribute(b"\xfe", b""))
    assert found.get("k") == "a�b"
    assert set(found.keys()) == set(found.shape()) == {"k", "�"}


def test_all_entries_of_a_map_but_those_whose_key_is_not_utf_8() -> None:
    found = attributes(attribute(b"k", message(1, b"v")), attribute(b"\xfe", b""), attribute(b"l", b""))
    assert found.contents() == frozenset({("k", message(1, b"v")), ("l", b"")})
    assert set(found.without(frozenset({"l"})).keys()) == {"k"}
    assert found.changed({"l": "w"}).contents() == frozenset({("k", message(1, b"v")), ("l", message(1, b"w"))})


def test_a_span_without_fields() -> None:
    view = SpanView.parse(b"")
    assert (view.trace_id, view.span_id, view.parent_span_id, view.name) == (b"", b"", b"", "")
    assert (view.kind, view.start_ns, view.end_ns, view.status_code) == (0, 0, 0, 0)
    assert list(view.events) == []
    assert list(view.attributes.keys()) == []


def test_the_full_range_of_a_span_s_own_fields() -> None:
    span = Span(name="é", start_time_unix_nano=2**64 - 1, end_time_unix_nano=1)
    view = SpanView.parse(span.SerializeToString() + b"\x30" + varint(77))
    assert (view.name, view.start_ns, view.end_ns, view.kind) == ("é", 2**64 - 1, 1, 77)


def test_a_span_with_ten_thousand_attributes() -> None:
    found = attributes(*(attribute(b"k%d" % n, b"\x18" + varint(n)) for n in range(10_000)))
    assert found.get("k9999") == 9999
    assert len(list(found.keys())) == 10_000


def test_a_broken_event_is_refused_when_events_are_asked_for_and_harms_nothing_else() -> None:
    view = SpanView.parse(message(5, b"name") + message(11, b"\x12\x05"))
    assert view.name == "name"
    with pytest.raises(MalformedError, match="event"):
        _ = view.events


@pytest.mark.parametrize("value", [0.1, -0.0, math.inf, -math.inf, math.nan, 5e-324])
def test_doubles_keep_every_bit(value: Any) -> None:
    encoded = AnyValue(double_value=value).SerializeToString()
    assert same(attributes(attribute(b"k", encoded)).get("k"), value)


@given(st.binary(max_size=16), st.binary(max_size=8), st.binary(max_size=8), st.integers(0, 2**64 - 1), st.text())
def test_the_head_of_a_span_is_what_the_span_says(
    trace: bytes, own: bytes, parent: bytes, at_ns: int, name: str
) -> None:
    """Whatever stands between."""
    encoded = Span(
        trace_id=trace, span_id=own, parent_span_id=parent, name=name, start_time_unix_nano=at_ns, trace_state=name
    ).SerializeToString()
    assert head_of(encoded) == SpanView.parse(encoded).head() == (trace, own, parent, at_ns, 0)


def test_the_head_of_what_is_no_span_cannot_be_read() -> None:
    with pytest.raises(MalformedError):
        head_of(b"\x0a\x7f")
