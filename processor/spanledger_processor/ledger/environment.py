"""Open, lock and read the LMDB environment of a ledger, and map its errors to those of `store`."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import lmdb
from lmdb.verify import VerifyError, verify

from spanledger_processor.ledger.store import Key, StateBrokenError, StateError, StateLockedError, StoreUsage, Table
from spanledger_processor.ledger.sums import Sums
from spanledger_processor.ledger.trace_places import TRACE, TracePlaces

FOLDER = "ledger"
DATA = "data.mdb"
_READERS = 256
"""Snapshots at the same time, over all processes."""
_ROOM = 1 << 20
"""Bytes that have to be free on the disk: LMDB maps its lock file, and a page of it without room ends the process."""
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def make_folder(path: Path, *, private: bool = False) -> None:
    """Make a folder for its user only, where there is none; `private`: let others out of one that is there.

    Raises:
        StateError: it cannot be made.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if private:
            path.chmod(0o700)
    except OSError as error:
        raise StateError(f"{path}: {error.strerror}; give state.path a folder that can be written") from None


def open_to_write(path: Path, max_size_mib: int) -> lmdb.Environment:
    """Return the environment in folder `path`, made if it is not there; readable by its user only.

    Raises:
        StateError: it cannot be opened; the message says what to do.
    """
    make_folder(path, private=True)
    if shutil.disk_usage(path).free < _ROOM:
        raise StateError(f"{path}: no space left on the disk; the ledger needs at least 1 MiB to open")
    with map_lmdb_errors(path):
        env = lmdb.open(os.fspath(path), map_size=max_size_mib << 20, mode=0o700, readahead=False, max_readers=_READERS)
    return _whole(env, path)


def open_to_read(path: Path) -> lmdb.Environment:
    """Return the environment in folder `path` as it is, also beside its writer.

    Raises:
        StateError: there is none, or it cannot be opened.
    """
    try:
        (path / DATA).stat()
    except FileNotFoundError:
        raise StateError(
            f"{path}: no ledger here yet; the first `spanledger serve` with this state.path makes it"
        ) from None
    except OSError as error:
        raise StateError(f"{path / DATA}: {error.strerror}") from None
    with map_lmdb_errors(path):
        env = lmdb.open(os.fspath(path), map_size=0, readonly=True, create=False, max_readers=_READERS)
    return _whole(env, path)


def rewrite(env: lmdb.Environment, path: Path) -> None:
    """Put a file with the same records in the place of the environment's, which is closed."""
    fresh = path / f"{DATA}.new"
    fresh.unlink(missing_ok=True)
    size: int = env.info()["map_size"]
    copy = lmdb.open(os.fspath(fresh), map_size=size, mode=0o600, subdir=False, lock=False)
    try:
        with env.begin() as old, old.cursor() as cursor, copy.begin(write=True) as new, new.cursor() as end:
            for key, record in cursor:
                end.put(key, record, append=True)
    finally:
        copy.close()
    env.close()
    fresh.replace(path / DATA)


@contextmanager
def map_lmdb_errors(path: Path) -> Iterator[None]:
    """Raise LMDB's errors inside the block as those of the store."""
    try:
        yield
    except lmdb.MapFullError:
        raise full(path) from None
    except lmdb.ReadersFullError:
        raise StateError(f"{path}: {_READERS} readers at the same time; try again") from None
    except (lmdb.InvalidError, lmdb.CorruptedError, lmdb.PageNotFoundError, lmdb.VersionMismatchError) as error:
        raise StateBrokenError(damaged(path, error.reason)) from None
    except lmdb.Error as error:
        if error.code in _NO_ROOM:
            raise StateError(f"{path}: no space left on the disk ({os.strerror(error.code)})") from None
        if error.code == errno.EIO:  # of a write that the disk took in part, LMDB says no more
            raise StateError(f"{path}: no space left on the disk, or a write to it failed ({error})") from None
        raise StateBrokenError(f"{path}: {error}") from None


def usage(env: lmdb.Environment) -> StoreUsage:
    """Return the bytes in use and in all, without pages that are free to be written over."""
    stat = env.stat()
    pages = stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"]
    return StoreUsage(pages * stat["psize"], env.info()["map_size"], stat["entries"])


def full(path: Path) -> StateError:
    """Return the message for a file that is full."""
    return StateError(f"{path}: full; raise state.max_size_mib, or shorten state.retention")


def damaged(path: Path, reason: str) -> str:
    """Return the message for a file that LMDB cannot read."""
    return f"{path / DATA}: damaged ({reason}); move {path} away to begin an empty ledger, or restore it from a copy"


class DataFile:
    """The file that LMDB has mapped, watched from outside: to touch a page of one that was cut off ends the process."""

    def __init__(self, env: lmdb.Environment, path: Path) -> None:
        self._env = env
        self._path = path
        self._file = path / DATA
        self._page: int = env.stat()["psize"]
        result = self._file.stat()
        self._identity = result.st_dev, result.st_ino
        self._length = 0
        self.lengthen()

    def lengthen(self) -> None:
        """Make the file as long as its pages are many: LMDB leaves out those at the end that were free again."""
        length = _length(self._env, self._page)
        if length == self._length:
            return  # it was made so long before, and `check` sees that it stays so
        with suppress(OSError):  # then it stays as short as LMDB made it, which harms nothing
            if self._file.stat().st_size < length:
                os.truncate(self._file, length)
            self._length = length

    def check(self) -> None:
        """See that the file is still there and whole; LMDB goes on with a removed one, and nobody finds it again.

        Raises:
            StateBrokenError: it was removed, replaced or cut off while it was in use.
        """
        length = self._length  # before the file's own: for a snapshot, the writer may lengthen it on another thread
        try:
            result = self._file.stat()
        except OSError:
            result = None
        if result is None or (result.st_dev, result.st_ino) != self._identity:
            raise StateBrokenError(
                f"{self._file}: removed or replaced while in use; the ledger goes on with what is there"
            )
        if result.st_size < length:
            raise StateBrokenError(damaged(self._path, "cut off while in use"))


