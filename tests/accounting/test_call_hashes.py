"""The hashes of usages, worked out many at once."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from spanledger_processor.accounting.call_hashes import _OF_INPUT, _OF_OUTPUT, _OF_PERIOD, CallHashes, _hashes_of

COUNTS = st.integers(0, 2**63 - 1)
PERIODS = st.integers(-1, 2**41)
TENANT = bytes(range(0xF0, 0xF8))


@given(st.lists(st.tuples(COUNTS, COUNTS, PERIODS), max_size=40))
def test_many_usages_are_hashed_as_each_alone(calls: list[tuple[int, int, int]]) -> None:
    """Rows of earlier releases have such hashes: 63 bits of the products, mixed once."""
    hashes, salt = CallHashes(TENANT), int.from_bytes(TENANT, "big")
    expected = []
    for input_, output, period in calls:
        mixed = input_ * _OF_INPUT ^ output * _OF_OUTPUT ^ period * _OF_PERIOD ^ salt
        expected.append((mixed ^ mixed >> 31) % 2**63)
    usages = [(input_, output, hashes._added_by(period)) for input_, output, period in calls]
    assert list(_hashes_of(usages)) == expected
