"""How often a session has made one and the same tool call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgpack

from spanledger_processor.state.store import Changes, Key, Table, key


class ToolCounts:
    """Counts calls by session and signature; a call reported twice (same call id) counts once.

    Two small records: how often a session made this very call, and which call it made last, how often in a row.
    """

    def __init__(self, tenant: bytes, read: Callable[[Key], bytes | None], changes: Changes, now_ns: int) -> None:
        self._tenant = tenant
        self._read = read
        self._changes = changes
        self._now_ms = now_ns // 1_000_000

    def count(self, session: bytes, signature: str, call_id: str) -> tuple[int, int]:
        """Enter one call of `session`: (times so far, of those in a row), this one included."""
        signed = signature.encode()
        times_key = key(Table.TOOL, self._tenant, session, signed)
        row_key = key(Table.TOOL, self._tenant, session)
        times, last_id = self._load(times_key, (0, ""))
        last, row = self._load(row_key, ("", 0))
        if call_id and call_id == last_id:
            return times, row if last == signature else 1
        row = row + 1 if last == signature else 1
        self._save(times_key, times + 1, call_id)
        self._save(row_key, signature, row)
        return times + 1, row

    def _load(self, where: Key, absent: tuple[Any, Any]) -> Any:
        record = self._read(where)
        return absent if record is None else tuple(msgpack.unpackb(record)[2:])

    def _save(self, where: Key, *values: object) -> None:
        self._changes.replace[where] = msgpack.packb([1, self._now_ms, *values])
        self._changes.expire.append(where)
