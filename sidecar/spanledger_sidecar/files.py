"""Files that other programs write: read without a lock, never through a link, and up to a limit of size.

Also here: the session folders of a home, the signals and events by which a changed file is recognised, and the faults
of files that cannot be used.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import queue
import stat
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeAlias

import orjson
from watchfiles import Change, watch

from spanledger_sidecar.records import UnreadableError

MAX_BYTES = 64 * 1024 * 1024
"""The largest document, and the longest line, that is read."""


class FileState(NamedTuple):
    """The state of a file by which a change is recognised."""

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
        """Yield each object with the offset behind it, from `start`. A last line without an end is not there yet."""
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
    """Parse JSON; also with lone surrogates in its texts, which JavaScript writes and orjson refuses."""
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
        if error.errno == errno.ELOOP:
            raise UnreadableError("is a symbolic link, which is not followed") from None
        raise UnreadableError(f"cannot be opened: {error.strerror}") from None
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise UnreadableError("is not a regular file")
    return os.fdopen(handle, "rb")


def state_of(file: BinaryIO) -> FileState:
    """Return the state of an open file."""
    status = os.fstat(file.fileno())
    return FileState(status.st_mtime_ns, status.st_size, status.st_ino)


def read_document(path: Path) -> tuple[dict[str, Any], FileState]:
    """Return a JSON object from a file, and the state of the file that it was read from.

    Raises:
        FileNotFoundError: there is no such file.
        UnreadableError: it holds no JSON object, or cannot be read.
    """
    with open_plain(path) as file:
        state = state_of(file)
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
    return value, state


Signals: TypeAlias = dict[str, tuple[int, int, int]]
"""For each file of a folder that is looked at: its time of change (ns), size and inode."""


def list_sessions(root: Path, report: Callable[[Path, str], None] = lambda *_: None) -> dict[str, Path] | None:
    """Return the session folders of a home by name; None where they cannot be listed now.

    `report` is called with each folder that is left out, and the reason.
    """
    sessions: dict[str, Path] = {}
    try:
        with os.scandir(root / "sessions") as entries:
            for entry in entries:
                if entry.is_symlink():
                    report(Path(entry.path), "is a symbolic link, which is not followed")
                elif entry.is_dir() and entry.name.isprintable():
                    sessions[entry.name] = Path(entry.path)
                elif entry.is_dir():
                    report(Path(entry.path), "has a name that is no text, and is left out")
    except FileNotFoundError:
        return None
    except OSError as error:
        report(root / "sessions", f"cannot be listed: {error.strerror}")
        return None
    return sessions


def signals(folder: Path, names: Iterable[str], below: str = "") -> Signals:
    """Return the signals of the files `names` in a folder, and of those in the folders inside its folder `below`."""
    result: Signals = {}
    _add(result, str(folder), names, "")
    if below:
        for child in subfolders(folder / below):
            _add(result, str(child), names, f"{child.name}/")
    return result


def subfolders(folder: Path) -> list[Path]:
    """Return the folders inside a folder, none where there is no such folder."""
    try:
        with os.scandir(folder) as entries:
            return sorted(Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False))
    except OSError:
        return []


def newest(file_signals: Signals) -> int:
    """Return when the newest of these files was written, in ms since 1970; 0 where there is none."""
    return max((mtime_ns // 1_000_000 for mtime_ns, _, _ in file_signals.values()), default=0)


def _add(result: Signals, folder: str, names: Iterable[str], prefix: str) -> None:
    for name in names:
        try:
            status = os.stat(f"{folder}/{name}", follow_symlinks=False)  # noqa: PTH116 - a Path for each costs as much again
        except OSError:
            continue
        if not stat.S_ISDIR(status.st_mode):
            result[prefix + name] = (status.st_mtime_ns, status.st_size, status.st_ino)


log = logging.getLogger(__name__)

_KEPT = 10_000
_NAMED = 1000
"""Files that are named in the log; the summary counts all of them."""


class FileErrors:
    """Faults of files, each logged once; `count` of them were new. Call it with a file and why it cannot be used."""

    def __init__(self) -> None:
        self.count = 0
        self._reported: dict[Path, tuple[str, int, int]] = {}

    def named(self) -> dict[Path, str]:
        """Return every file that was reported, and why, as far as they are remembered."""
        return {path: why for path, (why, _, _) in self._reported.items()}

    def recall(self, kept: Mapping[bytes, tuple[str, int, int]]) -> None:
        """Load faults of earlier runs, as `kept` returned them: such a file is not read again as it is."""
        for path, (why, mtime_ns, size) in kept.items():
            self._reported[Path(os.fsdecode(path))] = (why, mtime_ns, size)

    def kept(self, names: Collection[str]) -> dict[bytes, tuple[str, int, int]]:
        """Return the faults of files with these names, for a later run; other faults are found by every scan."""
        return {os.fsencode(path): news for path, news in self._reported.items() if path.name in names and news[1]}

    def __call__(self, path: Path, why: str) -> None:
        news = (why, *_written(path))
        if self._reported.get(path) == news:
            return
        if len(self._reported) >= _KEPT:
            self._reported.clear()
        self._reported[path] = news
        self.count += 1
        if self.count <= _NAMED:
            line = f"{path} {why}; it is tried again when it changes"
            log.warning(line)  # as its own message: the log leaves out repeats of one, and each file is named


def _written(path: Path) -> tuple[int, int]:
    """Return when a file was written (ns since 1970) and its size; zeros where that cannot be seen."""
    try:
        status = os.lstat(path)
    except OSError:
        return 0, 0
    return status.st_mtime_ns, status.st_size


def unchanged(kept: Mapping[bytes, tuple[str, int, int]]) -> dict[bytes, tuple[str, int, int]]:
    """Return those of the faults that an earlier run had whose files are as they were."""
    return {
        path: (why, mtime_ns, size)
        for path, (why, mtime_ns, size) in kept.items()
        if (mtime_ns, size) == _written(Path(os.fsdecode(path)))
    }


def is_folder(path: Path) -> bool:
    """Return whether it is a folder that may be looked for: False where one above it is shut (Path.is_dir raises)."""
    return os.path.isdir(path)  # noqa: PTH112 - the reason is above


def real_folders(paths: Iterable[Path]) -> list[Path]:
    """Return the folders behind `paths` that are there, each once: the old home is a link to the new one."""
    folders: dict[tuple[int, int], Path] = {}
    for path in paths:
        try:
            resolved = path.resolve(strict=True)
            status = resolved.stat()
        except OSError:
            continue
        if stat.S_ISDIR(status.st_mode):
            folders.setdefault((status.st_dev, status.st_ino), resolved)
    return list(folders.values())


def identity_of(path: Path) -> str:
    """Return an identity of a folder that a new name does not change; empty where it is gone."""
    try:
        status = path.stat()
    except OSError:
        return ""
    return f"{status.st_dev}:{status.st_ino}"


log = logging.getLogger(__name__)

_DEBOUNCE_MS = 500
_STEP_MS = 200


@dataclass(slots=True)
class Watcher:
    """Watches the `sessions` folders of homes in a thread: folders, since every rename gives a file a new inode.

    Paths that changed are put into `changes`. Where the system cannot watch so many folders, the scans find them.
    """

    names: Collection[str]
    changes: queue.SimpleQueue[set[Path]] = field(default_factory=queue.SimpleQueue)
    watched: tuple[tuple[Path, str], ...] = ()
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def follow(self, roots: Iterable[Path]) -> bool:
        """Watch these homes from now on, and no others; return whether they changed, so that a scan is due."""
        folders = tuple((path, identity_of(path)) for root in roots if is_folder(path := root / "sessions"))
        if folders == self.watched:
            return False
        self.close()
        self.watched = folders
        if folders:
            self._stop = threading.Event()
            watched = tuple(path for path, _ in folders)
            self._thread = threading.Thread(target=self._run, args=(watched, self._stop), daemon=True)
            self._thread.start()
        return True

    def close(self) -> None:
        """Stop watching."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _run(self, folders: tuple[Path, ...], stop: threading.Event) -> None:
        try:
            for changes in watch(
                *folders,
                watch_filter=self._wanted,
                debounce=_DEBOUNCE_MS,
                step=_STEP_MS,
                stop_event=stop,
                raise_interrupt=False,
                ignore_permission_denied=True,
            ):
                self.changes.put({Path(path) for _, path in changes})
        except (OSError, RuntimeError) as error:
            log.warning("no events for %s, changes are found by scans only: %s", ", ".join(map(str, folders)), error)

    def _wanted(self, _: Change, path: str) -> bool:
        return path.rpartition("/")[2] in self.names
