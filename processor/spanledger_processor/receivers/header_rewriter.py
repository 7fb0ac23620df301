"""Renames the encoding of a call in HTTP/2 header frames, from zstd or snappy to gzip, as the relay needs it.

A shorter value in the head disturbs no table of HPACK (RFC 7541, section 4): what gRPC then keeps takes no more
room there than at the sender, so gRPC still has every entry that the sender refers to. Only header frames are looked
at; everything else passes as it is.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from itertools import product

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""Bytes with which every HTTP/2 connection of a client begins (RFC 9113, section 3.4)."""
_FRAME_HEAD = 9
_LENGTH_AND_TYPE = struct.Struct(">I").unpack_from
"""Reads the first four bytes of a frame head: three of its length, one of its type (RFC 9113, section 4.1)."""
_LONG_DATA = 2**14 << 8
"""Such four bytes of a DATA frame of 16 KiB, which is how most clients send a long message."""
_LONG_DATA_FRAMES = re.compile(rb"(?s:\x00\x40\x00\x00.{%d})+" % (2**14 + _FRAME_HEAD - 4)).match
"""Finds those that stand one behind the other."""
_WITH_HEADERS = (0x1, 0x9)
"""Types of frames: HEADERS and CONTINUATION."""
_LARGEST_BLOCK = 64 * 2**10
"""Bytes of a header frame that are looked at; gRPC's own limit for all headers of a call is below."""

_CODES: Mapping[str, str] = {
    "-": "010110", "a": "00011", "c": "00100", "d": "100100", "e": "00101", "g": "100110", "i": "00110", "n": "101010",
    "o": "00111", "p": "101011", "r": "101100", "s": "01000", "t": "01001", "y": "1111010", "z": "1111011",
}  # fmt: skip
"""Huffman codes of the letters that are needed (RFC 7541, appendix B)."""


def _plain(text: str) -> bytes:
    return bytes((len(text),)) + text.encode()


def _huffman(text: str) -> bytes:
    bits = "".join(_CODES[letter] for letter in text)
    bits += "1" * (-len(bits) % 8)
    return bytes((0x80 | len(bits) // 8,)) + int(bits, 2).to_bytes(len(bits) // 8, "big")


_RENAMED: Mapping[bytes, bytes] = {
    name("grpc-encoding") + value(encoding): name("grpc-encoding") + value("gzip")
    for encoding in ("zstd", "snappy")
    for name, value in product((_huffman, _plain), repeat=2)
}
_TO_RENAME = re.compile(b"|".join(map(re.escape, _RENAMED)))


class HeaderRewriter:
    """Follows the frames of one connection from a client, and renames the encoding in its header frames."""

    def __init__(self) -> None:
        self._to_pass = len(PREFACE)
        """Bytes before the next frame head that was not looked at; they pass as they are."""
        self._begun = b""
        """The beginning of a frame whose head, or whose header block, is not there as a whole."""

    def look(self, data: bytes | memoryview) -> int:
        """Return how many of the bytes that come next, `data`, pass as they are; `moved` says how many have."""
        if self._begun:
            return 0
        at, size = self._to_pass, len(data)
        while at + _FRAME_HEAD <= size:  # from head to head
            (head,) = _LENGTH_AND_TYPE(data, at)
            end = at + _FRAME_HEAD + (head >> 8)
            if head == _LONG_DATA and (run := _LONG_DATA_FRAMES(data, at)):
                end = run.end()  # a request of half a MiB has thirty of them
            elif head & 0xFF in _WITH_HEADERS and self._is_kept(data, at, end):
                break
            at = end
        self._to_pass = at
        return min(at, size)

    def moved(self, count: int) -> None:
        """Note that so many of the bytes that `look` lets pass were passed on."""
        self._to_pass -= count

    def feed(self, data: bytes) -> bytes:
        """Return what is to be passed on after `data` came in, which is `data` itself where nothing is renamed."""
        if self._begun:
            data, self._begun = self._begun + data, b""
        passed = self.look(data)
        self.moved(passed)
        if passed == len(data):
            return data
        out: list[bytes | memoryview] = []
        left = memoryview(data)
        while passed < len(left):
            out.append(left[:passed])
            left = left[passed:]
            end = _FRAME_HEAD + int.from_bytes(left[:3], "big")
            if len(left) < max(end, _FRAME_HEAD):
                self._begun = bytes(left)
                return b"".join(out)
            renamed = _renamed(bytes(left[_FRAME_HEAD:end]))
            out += (len(renamed).to_bytes(3, "big"), left[3:_FRAME_HEAD], renamed)
            left = left[end:]
            passed = self.look(left)
            self.moved(passed)
        return b"".join((*out, left))

    def _is_kept(self, data: bytes | memoryview, at: int, end: int) -> bool:
        """Return whether a header frame has to be renamed, or to be waited for."""
        block = at + _FRAME_HEAD
        if end - block > _LARGEST_BLOCK:
            return False
        return end > len(data) or _TO_RENAME.search(data, block, end) is not None


def _renamed(block: bytes) -> bytes:
    return _TO_RENAME.sub(lambda found: _RENAMED[found[0]], block)
