"""Calls counted in one trace, found again from another: by a response or call id, else by equal usage.

Two libraries around one call often write into two traces, and a log event has a trace of its own or none.
In memory stands which request counted a call of an id, or of a usage and time, so that to look for a call that nobody
else reported reads nothing. A request leaves one row that says in which traces its calls are, by arrival; what a call
is stands in its trace's record alone. Some sources leave reasoning out of the output: a call that knows its reasoning
stands under the output without it, too. One of Anthropic's stands under its inputs without caches as well
(`uncached_inputs`), apart from the others: only calls that may lack caches look there, so that the many calls that have
the same small input beside a large cache are not compared with one another.

No index of a session's spans is stored. They stand in the records of their traces, and the rows of this index say which
traces gained spans by a request, so `spans_of_session` looks for them from the session's latest arrival back to its
first activity.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import chain, islice, repeat
from struct import Struct
from typing import NamedTuple, TypeAlias, TypeVar

from spanledger_processor.accounting.one_call import LOG_AFTER_NS, may_lack_caches, source_of, uncached_inputs
from spanledger_processor.accounting.trace import COUNTED, Span
from spanledger_processor.accounting.trace_record import SpanRow, span_in, unpack_head, unpack_segment
from spanledger_processor.ledger.keys import EVERY_TENANT, bounded_id, id_bytes, index_key, trace_key
from spanledger_processor.ledger.packing import pack, unpack
from spanledger_processor.ledger.store import Changes, Key, Reader, Table
from spanledger_processor.ledger.sums import Sums
from spanledger_processor.model import AGGREGATES, INPUT, OUTPUT, REASONING

_ROWS = 16
"""Requests remembered under one id, or one usage and time, and calls of one request: the latest."""
_PERIOD_NS = 600 * 10**9
"""Calls of equal usage are remembered apart by when they ended, so that those of a busy hour do not crowd out twins."""
_UNCACHED = 1 << 40
"""Added to a period: usages without caches are remembered apart."""
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
_HASH_BYTES = 8
_NUMBER = Struct(">Q")
_PACK = [Struct(f">{number}Q").pack for number in range(64)]
"""The hashes of a call, by how many it has: one id and one usage, mostly."""
_OF_INPUT, _OF_OUTPUT, _OF_PERIOD = 0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9
_MASK = (1 << 63) - 1
_NUMBERS = tuple(bytes((number,)) for number in range(256))

T = TypeVar("T")
Entry: TypeAlias = tuple[bytes, bytes]
"""The trace and the span of a counted call."""
_Rows: TypeAlias = tuple[Key, ...]
_ReportRows: TypeAlias = tuple[tuple[str, Key], ...]
"""Requests with the source that reported a call."""


class Hashes(NamedTuple):
    """What a call is remembered under: its ids, its usage and time.

    `beside` are the usages of twins that ended just before or after, in another period, or that tell of caches where
    this call does not, or the reverse: they are looked for only. Under those of `uncached` it is remembered only.
    """

    ids: tuple[int, ...] = ()
    usages: tuple[int, ...] = ()
    beside: tuple[int, ...] = ()
    uncached: tuple[int, ...] = ()


_Usages: TypeAlias = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
_NO_USAGES: _Usages = ((), (), ())


class UnknownCalls(NamedTuple):
    """Calls of one trace by columns: response ids, counts (in the order of `USAGE_CLASSES`), ends, whether they are
    Anthropic's, and ids of their spans.
    """

    response_ids: Sequence[str]
    counts: Sequence[Sequence[int | None]]
    ends: Sequence[int]
    of_anthropic: Sequence[bool]
    span_ids: Sequence[bytes]


class _Moment(NamedTuple):
    """What the period in which a call ended adds to the hashes of its usage; likewise of `near` ones, in which a twin
    may have ended, and of all of them for usages that are `uncached`, its own first.
    """

    own: int
    near: Sequence[int]
    uncached: Sequence[int]


def _usages_of(tokens: Sequence[int | None], moment: _Moment, *, of_anthropic: bool) -> _Usages:
    """Return the usages of a call of these counts (in the order of `USAGE_CLASSES`, or none), as `Hashes` has them."""
    given = tokens[INPUT] if tokens else None
    if not given:
        return _NO_USAGES
    output, reasoning, (own, near, uncached) = tokens[OUTPUT] or 0, tokens[REASONING] or 0, moment
    outputs = (output, output - reasoning) if 0 < reasoning < output else (output,)
    usages = _mixed((given,), outputs, (own,))
    beside = _mixed((given,), outputs, near) if near else ()
    if not of_anthropic:
        return usages, beside, ()
    of_uncached: tuple[int, ...] = ()
    if less := uncached_inputs(tokens, of_anthropic=True):
        mixed = _mixed(less, outputs, (uncached[0], own, *near))
        number = len(less) * len(outputs)
        of_uncached, beside = mixed[:number], beside + mixed[number:]
    if may_lack_caches(tokens, of_anthropic=True):
        beside += _mixed((given,), outputs, uncached)
    return usages, beside, of_uncached


def _mixed(inputs: Iterable[int], outputs: Iterable[int], times: Iterable[int]) -> tuple[int, ...]:
    """Return the hashes of every input with every output at every time."""
    return tuple(
        [
            ((mixed := given * _OF_INPUT ^ output * _OF_OUTPUT ^ time) ^ mixed >> 31) & _MASK
            for time in times
            for output in outputs
            for given in inputs
        ]
    )


@dataclass(slots=True)
class _Generation:
    ids: dict[int, _Rows] = field(default_factory=dict)
    usages: dict[int, _ReportRows] = field(default_factory=dict)
    sources: set[str] = field(default_factory=set)
    """Those of `usages`."""
    entries: int = 0


@dataclass(slots=True)
class _Together:
    """The hashes of several calls, by what they are (`Hashes`); `hashes` is all that each is remembered under."""

    ids: list[int] = field(default_factory=list)
    usages: list[int] = field(default_factory=list)
    beside: list[int] = field(default_factory=list)
    uncached: list[int] = field(default_factory=list)
    hashes: list[tuple[int, ...]] = field(default_factory=list)

    def add(self, call: Hashes) -> None:
        """Take in a call."""
        ids, usages, beside, uncached = call
        self.ids += ids
        self.usages += usages
        self.beside += beside
        self.uncached += uncached
        self.hashes.append(ids + usages + uncached)


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
            for usage in hashes.usages + hashes.beside:
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
        self._salt = int.from_bytes(tenant, "big")
        self._keyed = blake2b(digest_size=_HASH_BYTES, key=tenant)
        """Hashes ids; what a key adds is hashed once."""
        self._reader = reader
        self._changes = changes
        self._now_ms = now_ns // 1_000_000
        self._row = (index_key(self._now_ms, request),)
        self._calls = calls
        self._moments: dict[int, _Moment] = {}
        """By period, of ends to which no other period is near."""
        self._mine: dict[int, list[Entry]] = {}
        self._latest: list[tuple[Sequence[tuple[int, ...]], bytes, Sequence[bytes]]] = []
        """What was remembered since `_mine` was last asked for, nearly always all of it: hashes of a trace's calls, its
        id, and those of their spans.
        """
        self._added: dict[str, list[bytes]] = {}
        self._traces: set[bytes] = set()
        self._read: dict[Key, dict[int, list[Entry]]] = {}
        """Rows that were read for this request."""
        self._calls_read = 0

    def hashes(self, span: Span) -> Hashes:
        """Return what `span` is remembered under, and looked for."""
        if span.claim is None or span.kind in AGGREGATES:
            return Hashes()
        claim = span.claim
        identifiers = [id_bytes(span.response)] if span.response else []
        ids = tuple(self._ids([*identifiers, *claim.evidence.ids]))
        moment = self._moment(span.end_ns)
        return Hashes(ids, *_usages_of(claim.tokens, moment, of_anthropic=claim.of_anthropic))

    def _ids(self, identifiers: Sequence[bytes]) -> list[int]:
        """Return the hashes of ids."""
        digests = bytearray()
        for identifier in identifiers:
            hashed = self._keyed.copy()
            hashed.update(identifier)
            digests += hashed.digest()
        return [hash_ & _MASK for (hash_,) in _NUMBER.iter_unpack(digests)]

    def _moment(self, end_ns: int) -> _Moment:
        """Return what its end gives the usage of a call. Most ends of a request come to the same one."""
        period, within = divmod(end_ns, _PERIOD_NS)
        if not LOG_AFTER_NS <= within < _PERIOD_NS - LOG_AFTER_NS:
            near = {(end_ns - LOG_AFTER_NS) // _PERIOD_NS, (end_ns + LOG_AFTER_NS) // _PERIOD_NS}
            return self._moment_of(period, *[other for other in near if other != period])
        moment = self._moments.get(period)
        if moment is None:
            moment = self._moments[period] = self._moment_of(period)
        return moment

    def _moment_of(self, *periods: int) -> _Moment:
        own, *near = [period * _OF_PERIOD ^ self._salt for period in periods]
        uncached = [(period + _UNCACHED) * _OF_PERIOD ^ self._salt for period in periods]
        return _Moment(own, near, uncached)

    def _moments_of(self, ends: Sequence[int]) -> Iterable[_Moment]:
        """Return the moment of each of these ends."""
        first, last = self._moment(min(ends)), self._moment(max(ends))
        return repeat(first, len(ends)) if first is last else map(self._moment, ends)

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
        for row, hash_ in sorted(rows, key=lambda known: (known[1] in hashes.ids, known[0]), reverse=True):
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
            together = _Together()
            together.add(hashes)
            self._remember(together, (len(hashes.ids),), source_of(span), trace_id, (span.span_id,))

    def remember_unknown(self, calls: UnknownCalls, source: str, trace_id: bytes) -> bool:
        """Keep calls of a trace that are counted, if `candidates` would find nothing for any of them.

        Returns whether that is so; a source reports all of them.
        """
        together = _Together()
        ids = self._ids([one.encode("utf-8", "surrogatepass") for one in calls.response_ids])
        each = zip(ids, calls.counts, self._moments_of(calls.ends), calls.of_anthropic, strict=True)
        for id_, tokens, moment, of_anthropic in each:
            given, output = tokens[INPUT], tokens[OUTPUT] or 0
            if of_anthropic or moment.near or not given or tokens[REASONING]:
                together.add(Hashes((id_,), *_usages_of(tokens, moment, of_anthropic=of_anthropic)))
            else:  # what comes out above for most calls, without the tuples
                mixed = given * _OF_INPUT ^ output * _OF_OUTPUT ^ moment.own
                usage = (mixed ^ mixed >> 31) & _MASK
                together.ids.append(id_)
                together.usages.append(usage)
                together.hashes.append((id_, usage))
        if self._calls.may_know(together.ids, together.usages + together.beside, source):
            return False
        self._remember(together, [1] * len(ids), source, trace_id, calls.span_ids)
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
        together = {source: _Together() for source in by_source}
        for source, (calls, _) in by_source.items():
            for hashes in calls:
                together[source].add(hashes)
        for source, of_source in together.items():
            if self._calls.may_know(of_source.ids, of_source.usages + of_source.beside, source):
                return False
        for source, of_source in together.items():
            calls, span_ids = by_source[source]
            self._remember(of_source, [len(call.ids) for call in calls], source, trace_id, span_ids)
        return True

    def _remember(
        self, calls: _Together, of_ids: Sequence[int], source: str, trace_id: bytes, span_ids: Sequence[bytes]
    ) -> None:
        """Keep calls, of which each has so many hashes `of_ids`."""
        self._traces.add(trace_id)
        self._calls.add(self._row, source, calls.ids, calls.usages + calls.uncached)
        added = self._added.get(source)
        if added is None:
            added = self._added[source] = []
        self._latest.append((calls.hashes, trace_id, span_ids))
        packed = [_PACK[len(hashes)](*hashes) for hashes in calls.hashes]
        rows = zip(map(_NUMBERS.__getitem__, of_ids), packed, repeat(trace_id), span_ids)
        added += chain.from_iterable(rows)

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
            for of_trace, trace_id, span_ids in self._latest:
                for hashes, span_id in zip(of_trace, span_ids, strict=True):
                    for hash_ in hashes:
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
            cuts = range(0, len(packed), _HASH_BYTES)
            hashes = [int.from_bytes(packed[cut : cut + _HASH_BYTES], "big") for cut in cuts]
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
