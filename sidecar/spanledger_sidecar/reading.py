"""Reading files that somebody else writes: never locked, never followed through a link, never larger than a limit."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import orjson

from spanledger_sidecar.values import UnreadableError

MAX_BYTES = 64 * 1024 * 1024
"""The largest document, and the longest line, that is read."""


class Signal(NamedTuple):
    """By what a changed file is told from an unchanged one."""

    mtime_ns: int
    size: int
    inode: int

    @property
    def mtime_ms(self) -> int:
        return self.mtime_ns // 1_000_000


@dataclass(slots=True)
class Lines:
    """The objects on the lines of a JSONL file, and how many lines were none."""

    damaged: int = 0

    def read(self, file: BinaryIO, start: int = 0) -> Iterator[tuple[int, dict[str, Any]]]:
        """Each object with the offset behind it, from offset `start`. A last line without an end is not there yet."""
        file.seek(start)
        offset = start
        while line := file.readline(MAX_BYTES + 1):
            whole = line.endswith(b"\n")
            if not whole and len(line) <= MAX_BYTES:
                return
            while line and not line.endswith(b"\n"):
                offset += len(line)
                line = file.readline(MAX_BYTES)
            offset += len(line)
            value = _object(line) if whole else None
            if value is not None:
                yield offset, value
            elif not whole or line.strip():
                self.damaged += 1


def _object(line: bytes) -> dict[str, Any] | None:
    try:
        value = _parsed(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _parsed(content: bytes) -> Any:
    """JSON; also with half characters in its texts, which JavaScript writes and orjson refuses."""
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError as error:
        if "surrogate" not in error.msg:
            raise
        return json.loads(content)


def open_plain(path: Path) -> BinaryIO:
    """Open a regular file for reading.

    Raises:
        FileNotFoundError: there is none (any more).
        UnreadableError: it is a link, no file, or may not be read.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(path) from None
    except OSError as error:
        if path.is_symlink():
            raise UnreadableError("is a symbolic link, which is not followed") from None
        raise UnreadableError(f"cannot be opened: {error.strerror}") from None
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise UnreadableError("is not a regular file")
    return os.fdopen(handle, "rb")


def signal_of(file: BinaryIO) -> Signal:
    """The signal of an open file."""
    status = os.fstat(file.fileno())
    return Signal(status.st_mtime_ns, status.st_size, status.st_ino)


def read_document(path: Path) -> tuple[dict[str, Any], Signal]:
    """A JSON object from a file, and the signal of the file that it was read from.

    Raises:
        FileNotFoundError: there is no such file.
        UnreadableError: it holds no JSON object, or cannot be read.
    """
    with open_plain(path) as file:
        signal = signal_of(file)
        try:
            content = file.read(MAX_BYTES + 1)
        except OSError as error:
            raise UnreadableError(f"cannot be read: {error.strerror}") from None
    if len(content) > MAX_BYTES:
        raise UnreadableError(f"is larger than {MAX_BYTES // 2**20} MiB")
    if not content.strip():
        raise UnreadableError("is empty")
    try:
        value = _parsed(content)
    except json.JSONDecodeError as error:
        raise UnreadableError(f"is no JSON: {error.msg} at line {error.lineno}, column {error.colno}") from None
    except (ValueError, RecursionError):
        raise UnreadableError("is no JSON") from None
    if not isinstance(value, dict):
        raise UnreadableError(f"holds a JSON {type(value).__name__} where an object is expected")
    return value, signal
