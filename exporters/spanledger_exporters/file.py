"""OTLP-JSON in a file: one request a line, as the Collector's file exporter writes it."""

from __future__ import annotations

import fcntl
import logging
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeAlias

from spanledger_exporters.executor import SerialExecutor
from spanledger_exporters.interface import ACCEPTED, DestinationError, Result, Signal, Verdict, one_line
from spanledger_exporters.settings import FileSettings, RotationSettings
from spanledger_processor.otlp.json_form import to_json
from spanledger_processor.otlp.wire import MalformedError

_FORMAT = "%Y-%m-%dT%H-%M-%S.%f"
_MICROSECONDS_CUT = -3
_TIME_LENGTH = len("2026-01-31T23-59-59.123")


def backup(path: Path, now: datetime) -> Path:
    """Return the name under which `path` is put aside at `now`, or a moment later if a file of that name exists."""
    prefix, suffix = _parts(path)
    while True:
        stamp = now.astimezone(UTC).strftime(_FORMAT)[:_MICROSECONDS_CUT]
        aside = path.with_name(f"{prefix}{stamp}{suffix}")
        if not aside.exists():
            return aside
        now += timedelta(milliseconds=1)


def outdated(path: Path, names: Iterable[str], rotation: RotationSettings, now: datetime) -> list[str]:
    """Return those of the `names` in the folder of `path` that are files put aside and kept no longer."""
    result = ((put_aside_at(path, name), name) for name in names)
    newest_first = sorted(((when, name) for when, name in result if when is not None), reverse=True)
    kept = rotation.max_backups or len(newest_first)
    oldest = now - timedelta(days=rotation.max_days) if rotation.max_days else datetime.min.replace(tzinfo=UTC)
    return [name for index, (when, name) in enumerate(newest_first) if index >= kept or when < oldest]


def put_aside_at(path: Path, name: str) -> datetime | None:
    """Return the time in the name of a file that was put aside for `path`; None for any other file."""
    prefix, suffix = _parts(path)
    stamp = name[len(prefix) : len(name) - len(suffix)]
    if name != f"{prefix}{stamp}{suffix}" or len(stamp) != _TIME_LENGTH:
        return None
    try:
        return datetime.strptime(stamp, _FORMAT).replace(tzinfo=UTC)
    except ValueError:
        return None


def _parts(path: Path) -> tuple[str, str]:
    """Return the text before and after the time; the extension is what follows the last dot, as in Go."""
    stem, dot, extension = path.name.rpartition(".")
    return (f"{stem}-", f".{extension}") if dot else (f"{path.name}-", "")


log = logging.getLogger(__name__)

_MODE = 0o600
_FOLDER_MODE = 0o700
_MEGABYTE = 2**20


class LineFile:
    """Appends lines to `path`, which is locked against a second writer. Every method may raise OSError.

    A file that was moved away or deleted by somebody else is begun anew with the next line.
    """

    def __init__(self, path: Path, rotation: RotationSettings | None) -> None:
        self._path = path
        self._rotation = rotation
        self._fd: int | None = None
        self._ends_in_half_a_line = False

    def open(self) -> None:
        """Open or create the file and its folder.

        Raises:
            BlockingIOError: another process or exporter writes it.
            OSError: it cannot be written, or is no regular file.
        """
        self._path.parent.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
        fd = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, _MODE)
        try:
            self._ends_in_half_a_line = _claim(fd)
        except BaseException:
            os.close(fd)
            raise
        self._fd = fd
        self._prune()

    def append(self, line: bytes) -> None:
        """Append one line, which ends in a newline; after an OSError nothing of it is left."""
        fd, size = self._opened()
        if self._rotation and size and size + len(line) > self._rotation.max_megabytes * _MEGABYTE:
            self._rotate()
            fd, size = self._opened()
        try:
            _write(fd, b"\n" + line if self._ends_in_half_a_line else line)
        except OSError:
            self._take_back(fd, size)
            raise
        self._ends_in_half_a_line = False

    def sync(self) -> None:
        """Return when what was appended survives a power cut."""
        if self._fd is not None:
            os.fdatasync(self._fd)

    def close(self) -> None:
        """Close the file; the next append opens it again."""
        if self._fd is not None:
            fd, self._fd = self._fd, None
            os.close(fd)

    def _opened(self) -> tuple[int, int]:
        """Return the descriptor of the file at the path, and its size."""
        if self._fd is not None and not _is_file_at(self._fd, self._path):
            self.sync()
            self.close()
        if self._fd is None:
            self.open()
        assert self._fd is not None
        return self._fd, os.fstat(self._fd).st_size

    def _take_back(self, fd: int, size: int) -> None:
        """Cut what was written of a line. Where even that fails, the next line begins on a fresh one."""
        try:
            os.ftruncate(fd, size)
        except OSError:
            self._ends_in_half_a_line = True

    def _rotate(self) -> None:
        self.sync()
        self.close()
        self._path.rename(backup(self._path, datetime.now(UTC)))

    def _prune(self) -> None:
        """Delete what was put aside long ago; a file that cannot be deleted holds nothing up."""
        if self._rotation is None:
            return
        names = (entry.name for entry in self._path.parent.iterdir())
        for name in outdated(self._path, names, self._rotation, datetime.now(UTC)):
            try:
                self._path.with_name(name).unlink(missing_ok=True)
            except OSError as error:
                log.warning("%s cannot be deleted: %s", self._path.with_name(name), error.strerror)


