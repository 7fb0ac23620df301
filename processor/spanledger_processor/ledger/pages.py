"""List sessions and runs in pages, each of a bounded number of rows and of records that are read for them.

A page may hold fewer rows than asked for, or none, and still not be the last one: where a filter lets few rows through,
looking goes on with the next page. A cursor says where; it stays valid while sessions come and go. A session that
becomes active between two pages may be missed by the later one, and none is listed twice by its place alone.
"""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from heapq import merge
from itertools import chain, groupby, islice, takewhile
from operator import itemgetter
from typing import Any, TypeAlias

from spanledger_processor.ledger.crossings import Crossing, placed_crossings
from spanledger_processor.ledger.keys import (
    ID_HASH,
    UNATTRIBUTED,
    bounded_id,
    hashed_key,
    id_bytes,
    run_key,
    session_key,
)
from spanledger_processor.ledger.orders import Order, Position, cost_rank, ranks_of, time_at, time_rank, walk
from spanledger_processor.ledger.packing import pack, unpack
from spanledger_processor.ledger.rows import Row, row, spend, time_of
from spanledger_processor.ledger.runs import RunsAndParent, named_by, one_run, run_of_session, sessions_under
from spanledger_processor.ledger.store import Key, Reader, Table, near
from spanledger_processor.ledger.sums import Sums
from spanledger_processor.pricing import provider_name

MOST_ROWS = 1000
"""Rows of a page."""
_MOST_LOOKED_AT = 2000
"""Records read for a page."""
_MOST_RUNS_LOOKED_AT = 400
"""Runs looked at for a page by last activity: several records have to be read for each."""
_SORTED_TOGETHER = 2000
"""Totals of one rank of cost that are put in their exact order; more of them stand in the order of their ids' hashes,
and differ by 1.6 % at most.
"""
_COMPARED = 400
"""Runs in a slice, of `_MOST_LOOKED_AT` positions at most: by cost, runs are compared with those of their slice."""
_REMEMBERED, _FEW_LINKS = 1024, 32
"""Totals in memory while the runs of a page are found, and the links of so many ids that have no more than a few."""
_BY_TIME, _BY_COST, _BY_COST_RANK, _TASKS = 0, 1, 2, 4
_RUNS_BY_TIME, _RUNS_BY_COST, _WARNINGS = 6, 7, 8
"""Kinds of cursors; 3 was one of earlier versions, 5 and 9 are those of repeated tool calls."""
RowPosition: TypeAlias = tuple[int, int, bytes]
"""The position of a row in a list: the order, a rank or a cost, and the hash of its id."""


class CursorError(ValueError):
    """A cursor that none of ours is."""


@dataclass(frozen=True, slots=True)
class Page:
    """Rows, and the cursor of those behind them; None where there are none.

    `compared_ns` is the time of last activity back to which runs were compared by cost; 0: all of the list, or all
    that the slices of earlier pages left.
    """

    rows: list[Row]
    next_cursor: str | None
    compared_ns: int = 0


@dataclass(frozen=True, slots=True)
class Wanted:
    """A selection of rows of a list, and their number.

    `accept` filters, `to_row` makes them; times in ns, `until_ns` excluded. With a filter, what belongs to no session
    or run is no row of the list.
    """

    limit: int = 100
    cursor: str | None = None
    by_cost: bool = False
    since_ns: int = 0
    until_ns: int | None = None
    accept: Callable[[Sums], bool] | None = None
    to_row: Callable[[Sums], Row] = row

    @property
    def filtered(self) -> bool:
        """Return whether some rows are left out."""
        return self.accept is not None or self.since_ns > 0 or self.until_ns is not None

    def accepts(self, sums: Sums) -> bool:
        """Return whether a total is a row of the list."""
        if sums.is_empty:
            return False
        if sums.last_ns < self.since_ns or (self.until_ns is not None and sums.last_ns >= self.until_ns):
            return False
        return self.accept is None or self.accept(sums)


def sessions(reader: Reader, tenant: bytes, wanted: Wanted) -> Page:
    """Return a page of sessions, the one last active, or the dearest, first; what belongs to none is the last row."""
    page = _Filling(tenant, wanted, _MOST_LOOKED_AT)
    by_cost = wanted.by_cost
    after = page.after(_BY_COST, _BY_COST_RANK) if by_cost else page.after(_BY_TIME)
    rows = _by_cost(reader, tenant, after) if by_cost else _by_time(reader, tenant, wanted, after)
    for position, sums in rows:
        if not page.take(position, *([sums] if sums.labels.get("id") and wanted.accepts(sums) else [])):
            return page.cut()
    return page.end(reader.sums(session_key(tenant, UNATTRIBUTED)))


