"""A queue on disk: requests in segment files, appended in order, on disk before they count as kept.

A segment is `<number>.seg`: a magic, then a record for each request (a header with its own checksum, and the body).
What is acknowledged stands in `<number>.done`, by place in the segment; a segment of which everything is acknowledged
is deleted. A segment is written by one process and never appended to by another, so a half record at its end is one
whose sender was not answered.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import shutil
import struct
import time
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from spanledger_exporters.executor import SerialExecutor
from spanledger_exporters.interface import Result, Signal, Verdict, logger_of

_MAGIC = b"SLQUEUE1"
_HEADER = struct.Struct(">IIIB")
"""Size and CRC-32 of the body, items, signal; the CRC-32 of this follows."""
_CHECKSUM = struct.Struct(">I")
_DONE = struct.Struct(">II")
"""Place of a record in its segment, and the CRC-32 of that."""
_SIGNALS: tuple[Signal, ...] = ("traces", "logs", "metrics")

_SEGMENT_BYTES = 16 * 2**20
"""A segment this large is followed by another ..."""
_DRAINED_BYTES = 2**20
"""... and one of which nothing waits at this size already: what was delivered does not stay on disk for long."""
_MODE, _FOLDER_MODE = 0o600, 0o700
_LOCK_SECONDS = 5.0
"""How long another process may take to let the folder go: one that ends, or that takes over what a worker left."""
_LONG = 3600.0
"""Seconds: work of ours that nobody waits for has no deadline of its own."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A request that is kept: `offset` and `size` of its body in the segment, `items` as the sender of it counted."""

    segment: int
    place: int
    offset: int
    size: int
    checksum: int
    signal: Signal
    items: int


@dataclass(slots=True)
class _Segment:
    """What is known of a segment: how many records it has, and which of them are done."""

    size: int = 0
    records: int = 0
    done: set[int] = field(default_factory=set)

    @property
    def drained(self) -> bool:
        return len(self.done) == self.records


