"""Bodies in pieces: in every encoding, however they are cut, the same bytes or the same refusal."""

from __future__ import annotations

import itertools
import random
import zlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from backports import zstd
from hypothesis import assume, given
from hypothesis import strategies as st

from compressions import COMPRESS, FRAMED
from spanledger_processor.receivers import encodings
from spanledger_processor.receivers import http as http_receiver
from spanledger_processor.receivers.encodings import ENCODINGS
from spanledger_processor.receivers.memory_limiter import MemoryLimiter, Reservation
from spanledger_processor.receivers.refusals import RefusedError

LIMIT = 4096
SNAPPY_IDENTIFIER = 10
"""Bytes of the chunk that a framed snappy stream begins with."""


async def pieces(data: bytes, cuts: list[int]) -> AsyncIterator[bytes]:
    """`data` cut at these places."""
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    for begin, end in itertools.pairwise(places):
        yield data[begin:end]


async def read(data: bytes, cuts: list[int], encoding: str, limit: int = LIMIT) -> tuple[bytes, int]:
    """The body, and how much of the budget it holds."""
    budget = MemoryLimiter(2 * limit, lambda _: None)
    body = await http_receiver.read_body(pieces(data, cuts), encoding, limit, Reservation(budget))
    return body, budget.held


def refusal(error: pytest.ExceptionInfo[RefusedError]) -> str:
    """The cause of a refusal."""
    return error.value.result.cause


cut_places = st.lists(st.integers(0, 2 * LIMIT), max_size=6)


def test_every_encoding_is_tested() -> None:
    assert {*COMPRESS, "identity"} == set(ENCODINGS)


@given(st.sampled_from(FRAMED), st.lists(st.binary(max_size=LIMIT // 4), max_size=4), cut_places)
async def test_any_frames_in_any_pieces(encoding: str, frames: list[bytes], cuts: list[int]) -> None:
    whole = b"".join(frames)
    packed = b"".join(COMPRESS[encoding](frame) for frame in frames)
    assert await read(packed, cuts, encoding) == (whole, len(whole))


@given(st.sampled_from(["identity", *COMPRESS]), st.binary(max_size=LIMIT), cut_places)
async def test_one_frame_in_any_pieces(encoding: str, body: bytes, cuts: list[int]) -> None:
    assert await read(COMPRESS.get(encoding, bytes)(body), cuts, encoding) == (body, len(body))


@given(st.integers(1, 2 * LIMIT), cut_places, st.sampled_from(["identity", *COMPRESS]))
async def test_the_limit_holds_in_any_pieces(beyond: int, cuts: list[int], encoding: str) -> None:
    with pytest.raises(RefusedError) as refused:
        await read(COMPRESS.get(encoding, bytes)(bytes(LIMIT + beyond)), cuts, encoding)
    assert refusal(refused) == "too_large"


@given(st.sampled_from(list(COMPRESS)), st.binary(min_size=1, max_size=500), st.integers(1, 400), cut_places)
async def test_a_stream_that_ends_too_early_is_refused(
    encoding: str, body: bytes, missing: int, cuts: list[int]
) -> None:
    packed = COMPRESS[encoding](body)
    cut = packed[: max(1, len(packed) - missing)]
    # less than its beginning, a framed snappy stream is a block, and then none that can be read; its beginning alone is
    # a whole stream of nothing (https://github.com/google/snappy/blob/main/framing_format.txt, section 4.1)
    assume(encoding != "x-snappy-framed" or len(cut) != SNAPPY_IDENTIFIER)
    with pytest.raises(RefusedError) as refused:
        await read(cut, cuts, encoding)
    assert refusal(refused) in ("unreadable", "too_large")


@given(st.sampled_from(list(COMPRESS)), st.binary(max_size=500), cut_places)
async def test_noise_is_refused_or_read_and_never_fails_otherwise(encoding: str, noise: bytes, cuts: list[int]) -> None:
    try:
        await read(noise, cuts, encoding)
    except RefusedError as refused:
        assert refused.result.cause in ("unreadable", "too_large")  # noqa: PT017 - noise may be a stream by chance


@pytest.mark.parametrize("encoding", FRAMED)
async def test_very_many_empty_frames_are_refused(encoding: str) -> None:
    """They cost time for nothing, and no sender writes them."""
    empty = b"\xfe\x00\x00\x00" if encoding == "x-snappy-framed" else COMPRESS[encoding](b"")
    begin = COMPRESS[encoding](b"a")
    with pytest.raises(RefusedError) as refused:
        await read(begin + empty * 20_000, [], encoding, limit=1 << 20)
    assert refusal(refused) == "unreadable"
    assert "16384" in refused.value.result.reason


async def test_more_than_the_limit_going_in_is_refused() -> None:
    """Also where next to nothing comes out: these are skippable frames of zstd."""
    skipped = b"\x50\x2a\x4d\x18" + (1000).to_bytes(4, "little") + bytes(1000)
    with pytest.raises(RefusedError) as refused:
        await read(skipped * 9, [], "zstd")
    assert refusal(refused) == "too_large"


async def test_a_zstd_frame_that_asks_for_a_giant_window_is_refused() -> None:
    options: dict[int, int] = {zstd.CompressionParameter.window_log: 30, zstd.CompressionParameter.content_size_flag: 0}
    compressor = zstd.ZstdCompressor(options=options)
    packed = compressor.compress(bytes(1000)) + compressor.flush()
    with pytest.raises(RefusedError) as refused:
        await read(packed, [], "zstd")
    assert refusal(refused) == "unreadable"


async def test_a_compressed_message_is_fed_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted: bytes that a decoder copies. It keeps what it has not used of a piece, and copies that each time."""
    content = random.Random(1).randbytes(8 * 2**20)
    compressed, copied = zlib.compress(content, 1), [0]
    decompress = encodings._Zlib.decompress

    def counted(self: Any, data: bytes, max_length: int) -> bytes:
        copied[0] += len(self._inner.unconsumed_tail) + len(data)
        return decompress(self, data, max_length)

    monkeypatch.setattr(encodings._Zlib, "decompress", counted)
    reservation = Reservation(MemoryLimiter(2**30, lambda _: None))
    assert await encodings.message_of(compressed, "deflate", 2**26, reservation) == content
    assert copied[0] < 2 * len(compressed)
