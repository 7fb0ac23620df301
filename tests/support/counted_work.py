"""How much work a thing is, counted and not timed: lines of code that run, records that are read."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from spanledger_processor.ledger.store import Key, Reader, Table
from spanledger_processor.ledger.sums import Sums


def lines_run(run: Callable[[], object]) -> int:
    """How many lines of code `run` runs; each turn of a loop or comprehension is one."""
    lines = 0

    def trace(_frame: FrameType, event: str, _arg: Any) -> Any:
        nonlocal lines
        lines += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        run()
    finally:
        sys.settrace(before)
    return lines


class CountedReads:
    """Counts the records that a reader gives; `tables` are those of single records."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self.reads = 0
        self.tables: list[Table] = []

    def get(self, key: Key) -> bytes | None:
        self.reads += 1
        self.tables.append(Table(key[0]))
        return self._reader.get(key)

    def sums(self, key: Key) -> Sums:
        self.reads += 1
        return self._reader.sums(key)

    def scan(self, table: Table, tenant: bytes, **wanted: Any) -> Iterator[tuple[Key, bytes]]:
        for row in self._reader.scan(table, tenant, **wanted):
            self.reads += 1
            yield row
