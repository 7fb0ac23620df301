"""A relay before gRPC that makes it take zstd and snappy: it names the encoding "gzip", and gRPC hands the bytes on.

gRPC's C core ends a call whose `grpc-encoding` it does not know while it parses the head, before anything else can see
it. A shorter value in the head disturbs no table of HPACK (RFC 7541, section 4): what gRPC then keeps takes no more
room there than at the sender, so gRPC still has every entry that the sender refers to. Only header frames are looked
at; everything else passes as it is.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import socket
import ssl
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from itertools import count, product
from pathlib import Path
from typing import cast

from spanledger_processor.listener import SPEAKS_TLS, TLS_HANDSHAKE, bind

log = logging.getLogger(__name__)

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""Bytes with which every HTTP/2 connection of a client begins (RFC 9113, section 3.4)."""
_FRAME_HEAD = 9
_WITH_HEADERS = (0x1, 0x9)
"""Types of frames: HEADERS and CONTINUATION."""
_LARGEST_BLOCK = 64 * 2**10
"""Bytes of a header frame that are looked at; gRPC's own limit for all headers of a call is below."""

_BUFFERED = 2**20
"""Bytes on their way to gRPC that the system may hold for a connection: what it does not take is copied twice more."""

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


class HeaderRewriter:
    """Follows the frames of one connection from a client, and renames the encoding in its header frames."""

    def __init__(self) -> None:
        self._to_pass = len(_PREFACE)
        """Bytes that belong to no header frame and are passed on as they are."""
        self._begun = b""
        """The beginning of a frame whose head, or whose header block, is not there as a whole."""

    def feed(self, data: bytes) -> list[bytes]:
        """Return what is to be passed on after `data` came in, which is `data` itself where nothing is renamed."""
        if self._begun:
            data, self._begun = self._begun + data, b""
        out: list[bytes] = []
        passed, size = 0, len(data)
        at = self._to_pass
        while at < size:
            block = at + _FRAME_HEAD
            end = block if block > size else block + (data[at] << 16 | data[at + 1] << 8 | data[at + 2])
            if block <= size and (data[at + 3] not in _WITH_HEADERS or end - block > _LARGEST_BLOCK):
                at = end  # from head to head: a request of half a MiB has thirty of them
                continue
            if block > size or end > size:
                self._begun = data[at:]
                data = data[:at]
                break
            at = end
            if (renamed := _renamed(data[block:end])) != data[block:end]:
                head = len(renamed).to_bytes(3, "big") + data[block - _FRAME_HEAD + 3 : block]
                out += (data[passed : block - _FRAME_HEAD], head + renamed)
                passed = end
        self._to_pass = at - len(data)
        if passed < len(data):
            out.append(data[passed:])  # `data` itself, uncopied, where it is the whole
        return out


def _renamed(block: bytes) -> bytes:
    for old, new in _RENAMED.items():
        block = block.replace(old, new)
    return block


class _Half(asyncio.Protocol):
    """One side of a connection; reads no faster than the other side writes."""

    def __init__(self, relay: ZstdRelay, pass_on: Callable[[bytes], Iterable[bytes]]) -> None:
        self.transport: asyncio.Transport | None = None
        self.other: _Half | None = None
        self._relay = relay
        self._pass_on = pass_on

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._relay.opened(self)

    def abort(self) -> None:
        """Close without waiting for what is still to be sent."""
        if self.transport is not None:
            self.transport.abort()

    def data_received(self, data: bytes) -> None:
        if self.other is not None and self.other.transport is not None:
            for piece in self._pass_on(data):
                self.other.transport.write(piece)

    def pause_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._relay.closed(self)
        if self.other is not None and self.other.transport is not None:
            self.other.transport.close()


