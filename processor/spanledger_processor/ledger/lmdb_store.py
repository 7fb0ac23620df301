"""The store on LMDB: one environment in `<state>/ledger`, one writer, and readers that never wait."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import lmdb

from spanledger_processor.ledger import environment, forgetting, schema
from spanledger_processor.ledger.environment import FOLDER, map_lmdb_errors
from spanledger_processor.ledger.housekeeping import Housekeeping
from spanledger_processor.ledger.lock import FolderLock
from spanledger_processor.ledger.store import Reader, StateError, Unit, Usage
from spanledger_processor.ledger.view import View
from spanledger_processor.ledger.write_buffer import WriteBuffer

_NS_A_MS = 1_000_000


class LmdbStore:
    """Implements `store.Store`; made by `open`."""

    def __init__(self, env: lmdb.Environment, path: Path, buffer: WriteBuffer | None, closing: ExitStack) -> None:
        self._env = env
        self._path = path
        self._pen = buffer
        self._closing = closing

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        max_size_mib: int,
        durability: str,
        retention_ns: int,
        sessions_retention_ns: int = 0,
        read_only: bool = False,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> LmdbStore:
        """Open the ledger of the state folder `path`, and make it unless `read_only`.

        A store that only reads takes no lock and works beside the writer. `durability` is `sync` or `async` (see
        `WriteBuffer`). `retention_ns` is for what is kept of single spans, `sessions_retention_ns` for the totals of
        sessions, runs and tasks (0: they stay).

        Raises:
            StateLockedError: another process writes to it.
            StateError: it cannot be opened; the message says why, and what to do.
        """
        ledger = path / FOLDER
        with ExitStack() as closing:
            if read_only:
                env = environment.open_to_read(ledger)
                closing.callback(env.close)
                buffer = None
            else:
                environment.make_folder(path)
                closing.callback(FolderLock(path).release)
                env = environment.open_to_write(ledger, max_size_mib)
                closing.callback(env.close)
                housekeeping = Housekeeping(retention_ns // _NS_A_MS, sessions_retention_ns // _NS_A_MS)
                buffer = WriteBuffer(env, ledger, housekeeping, now_ns, holds=durability == "async")
            with map_lmdb_errors(ledger):
                schema.check(env, ledger)
            return cls(env, ledger, buffer, closing.pop_all())

    def unit(self) -> AbstractContextManager[Unit]:
        """A unit of work; a store that only reads has none."""
        return self._writing().unit()

    def snapshot(self) -> AbstractContextManager[Reader]:
        """What is stored now. Keep it short: what it sees cannot be written over."""
        return _snapshot(self._env, self._path) if self._pen is None else self._pen.snapshot()

    def maintain(self) -> bool:
        """A slice of retention, and of what is held back; whether there is more to do."""
        return self._writing().maintain()

    def names(self, tenant: bytes) -> set[str]:
        """Return every name that a tenant's ledger holds."""
        with map_lmdb_errors(self._path), self._env.begin() as txn:
            return forgetting.names_of(txn, tenant)

    def rename(
        self, tenant: bytes, renamed: forgetting.Renamed, dimensions: Callable[[str], bool] = lambda _: True
    ) -> int:
        """Give names of a tenant's ledger new ones, and return how many records changed (`forgetting`)."""
        self._writing().put_down()
        with map_lmdb_errors(self._path), self._env.begin(write=True) as txn:
            return forgetting.rename(txn, tenant, renamed, dimensions=dimensions)

    def close_rewritten(self) -> None:
        """Close it, and write its file anew: what was deleted or renamed is in no unused part of a page.

        Raises:
            StateError: there is no room for a second file; the first stays as it is.
        """
        with self._closing:
            self._writing().put_down()
            with map_lmdb_errors(self._path):
                environment.rewrite(self._env, self._path)

    def usage(self) -> Usage:
        """How full it is."""
        with map_lmdb_errors(self._path):
            return replace(environment.usage(self._env), evicted=0 if self._pen is None else self._pen.evicted)

    def close(self) -> None:
        """Write what is held back, and let others in."""
        with self._closing:
            if self._pen is not None:
                self._pen.put_down()

    def _writing(self) -> WriteBuffer:
        if self._pen is None:
            raise StateError(f"{self._path}: opened for reading only")
        return self._pen


@contextmanager
def _snapshot(env: lmdb.Environment, path: Path) -> Iterator[Reader]:
    with map_lmdb_errors(path), env.begin() as txn:
        yield View(txn, path)
