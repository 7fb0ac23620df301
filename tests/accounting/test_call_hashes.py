"""The hashes of usages: rows of earlier releases have the same."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from spanledger_processor.accounting.call_hashes import _OF_INPUT, _OF_OUTPUT, _OF_PERIOD, CallHashes

COUNTS = st.integers(1, 2**63 - 1)
ENDS = st.integers(0, 2**63 - 1)
TENANT = bytes(range(0xF0, 0xF8))
PERIOD_NS = 600 * 10**9


@given(st.lists(st.tuples(COUNTS, COUNTS, ENDS), min_size=1, max_size=40))
def test_many_usages_are_hashed_as_each_alone(calls: list[tuple[int, int, int]]) -> None:
    """63 bits of the products of both counts and of the period in which a call ended, mixed once."""
    salt, expected = int.from_bytes(TENANT, "big"), []
    for input_, output, end_ns in calls:
        mixed = input_ * _OF_INPUT ^ output * _OF_OUTPUT ^ end_ns // PERIOD_NS * _OF_PERIOD ^ salt
        expected.append((mixed ^ mixed >> 31) % 2**63)
    inputs, outputs, ends = zip(*calls, strict=True)
    tokens = [(input_, output, None, None, None, None) for input_, output in zip(inputs, outputs, strict=True)]
    hashes = CallHashes(TENANT).of_calls(["id"] * len(calls), tokens, ends, [False] * len(calls))
    assert hashes.usages == expected
    assert hashes.remembered == [b"%b%b" % (hashes.ids[0].to_bytes(8), one.to_bytes(8)) for one in expected]
