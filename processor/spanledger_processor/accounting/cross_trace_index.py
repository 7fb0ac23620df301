"""Calls counted in one trace, found again from another: by a response or call id, else by equal usage.

Two libraries around one call often write into two traces, and a log event has a trace of its own or none.
In memory stands which request counted a call of an id, or of a usage and time, so that to look for a call that nobody
else reported reads nothing. A request leaves one row that says in which traces its calls are, by arrival; what a call
is stands in its trace's record alone. What it is remembered under, `call_hashes` says.

No index of a session's spans is stored. They stand in the records of their traces, and the rows of this index say which
traces gained spans by a request, so `spans_of_session` looks for them from the session's latest arrival back to its
first activity.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice, repeat
from struct import iter_unpack
from typing import TypeAlias, TypeVar

from spanledger_processor.accounting.call_hashes import HASH_BYTES, CallHashes, Hashes, HashesOfCalls
from spanledger_processor.accounting.one_call import source_of
from spanledger_processor.accounting.trace import COUNTED, Span
from spanledger_processor.accounting.trace_record import SpanRow, span_in, unpack_head, unpack_segment
from spanledger_processor.ledger.keys import EVERY_TENANT, bounded_id, id_bytes, index_key, trace_key
from spanledger_processor.ledger.packing import pack, unpack
from spanledger_processor.ledger.store import Changes, Key, Reader, Table
from spanledger_processor.ledger.sums import Sums

_ROWS = 16
"""Requests remembered under one id, or one usage and time, and calls of one request: the latest."""
_MOST_ENTRIES = 1 << 20
"""Ids and usages in memory: about 80 MB. The oldest go first."""
_MOST_SOURCES = 64
"""Distinguished in memory; the others are when they are read."""
_CALLS_KEPT = 1 << 14
"""Calls of rows that are kept as they were read: some 10 MB."""
MOST_COMPARED = 64
"""Counted calls that one is compared with: the latest."""
MOST_READ = 1 << 16
"""Calls of other requests that are read for those of one request: a tenth of a second."""
_MOST_ROWS_LOOKED_AT = 1 << 14
"""Requests whose traces are told when a process starts: a tenth of a second, three tenths where each has 50 calls."""
_TRACE_IDS = slice(2, None, 4)
"""Where they stand in what a row has of the calls of a source."""
_NUMBERS = tuple(bytes((number,)) for number in range(256))

T = TypeVar("T")
Entry: TypeAlias = tuple[bytes, bytes]
"""The trace and the span of a counted call."""
_Rows: TypeAlias = tuple[Key, ...]
_ReportRows: TypeAlias = tuple[tuple[str, Key], ...]
"""Requests with the source that reported a call."""


@dataclass(slots=True)
class _Generation:
    ids: dict[int, _Rows] = field(default_factory=dict)
    usages: dict[int, _ReportRows] = field(default_factory=dict)
    sources: set[str] = field(default_factory=set)
    """Those of `usages`."""
    entries: int = 0


class CallFilter:
    """Which requests counted a call of an id, or of a usage and time. Bounded: the older half goes when it is full.

    What it says may be wrong (a request whose commit failed, a hash that two ids share), and is looked up.
    """

    def __init__(self, most_entries: int = _MOST_ENTRIES) -> None:
        self._half = most_entries // 2
        self._older, self._newer = _Generation(), _Generation()
        self._latest: _ReportRows = (("", b""),)
        """What was added last, for the next call of the same request and source."""
        self._read: OrderedDict[Key, dict[int, list[Entry]]] = OrderedDict()
        """Rows that were read last."""
        self._calls_kept = 0

    @classmethod
    def of(cls, reader: Reader, most_entries: int = _MOST_ENTRIES) -> CallFilter:
        """Build the filter from the rows that are stored, as far back as it reaches."""
        known, rows = cls(most_entries), list[tuple[Key, bytes]]()
        entries = 0
        for key, record in reader.scan(Table.INDEX, EVERY_TENANT, newest_first=True):
            rows.append((key, record))
            entries += len(record) // 32
            if entries > known._half:
                break
        for key, record in reversed(rows):
            row = (key,)
            for source, ids, hashes, _ in _calls_in(record):
                known.add(row, source, hashes[:ids], hashes[ids:])
        return known

    @property
    def entries(self) -> int:
        """Return how many ids and usages are remembered."""
        return self._older.entries + self._newer.entries

    def tables(self) -> list[tuple[dict[int, _Rows], dict[int, _ReportRows]]]:
        """Return all that is remembered, the older half first."""
        return [(generation.ids, generation.usages) for generation in (self._older, self._newer)]

    def add(self, row: tuple[Key], source: str, ids: Sequence[int], usages: Sequence[int]) -> None:
        """Remember calls that the request of `row` counted; one object a request, for many calls have it."""
        newer = self._newer
        if source not in newer.sources:
            source = source if len(newer.sources) < _MOST_SOURCES else ""
            newer.sources.add(source)
        reports = self._latest
        if reports[0] != (source, row[0]):
            reports = self._latest = ((source, row[0]),)
        _put(newer.ids, ids, row, _add)
        _put(newer.usages, usages, reports, _add_report)
        newer.entries += len(ids) + len(usages)
        if newer.entries > self._half:
            self._older, self._newer = newer, _Generation()

    def rows(self, hashes: Hashes, source: str) -> Iterator[tuple[Key, int]]:
        """Yield the requests that may have counted the call, with what they know it by: those of a common id first."""
        for generation in (self._older, self._newer):
            for hash_ in hashes.ids:
                if (rows := generation.ids.get(hash_)) is not None:
                    yield from ((row, hash_) for row in rows)
        for generation in (self._older, self._newer):
            for usage in (*hashes.usages, *hashes.beside):
                if (reports := generation.usages.get(usage)) is not None:
                    yield from ((row, usage) for other, row in reports if other != source)

    def row(self, key: Key, reader: Reader) -> dict[int, list[Entry]]:
        """Return the calls of a stored row by what they are remembered under."""
        entries = self._read.get(key)
        if entries is not None:
            self._read.move_to_end(key)
            return entries
        entries, record = {}, reader.get(key)
        for _, _, of_call, entry in _calls_in(record) if record is not None else ():
            for hash_ in of_call:
                _append(entries, hash_, entry)
        if entries:
            self._read[key] = entries
            self._calls_kept += len(entries)
        while self._calls_kept > _CALLS_KEPT and len(self._read) > 1:
            self._calls_kept -= len(self._read.popitem(last=False)[1])
        return entries

    def may_know(self, ids: Iterable[int], usages: Sequence[int], source: str) -> bool:
        """Return whether `rows` finds any for calls of these ids and usages."""
        generations = self._older, self._newer
        if not all(known.ids.keys().isdisjoint(ids) for known in generations):
            return True
        return any(
            other != source
            for known in generations
            for usage in known.usages.keys() & usages
            for other, _ in known.usages[usage]
        )


def _put(table: dict[int, T], hashes: Sequence[int], row: T, add: Callable[[dict[int, T], int, T], None]) -> None:
    """Put a row under hashes; `add` puts it beside what stands under one already."""
    known = () if table.keys().isdisjoint(hashes) else table.keys() & hashes
    for hash_ in known:
        add(table, hash_, row)
    table.update(dict.fromkeys([hash_ for hash_ in hashes if hash_ not in known] if known else hashes, row))


def _add(table: dict[int, _Rows], hash_: int, row: _Rows) -> None:
    rows = table[hash_]
    if row[0] not in rows:
        table[hash_] = (*rows[-_ROWS + 1 :], *row)


def _add_report(table: dict[int, _ReportRows], hash_: int, row: _ReportRows) -> None:
    reports = table[hash_]
    if row[0] in reports:
        return
    source = row[0][0]
    of_source = [one for one in reports if one[0] == source]
    if len(of_source) >= _ROWS:
        reports = tuple([one for one in reports if one is not of_source[0]])
    table[hash_] = (*reports, *row)


class CrossTraceIndex:
    """Finds and remembers counted calls of a tenant while one request is entered; `calls` outlives it."""

    def __init__(
        self, tenant: bytes, reader: Reader, changes: Changes, now_ns: int, request: bytes, calls: CallFilter
    ) -> None:
        self._hashes = CallHashes(tenant)
        self._reader = reader
        self._changes = changes
        self._now_ms = now_ns // 1_000_000
        self._row = (index_key(self._now_ms, request),)
        self._calls = calls
        self._mine: dict[int, list[Entry]] = {}
        self._latest: list[tuple[Sequence[bytes], Sequence[bytes], Sequence[bytes]]] = []
        """What was remembered since `_mine` was last asked for, nearly always all of it: hashes of calls, and the ids
        of their traces and spans.
        """
        self._added: dict[str, list[bytes]] = {}
        self._traces: set[bytes] = set()
        self._read: dict[Key, dict[int, list[Entry]]] = {}
        """Rows that were read for this request."""
        self._calls_read = 0
        self._hashed: dict[int, Hashes] = {}
        """By `id` of the span."""

    def hash_once(self, spans: Sequence[Span]) -> None:
        """Work out what new spans of a request, whose claims do not change any more, are remembered under."""
        self._hashed = dict(zip(map(id, spans), map(self._hashes.of, spans), strict=True))

    def hashes(self, span: Span) -> Hashes:
        """Return what `span` is remembered under, and looked for."""
        return self._hashed.get(id(span)) or self._hashes.of(span)

    def candidates(self, hashes: Hashes, span: Span) -> tuple[list[Entry], bool]:
        """Return counted calls that `span` may report too, those of a common id first, and whether these are all.

        Of more than `MOST_COMPARED` they are the latest; of a request for which `MOST_READ` calls were read, those that
        are known without reading more.
        """
        rows = set(self._calls.rows(hashes, source_of(span)))
        if not rows:
            return [], True  # nearly always
        by_id: dict[Entry, None] = {}
        by_usage: dict[Entry, None] = {}
        complete = True
        for row, hash_ in sorted(rows, key=lambda known: (known[1] in hashes.ids, known), reverse=True):
            known = self._entries(row)
            if known is None or len(by_id) + len(by_usage) >= MOST_COMPARED:
                complete = False
                continue
            latest = [entry for entry in reversed(known.get(hash_, ())) if entry not in by_id]
            (by_id if hash_ in hashes.ids else by_usage).update(dict.fromkeys(latest))
        of_id, of_usage = list(by_id)[:MOST_COMPARED], list(by_usage)[: max(0, MOST_COMPARED - len(by_id))]
        complete = complete and len(of_id) + len(of_usage) == len(by_id) + len(by_usage)
        return [*reversed(of_id), *reversed(of_usage)], complete

    def remember(self, hashes: Hashes, trace_id: bytes, span: Span) -> None:
        """Keep a call that is counted, for spans of other traces to find."""
        if hashes.ids or hashes.usages:
            of_ids, calls = (len(hashes.ids),), HashesOfCalls.of([hashes])
            self._remember(calls, of_ids, source_of(span), (trace_id,), (span.span_id,))

    def remember_unknown(
        self, hashes: HashesOfCalls, source: str, trace_ids: Sequence[bytes], span_ids: Sequence[bytes]
    ) -> bool:
        """Keep calls that are counted, each with one id, if `candidates` would find nothing for any of them.

        Returns whether that is so; a source reports all of them.
        """
        is_known = self._calls.may_know(hashes.ids, (*hashes.usages, *hashes.beside), source)
        if is_known or len(set(hashes.ids)) < len(hashes.ids):
            return False
        self._remember(hashes, repeat(1), source, trace_ids, span_ids)
        return True

    def remember_unknown_spans(self, trace_id: bytes, spans: Iterable[Span]) -> bool:
        """Keep counted calls of a trace, of any sources, if spans of no other trace may report any of them.

        Returns whether that is so. Those of one trace may share an id or a usage: which of them count is known.
        """
        by_source: dict[str, tuple[list[Hashes], list[bytes]]] = {}
        for span in spans:
            hashes = self.hashes(span)
            if hashes.ids or hashes.usages:
                calls, span_ids = by_source.setdefault(source_of(span), ([], []))
                calls.append(hashes)
                span_ids.append(span.span_id)
        together = {source: HashesOfCalls.of(calls) for source, (calls, _) in by_source.items()}
        for source, of_source in together.items():
            if self._calls.may_know(of_source.ids, (*of_source.usages, *of_source.beside), source):
                return False
        for source, of_source in together.items():
            calls, span_ids = by_source[source]
            of_ids = [len(call.ids) for call in calls]
            self._remember(of_source, of_ids, source, [trace_id] * len(span_ids), span_ids)
        return True

    def _remember(
        self,
        calls: HashesOfCalls,
        of_ids: Iterable[int],
        source: str,
        trace_ids: Sequence[bytes],
        span_ids: Sequence[bytes],
    ) -> None:
        """Keep calls, of which each has so many hashes `of_ids`."""
        self._traces.update(trace_ids)
        self._calls.add(self._row, source, calls.ids, (*calls.usages, *calls.uncached))
        self._latest.append((calls.remembered, trace_ids, span_ids))
        rows = zip(map(_NUMBERS.__getitem__, of_ids), calls.remembered, trace_ids, span_ids, strict=False)
        self._added.setdefault(source, []).extend(chain.from_iterable(rows))

    def remember_trace(self, trace_id: bytes) -> None:
        """Keep that a trace gained spans: one without calls is found by when they came (`spans_of_session`)."""
        if trace_id not in self._traces:
            self._traces.add(trace_id)
            self._added.setdefault("", []).extend((b"\0", b"", trace_id, b""))

    def save(self) -> None:
        """Write what was remembered. Call once, after all spans."""
        if self._added:
            self._changes.replace[self._row[0]] = pack([1, self._now_ms, self._added])

    def _entries(self, row: Key) -> Mapping[int, list[Entry]] | None:
        """Return the calls of a request by what they are remembered under; None where no more may be read."""
        if row == self._row[0]:
            for remembered in self._latest:
                for hashes, trace_id, span_id in zip(*remembered, strict=True):
                    for (hash_,) in iter_unpack(">Q", hashes):
                        _append(self._mine, hash_, (trace_id, span_id))
            self._latest.clear()
            return self._mine
        entries = self._read.get(row)
        if entries is None:
            if self._calls_read >= MOST_READ:
                return None
            entries = self._read[row] = self._calls.row(row, self._reader)
            self._calls_read += 1 + sum(map(len, entries.values()))
        return entries


def _append(entries: dict[int, list[Entry]], hash_: int, entry: Entry) -> None:
    of_hash = entries.get(hash_)
    if of_hash is None:
        entries[hash_] = [entry]
        return
    del of_hash[: -_ROWS + 1]
    of_hash.append(entry)


def recent_traces(reader: Reader, most: int) -> list[bytes]:
    """Return the traces of the calls that were counted last, of all tenants: `most` of them, the last one last.

    They are looked for in the latest requests: many of these may be of few traces.
    """
    traces: dict[bytes, None] = {}
    rows = reader.scan(Table.INDEX, EVERY_TENANT, newest_first=True)
    for _, record in islice(rows, _MOST_ROWS_LOOKED_AT):
        traces.update(dict.fromkeys(traces_in(record)))
        if len(traces) >= most:
            break
    return [*traces][:most][::-1]


def traces_in(record: bytes) -> list[bytes]:
    """Return the traces of the calls of a stored row, each once, the last one first."""
    traces = [trace_id for flat in unpack(record)[2].values() for trace_id in flat[_TRACE_IDS]]
    return list(dict.fromkeys(reversed(traces)))


def _calls_in(record: bytes) -> Iterator[tuple[str, int, list[int], Entry]]:
    """Yield the calls of a stored row: source, how many of the hashes are of ids, hashes, trace and span."""
    for source, flat in unpack(record)[2].items():
        parts = iter(flat)
        for ids, packed, trace_id, span_id in zip(parts, parts, parts, parts, strict=True):
            cuts = range(0, len(packed), HASH_BYTES)
            hashes = [int.from_bytes(packed[cut : cut + HASH_BYTES], "big") for cut in cuts]
            yield source, ids[0], hashes, (trace_id, span_id)


_MOST_REQUESTS, _MOST_TRACES = 2000, 2000
"""Looked at: a few hundredths of a second."""
_CLOCKS_MS = 3_600_000
"""By how much the clocks of senders may be ahead of ours."""


@dataclass(frozen=True, slots=True)
class SessionSpans:
    """Spans of one session with the ids of their traces, by start, and whether all that is remembered was searched."""

    spans: list[tuple[bytes, Span]]
    complete: bool


def spans_of_session(reader: Reader, tenant: bytes, session_id: str, session: Sums, most: int) -> SessionSpans:
    """Return the latest GenAI spans of a session, `most` or fewer."""
    session_id = bounded_id(session_id)
    name, spans = id_bytes(session_id), list[tuple[bytes, Span]]()
    traces: set[bytes] = set()
    complete = True
    for number, trace_id in enumerate(_traces_from(reader, session)):
        if trace_id is None or number >= _MOST_TRACES or len(spans) >= most:
            complete = False
            break
        if trace_id not in traces:
            traces.add(trace_id)
            spans += ((trace_id, span) for span in _spans(reader, tenant, trace_id, session_id, name))
    spans.sort(key=lambda item: (item[1].start_ns, item[1].span_id))
    return SessionSpans(spans[-most:], complete and len(spans) <= most)


def _traces_from(reader: Reader, session: Sums) -> Iterator[bytes | None]:
    """Yield traces by their latest arrival, the last first; None where more requests follow than are searched."""
    before = index_key(session.arrival_ms + 1, b"")
    earliest = index_key(max(0, session.first_ns // 1_000_000 - _CLOCKS_MS), b"")
    rows = reader.scan(Table.INDEX, EVERY_TENANT, newest_first=True, before=before)
    for number, (key, record) in enumerate(rows):
        if key < earliest:
            return
        if number >= _MOST_REQUESTS:
            yield None
            return
        yield from traces_in(record)


def _spans(reader: Reader, tenant: bytes, trace_id: bytes, session_id: str, name: bytes) -> Iterator[Span]:
    head = reader.get(trace_key(tenant, trace_id))
    if head is None:
        return
    for number in (0, *unpack_head(head)[0].segments()):
        record = reader.get(trace_key(tenant, trace_id, number)) if number else head
        if record is not None and name in record:
            for row in unpack_segment(record) if number else unpack_head(record)[1]:
                if (span := _of_session(row, session_id)) is not None:
                    yield span


def _of_session(row: SpanRow, session_id: str) -> Span | None:
    span = span_in(row)
    if not span.kind:
        return None
    session = span.posting.session if span.posting is not None else span.session.id
    return span if bounded_id(session) == session_id else None


def adds_cost(span: Span) -> bool:
    """Return whether a span's own claim is in the ledger's sums now."""
    return span.posting is not None and span.posting.role == COUNTED and span.claim is not None
