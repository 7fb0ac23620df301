"""Tool calls that sessions made again, as rows for readers: what of them is stored, and how it is read.

How often a call was made, and which were made in a row, is read from the counts of its session (`accounting.tools`),
so that a call that another session turns out to have made is in no row any more. A session's steps are its latest
calls; of those before them, a row keeps the most in a row and whether one completed a loop.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple, TypeAlias

from spanledger_processor.ledger.keys import (
    ID_HASH,
    bounded_id,
    hashed_key,
    id_bytes,
    repeat_key,
    tool_key,
    tool_times_key,
)
from spanledger_processor.ledger.packing import unpack
from spanledger_processor.ledger.pages import CursorError, Page, RowPosition, cursor_at, read_cursor
from spanledger_processor.ledger.rows import Row, time_of
from spanledger_processor.ledger.store import Reader, Table, near
from spanledger_processor.ledger.tool_cycles import SIGNATURE, Cycle, cycles_in, looped

ASKED = b"\1"
"""Before the session in the counts of calls that models asked for, of which nothing tells results."""
_WITHOUT = b"\0"
"""Before the trace, of calls that belong to no session."""
_BY_NAME = bytes(17)
"""Before the id of a session that begins like one of those: no trace has this id."""
_LEAST = 4
"""Values of an execution that each release wrote: its call id, start, end and sources."""
_NAMES = ("session", "tool", "signature", "times", "in_a_row", "loop", "last")
_EARLIER = len(_NAMES)
"""Values of a row of schema 2 to 6, in which all was kept as it was when the call came."""
_LOOKED_AT = 2000
"""Records read for a page of rows in no order."""
_COMPARED = 20_000
"""Records whose rows are sorted together: some 50 ms."""
_IN_NO_ORDER, _BY_TIMES = 5, 9
"""Kinds of cursors (`pages`)."""
_HASH = 16
"""Bytes of the hash in a key."""
_LAST_RANK = (1 << 128) - 1
_MOST_ASKED_AGAIN = 16
"""Counts kept of what messages tell of a call; of more, the largest."""

AskedTimes: TypeAlias = tuple[int, int, bool]
"""Times, times in a row, and whether a loop, as the messages that one model call was sent show."""


def place_of(session_id: str, trace_id: bytes = b"") -> bytes:
    """Return what stands for a session in the counts of tool calls; for none, their trace does."""
    if not session_id:
        return _WITHOUT + trace_id
    session = id_bytes(bounded_id(session_id))
    return session if session > ASKED + b"\xff" else _BY_NAME + session


def session_in(place: bytes) -> str:
    """Return the session that a place stands for, empty for none."""
    if place.startswith(_WITHOUT) and not place.startswith(_BY_NAME):
        return ""
    return place.removeprefix(_BY_NAME).decode("utf-8", "surrogatepass")


def digest_of(signature: str) -> bytes:
    """Return the digest of a signature, or of another text, as steps have it."""
    return blake2b(id_bytes(signature), digest_size=8).digest()


def counts_in(values: Sequence[Any]) -> tuple[int, list[list[Any]]]:
    """Return how often a call was made, and the rows of its executions, from the stored values, if there are any.

    The first release wrote no result, and no progress.
    """
    times, rows = values or (0, ())
    return times, [row if len(row) > _LEAST else [*row, b"", 0] for row in rows]


@dataclass(slots=True)
class Repeat:
    """What is kept of a call that a session made again, beside its counts.

    `place` is what stands for the session where that is not its id (`place_of`). `asked_again` counts the model calls
    by what their messages tell.
    """

    session: str
    tool: str
    signature: str
    in_a_row: int = 0
    looped: bool = False
    last_ns: int = 0
    place: bytes = b""
    asked_again: dict[AskedTimes, int] = field(default_factory=dict)

    @classmethod
    def of(cls, values: Sequence[Any]) -> Repeat | None:
        """Read the values of a record of the table of tools; None where it is another one."""
        if len(values) <= _EARLIER or not isinstance(values[0], str):
            return None
        session, tool, signature, in_a_row, looped, last_ns, place, asked, *_ = values
        counts = {(times, row, bool(loop)): number for times, row, loop, number in asked}
        return cls(session, tool, signature, in_a_row, bool(looped), last_ns, place, counts)

    def take_over(self, earlier: Sequence[Any]) -> None:
        """Keep what the row of a release before schema 7 says of the call."""
        if len(earlier) == _EARLIER:
            *_, self.in_a_row, self.looped, self.last_ns = earlier

    @property
    def values(self) -> tuple[Any, ...]:
        """Return the stored values."""
        asked = [[*one, number] for one, number in sorted(self.asked_again.items())]
        return self.session, self.tool, self.signature, self.in_a_row, self.looped, self.last_ns, self.place, asked

    def count_asked(self, asked: AskedTimes, number: int) -> None:
        """Count model calls whose messages tell this; negative: take them out again."""
        total = self.asked_again.get(asked, 0) + number
        if total > 0:
            self.asked_again[asked] = total
        else:
            self.asked_again.pop(asked, None)
        if len(self.asked_again) > _MOST_ASKED_AGAIN:
            del self.asked_again[min(self.asked_again)]


class RepeatRows:
    """Reads rows of repeated calls; those of one session come together, and its steps are read once."""

    def __init__(self, reader: Reader, tenant: bytes) -> None:
        self._reader = reader
        self._tenant = tenant
        self._session = b""
        self._runs: dict[bytes, dict[bytes, tuple[int, bool]]] = {}
        self._cycles: dict[bytes, dict[bytes, Cycle]] = {}

    def row(self, record: bytes) -> Row | None:
        """Return the row of a record of the table of tools; None where it is none, or the call was made once only.

        Its `last` is a number of nanoseconds.
        """
        values = unpack(record)[2:]
        repeat = Repeat.of(values)
        if repeat is None:
            return self._earlier(values)
        session = repeat.place or id_bytes(repeat.session)
        times = self._times(session, repeat.signature)
        in_a_row, is_loop = self._run(session, repeat.signature)
        in_a_row = max(in_a_row, repeat.in_a_row)
        if times < 2:
            asked = (0, 0, False)
            if not self._runs[session]:  # else spans of tools tell what its calls came to
                asked = (self._times(ASKED + session, repeat.signature), *self._run(ASKED + session, repeat.signature))
            times, in_a_row, is_loop = map(max, zip(asked, *repeat.asked_again, strict=True))
        if times < 2:
            return None
        counts = times, max(1, in_a_row), is_loop or repeat.looped, repeat.last_ns
        row = _row(repeat.session, repeat.tool, repeat.signature, *counts)
        return {**row, **self._cycle(session, repeat.signature)} if row["loop"] else row

    def _cycle(self, session: bytes, signature: str) -> Row:
        """Return the tools of the cycle that a call is the end of, in their order, and how often they came in turn."""
        cycles = self._cycles.get(session) or self._cycles.get(ASKED + session) or {}
        cycle = cycles.get(digest_of(signature))
        if cycle is None:
            return {}
        tools = {one: self._tool(session, one) for one in cycle.calls}
        return {"cycle": [tools[one] for one in cycle.calls], "rounds": cycle.rounds}

    def _tool(self, session: bytes, signature: bytes) -> str:
        record = self._reader.get(repeat_key(self._tenant, session, signature))
        repeat = None if record is None else Repeat.of(unpack(record)[2:])
        return repeat.tool if repeat is not None else ""

    def _earlier(self, values: list[Any]) -> Row | None:
        """Return the row of a call that was made again before schema 7, and not since."""
        return _row(*values) if len(values) == _EARLIER and isinstance(values[0], str) else None

    def _times(self, session: bytes, signature: str) -> int:
        record = self._reader.get(tool_times_key(self._tenant, session, signature))
        return 0 if record is None else int(unpack(record)[2])

    def _run(self, session: bytes, signature: str) -> tuple[int, bool]:
        if session.removeprefix(ASKED) != self._session:
            self._session, self._runs, self._cycles = session.removeprefix(ASKED), {}, {}
        runs = self._runs.get(session)
        if runs is None:
            record = self._reader.get(tool_key(self._tenant, session))
            values = [] if record is None else unpack(record)[2:]
            steps = values[4] if len(values) > 4 else []
            runs = self._runs[session] = runs_in(steps)
            self._cycles[session] = cycles_in(steps)
        return runs.get(digest_of(signature), (0, False))


def _row(*values: Any) -> Row:
    return dict(zip(_NAMES, values, strict=True))


@dataclass(frozen=True, slots=True)
class WantedRepeats:
    """A selection of repeated calls: of one session, with `loops` only those that completed one at some time, made
    again last from `since_ns` on and before `until_ns`; in no order but those of a session together, or most times
    first.
    """

    limit: int
    cursor: str | None = None
    session: str | None = None
    loops: bool = False
    since_ns: int = 0
    until_ns: int | None = None
    by_times: bool = False

    def accepts(self, row: Row) -> bool:
        """Return whether a row is one of them."""
        in_time = self.since_ns <= row["last"] and (self.until_ns is None or row["last"] < self.until_ns)
        of_session = self.session is None or bounded_id(self.session) == row["session"]
        return in_time and of_session and (row["loop"] or not self.loops)


class RepeatsPage(NamedTuple):
    """A page, and whether all rows that there are were compared to find the first."""

    page: Page
    all_compared: bool


def repeated_calls(reader: Reader, tenant: bytes, wanted: WantedRepeats) -> RepeatsPage:
    """Return a page of the tool calls that sessions made again.

    Most times first goes by slices of 20,000 records, each sorted by itself: a page ends with its slice.
    """
    kind = _BY_TIMES if wanted.by_times else _IN_NO_ORDER
    after = None if wanted.cursor is None else read_cursor(tenant, wanted.cursor)
    if after is not None and (after[0] != kind or (wanted.by_times and len(after[2]) < 2 * _HASH)):
        raise CursorError("a cursor of another list or order")
    if wanted.by_times:
        return _by_times(reader, tenant, wanted, after)
    found, end = _slice(reader, tenant, wanted, after[2] if after else b"", _LOOKED_AT, wanted.limit)
    cursor = cursor_at(tenant, (kind, 0, end)) if end else None
    return RepeatsPage(Page([_shown(row) for _, row in found], cursor), not wanted.cursor and not end)


def _by_times(reader: Reader, tenant: bytes, wanted: WantedRepeats, after: RowPosition | None) -> RepeatsPage:
    """Return a page of a slice; a position in it has the hash that the slice begins behind, and that of a row."""
    begin = after[2][:_HASH] if after is not None and any(after[2][:_HASH]) else b""
    below = None if after is None else (after[1], after[2][_HASH:])
    slice_rows, end = _slice(reader, tenant, wanted, begin, _COMPARED, _COMPARED)
    placed = sorted((((_rank(row), id_hash), row) for id_hash, row in slice_rows), key=itemgetter(0), reverse=True)
    left = [(place, row) for place, row in placed if below is None or place < below]
    shown = left[: wanted.limit]
    cursor = None
    if len(left) > len(shown):
        (rank, id_hash), _ = shown[-1]
        cursor = cursor_at(tenant, (_BY_TIMES, rank, begin.ljust(_HASH, b"\0") + id_hash))
    elif end:
        cursor = cursor_at(tenant, (_BY_TIMES, _LAST_RANK, end + b"\xff" * _HASH))
    return RepeatsPage(Page([_shown(row) for _, row in shown], cursor), not begin and not end)


def _slice(
    reader: Reader, tenant: bytes, wanted: WantedRepeats, begin: bytes, looked_at: int, most: int
) -> tuple[list[tuple[bytes, Row]], bytes]:
    """Return the wanted rows behind a key with the hashes of theirs, and where to go on; empty: nowhere."""
    repeats, found = RepeatRows(reader, tenant), list[tuple[bytes, Row]]()
    within = near(place_of(bounded_id(wanted.session))) if wanted.session else b""
    before = hashed_key(tenant, Table.TOOL, begin) if begin else None
    scanned = reader.scan(Table.TOOL, tenant, within=within, newest_first=True, before=before)
    for number, (key, record) in enumerate(scanned, 1):
        row = repeats.row(record)
        if row is not None and wanted.accepts(row):
            found.append((key[ID_HASH], row))
        if len(found) >= most or number >= looked_at:
            return found, key[ID_HASH]
    return found, b""


def _rank(row: Row) -> int:
    """Return what rows are sorted by: times, then times in a row, then the latest."""
    times, in_a_row = min(int(row["times"]), (1 << 40) - 1), min(int(row["in_a_row"]), (1 << 24) - 1)
    return (times << 88) | (in_a_row << 64) | min(max(int(row["last"]), 0), (1 << 64) - 1)


def _shown(row: Row) -> Row:
    return {**row, "last": time_of(row["last"])}


def runs_in(steps: Sequence[Sequence[Any]]) -> dict[bytes, tuple[int, bool]]:
    """Return for each call of a session's steps the most of it in a row, and whether one completes a loop."""
    runs: dict[bytes, tuple[int, bool]] = {}
    for signature, group in groupby(steps, key=itemgetter(SIGNATURE)):
        row = [*group]
        most, is_loop = runs.get(signature, (0, False))
        runs[signature] = max(most, len(row)), is_loop or any(map(looped, row))
    return runs
