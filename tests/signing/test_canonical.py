"""The canonical form `h1`: one for each value, however it was written, and never the same for two."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanledger_processor.signing.canonical import MAX_DEPTH, Spelled, UnreadableError, canonical

_numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
_texts = st.text(st.characters(exclude_categories=[]))
_leaves = st.none() | st.booleans() | _numbers | _texts
_values = st.recursive(
    _leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_texts, inner, max_size=4), max_leaves=12
)


@pytest.mark.parametrize(
    ("value", "form"),
    [
        (None, b"n"),
        (True, b"t"),
        (False, b"f"),
        (0, b"#0e0;"),
        (-0.0, b"#0e0;"),
        (12, b"#12e0;"),
        (1200, b"#12e2;"),
        (-0.5, b"#-5e-1;"),
        (1e300, b"#1e300;"),
        ("", b"s0:"),
        ("a:b", b"s3:a:b"),
        ("å", b"s1:" + "å".encode()),
        (b"\x01\xff", b"b4:01ff"),
        ([1, "1"], b"l2:#1e0;s1:1"),
        ({"b": 1, "a": []}, b"d2:s1:al0:s1:b#1e0;"),
    ],
)
def test_the_form_as_it_is_described(value: Any, form: bytes) -> None:
    """Signatures are kept and compared for months: these bytes are what `h1` means."""
    assert canonical(value) == form


def _same(one: Any, other: Any) -> bool:
    """Whether two values are one as JSON sees it: 1 and 1.0 are, 1 and true are not."""
    if isinstance(one, bool) or isinstance(other, bool) or one is None or other is None:
        return one is other
    if isinstance(one, int | float) and isinstance(other, int | float):
        return Decimal(repr(one)) == Decimal(repr(other))
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    return type(one) is type(other) and bool(one == other)


@given(_values, _values)
def test_two_values_share_a_form_exactly_where_they_are_one(one: Any, other: Any) -> None:
    assert (canonical(one) == canonical(other)) == _same(one, other)


@given(_values)
def test_tuples_are_lists(value: Any) -> None:
    assert canonical((value, value)) == canonical([value, value])


@given(st.dictionaries(_texts, _values, min_size=2, max_size=5))
def test_the_order_of_keys_does_not_matter(value: dict[str, Any]) -> None:
    assert canonical(dict(reversed(value.items()))) == canonical(value)


@given(st.decimals(allow_nan=False, allow_infinity=False), st.integers(0, 5))
def test_a_spelled_number_is_its_decimal_value(number: Decimal, zeros: int) -> None:
    spelled = f"{number:f}"
    longer = (spelled if "." in spelled else f"{spelled}.") + "0" * zeros
    assert canonical(Spelled(longer)) == canonical(Spelled(spelled)) == canonical(Spelled(f"{number:e}"))


@pytest.mark.parametrize(
    "spellings",
    [
        ("1", "1.0", "1e0", "10e-1", "0.1E+1", "001", "+1"),
        ("1e400", "10e399", "1" + "0" * 400, "1.0E400"),
        ("1e-400", "0." + "0" * 399 + "1"),
        ("0", "0.0", "-0", "0e999"),
    ],
)
def test_spellings_of_one_number(spellings: tuple[str, ...]) -> None:
    assert len({canonical(Spelled(spelling)) for spelling in spellings}) == 1


def test_an_integer_keeps_all_its_digits() -> None:
    assert canonical(2**64) != canonical(2**64 + 1)
    assert canonical(10**5000 + 1) != canonical(10**5000 + 2)
    assert canonical(10**5000) == canonical(Spelled("1e5000"))


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_what_is_no_number_has_a_form_of_its_own(number: float) -> None:
    assert canonical(number) == canonical(number)
    assert len({canonical(value) for value in (number, str(number), None, 0)}) == 4


@pytest.mark.parametrize(("key", "spelled"), [(1, "1"), (1.5, "1.5"), (True, "true"), (False, "false"), (None, "null")])
def test_keys_are_what_json_makes_of_them(key: Any, spelled: str) -> None:
    assert json.dumps({key: 0}) == json.dumps({spelled: 0})
    assert canonical({key: 0}) == canonical({spelled: 0})


def _nested(depth: int, wrap: Any) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = wrap(value)
    return value


@pytest.mark.parametrize("wrap", [lambda inner: [inner], lambda inner: {"a": inner}], ids=["lists", "objects"])
def test_depth_is_bounded(wrap: Any) -> None:
    assert canonical(_nested(MAX_DEPTH, wrap))
    with pytest.raises(UnreadableError, match="too deep"):
        canonical(_nested(MAX_DEPTH + 1, wrap))


@pytest.mark.parametrize("value", [object(), {1, 2}, [1, object()], {(1, 2): 3}, 1j])
def test_what_is_no_argument_has_no_form(value: Any) -> None:
    with pytest.raises(UnreadableError, match="is no kind of"):
        canonical(value)


@given(_values)
def test_ignored_fields_are_as_if_they_were_not_there(value: Any) -> None:
    ignored = frozenset({"time", "meta.id", "items.at"})
    with_them = {"v": value, "time": 5, "meta": {"id": 7, "kind": 1}, "items": [{"at": 1, "x": 1}, [{"at": 2}]]}
    without = {"v": value, "meta": {"kind": 1}, "items": [{"x": 1}, [{}]]}
    assert canonical(with_them, ignored) == canonical(without)


def test_an_ignored_field_is_named_from_the_top() -> None:
    value = {"inner": {"time": 5}}
    assert canonical(value, frozenset({"time"})) == canonical(value)
    assert canonical(value, frozenset({"inner"})) == canonical({})