def runs(reader: Reader, tenant: bytes, wanted: Wanted, *, all_runs: bool) -> Page:
    """Return a page of runs by last activity of their sessions, or by cost; what belongs to none is the last row.

    Unless `all_runs`, a session that is a run of its own, and spawned none, is left out. What a run costs is known only
    when it is looked at: by cost, a slice of those last active is sorted, then the slice before it.
    """
    page = _Filling(tenant, wanted, 2 * _MOST_RUNS_LOOKED_AT)  # each run, and the end of its position
    result = _RunPositions(reader, tenant, all_runs=all_runs)
    if wanted.by_cost:
        return _runs_by_cost(page, result, wanted, lambda: one_run(reader, tenant, UNATTRIBUTED) or Sums())
    after = page.after(_RUNS_BY_TIME)
    for rank, id_hash, totals in result.totals(after and after[1:], wanted):
        for below, sums in enumerate(totals):  # several runs may stand at one place, and come on two pages
            position = (_RUNS_BY_TIME, rank, id_hash + bytes((0xFF - below,)))
            if (after is None or position < after) and not page.take(position, *filter(wanted.accepts, [sums])):
                return page.cut()
        if not page.take((_RUNS_BY_TIME, rank, id_hash + b"\0")):
            return page.cut()
    return page.end(one_run(reader, tenant, UNATTRIBUTED) or Sums())


def tasks(reader: Reader, tenant: bytes, wanted: Mapping[str, str], limit: int, cursor: str | None) -> Page:
    """Return a page of what tasks spent, by session, task, kind and model, in no order but those of a session together.

    `wanted` has the session, task id or kind that a row must have.
    """
    within = near(id_bytes(bounded_id(wanted["session"]))) if "session" in wanted else b""
    after = None if cursor is None else read_cursor(tenant, cursor)
    if after is not None and after[0] != _TASKS:
        raise CursorError("a cursor of another list or order")
    rows: list[Row] = []
    before = None if after is None else hashed_key(tenant, Table.TASK, after[2])
    scanned = reader.scan(Table.TASK, tenant, within=within, newest_first=True, before=before)
    for looked_at, (key, record) in enumerate(scanned, 1):
        sums = Sums.unpack(record)
        names = {"session": sums.labels.get("session", ""), "task": sums.labels.get("id", "")}
        names["kind"] = sums.labels.get("kind", "")
        if (sums.cost or sums.calls) and all(names[name] == bounded_id(text) for name, text in wanted.items()):
            model = {"provider": provider_name(sums.labels.get("provider", "")), "model": sums.labels.get("model", "")}
            rows.append({**names, **model, **spend(sums), "last": time_of(sums.last_ns)})
        if len(rows) >= limit or looked_at >= _MOST_LOOKED_AT:
            return Page(rows, cursor_at(tenant, (_TASKS, 0, key[ID_HASH])))
    return Page(rows, None)


def warnings(
    reader: Reader, tenant: bytes, accept: Callable[[Crossing], bool], limit: int, cursor: str | None
) -> tuple[list[Crossing], str | None]:
    """Return a page of warnings, the newest first, and the cursor of those behind it."""
    after = None if cursor is None else read_cursor(tenant, cursor)
    if after is not None and after[0] != _WARNINGS:
        raise CursorError("a cursor of another list or order")
    found: list[Crossing] = []
    placed = placed_crossings(reader, tenant, warnings=True, below=after and after[1:])
    for looked_at, (position, warning) in enumerate(placed, 1):
        if accept(warning):
            found.append(warning)
        if len(found) >= limit or looked_at >= _MOST_LOOKED_AT:
            return found, cursor_at(tenant, (_WARNINGS, *position))
    return found, None


