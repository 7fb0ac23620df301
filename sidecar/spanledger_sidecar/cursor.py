"""The sidecar's state in LMDB: how far each file was read, and the queue of spans.

One write transaction holds both the spans of a change and the state after it, so that a process that is killed anywhere
neither loses nor doubles them. Spans stay in the queue until the endpoint has acknowledged them. One that was sent and
not acknowledged is sent again unchanged, with the same ids.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, TypeAlias

import lmdb

from spanledger_sidecar.records import pack, unpack
from spanledger_sidecar.spans import Span

FOLDER = "sidecar"
_MAP_BYTES = 4 * 2**30
_TABLES = {"meta": "meta", "state": "state", "counted": "claims", "queue": "queue", "apart": "apart"}
"""The tables, and their names on disk."""

Batch: TypeAlias = list[tuple[bytes, Span]]


class CursorError(Exception):
    """The cursor cannot be used; the message names its place and a remedy."""


class Cursor:
    """The sidecar's state. Opened once a process; `write` may be used by one thread at a time, the others wait."""

    def __init__(self, state: Path) -> None:
        self.path = state / FOLDER
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = _locked(self.path / "lock")
            self._env = lmdb.open(str(self.path), map_size=_MAP_BYTES, max_dbs=len(_TABLES), mode=0o600)
        except (OSError, lmdb.Error) as error:
            raise CursorError(f"{self.path}: {error}") from None
        self._tables = {name: self._env.open_db(stored.encode()) for name, stored in _TABLES.items()}

    def __enter__(self) -> Cursor:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._env.close()
        os.close(self._lock)

    @contextmanager
    def write(self) -> Iterator[Change]:
        """Open a write transaction: all of it is committed, or none."""
        with self._env.begin(write=True) as transaction:
            yield Change(transaction, self._tables)

    def meta(self, key: str) -> Any:
        """Return a value about the whole cursor, None if there is none."""
        with self._env.begin() as transaction:
            packed = transaction.get(key.encode(), db=self._tables["meta"])
        return None if packed is None else unpack(packed)

    def states(self, source: str) -> Iterator[tuple[str, bytes]]:
        """Yield what is remembered of each of a source's sessions."""
        with self._env.begin() as transaction:
            yield from _states(transaction.cursor(self._tables["state"]), source)

    def waiting(self) -> int:
        """Return how many spans wait for the endpoint."""
        with self._env.begin() as transaction:
            entries: int = transaction.stat(self._tables["queue"])["entries"]
        return entries

    def oldest(self, limit: int) -> Batch:
        """Return the spans that have waited longest."""
        batch: Batch = []
        with self._env.begin() as transaction:
            for key, packed in transaction.cursor(self._tables["queue"]):
                batch.append((bytes(key), Span.unpack(packed)))
                if len(batch) == limit:
                    break
        return batch

    def apart(self) -> int:
        """Return how many spans were refused for good and are kept apart."""
        with self._env.begin() as transaction:
            entries: int = transaction.stat(self._tables["apart"])["entries"]
        return entries

    def set_apart(self, batch: Batch) -> None:
        """Move spans out of the queue that the endpoint refuses for good."""
        with self._env.begin(write=True) as transaction:
            for key, span in batch:
                transaction.delete(key, db=self._tables["queue"])
                transaction.put(key, span.pack(), db=self._tables["apart"])

    def offer_again(self) -> int:
        """Queue the spans that were refused before again, ahead of all others; return how many they are."""
        with self._env.begin(write=True) as transaction:
            rows = [(bytes(key), bytes(span)) for key, span in transaction.cursor(self._tables["apart"])]
            for key, span in rows:
                transaction.put(key, span, db=self._tables["queue"])
                transaction.delete(key, db=self._tables["apart"])
        return len(rows)

    def acknowledged(self, batch: Batch) -> None:
        """Remove spans that the endpoint has."""
        with self._env.begin(write=True) as transaction:
            for key, _ in batch:
                transaction.delete(key, db=self._tables["queue"])


class Change:
    """An open write transaction."""

    def __init__(self, transaction: Any, tables: dict[str, Any]) -> None:
        self._transaction = transaction
        self._tables = tables

    def state(self, source: str, session: str) -> bytes | None:
        """Return what is remembered of a session."""
        record: bytes | None = self._transaction.get(_session_key(source, session), db=self._tables["state"])
        return record

    def states(self, source: str) -> Iterator[tuple[str, bytes]]:
        """Return what is remembered of each of a source's sessions."""
        return _states(self._transaction.cursor(self._tables["state"]), source)

    def remember(self, source: str, session: str, record: bytes) -> None:
        self._transaction.put(_session_key(source, session), record, db=self._tables["state"])

    def counted(self, key: bytes) -> tuple[str, Any] | None:
        """Return the session that counted the request of `key`, and its note; None if none did."""
        stored = self._transaction.get(key, db=self._tables["counted"])
        if stored is None:
            return None
        session, _, note = bytes(stored).partition(b"\0")  # no name of a folder has a NUL
        return session.decode("utf-8", "surrogateescape"), unpack(note) if note else None

    def count(self, key: bytes, session: str, note: Any = None) -> None:
        """Store that `session` counted the request of `key`."""
        stored = session.encode("utf-8", "surrogateescape")
        if note is not None:
            stored += b"\0" + pack(note)
        self._transaction.put(key, stored, db=self._tables["counted"])

    def set_meta(self, key: str, value: Any) -> None:
        self._transaction.put(key.encode(), pack(value), db=self._tables["meta"])

    def forget_meta(self, key: str) -> None:
        self._transaction.delete(key.encode(), db=self._tables["meta"])

    def enqueue(self, spans: list[bytes]) -> None:
        """Append spans, in their stored form, to the queue."""
        if not spans:
            return
        queue = self._transaction.cursor(self._tables["queue"])
        number = int.from_bytes(queue.key()) if queue.last() else 0
        for position, span in enumerate(spans, number + 1):
            self._transaction.put(position.to_bytes(8), span, db=self._tables["queue"], append=True)


def _states(rows: Any, source: str) -> Iterator[tuple[str, bytes]]:
    prefix = f"{source}:".encode()
    has_row = rows.set_range(prefix)
    while has_row and rows.key().startswith(prefix):
        yield rows.key()[len(prefix) :].decode("utf-8", "surrogateescape"), rows.value()
        has_row = rows.next()


def _session_key(source: str, session: str) -> bytes:
    return f"{source}:{session}".encode("utf-8", "surrogateescape")[:500]


def _locked(path: Path) -> int:
    """Lock the folder: two sidecars would send everything twice."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        raise CursorError(f"{path.parent}: another sidecar uses it; stop that one or name another --state") from None
    return handle
