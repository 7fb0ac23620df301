"""How often a session has made one and the same tool call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from spanledger_processor.accounting.count_once import together
from spanledger_processor.accounting.grouping import NOTHING
from spanledger_processor.accounting.trace import Span
from spanledger_processor.ledger.packing import pack, unpack
from spanledger_processor.ledger.store import Changes, Key, Table, key

_ROWS = 32
"""Executions remembered of one call: a second report of one arrives within seconds."""


@dataclass(frozen=True, slots=True)
class Told:
    """What a report of a tool execution amounts to: the very same call was made `times`, `in_a_row` of them lately.

    `again`: another report told of this execution before.
    """

    times: int
    in_a_row: int
    again: bool


class ToolCounts:
    """Counts calls by session and signature; an execution that is reported twice counts once.

    Two reports are of one execution where they have one call id, or where one has none, they come from two sources
    (two libraries, a span and a log event) and lie together in time, one to one. Small records: how often a session
    made this very call, which call it made last and how often in a row, and which call ids it has named.
    """

    def __init__(self, tenant: bytes, read: Callable[[Key], bytes | None], changes: Changes, now_ns: int) -> None:
        self._tenant = tenant
        self._read = read
        self._changes = changes
        self._now_ms = now_ns // 1_000_000

    def count(self, session: bytes, span: Span) -> Told:
        """Enter one report of an execution in `session`."""
        known = self._named_before(session, span)
        times_key = key(Table.TOOL, self._tenant, session, span.signature.encode())
        row_key = key(Table.TOOL, self._tenant, session)
        times, rows = self._load(times_key, (0, []))
        last, in_a_row = self._load(row_key, ("", 0))
        if _told_before(span, rows):
            self._save(times_key, times, rows)
            return Told(times, in_a_row if last == span.signature else 1, again=True)
        in_a_row = in_a_row + 1 if last == span.signature else 1
        rows = [*rows[-_ROWS + 1 :], [span.call_id, span.start_ns, span.end_ns, [[span.scope, span.logged]]]]
        self._save(times_key, times + 1, rows)
        self._save(row_key, span.signature, in_a_row)
        return Told(times + 1, in_a_row, again=known)

    def _named_before(self, session: bytes, span: Span) -> bool:
        """Whether the session has named this call id: of two reports, one may not know the arguments."""
        if not span.call_id:
            return False
        where = key(Table.TOOL, self._tenant, session, b"call", span.call_id.encode("utf-8", "surrogatepass"))
        if self._read(where) is not None:
            return True
        self._save(where)
        return False

    def _load(self, where: Key, absent: tuple[Any, Any]) -> Any:
        record = self._read(where)
        return absent if record is None else tuple(unpack(record)[2:])

    def _save(self, where: Key, *values: object) -> None:
        self._changes.replace[where] = pack([1, self._now_ms, *values])
        self._changes.expire.append(where)


def _told_before(span: Span, rows: list[list[Any]]) -> bool:
    """Whether one of the rows is this execution; it is taken for the span's source by that."""
    source = [span.scope, span.logged]
    for row in rows:
        call_id, start_ns, end_ns, sources = row
        if call_id and span.call_id:
            if call_id == span.call_id:
                return True
            continue
        if source not in sources and together(span, _told(start_ns, end_ns, sources[0])):
            sources.append(source)
            return True
    return False


def _told(start_ns: int, end_ns: int, source: list[Any]) -> Span:
    return Span(b"", start_ns=start_ns, end_ns=end_ns, scope=source[0], logged=source[1], session=NOTHING)
