"""A file of whole lines: what is appended is there to its end, or not at all. Blocking; used by one thread."""

from __future__ import annotations

import fcntl
import logging
import os
import stat
from datetime import UTC, datetime
from pathlib import Path

from spanledger_exporters.file.backups import backup, outdated
from spanledger_exporters.settings import RotationSettings

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
        """The descriptor of the file that stands at the path, and its size."""
        if self._fd is not None and not _stands_at(self._fd, self._path):
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
    """Make the file ours; tells whether it ends in half a line.

    A process that was killed while it wrote leaves one; its sender was not answered, and sends again.
    """
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode):
        raise OSError(None, "is not a regular file")
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    if stat.S_IMODE(found.st_mode) != _MODE:
        os.fchmod(fd, _MODE)
    return found.st_size > 0 and os.pread(fd, 1, found.st_size - 1) != b"\n"


def _write(fd: int, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(fd, rest) :]


def _stands_at(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    except FileNotFoundError:
        return False
