"""Content encodings of OTLP/HTTP bodies: those that the Collector's HTTP receivers take, each decoded piece by piece.

What comes out is bounded by who reads it; what goes in, and the number of frames that it may come in, are bounded here.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial
from typing import Any, Protocol, TypeAlias, cast

import cramjam
import lz4.frame
from backports import zstd

from spanledger_processor.receivers.memory_limiter import Reservation
from spanledger_processor.receivers.refusals import NO_ROOM, RefusedError, rejected, too_large

_PIECE = 1 << 20
"""Bytes decoded at a time; other requests get their turn in between."""
_FRAMES = 16384
"""Frames (gzip members, snappy chunks) of one body: at 64 KiB each, as block-wise compressors write them, 1 GiB."""
_WINDOW_LOG = 27
"""A zstd frame that asks for more than 128 MiB of window is refused: the default of libzstd, and above our limit."""

Pieces: TypeAlias = AsyncIterator[bytes]


class _Decoder(Protocol):
    """One frame, as the decompressors of the standard library read it."""

    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    @property
    def unused_data(self) -> bytes | None: ...

    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class _Zlib:
    """zlib's decompressor in the shape of the newer ones."""

    def __init__(self, wbits: int) -> None:
        self._inner = zlib.decompressobj(wbits)

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def needs_input(self) -> bool:
        return not self._inner.eof and not self._inner.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._inner.decompress(self._inner.unconsumed_tail + data, max_length)


def _zstd() -> _Decoder:
    return zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: _WINDOW_LOG})


def _lz4() -> _Decoder:
    decoder: Any = lz4.frame.LZ4FrameDecompressor()  # needs_input is a field of it that it makes late
    return cast(_Decoder, decoder)


_ERRORS = (zlib.error, zstd.ZstdError, cramjam.DecompressionError, RuntimeError, ValueError)
"""lz4 raises RuntimeError."""


def _unreadable(encoding: str, problem: object) -> RefusedError:
    return RefusedError(rejected("unreadable", f"not a {encoding} stream: {problem}"))


async def _frames(pieces: Pieces, _limit: int, *, encoding: str, begin: Callable[[], _Decoder]) -> Pieces:
    """Yield the content of one or more frames. No bytes at all are an empty body."""
    decoder, frames, begun = begin(), 1, False
    async for piece in pieces:
        data = piece
        while data or (begun and not decoder.eof and not decoder.needs_input):
            if decoder.eof:
                decoder, frames = begin(), frames + 1
            if frames > _FRAMES:
                raise _unreadable(encoding, f"more than {_FRAMES} frames")
            try:
                content = decoder.decompress(data, _PIECE)
            except _ERRORS as error:
                raise _unreadable(encoding, error) from None
            begun = True
            data = (decoder.unused_data or b"") if decoder.eof else b""
            yield content
            await asyncio.sleep(0)
    if begun and not decoder.eof:
        raise _unreadable(encoding, "it ends too early")


_FRAMED = b"\xff\x06\x00\x00sNaPpY"
"""How a framed snappy stream begins (google/snappy, framing_format.txt)."""
_COMPRESSED_CHUNK, _PLAIN_CHUNK = 0x00, 0x01
_CHECKSUM = 4


async def _snappy(pieces: Pieces, limit: int) -> Pieces:
    """Yield a snappy block or framed stream, whose size is read before anything is decoded."""
    data = b"".join([piece async for piece in pieces])
    if not data:
        return
    framed = data.startswith(_FRAMED)
    try:
        size = _framed_size(data) if framed else cramjam.snappy.decompress_raw_len(data)
        if size > limit:
            raise RefusedError(too_large(limit))
        decode = cramjam.snappy.decompress if framed else cramjam.snappy.decompress_raw
        content: Any = decode(data) if size < _PIECE else await asyncio.to_thread(decode, data)
    except _ERRORS as error:
        raise _unreadable("snappy", error) from None
    yield bytes(content)


