"""Objects that libraries write as Python does, read as Python reads them."""

from __future__ import annotations

import ast
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanledger_processor.dialects.texts import parse

_PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
_VALUES = st.recursive(
    _PLAIN,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(value=_VALUES)
def test_the_repr_of_a_value_is_read_as_that_value(value: Any) -> None:
    assert repr(parse(repr({"its": value}))) == repr({"its": value})


@pytest.mark.parametrize(
    "text",
    [
        "{'a': 1e999}",
        "{'a': 100000000000000000000000000}",
        "{'a': ('b',)}",
        "{'a': b'c'}",
        "{'a': 'None of it, nor true'}",
        "{1: 'a'}",
        "{'a': 'b' 'c'}",
        "{'a': '''b'''}",
        "{'a': 1,}",
        "{'a': 1_0}",
        "{'a': 'b\tc'}",
        "{'a': 1, 'a': 2}",
        "{'a': {1, 2}}",
        "{'a': 'b\\'c'}",
        """{'a': "b'c"}""",
        "{'a': None  # it was\n}",
    ],
)
def test_a_literal_is_read_as_python_reads_it(text: str) -> None:
    assert repr(parse(text)) == repr(ast.literal_eval(text))


@pytest.mark.parametrize(
    "text",
    [
        *("{'a': null}", "{'a': true}", "{'a': NaN}", "{'a': -Infinity}", "{'a': nan}", "{'a': NoneNone}"),
        *("{'a': 'b\nc'}", "{'a': 007}", "{'a': 1} {'b': 2}", "{'a': 1", "{'a': '\0'}\0", "{'a': " + "[" * 5000),
    ],
)
def test_what_is_no_literal_is_not_read(text: str) -> None:
    with pytest.raises((ValueError, SyntaxError, MemoryError, RecursionError)):
        ast.literal_eval(text)
    assert parse(text) is None
