"""Request bodies as http.server leaves them: by length or in chunks (as Node's exporters send), packed or plain."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from io import BufferedIOBase


def body_of(handler: BaseHTTPRequestHandler) -> bytes:
    """The whole body of the request that `handler` is answering, unpacked."""
    if handler.headers.get("transfer-encoding", "").lower() == "chunked":
        body = b"".join(_chunks(handler.rfile))
    else:
        body = handler.rfile.read(int(handler.headers.get("content-length", 0)))
    encoding = handler.headers.get("content-encoding")
    if encoding == "gzip":
        return gzip.decompress(body)
    return zlib.decompress(body) if encoding == "deflate" else body


def _chunks(lines: BufferedIOBase) -> Iterator[bytes]:
    while size := int(lines.readline().partition(b";")[0], 16):
        yield lines.read(size)
        lines.readline()
    while lines.readline().strip():
        """A trailer."""