def _claim(fd: int) -> bool:
    """Lock the file, and return whether it ends in half a line.

    A process that was killed while it wrote leaves one; its sender was not answered, and sends again.
    """
    result = os.fstat(fd)
    if not stat.S_ISREG(result.st_mode):
        raise OSError(None, "is not a regular file")
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    if stat.S_IMODE(result.st_mode) != _MODE:
        os.fchmod(fd, _MODE)
    return result.st_size > 0 and os.pread(fd, 1, result.st_size - 1) != b"\n"


def _write(fd: int, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(fd, rest) :]


def _is_file_at(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    except FileNotFoundError:
        return False


_Request: TypeAlias = tuple[Signal, bytes]


class File:
    """Appends each request as one line of OTLP-JSON, all signals to one file.

    An accepted request survives a power cut: requests that arrive while others are written share one fdatasync.
    """

    def __init__(self, name: str, settings: FileSettings) -> None:
        self.name = name
        self.required = settings.required
        self.signals = settings.signals
        self._path = Path(settings.path).expanduser()
        self._lines = LineFile(self._path, settings.rotation)
        self._executor: SerialExecutor[_Request, Result] = SerialExecutor(name, self._append)

    def address(self, _: Signal) -> str:
        """Return the path."""
        return str(self._path)

    async def start(self) -> None:
        """Open the file, and mend what a crash left of its last line."""
        try:
            self._lines.open()
        except BlockingIOError as error:
            raise DestinationError(self.name, f"path: {self._path} is being written by another exporter") from error
        except OSError as error:
            raise DestinationError(self.name, f"path: {self._path}: {error.strerror}") from error

    async def send(self, signal: Signal, body: bytes, deadline: float) -> Result:
        """Return accepted when the line is on disk; retryable, with nothing left in the file, where it has no room."""
        result = await self._executor.run((signal, body), deadline)
        return result or Result(Verdict.RETRYABLE, "the disk did not keep up")

    async def close(self) -> None:
        """Finish what waits, and close the file."""
        await self._executor.close()
        self._lines.close()

    def _append(self, requests: Sequence[_Request]) -> Sequence[Result]:
        results = list(self._appended(requests))
        try:
            self._lines.sync()
        except OSError as error:
            return [_failed(error) if result is ACCEPTED else result for result in results]
        return results

    def _appended(self, requests: Sequence[_Request]) -> Iterator[Result]:
        for signal, body in requests:
            try:
                self._lines.append(to_json(signal, body) + b"\n")
                yield ACCEPTED
            except MalformedError as error:
                yield Result(Verdict.PERMANENT, one_line(f"cannot be written as JSON: {error}"))
            except OSError as error:
                yield _failed(error)


def _failed(error: OSError) -> Result:
    return Result(Verdict.RETRYABLE, error.strerror or type(error).__name__)
