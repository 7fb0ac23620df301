"""Reading a request's body: piece by piece, decompressed, charged to the budget, and never more than the limit."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator

from spanledger_processor.receivers.budget import Claim
from spanledger_processor.receivers.reply import NO_ROOM, RefusedError, Reply, rejected, retry

READ_WAIT = 30.0
"""Seconds that a body may take to come in."""

_PIECE = 1 << 20
"""Bytes decompressed at a time; other requests get their turn in between."""
_GZIP = 16 + zlib.MAX_WBITS


async def read(pieces: AsyncIterator[bytes], encoding: str, limit: int, claim: Claim) -> bytes:
    """The whole body; `encoding` is "gzip" or "identity". `claim` grows with it.

    Raises:
        RefusedError: too large, broken, too slow, or more than there is room for.
    """
    plain = _gunzip(pieces) if encoding == "gzip" else pieces
    try:
        async with asyncio.timeout(READ_WAIT):
            return b"".join([piece async for piece in _bounded(plain, limit, claim)])
    except TimeoutError:
        raise RefusedError(retry("slow_body", f"the body did not arrive within {READ_WAIT:g} s")) from None


def too_large(limit: int) -> Reply:
    """What a larger request is told."""
    return rejected("too_large", f"the request is larger than {limit} bytes, decompressed")


async def _bounded(pieces: AsyncIterator[bytes], limit: int, claim: Claim) -> AsyncIterator[bytes]:
    size = 0
    async for piece in pieces:
        size += len(piece)
        if size > limit:
            raise RefusedError(too_large(limit))
        if not claim.grow(len(piece)):
            raise RefusedError(NO_ROOM)
        yield piece


async def _gunzip(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """A gzip stream of one or more members. No bytes at all are an empty body."""
    member = zlib.decompressobj(_GZIP)
    begun = False
    async for piece in pieces:
        rest = piece
        while rest:
            if member.eof:
                member = zlib.decompressobj(_GZIP)
            begun = True
            yield _inflate(member, rest)
            rest = member.unused_data if member.eof else member.unconsumed_tail
            await asyncio.sleep(0)
    if begun and not member.eof:
        raise RefusedError(rejected("unreadable", "the gzip stream ends too early"))


def _inflate(member: zlib._Decompress, data: bytes) -> bytes:
    try:
        return member.decompress(data, _PIECE)
    except zlib.error as error:
        raise RefusedError(rejected("unreadable", f"not a gzip stream: {error}")) from None
