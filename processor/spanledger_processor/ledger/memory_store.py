"""A store that ends with its maker: to explain a file without a ledger, and for tests. Nothing in it expires."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from spanledger_processor.ledger.layer import Layer
from spanledger_processor.ledger.store import Key, Reader, Unit, Usage


class MemoryStore:
    """Honours `store.Store`."""

    def __init__(self) -> None:
        self._layer = Layer(_Nothing())

    @contextmanager
    def unit(self) -> Iterator[Unit]:
        """A unit of work: it lands when its block ends, and leaves nothing where that raises."""
        with self._layer.part() as part:
            yield part

    @contextmanager
    def snapshot(self) -> Iterator[Reader]:
        """A view of what has landed."""
        yield self._layer

    def tend(self) -> bool:
        """Nothing is ever due."""
        return False

    def usage(self) -> Usage:
        """How much is stored; nothing bounds it."""
        records = self._layer.records
        return Usage(sum(len(key) + len(record) for key, record in records.items()), 0, len(records))

    def close(self) -> None:
        """Nothing is kept."""


class _Nothing:
    def get(self, _: Key) -> bytes | None:
        return None

    def scan(self, *_: object, **__: object) -> Iterator[tuple[Key, bytes]]:
        return iter(())
