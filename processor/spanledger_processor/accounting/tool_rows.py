"""Rows of tool calls while a request is entered: each is read once, and written once at its end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from spanledger_processor.ledger.packing import pack, unpack
from spanledger_processor.ledger.store import Changes, Key


class ToolRows:
    """Rows as they are now: a session's are asked for by each of its calls, and change with it.

    Whatever counts tool calls holds them, and nothing that they hold: rings of objects would keep what a request read.
    """

    def __init__(self, read: Callable[[Key], bytes | None], changes: Changes, now_ns: int) -> None:
        self._read = read
        self._changes = changes
        self._now_ms = now_ns // 1_000_000
        self._values: dict[Key, tuple[Any, ...]] = {}
        self._changed: dict[Key, None] = {}

    def load(self, key: Key) -> Any:
        """Return the values of a row, none where there is no such row."""
        values = self._values.get(key)
        if values is None:
            record = self._read(key)
            if record is None:
                return ()
            values = self._values[key] = tuple(unpack(record)[2:])
        return values

    def save(self, key: Key, *values: object) -> None:
        """Keep the values of a row."""
        self._values[key] = values
        self._changed[key] = None

    def write(self) -> None:
        """Write the rows that changed, each once. Call once, after all tool calls."""
        for key in self._changed:
            self._changes.replace[key] = pack([1, self._now_ms, *self._values[key]])
        self._changes.expire += self._changed