class SegmentLog:
    """The files of one queue, in `folder`. Every method blocks, and may raise OSError; one thread at a time uses it."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._log = logger_of(name)
        self._segments: dict[int, _Segment] = {}
        self._current: int | None = None
        self._fd = self._lock = -1
        self.set_aside = 0
        """Segments that could not be read to their end, or not in whole, since the queue was opened."""

    def open(self) -> list[Entry]:
        """Make the folder ours, and return what was not acknowledged, in order.

        Raises:
            BlockingIOError: another process uses it.
        """
        self._folder.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
        self._lock = _locked(self._folder, _LOCK_SECONDS)
        for folder in sorted(self._folder.glob("worker-*")):
            self._adopt(folder)
        waiting = [entry for number in _numbers(self._folder) for entry in self._read(number)]
        for stale in self._folder.glob("*.done"):
            if not stale.with_suffix(".seg").exists():
                stale.unlink()
        return waiting

    def append(self, signal: Signal, body: bytes, items: int) -> Entry:
        """Write a record; nothing of it is left after an OSError. It is kept once `sync` has returned."""
        number = self._writable()
        segment = self._segments[number]
        checksum = zlib.crc32(body)
        header = _HEADER.pack(len(body), checksum, items, _SIGNALS.index(signal))
        record = header + _CHECKSUM.pack(zlib.crc32(header)) + body
        try:
            _write(self._fd, record)
        except OSError:
            self._leave(cut_at=segment.size)
            raise
        place, offset = segment.records, segment.size + len(record) - len(body)
        segment.records += 1
        segment.size += len(record)
        return Entry(number, place, offset, len(body), checksum, signal, items)

    def sync(self) -> None:
        """Return when what was appended survives a power cut."""
        if self._fd >= 0:
            try:
                os.fdatasync(self._fd)
            except OSError:
                self._leave()  # nobody knows what of it is on disk
                raise

    def acknowledge(self, entry: Entry) -> None:
        """Forget a record. After a power cut, though not after a crash, it may come again."""
        segment = self._segments[entry.segment]
        segment.done.add(entry.place)
        if segment.drained and (entry.segment != self._current or segment.size >= _DRAINED_BYTES):
            self._delete(entry.segment)
            return
        place = entry.place.to_bytes(4, "big")
        fd = os.open(self._path(entry.segment, "done"), os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, _MODE)
        try:
            _write(fd, place + _CHECKSUM.pack(zlib.crc32(place)))
        finally:
            os.close(fd)

    def read(self, entry: Entry) -> bytes | None:
        """Return the body of a record, from any thread; None where it is not what was written."""
        with self._path(entry.segment).open("rb") as file:
            file.seek(entry.offset)
            body = file.read(entry.size)
        return body if zlib.crc32(body) == entry.checksum else None

    def put_aside(self, number: int, problem: str) -> None:
        """Rename a damaged segment, so that it is kept."""
        path = self._path(number)
        aside = path.with_suffix(".corrupt")
        if not aside.exists():
            try:
                os.link(path, aside)
            except OSError:  # a file system without links
                shutil.copyfile(path, aside)
                aside.chmod(_MODE)
        self.set_aside += 1
        self._log.error("%s: %s; it is kept as %s, and the queue goes on without", path, problem, aside)

    def close(self) -> None:
        """Let the folder go; segments of which nothing waits are deleted."""
        self._leave()
        for number in [number for number, segment in self._segments.items() if segment.drained]:
            self._delete(number)
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _path(self, number: int, ending: str = "seg") -> Path:
        return self._folder / f"{number:016d}.{ending}"

    def _writable(self) -> int:
        """Return the segment to append to; it is on disk as a file by then."""
        if self._current is not None and self._segments[self._current].size >= _SEGMENT_BYTES:
            self.sync()
            self._leave()
        if self._current is None:
            number = _unused(self._folder)
            self._fd = os.open(self._path(number), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _MODE)
            self._current = number
            self._segments[number] = _Segment(len(_MAGIC))
            try:
                _write(self._fd, _MAGIC)
                _sync_folder(self._folder)
            except OSError:
                self._leave()
                raise
        return self._current

    def _leave(self, cut_at: int | None = None) -> None:
        """Append no more to the current segment; a half record at its end is cut where that can be done."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            with contextlib.suppress(OSError):
                if cut_at is not None:
                    os.ftruncate(fd, cut_at)
            os.close(fd)
        number, self._current = self._current, None
        if number is not None and self._segments[number].drained:
            self._delete(number)

    def _delete(self, number: int) -> None:
        if number == self._current:
            self._leave()  # which deletes it
            return
        self._segments.pop(number, None)
        self._path(number).unlink(missing_ok=True)
        self._path(number, "done").unlink(missing_ok=True)

    def _read(self, number: int) -> list[Entry]:
        """Return what is not done of a segment, as far as it can be read; a damaged one is put aside."""
        done = set(_acknowledged(self._path(number, "done")))
        segment = self._segments[number] = _Segment()
        waiting: list[Entry] = []
        damaged = 0
        with self._path(number).open("rb") as file:
            broken = file.read(len(_MAGIC)) != _MAGIC
            segment.size = size = os.fstat(file.fileno()).st_size
            if broken and size <= len(_MAGIC):  # no record was begun
                broken = False
            while not broken and (record := file.read(_HEADER.size + _CHECKSUM.size)):
                if len(record) < _HEADER.size + _CHECKSUM.size:
                    break  # cut off while it was written
                header, (checksum,) = record[: _HEADER.size], _CHECKSUM.unpack(record[_HEADER.size :])
                if zlib.crc32(header) != checksum:
                    broken = True
                    break
                length, body_checksum, items, signal = _HEADER.unpack(header)
                offset = file.tell()
                if offset + length > size:
                    break
                place, segment.records = segment.records, segment.records + 1
                if place in done:
                    file.seek(length, os.SEEK_CUR)
                elif zlib.crc32(file.read(length)) != body_checksum:
                    damaged += 1
                    done.add(place)
                else:
                    waiting.append(Entry(number, place, offset, length, body_checksum, _SIGNALS[signal], items))
        segment.done = {place for place in done if place < segment.records}
        if broken:
            self.put_aside(number, f"cannot be read beyond its first {segment.records} requests")
        elif damaged:
            self.put_aside(number, f"{damaged} request{'s' if damaged > 1 else ''} in it cannot be read")
        if segment.drained:
            self._delete(number)
        return waiting

    def _adopt(self, folder: Path) -> None:
        """Take over what a worker left that runs no more; one that runs has its folder locked."""
        try:
            lock = _locked(folder, 0)
        except BlockingIOError:
            return
        try:
            for number in _numbers(folder):
                mine = _unused(self._folder)
                theirs = folder / f"{number:016d}"
                if theirs.with_suffix(".done").exists():
                    theirs.with_suffix(".done").rename(self._path(mine, "done"))
                theirs.with_suffix(".seg").rename(self._path(mine))
        finally:
            os.close(lock)