class _Filling:
    """A page that is being filled."""

    def __init__(self, tenant: bytes, wanted: Wanted, most_looked_at: int) -> None:
        self._tenant = tenant
        self._wanted = wanted
        self._rows: list[Row] = []
        self._most_looked_at, self._looked_at = most_looked_at, 0
        self._last: RowPosition | None = None if wanted.cursor is None else read_cursor(tenant, wanted.cursor)

    def after(self, *kinds: int) -> RowPosition | None:
        """Return the place that the page before ended with.

        Raises:
            CursorError: it is of a list in another order.
        """
        if self._last is not None and self._last[0] not in kinds:
            raise CursorError("a cursor of another list or order")
        return self._last

    def take(self, position: RowPosition, *totals: Sums) -> bool:
        """Add the rows of one place; False where the page is full, and they belong to the next one."""
        full = self._rows and len(self._rows) + len(totals) > self._wanted.limit
        if full or self._looked_at >= self._most_looked_at:
            return False
        self._looked_at += 1
        self._last = position
        self._rows += map(self._wanted.to_row, totals)
        return True

    def cut(self) -> Page:
        """Return the page where more rows may follow."""
        assert self._last is not None
        return Page(self._rows, cursor_at(self._tenant, self._last))

    def end(self, unattributed: Sums) -> Page:
        """Return the page where none follow but, without a filter, what belongs to none."""
        if self._wanted.filtered or not unattributed.spans:
            return Page(self._rows, None)
        if len(self._rows) >= self._wanted.limit:
            return self.cut()
        unattributed.labels.setdefault("id", UNATTRIBUTED)
        return Page([*self._rows, row(unattributed)], None)


def _by_time(
    reader: Reader, tenant: bytes, wanted: Wanted, after: RowPosition | None
) -> Iterator[tuple[RowPosition, Sums]]:
    for position in _walk_times(reader, tenant, Table.SESSION, Order.LAST, wanted, after and after[1:]):
        yield (_BY_TIME, *position), reader.sums(hashed_key(tenant, Table.SESSION, position[1]))


def _walk_times(
    reader: Reader, tenant: bytes, table: Table, order: Order, wanted: Wanted, after: Position | None
) -> Iterator[Position]:
    newest = None if wanted.until_ns is None else (time_rank(wanted.until_ns) + 1, b"")
    below = min((bound for bound in (newest, after) if bound is not None), default=None)
    oldest = time_rank(wanted.since_ns)
    for position in walk(reader, tenant, table, order, below):
        if position[0] < oldest:
            return
        yield position


def _by_cost(reader: Reader, tenant: bytes, after: RowPosition | None) -> Iterator[tuple[RowPosition, Sums]]:
    """Yield sessions by cost, the dearest first: a rank at a time, and those of a rank in their exact order."""
    below = None
    if after is not None and after[0] == _BY_COST_RANK:
        rest = walk(reader, tenant, Table.SESSION, Order.COST, after[1:])
        yield from _as_ranked(reader, tenant, takewhile(lambda position: position[0] == after[1], rest))
        below = (after[1], b"")
    elif after is not None:
        below = (cost_rank(after[1]) + 1, b"")
    for rank, ranked in groupby(walk(reader, tenant, Table.SESSION, Order.COST, below), key=itemgetter(0)):
        positions = iter(ranked)
        first = list(islice(positions, _SORTED_TOGETHER + 1)) if rank else []
        if 0 < len(first) <= _SORTED_TOGETHER:
            yield from _in_exact_order(reader, tenant, first, after)
        else:
            yield from _as_ranked(reader, tenant, chain(first, positions))


def _as_ranked(reader: Reader, tenant: bytes, positions: Iterable[Position]) -> Iterator[tuple[RowPosition, Sums]]:
    for position in positions:
        yield (_BY_COST_RANK, *position), reader.sums(hashed_key(tenant, Table.SESSION, position[1]))


def _in_exact_order(
    reader: Reader, tenant: bytes, positions: list[Position], after: RowPosition | None
) -> Iterator[tuple[RowPosition, Sums]]:
    group: list[tuple[RowPosition, Sums]] = []
    for position in positions:
        sums = reader.sums(hashed_key(tenant, Table.SESSION, position[1]))
        group.append(((_BY_COST, sums.cost, position[1]), sums))
    group.sort(key=itemgetter(0), reverse=True)
    return (item for item in group if after is None or after[0] != _BY_COST or item[0] < after)


