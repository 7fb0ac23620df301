"""Any record comes back, in the bytes that msgpack's specification gives it.

Text with lone surrogates has the bytes that earlier releases wrote: those of the code points, as UTF-8 would have them.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanledger_processor.ledger.packing import pack, second, unpack

HALF = "\ud800"
HALF_BYTES = b"\xed\xa0\x80"
_texts = st.text(max_size=40) | st.text(st.characters(categories=["Cs"]), max_size=40)
_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 64) - 1)
    | st.floats(allow_nan=False)
    | st.binary()
    | _texts,
    lambda inner: st.lists(inner, max_size=20) | st.dictionaries(_texts | st.integers(0, 300) | st.binary(), inner),
    max_leaves=40,
)


@given(_values)
def test_any_value_comes_back(value: Any) -> None:
    assert unpack(pack(value)) == value
    assert second(pack([1, value, HALF])) == (None if HALF in repr(value) else second(pack([1, value])))


@pytest.mark.parametrize(
    ("value", "packed"),
    [
        pytest.param(HALF, b"\xa3" + HALF_BYTES, id="a short text"),
        pytest.param("a" * 28 + HALF, b"\xbf" + b"a" * 28 + HALF_BYTES, id="31 bytes"),
        pytest.param("a" * 29 + HALF, b"\xd9\x20" + b"a" * 29 + HALF_BYTES, id="32 bytes"),
        pytest.param("a" * 253 + HALF, b"\xda\x01\x00" + b"a" * 253 + HALF_BYTES, id="256 bytes"),
        pytest.param("a" * 65533 + HALF, b"\xdb\x00\x01\x00\x00" + b"a" * 65533 + HALF_BYTES, id="65,536 bytes"),
        pytest.param([HALF, *range(14)], b"\x9f\xa3" + HALF_BYTES + bytes(range(14)), id="15 elements"),
        pytest.param([HALF, *range(15)], b"\xdc\x00\x10\xa3" + HALF_BYTES + bytes(range(15)), id="16 elements"),
        pytest.param({HALF: {1: b"b"}}, b"\x81\xa3" + HALF_BYTES + b"\x81\x01\xc4\x01b", id="a key"),
        pytest.param(
            {HALF: 0} | dict.fromkeys(range(15), 1),
            b"\xde\x00\x10\xa3" + HALF_BYTES + b"\x00" + b"".join(bytes((key, 1)) for key in range(15)),
            id="16 keys",
        ),
        pytest.param(
            [None, True, 1.5, HALF], b"\x94\xc0\xc3\xcb\x3f\xf8" + bytes(6) + b"\xa3" + HALF_BYTES, id="others"
        ),
    ],
)
def test_text_with_lone_surrogates_has_the_bytes_of_its_code_points(value: Any, packed: bytes) -> None:
    assert pack(value) == packed
    assert unpack(packed) == value


def test_of_a_long_list_with_lone_surrogates_all_elements_come_back() -> None:
    value = [HALF, *range(65_535)]
    assert pack(value)[:5] == b"\xdd\x00\x01\x00\x00"
    assert unpack(pack(value)) == value


@pytest.mark.parametrize("number", [1 << 64, -(1 << 63) - 1, 10**30])
def test_an_integer_beyond_64_bits_is_decimal_text(number: int) -> None:
    assert unpack(pack([number, {"n": number}, HALF])) == [str(number), {"n": str(number)}, HALF]
    assert unpack(pack((number,))) == [str(number)]


@pytest.mark.parametrize(
    "record",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\xc1", id="a byte that is never used"),
        pytest.param(b"\x93\x01", id="cut"),
        pytest.param(b"\x92\x01\xa3\xed\xa0", id="cut in a lone surrogate"),
        pytest.param(b"\xa2" + HALF_BYTES, id="more behind it"),
        pytest.param(b"\xd9", id="a header alone"),
        pytest.param(b"\x91\xa1\xff", id="no text"),
        pytest.param(b"\x81\xa1\xff", id="a key without a value"),
        pytest.param(b"\x91" * 100_000 + b"\x01", id="lists within lists"),
        pytest.param(b"\x91" * 400 + b"\xa1\xff", id="lists within lists around no text"),
    ],
)
def test_what_is_no_record_raises_a_value_error(record: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - of several kinds, as the bytes are
        unpack(record)


@pytest.mark.parametrize("level", [b"\x91", b"\x81\x01"])
def test_so_does_what_no_text_ends_at_any_depth(level: bytes) -> None:
    for depth in range(100, 1500, 7):
        with pytest.raises(ValueError):  # noqa: PT011 - as above
            unpack(level * depth + b"\xa1\xff")


@pytest.mark.parametrize("record", [b"", b"\x91\x01", b"\x01", b"\x81\x01\x02", b"\xc1", pack("text")])
def test_a_record_of_fewer_elements_has_no_second(record: bytes) -> None:
    assert second(record) is None


def test_the_second_element_is_read_whatever_stands_beside_it() -> None:
    assert second(pack([HALF, 17, HALF, [1, {"a": HALF}]])) == 17
