"""The two sides of a relayed connection without TLS: what is large moves through a pipe, within the system.

To read bytes and to write them again copies them twice, into memory that is new to the system: a tenth of the CPU time
of a request of 512 plain spans. Frame heads are looked at while the bytes stay where they are (MSG_PEEK), and what
passes as it is moves by `splice`, where the system has it (Linux). Small requests cost less if they are read.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import socket
import sys
from collections.abc import Callable

from spanledger_processor.receivers.header_rewriter import HeaderRewriter

_READ = 64 * 2**10
"""Bytes that are read at once."""
_LARGE = 32 * 2**10
"""Bytes that are there at once, from which on moving is cheaper than reading."""
_MOVES = 16
"""How often after a large piece it is tried to move what comes: a request ends with a small one."""
_MOVED = 512 * 2**10
"""Bytes that are moved at once, before other connections get their turn; more than most requests have."""
_CANNOT = (errno.EINVAL, errno.ENOSYS, errno.EPERM, errno.EOPNOTSUPP)
"""What a system says that cannot move these bytes."""
_LEFT = (BrokenPipeError, ConnectionResetError)
"""What a send ends with whose peer has left; there may be something of it to be read."""


class Pipe:
    """Moves bytes from one socket to another; it is empty between two moves, so that all connections share it."""

    def __init__(self) -> None:
        self.usable = sys.platform == "linux"
        self._out, self._into = os.pipe()
        self._seen = memoryview(bytearray(_MOVED))
        for end in (self._out, self._into):
            os.set_blocking(end, False)
        if sys.platform == "linux":
            with contextlib.suppress(OSError):  # a bound of the system for one user: it then moves less at once
                fcntl.fcntl(self._into, fcntl.F_SETPIPE_SZ, _MOVED)

    def peek(self, source: socket.socket) -> memoryview:
        """Return bytes that are there, and stay there. They are overwritten by the next call.

        Raises:
            OSError: the socket is broken, or nothing is there now.
        """
        return self._seen[: source.recv_into(self._seen, 0, socket.MSG_PEEK)]

    def move(self, source: socket.socket, target: socket.socket, count: int) -> tuple[int, bytes | None]:
        """Move so many bytes; return how many have left the source, and those of them that the target did not take:
        None if its peer has left.

        Raises:
            OSError: one of the sockets is broken.
        """
        moved = 0
        unsent: bytes | None = b""
        while moved < count and unsent == b"":
            came = self._spliced(source.fileno(), self._into, count - moved)
            if not came:
                break
            moved += came
            unsent = self._emptied(target.fileno(), came)
        return moved, unsent

    def close(self) -> None:
        """Close both ends."""
        os.close(self._out)
        os.close(self._into)

    def _emptied(self, target: int, count: int) -> bytes | None:
        try:
            while count and (sent := self._spliced(self._out, target, count)):
                count -= sent
        except _LEFT:
            self._read(count)
            return None
        except OSError:
            self._read(count)
            raise
        return self._read(count)

    def _read(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            data += os.read(self._out, count - len(data))
        return data

    def _spliced(self, source: int, target: int, count: int) -> int:
        """Return how many bytes moved: 0 if none can now, or none ever."""
        if sys.platform != "linux" or not self.usable:
            return 0
        try:
            return os.splice(source, target, count, flags=os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK)
        except BlockingIOError:
            return 0
        except OSError as error:
            if error.errno not in _CANNOT:
                raise
            self.usable = False
            return 0


class PlainSide:
    """One side of a connection. It is read no faster than the other side takes what was read.

    `closed` is told when it is closed.
    """

    def __init__(self, own: socket.socket, closed: Callable[[PlainSide], None]) -> None:
        self.name = ""
        self.other: PlainSide | None = None
        self.unsent = b""
        """Bytes from the other side that the system did not take yet."""
        self._socket = own
        self._closed = closed
        self._closing = self._ended = False
        self._loop = asyncio.get_running_loop()

    def read(self) -> None:
        """Begin to read, or go on."""
        if not self._closing:
            self._loop.add_reader(self._socket, self._readable)

    def pause(self) -> None:
        """Stop reading."""
        self._loop.remove_reader(self._socket)

    def write(self, data: bytes) -> None:
        """Send bytes now, or keep what the system does not take and stop the other side until it does."""
        try:
            sent = self._socket.send(data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self._failed(error)
            return
        if sent < len(data):
            self.keep(data[sent:])

    def keep(self, unsent: bytes) -> None:
        """Send these bytes, which the system did not take, when it does."""
        self.unsent = unsent
        self._loop.add_writer(self._socket, self._writable)
        if self.other is not None:
            self.other.pause()

    def left(self) -> None:
        """Send nothing more to a peer that has left. What it had sent is still read, and its end behind that."""
        self.unsent = b""
        self._loop.remove_writer(self._socket)
        if self._closing:
            self.abort()
        elif self.other is not None:
            self.other.pause()

    def close(self) -> None:
        """Read no more, and close once everything is sent; the other side follows."""
        if not self._closing:
            self._closing = True
            self.pause()
            if not self.unsent:
                self.abort()

    def abort(self) -> None:
        """Close without waiting for what is still to be sent."""
        if self._ended:
            return
        self._closing = self._ended = True
        self.pause()
        self._loop.remove_writer(self._socket)
        self._socket.close()
        self._closed(self)
        if self.other is not None:
            self.other.close()

    def _readable(self) -> None:
        try:
            data = self._socket.recv(_READ)
        except BlockingIOError:
            return
        except OSError:
            self.abort()
            return
        if data:
            self._pass_on(data)
        else:
            self.close()

    def _pass_on(self, data: bytes) -> None:
        assert self.other is not None
        self.other.write(data)

    def _failed(self, error: OSError) -> None:
        if isinstance(error, _LEFT):
            self.left()
        else:
            self.abort()

    def _writable(self) -> None:
        try:
            sent = self._socket.send(self.unsent)
        except BlockingIOError:
            return
        except OSError as error:
            self._failed(error)
            return
        self.unsent = self.unsent[sent:]
        if self.unsent:
            return
        self._loop.remove_writer(self._socket)
        if self._closing:
            self.abort()
        elif self.other is not None:
            self.other.read()


class PlainClient(PlainSide):
    """The client's side. `began` gets its first bytes."""

    def __init__(
        self, own: socket.socket, closed: Callable[[PlainSide], None], pipe: Pipe, began: Callable[[bytes], None]
    ) -> None:
        super().__init__(own, closed)
        self._rewriter = HeaderRewriter()
        self._pipe = pipe
        self._began: Callable[[bytes], None] | None = began
        self._moves = 0
        """How often it is still tried to move what comes."""

    def _readable(self) -> None:
        if not (self._moves and self._pipe.usable) or self._move():
            super()._readable()

    def _move(self) -> bool:
        """Move what passes as it is; return whether there is something that is to be read, its end included."""
        assert self.other is not None
        try:
            seen = self._pipe.peek(self._socket)
            moved, unsent = self._pipe.move(self._socket, self.other._socket, self._rewriter.look(seen))
        except BlockingIOError:
            return False
        except OSError:
            self.abort()
            return False
        except BaseException:  # no memory, as a rule: no other connection may get what is left in the pipe
            self._pipe.usable = False
            self.abort()
            raise
        if unsent is None:
            self.other.left()
            return False
        self._rewriter.moved(moved)
        self._moves = _MOVES if len(seen) >= _LARGE else self._moves - 1
        if unsent:
            self.other.keep(unsent)
            return False
        return moved < len(seen) or not seen

    def _pass_on(self, data: bytes) -> None:
        assert self.other is not None
        if self._began is not None:
            self._began(data)
            self._began = None
        if len(data) >= _LARGE:
            self._moves = _MOVES
        if passed := self._rewriter.feed(data):
            self.other.write(passed)