class _Accepted(_Half):
    """The client's side, which connects the other one."""

    def __init__(self, relay: ZstdRelay) -> None:
        super().__init__(relay, HeaderRewriter().feed)
        self._name = ""
        self._silent = True
        """Nothing has come yet."""
        self._early: list[bytes] = []
        """Bytes that came before gRPC was connected."""

    def data_received(self, data: bytes) -> None:
        if self._silent:
            self._silent = False
            self._relay.warn_of_other_protocols(data, self.transport)
        if self.other is None:
            self._keep(data)
        else:
            super().data_received(data)

    def _keep(self, data: bytes) -> None:
        """Keep bytes until gRPC is connected: asyncio of Python 3.11.2 (Debian 12) reads from a connection that was
        paused while it was made. From one that is paused again no more comes.
        """
        assert self.transport is not None
        self._early.append(data)
        self.transport.resume_reading()
        self.transport.pause_reading()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        assert self.transport is not None
        self.transport.pause_reading()
        self._relay.connect(self)

    async def connect(self) -> None:
        """Connect to gRPC, under a name by which it knows the client of a call."""
        assert self.transport is not None
        loop = asyncio.get_running_loop()
        inner = socket.socket(socket.AF_UNIX)
        try:
            inner.setblocking(False)
            inner.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFERED)
            self._name = self._relay.named(inner, self.transport.get_extra_info("peername"))
            await loop.sock_connect(inner, self._relay.socket_path)
            _, other = await loop.create_unix_connection(lambda: _Half(self._relay, lambda data: (data,)), sock=inner)
        except (OSError, asyncio.CancelledError):
            inner.close()
            self.abort()
            return
        other.other, self.other = self, other
        if self.transport.is_closing():
            other.abort()
            return
        early, self._early = self._early, []
        for data in early:
            super().data_received(data)
        self.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self._relay.hosts.pop(self._name, None)
        super().connection_lost(exc)


class ZstdRelay:
    """Listens on an address, and passes connections on to gRPC at `socket_path`, in a folder of its own: at most so
    many, one more is ended.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._folder = Path(tempfile.mkdtemp(prefix="spanledger-"))
        self.socket_path = str(self._folder / "grpc")
        self.hosts: dict[str, str] = {}
        """The hosts of clients, by the name of their connection to gRPC."""
        self._server: asyncio.Server | None = None
        self._connecting: set[asyncio.Task[None]] = set()
        self._halves: set[_Half] = set()
        self._all_closed = asyncio.Event()
        self._all_closed.set()
        self._numbers = count(1)
        self._setting = ""

    async def start(
        self, address: tuple[str, int], setting: str, tls: ssl.SSLContext | None, handshake: float, *, share_port: bool
    ) -> int:
        """Listen, and return the port. `handshake`: seconds for that of TLS.

        Raises:
            OSError: the address is taken or not ours.
        """
        self._setting = setting
        listening = bind(address, setting, share_port=share_port)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: _Accepted(self), sock=listening, ssl=tls, ssl_handshake_timeout=handshake if tls else None
        )
        port: int = listening.getsockname()[1]
        return port

    def connect(self, accepted: _Accepted) -> None:
        """Connect a client's connection with gRPC."""
        if len(self._halves) > 2 * self._most:
            accepted.abort()
            return
        task = asyncio.get_running_loop().create_task(accepted.connect())
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    def warn_of_other_protocols(self, data: bytes, transport: asyncio.Transport | None) -> None:
        """Warn if the first bytes of a connection are not those of HTTP/2: neither gRPC nor its client will say why."""
        if _PREFACE.startswith(data[: len(_PREFACE)]):
            return
        peer = transport.get_extra_info("peername") if transport is not None else None
        host = str(peer[0]) if peer else "this machine"
        if data.startswith(TLS_HANDSHAKE):
            log.warning(SPEAKS_TLS, self._setting, host)
            return
        log.warning(
            "%s: a client from %s does not speak gRPC to this port; OTLP/HTTP has a port of its own "
            "(receivers.otlp.protocols.http.endpoint)",
            self._setting,
            host,
        )

    def named(self, inner: socket.socket, peer: tuple[object, ...] | None) -> str:
        """Give a connection to gRPC a name, where the system can (Linux); its client's host is known by it."""
        name = f"spanledger-relay-{os.getpid()}-{id(self):x}-{next(self._numbers)}"
        if sys.platform != "linux" or peer is None:
            return ""
        inner.bind(f"\0{name}")
        self.hosts[name] = str(peer[0])
        return name

    def host_of(self, peer: str) -> str:
        """Return the host of a client by what gRPC knows of its connection."""
        return self.hosts.get(peer.removeprefix("unix-abstract:"), peer)

    def opened(self, half: _Half) -> None:
        """Know a connection that `stop` closes."""
        self._halves.add(half)
        self._all_closed.clear()

    def closed(self, half: _Half) -> None:
        """Forget a connection that is closed."""
        self._halves.discard(half)
        if not self._halves:
            self._all_closed.set()

    def stop_listening(self) -> None:
        """Take no more connections; those that are open go on."""
        if self._server is not None:
            self._server.close()

    async def stop(self) -> None:
        """Close what gRPC, which has stopped, left open."""
        self.stop_listening()
        for task in self._connecting:
            task.cancel()
        await asyncio.gather(*self._connecting, return_exceptions=True)
        for half in tuple(self._halves):
            half.abort()
        await self._all_closed.wait()
        shutil.rmtree(self._folder, ignore_errors=True)