def _runs_by_cost(page: _Filling, positions: _RunPositions, wanted: Wanted, unattributed: Callable[[], Sums]) -> Page:
    """Fill a page from one slice of runs, the dearest first."""
    after = page.after(_RUNS_BY_COST)
    compared = _Slice() if after is None else _Slice.of_cursor(after[2])
    for cost, id_hash, sums in sorted(compared.runs(positions, wanted), key=itemgetter(0, 1), reverse=True):
        listed = after is not None and (cost, id_hash) >= (after[1], after[2][:_HASH_BYTES])
        if not listed and not page.take((_RUNS_BY_COST, cost, id_hash + compared.as_bytes()), sums):
            return replace(page.cut(), compared_ns=compared.since_ns)
    if compared.is_last:
        return page.end(unattributed())
    page.take((_RUNS_BY_COST, _ABOVE_ALL, b"\xff" * _HASH_BYTES + compared.before().as_bytes()))
    return replace(page.cut(), compared_ns=compared.since_ns)


_HASH_BYTES = 16
_RANK_BYTES = 8
_ABOVE_ALL = (1 << 128) - 1
"""Of a cursor: more than anything costs."""
_LATEST: Position = ((1 << 8 * _RANK_BYTES) - 1, b"\xff" * _HASH_BYTES)
_EARLIEST: Position = (0, bytes(_HASH_BYTES))


@dataclass(slots=True)
class _Slice:
    """Positions of runs below `top` and from `bottom` up; where `bottom` is None, as many as are compared at once."""

    top: Position = _LATEST
    bottom: Position | None = None

    @classmethod
    def of_cursor(cls, packed: bytes) -> _Slice:
        """Return the slice of a cursor of runs by cost.

        Raises:
            CursorError: it has none.
        """
        size = _RANK_BYTES + _HASH_BYTES
        bounds = [packed[at : at + size] for at in range(_HASH_BYTES, len(packed), size)]
        if not 1 <= len(bounds) <= 2 or len(bounds[-1]) != size:
            raise CursorError("not a cursor that an answer gave")
        return cls(*((int.from_bytes(bound[:_RANK_BYTES], "big"), bound[_RANK_BYTES:]) for bound in bounds))

    def as_bytes(self) -> bytes:
        bounds = (self.top,) if self.bottom is None else (self.top, self.bottom)
        return b"".join(rank.to_bytes(_RANK_BYTES, "big") + id_hash for rank, id_hash in bounds)

    def runs(self, positions: _RunPositions, wanted: Wanted) -> Iterator[tuple[int, bytes, Sums]]:
        """Yield the cost, the hash of the id, and the total of each run; at the end both bounds are known.

        They stay for later pages, so that no run comes again because others became active. Should very many have come
        between the bounds since, the slice ends earlier.
        """
        top, bottom, before = self.top, self.bottom, None
        times = 1 if bottom is None else 2
        compared = 0
        self.bottom = _EARLIEST
        for looked_at, (rank, id_hash, totals) in enumerate(positions.totals(top, wanted)):
            if before is None and top == _LATEST:
                self.top = (rank + 1, bytes(_HASH_BYTES))
            full = compared >= times * _COMPARED or looked_at >= times * _MOST_LOOKED_AT
            if full or (bottom is not None and (rank, id_hash) < bottom):
                self.bottom = before or bottom
                return
            before = (rank, id_hash)
            compared += len(totals)
            for sums in filter(wanted.accepts, totals):
                yield sums.cost, run_key(b"", sums.labels.get("id", ""))[1:], sums

    @property
    def is_last(self) -> bool:
        """Return whether there is nothing below it."""
        return self.bottom == _EARLIEST

    def before(self) -> _Slice:
        """Return the slice of what was active before this one."""
        return _Slice(self.bottom or _EARLIEST)

    @property
    def since_ns(self) -> int:
        """Return the time back to which all runs below the top are within; 0: there are no earlier ones."""
        return 0 if self.bottom is None or self.is_last else time_at(self.bottom[0] + 1)


class _Remembering:
    """A view that reads a total, or the links of one id, once, while few others are read between: those of a run's
    sessions are asked for many times.

    The totals stay its own.
    """

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self.get = reader.get
        self.sums = lru_cache(maxsize=_REMEMBERED)(reader.sums)
        self._few_links = lru_cache(maxsize=_REMEMBERED)(self._read_links)

    def scan(self, table: Table, tenant: bytes, *, within: bytes = b"", **order: Any) -> Iterator[tuple[Key, bytes]]:
        if table != Table.LINK or order:
            return self._reader.scan(table, tenant, within=within, **order)
        few = self._few_links(tenant, within)
        return self._reader.scan(table, tenant, within=within) if few is None else iter(few)

    def _read_links(self, tenant: bytes, within: bytes) -> list[tuple[Key, bytes]] | None:
        """Return links, None where they are many: a session may have spawned any number."""
        links = [*islice(self._reader.scan(Table.LINK, tenant, within=within), _FEW_LINKS + 1)]
        return links if len(links) <= _FEW_LINKS else None