def _length(env: lmdb.Environment, page: int) -> int:
    return (env.info()["last_pgno"] + 1) * page


def _whole(env: lmdb.Environment, path: Path) -> lmdb.Environment:
    """Return the environment if its file lacks no page that is used; else close it and raise StateBrokenError.

    LMDB maps the file without a look at its length: to read a page that was cut off would end the process. A file that
    is too short is rare (see `lengthen`), and only such a one is looked through.
    """
    if (path / DATA).stat().st_size < _length(env, env.stat()["psize"]):
        with env.begin():  # so that a writer does not write over what is being looked at
            problems = _problems(path)
        if problems:
            env.close()
            raise StateBrokenError(damaged(path, problems[0]))
    return env


def _problems(path: Path) -> list[str]:
    try:
        result: list[str] = verify(os.fspath(path))  # type: ignore[no-untyped-call]
    except VerifyError as error:
        return [str(error)]
    return result


LOCK_FILE = "lock"


class FolderLock:
    """Held from its making to `release`, or to the end of the process, however it ends."""

    def __init__(self, folder: Path) -> None:
        """Lock `folder`.

        Raises:
            StateLockedError: another process holds it.
            StateError: it cannot be locked at all.
        """
        path = folder / LOCK_FILE
        try:
            self._handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise StateError(f"{path}: {error.strerror}; give state.path a folder that can be written") from None
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(self._handle, 20, 0).decode("ascii", "replace").strip()
            os.close(self._handle)
            if not isinstance(error, BlockingIOError):
                raise StateError(
                    f"{path}: cannot be locked ({error.strerror}); keep the state on a local disk"
                ) from None
            raise StateLockedError(
                f"{folder}: in use by process {holder or '(unknown)'}; stop that, or set another state.path"
            ) from None
        self._name_holder()

    def release(self) -> None:
        """Let others in. The file stays: to remove it could lock out two at once."""
        os.close(self._handle)

    def _name_holder(self) -> None:
        try:
            os.ftruncate(self._handle, 0)
            os.pwrite(self._handle, f"{os.getpid()}\n".encode(), 0)
        except OSError:
            return  # a full disk: who holds it stays unwritten, and it is held all the same


class LmdbReader:
    """A `store.Reader` for as long as its transaction lives."""

    __slots__ = ("_get", "_has_earlier", "_looking", "_path", "_places", "_txn")

    def __init__(self, txn: lmdb.Transaction[bytes], path: Path, places: TracePlaces) -> None:
        self._txn = txn
        self._get = txn.get
        self._looking: lmdb.Cursor[bytes] | None = None
        self._path = path
        self._places = places
        self._has_earlier: bool | None = None
        """Whether there are traces of before they had places; None until one is asked for."""

    def get(self, key: Key) -> bytes | None:
        """Return the record of `key`, None if there is none."""
        try:
            return self._trace(key) if key[0] == TRACE else self._get(key)
        except lmdb.Error:
            with map_lmdb_errors(self._path):
                raise

    def _trace(self, key: Key) -> bytes | None:
        if self._has_earlier is None:
            self._has_earlier = self._any(bytes((TRACE,)))
            self._places.catch_up(self._txn)
        for stored in self._places.where(key):
            if (record := self._get(stored)) is not None:
                return record
        return self._get(key) if self._has_earlier else None

    def sums(self, key: Key) -> Sums:
        """See `store.Reader.sums`."""
        record = self.get(key)
        return Sums() if record is None else Sums.unpack(record)

    def scan(
        self,
        table: Table,
        tenant: bytes,
        *,
        within: bytes = b"",
        newest_first: bool = False,
        before: Key | None = None,
    ) -> Iterator[tuple[Key, bytes]]:
        """See `store.Reader.scan`."""
        prefix = bytes((table,)) + tenant + within
        if newest_first:
            return self._backwards(prefix, before)
        return self._forwards(prefix) if self._any(prefix) else iter(())

    def _forwards(self, prefix: bytes) -> Iterator[tuple[Key, bytes]]:
        with map_lmdb_errors(self._path), self._txn.cursor() as cursor:
            more = cursor.set_range(prefix)
            while more and cursor.key().startswith(prefix):
                yield cursor.item()
                more = cursor.next()

    def _any(self, prefix: bytes) -> bool:
        """Return whether a record has a key that begins so: nearly always there is none."""
        try:
            if self._looking is None:
                self._looking = self._txn.cursor()
            return self._looking.set_range(prefix) and self._looking.key().startswith(prefix)
        except lmdb.Error:
            with map_lmdb_errors(self._path):
                raise

    def _backwards(self, prefix: bytes, before: Key | None) -> Iterator[tuple[Key, bytes]]:
        with map_lmdb_errors(self._path), self._txn.cursor() as cursor:
            behind = cursor.set_range(before or prefix + b"\xff" * 17)
            more = cursor.prev() if behind else cursor.last()
            while more and cursor.key().startswith(prefix):
                yield cursor.item()
                more = cursor.prev()
