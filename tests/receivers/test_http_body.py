"""Bodies in pieces: however they are cut, the same bytes or the same refusal."""

from __future__ import annotations

import gzip
import itertools
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanledger_processor.receivers import http as http_receiver
from spanledger_processor.receivers.memory_limiter import MemoryLimiter, Reservation
from spanledger_processor.receivers.refusals import RefusedError

LIMIT = 4096


async def pieces(data: bytes, cuts: list[int]) -> AsyncIterator[bytes]:
    """`data` cut at these places."""
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    for begin, end in itertools.pairwise(places):
        yield data[begin:end]


async def read(data: bytes, cuts: list[int], encoding: str) -> tuple[bytes, int]:
    """The body, and how much of the budget it holds."""
    budget = MemoryLimiter(2 * LIMIT, lambda _: None)
    body = await http_receiver.read_body(pieces(data, cuts), encoding, LIMIT, Reservation(budget))
    return body, budget.held


cut_places = st.lists(st.integers(0, 2 * LIMIT), max_size=6)


@given(st.lists(st.binary(max_size=LIMIT // 4), max_size=4), cut_places)
async def test_gzip_of_any_members_in_any_pieces(members: list[bytes], cuts: list[int]) -> None:
    whole = b"".join(members)
    packed = b"".join(gzip.compress(member) for member in members)
    assert await read(packed, cuts, "gzip") == (whole, len(whole))


@given(st.binary(max_size=LIMIT), cut_places)
async def test_plain_in_any_pieces(body: bytes, cuts: list[int]) -> None:
    assert await read(body, cuts, "identity") == (body, len(body))


@given(st.integers(1, 2 * LIMIT), cut_places, st.sampled_from(["gzip", "identity"]))
async def test_the_limit_holds_in_any_pieces(beyond: int, cuts: list[int], encoding: str) -> None:
    body = bytes(LIMIT + beyond)
    sent = gzip.compress(body) if encoding == "gzip" else body
    with pytest.raises(RefusedError) as refused:
        await read(sent, cuts, encoding)
    assert refused.value.result.cause == "too_large"


@given(st.binary(min_size=1, max_size=500), st.integers(1, 400), cut_places)
async def test_a_gzip_stream_that_ends_too_early_is_refused(body: bytes, missing: int, cuts: list[int]) -> None:
    packed = gzip.compress(body)
    with pytest.raises(RefusedError) as refused:
        await read(packed[: max(1, len(packed) - missing)], cuts, "gzip")
    assert refused.value.result.cause == "unreadable"


@given(st.binary(max_size=500), cut_places)
async def test_what_is_no_gzip_is_refused_or_read_and_never_fails_otherwise(noise: bytes, cuts: list[int]) -> None:
    try:
        await read(noise, cuts, "gzip")
    except RefusedError as refused:
        assert refused.result.cause == "unreadable"  # noqa: PT017 - noise may be a gzip stream by chance