class _RunPositions:
    """The order of runs: each at the position of the part of it that was active last."""

    def __init__(self, reader: Reader, tenant: bytes, *, all_runs: bool) -> None:
        self._reader = _Remembering(reader)
        self._tenant = tenant
        self._all = all_runs
        self._positions: dict[str, Position | None] = {}

    def totals(self, after: Position | None, wanted: Wanted) -> Iterator[tuple[int, bytes, list[Sums]]]:
        """Yield positions, the latest first, with the totals of the runs at each, five at most."""
        for position, run_ids in self._walk(after, wanted):
            here = [run_id for run_id in run_ids if run_id and self._position_of(run_id) == position]
            result = (one_run(self._reader, self._tenant, run_id) for run_id in here)
            yield *position, [sums for sums in result if sums is not None]

    def _walk(self, after: Position | None, wanted: Wanted) -> Iterator[tuple[Position, list[str]]]:
        """Yield positions of parts, with the runs that the part may belong to."""
        order = Order.LAST if self._all else Order.GROUPED
        sessions = _walk_times(self._reader, self._tenant, Table.SESSION, order, wanted, after)
        runs = _walk_times(self._reader, self._tenant, Table.RUN, Order.LAST, wanted, after)
        for position, parts in groupby(
            merge(
                ((position, Table.SESSION) for position in sessions),
                ((position, Table.RUN) for position in runs),
                reverse=True,
            ),
            key=itemgetter(0),
        ):
            run_ids: dict[str, None] = {}
            for _, table in parts:
                run_ids |= dict.fromkeys(
                    self._runs_of(self._session_at(position)) if table == Table.SESSION else [self._run_at(position)]
                )
            yield position, list(run_ids)

    def _runs_of(self, session: Sums) -> list[str]:
        """Return the runs that the parts of a session belong to, that of its own part first."""
        decided, _ = run_of_session(session.labels.get("id", ""), self._names)
        return [decided, *sorted(session.runs)]

    def _run_at(self, position: Position) -> str:
        return self._reader.sums(hashed_key(self._tenant, Table.RUN, position[1])).labels.get("id", "")

    def _session_at(self, position: Position) -> Sums:
        return self._reader.sums(hashed_key(self._tenant, Table.SESSION, position[1]))

    def _position_of(self, run_id: str) -> Position | None:
        """Return the latest position of what belongs to a run."""
        if run_id not in self._positions:
            positions = list(self._positions_in(run_id))
            self._positions[run_id] = max(positions, default=None)
        return self._positions[run_id]

    def _positions_in(self, run_id: str) -> Iterator[Position]:
        key = run_key(self._tenant, run_id)
        if self._reader.get(key) is not None:
            yield ranks_of(self._reader.sums(key)).last, key[ID_HASH]
        for session_id in sessions_under(self._reader, self._tenant, run_id, most=None) or ():
            key = session_key(self._tenant, session_id)
            session = self._reader.sums(key)
            ranks = ranks_of(session)
            if session.labels.get("id") and (ranks.is_grouped or self._all) and run_id in self._runs_of(session):
                yield ranks.last, key[ID_HASH]

    def _names(self, session_id: str) -> RunsAndParent:
        return named_by(self._reader.sums(session_key(self._tenant, session_id)))


def cursor_at(tenant: bytes, position: RowPosition) -> str:
    """Return the cursor of what stands behind a position of a list."""
    kind, rank, id_hash = position
    return urlsafe_b64encode(pack([kind, str(rank), id_hash, tenant])).decode().rstrip("=")


def read_cursor(tenant: bytes, text: str) -> RowPosition:
    """Return the position that a cursor stands for.

    Raises:
        CursorError: none of ours is like it.
    """
    try:
        kind, rank, id_hash, given_for = unpack(urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        position = (int(kind), int(rank), bytes(memoryview(id_hash)))  # of a number there would be as many bytes
    except (ValueError, TypeError, OverflowError) as error:
        raise CursorError("not a cursor that an answer gave") from error
    if not 0 <= position[1] < 1 << 128:
        raise CursorError("not a cursor that an answer gave")
    if given_for != tenant:
        raise CursorError("a cursor of another tenant")
    return position