def _framed_size(data: bytes) -> int:
    """Return the number of decompressed bytes in the headers of the chunks of a framed stream."""
    size = place = chunks = 0
    while place < len(data):
        kind, length = data[place], int.from_bytes(data[place + 1 : place + 4], "little")
        start, place, chunks = place + 4 + _CHECKSUM, place + 4 + length, chunks + 1
        if chunks > _FRAMES or place > len(data):
            raise ValueError(f"more than {_FRAMES} chunks" if chunks > _FRAMES else "it ends too early")
        if kind == _COMPRESSED_CHUNK:
            size += cramjam.snappy.decompress_raw_len(data[start : min(start + 8, place)])
        elif kind == _PLAIN_CHUNK:
            size += max(0, length - _CHECKSUM)
    return size


async def _plain(pieces: Pieces, _limit: int) -> Pieces:
    async for piece in pieces:
        yield piece


_DECODINGS: Mapping[str, Callable[[Pieces, int], Pieces]] = {
    "gzip": partial(_frames, encoding="gzip", begin=partial(_Zlib, 16 + zlib.MAX_WBITS)),
    "zstd": partial(_frames, encoding="zstd", begin=_zstd),
    "zlib": partial(_frames, encoding="zlib", begin=partial(_Zlib, zlib.MAX_WBITS)),
    "deflate": partial(_frames, encoding="deflate", begin=partial(_Zlib, zlib.MAX_WBITS)),
    "snappy": _snappy,
    "x-snappy-framed": _snappy,
    "lz4": partial(_frames, encoding="lz4", begin=_lz4),
    "identity": _plain,
}

ENCODINGS = tuple(_DECODINGS)
"""The names that `content-encoding` may have; deflate is a zlib stream, as HTTP says."""


def decoded(pieces: Pieces, encoding: str, limit: int) -> Pieces:
    """Yield the body that `pieces` hold in this encoding (one of `ENCODINGS`), in pieces of 1 MiB at most.

    The caller bounds what comes out at `limit` bytes. More than about as many bytes going in are refused: a body that
    decodes to less than it came in is no body that a sender compressed.

    Raises:
        RefusedError: it is no such stream, ends too early, is too large, or comes in too many frames.
    """
    return _DECODINGS[encoding](_arriving(pieces, limit), limit)


async def _arriving(pieces: Pieces, limit: int) -> Pieces:
    left = limit + limit // 8 + 2048  # compression makes what cannot be compressed a little larger
    async for piece in pieces:
        left -= len(piece)
        if left < 0:
            raise RefusedError(too_large(limit))
        yield piece


async def bounded(pieces: Pieces, limit: int, reservation: Reservation) -> Pieces:
    """Yield the pieces of a body, with which `reservation` grows.

    Raises:
        RefusedError: they are more than `limit` bytes, or than there is room for.
    """
    size = 0
    async for piece in pieces:
        size += len(piece)
        if size > limit:
            raise RefusedError(too_large(limit))
        if not reservation.grow(len(piece)):
            raise RefusedError(NO_ROOM)
        yield piece


_BEGINNINGS: Mapping[bytes, str] = {
    b"\x28\xb5\x2f\xfd": "zstd", b"\x1f\x8b": "gzip", b"\x78": "deflate", _FRAMED: "snappy",
}  # fmt: skip
"""How compressed messages begin."""
_TAG = b"\x0a"
"""How an export request begins, if it is not empty: with the tag of its only field."""


_FED = 2**16
"""Bytes of a compressed message that a decoder is given at once."""


def encoding_of(content: bytes) -> str | None:
    """Return how a message is compressed; None where it is not."""
    if content.startswith(_TAG):
        return None
    return next((encoding for begins, encoding in _BEGINNINGS.items() if content.startswith(begins)), None)


async def message_of(content: bytes, encoding: str, limit: int, reservation: Reservation) -> bytes:
    """Return the export request that a compressed message holds; `reservation` grows by its size."""
    pieces = decoded(_one(content), encoding, limit)
    return b"".join([piece async for piece in bounded(pieces, limit, reservation)])


async def _one(content: bytes) -> Pieces:
    """Yield a message in pieces: a decoder copies what it has not used yet with each that it puts out."""
    for at in range(0, len(content), _FED):
        yield content[at : at + _FED]