def _locked(folder: Path, patience: float) -> int:
    """Return a descriptor that holds the lock of `folder`; waits `patience` seconds for it."""
    fd = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _MODE)
    end = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= end:
                os.close(fd)
                raise
            time.sleep(0.05)
        else:
            return fd


def _numbers(folder: Path) -> list[int]:
    return sorted(int(path.stem) for path in folder.glob("*.seg") if path.stem.isdecimal())


def _unused(folder: Path) -> int:
    """Return a number above those of all segments, those kept apart too."""
    return max((int(path.stem) for path in folder.iterdir() if path.stem.isdecimal()), default=0) + 1


def _acknowledged(path: Path) -> Iterator[int]:
    """Yield the places in a `.done` file; what cannot be read of it comes again, which does no harm."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return
    for offset in range(0, len(content) - _DONE.size + 1, _DONE.size):
        place, checksum = _DONE.unpack_from(content, offset)
        if zlib.crc32(content[offset : offset + 4]) == checksum:
            yield place


def _write(fd: int, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(fd, rest) :]


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@dataclass(frozen=True, slots=True)
class _Append:
    signal: Signal
    body: bytes
    items: int


class DurableQueue:
    """A `SegmentLog` for the event loop: appends that wait at the same time share one fdatasync."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self._segments = SegmentLog(folder, name)
        self._log = logger_of(name)
        self._executor: SerialExecutor[_Append | Entry, Entry | OSError | None] = SerialExecutor(name, self._work)

    @property
    def set_aside(self) -> int:
        """Return the number of segments that were damaged, and are kept apart."""
        return self._segments.set_aside

    async def open(self) -> Sequence[Entry]:
        """Return what waits, in order; raises OSError."""
        return await asyncio.to_thread(self._segments.open)

    async def append(self, signal: Signal, body: bytes, items: int, deadline: float) -> Entry | Result:
        """Return the entry once it is on disk; a retryable result, with nothing kept, where that did not happen."""
        built = await self._executor.run(_Append(signal, body, items), deadline)
        if isinstance(built, Entry):
            return built
        problem = "the disk did not keep up" if built is None else built.strerror or type(built).__name__
        return Result(Verdict.RETRYABLE, f"sending_queue: {problem}")

    async def read(self, entry: Entry) -> bytes | None:
        """Return an entry's body; None where it is not what was written, and then its segment is kept apart.

        Raises:
            OSError: it cannot be read now, or its segment not be kept apart.
        """
        body = await asyncio.to_thread(self._segments.read, entry)
        if body is None:
            await asyncio.to_thread(self._segments.put_aside, entry.segment, "a request in it cannot be read")
        return body

    async def acknowledge(self, entry: Entry) -> None:
        """Forget an entry."""
        await self._executor.run(entry, asyncio.get_running_loop().time() + _LONG)

    async def close(self) -> None:
        """Finish what waits, and let the folder go."""
        await self._executor.close()
        await asyncio.to_thread(self._segments.close)

    def _work(self, jobs: Sequence[_Append | Entry]) -> Sequence[Entry | OSError | None]:
        results = [self._done(job) for job in jobs]
        appended = [result for result in results if isinstance(result, Entry)]
        if not appended:
            return results
        try:
            self._segments.sync()
        except OSError as error:
            for entry in appended:
                self._forget(entry)
            return [error if isinstance(result, Entry) else result for result in results]
        return results

    def _done(self, job: _Append | Entry) -> Entry | OSError | None:
        if isinstance(job, Entry):
            self._forget(job)
            return None
        try:
            return self._segments.append(job.signal, job.body, job.items)
        except OSError as error:
            return error

    def _forget(self, entry: Entry) -> None:
        try:
            self._segments.acknowledge(entry)
        except OSError as error:
            self._log.warning("%s: cannot note what was delivered, so it may go again: %s", self.folder, error.strerror)


def total(entries: Iterable[Entry], sizer: str) -> int:
    """Return the size of entries by `sizer`: requests, items or bytes."""
    return sum(measure(entry.items, entry.size, sizer) for entry in entries)


def measure(items: int, size: int, sizer: str) -> int:
    """Return what a request of so many items and bytes counts in a queue."""
    return {"requests": 1, "items": items, "bytes": size}[sizer]
