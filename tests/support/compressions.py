"""Every compression that the Collector's HTTP exporters have, and bodies that unfold to much."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Mapping

import cramjam
import lz4.frame
from backports import zstd

MIB = 1 << 20

COMPRESS: Mapping[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "zstd": zstd.compress,
    "zlib": zlib.compress,
    "deflate": zlib.compress,
    "snappy": lambda body: bytes(cramjam.snappy.compress_raw(body)),
    "x-snappy-framed": lambda body: bytes(cramjam.snappy.compress(body)),
    "lz4": lz4.frame.compress,
}
"""By the name in `content-encoding`: one frame."""

FRAMED = tuple(name for name in COMPRESS if name != "snappy")
"""Those whose frames may follow one another."""


def bomb(encoding: str, size: int) -> bytes:
    """So many MiB of zeros, in one frame where it is one."""
    return COMPRESS[encoding](bytes(size * MIB))
