"""The stage: from the bytes of a trace request to facts (`writer` has the way back, from decisions to bytes)."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import groupby, repeat
from operator import attrgetter

from spanledger_processor import synthesized
from spanledger_processor.accounting.facts import Batch, Fact, LoopRule
from spanledger_processor.accounting.usual import UsualFact
from spanledger_processor.dialects.asked_tools import FLAT_MARK, MARKS
from spanledger_processor.dialects.registry import first_token_ns
from spanledger_processor.enrichment.asked import MessageTools
from spanledger_processor.enrichment.attributes import ALIASES
from spanledger_processor.enrichment.claims import EarlierClaim, EarlierClaims
from spanledger_processor.enrichment.earlier_spans import EarlierSpans
from spanledger_processor.enrichment.facts import FactBuilder
from spanledger_processor.enrichment.known_traces import KnownTraces
from spanledger_processor.enrichment.marks import KIND, OWN, as_sent, is_summary
from spanledger_processor.enrichment.names import Names
from spanledger_processor.enrichment.plain_spans import PlainSpans, naming_marks
from spanledger_processor.enrichment.reading import NO_PLACE, Place, Reading
from spanledger_processor.enrichment.span_slice import MOST, SpanSlice, without
from spanledger_processor.enrichment.usual import UsualSpans
from spanledger_processor.ledger.budgets import BudgetRule
from spanledger_processor.ledger.store import tenant_hash
from spanledger_processor.model import Call
from spanledger_processor.otlp.envelope import Items, ScopeGroup
from spanledger_processor.otlp.prefilter import Prefilter, next_holding
from spanledger_processor.otlp.request import TraceRequest, counting_traces, parse_traces, parsing_traces
from spanledger_processor.otlp.values import GIANT, holds
from spanledger_processor.otlp.views import SpanView
from spanledger_processor.otlp.wire import MalformedError, Steps, finished, pause

_ID_BYTES = 16

SLICE = 32
"""Spans read or written between two pauses; a large span counts as several."""
RELEASED = MOST
"""Spans let go of, or looked for among known traces, between two pauses: a few milliseconds at most."""
_SPAN_BYTES = 4096
"""Bytes of a span that count as one more."""

_UNREAD_SLICE, _UNREAD_BYTES = 1 << 16, 1 << 12
"""Bytes of requests that passed unread which are read between two pauses, and for how many each counts beside them."""


@dataclass(slots=True)
class _Group:
    """A group of a request whose spans are read: its number there, and that of the batch which their facts enter.

    `taken` are the places, in order, of spans that are no plain ones; `marked`: a plain one holds a marker.
    """

    reading: Reading
    number: int
    batch: int
    trusted: bool
    spans: ScopeGroup
    now_ns: int
    taken: list[int] = field(default_factory=list)
    marked: bool = False
    trace_id: bytes = b""
    """The trace of the latest fact that was entered."""

    def plain(self, places: range) -> Sequence[int]:
        """Return which of these places are those of plain spans, in order."""
        taken = self.taken
        return without(places, taken[bisect_left(taken, places.start) : bisect_left(taken, places.stop)])


class Stage:
    """Reads requests. Holds nothing that grows: which traces had GenAI spans lately is bounded, and so is what is kept
    of plain spans until their trace has one.

    `tenant_of` gives the tenant's name from resource attributes and request headers.
    """

    def __init__(
        self,
        builder: FactBuilder,
        markers: tuple[bytes, ...],
        tenant_of: Callable[[ScopeGroup, Mapping[str, str]], str],
        loop: LoopRule,
        aliases: tuple[str, ...],
        budgets: tuple[BudgetRule, ...] = (),
        *,
        watched: bool = False,
    ) -> None:
        self._builder = builder
        self._usual = UsualSpans(builder)
        self._marks = Prefilter(markers)
        naming = naming_marks(builder.resolver, markers)
        self._naming = Prefilter(naming)
        """Every plain span that names a session or run holds one of these words, or a marker."""
        self._plain = PlainSpans(builder.resolver, (*markers, *naming))
        self._tenant_of = tenant_of
        self.loop, self._asked = loop, MessageTools(builder.signing, loop)
        self._aliases = aliases
        self.budgets = budgets
        self.watched = watched
        """As `Batch` has them; they may change while it runs."""
        self._known = KnownTraces()
        self._earlier = EarlierSpans(self._plain)
        self._claims = EarlierClaims()

    def read(self, body: bytes, headers: Mapping[str, str], now_ns: int, *, trusted: bool = False) -> Reading:
        """Read one export request (protobuf); of a `trusted` hop, spans that are marked pass as they are.

        Raises:
            MalformedError: these bytes are no ExportTraceServiceRequest.
        """
        return finished(self.reading(body, headers, now_ns, trusted=trusted))

    def reading(
        self,
        body: bytes,
        headers: Mapping[str, str],
        now_ns: int,
        *,
        trusted: bool = False,
        claim: EarlierClaim | None = None,
    ) -> Steps[Reading]:
        """Read one export request (protobuf) in slices: yields after each `SLICE`, returns the reading. With a `claim`
        no plain spans that came before are read which another reading has in hand: wait for those that it awaits, and
        then call `adding_earlier`.

        Raises:
            MalformedError: these bytes are no ExportTraceServiceRequest.
        """
        is_marked = yield from self._marks.searching(body)
        if not is_marked and not self._known and self._earlier.keep_unread(body, headers):
            return Reading((yield from counting_traces(body)))
        request = yield from parsing_traces(body)
        marks = self._marks.markers if is_marked else ()
        return (yield from self._reading(Reading(request, claim=claim), headers, now_ns, marks, trusted=trusted))

    def reading_synthesized(
        self, request: TraceRequest, headers: Mapping[str, str], now_ns: int, *, claim: EarlierClaim | None = None
    ) -> Steps[Reading]:
        """Read spans that were synthesized here, as `reading` does their bytes: each of them reports a call."""
        reading = Reading(request, claim=claim)
        return (yield from self._reading(reading, headers, now_ns, _SYNTHESIZED, trusted=False))

    def _reading(
        self,
        reading: Reading,
        headers: Mapping[str, str],
        now_ns: int,
        marks: tuple[bytes, ...],
        *,
        trusted: bool,
    ) -> Steps[Reading]:
        reading.headers, reading.names = headers, self._builder.resolver.keys
        if reading.claim is not None:
            reading.claim.read = reading.traces
        tenants: dict[str, int] = {}
        groups: list[_Group] = []
        for number, group in enumerate(reading.request.groups):
            if group.items:
                batch = self._batch(reading, tenants, self._tenant_of(group, headers), now_ns)
                groups.append(_Group(reading, number, batch, trusted, group, now_ns))
                yield from self._read_group(groups[-1], marks)
            if number % SLICE == SLICE - 1:
                yield None
        self._usual.leave()
        yield from self._add_plain(reading, groups)
        yield from self._add_earlier(reading, reading.traces, tenants, now_ns, claim=reading.claim)
        reading.drop_empty_batches()
        return reading

    def may_change(self, body: bytes) -> Steps[bool]:
        """Return whether a request may gain anything, by its bytes alone, in slices."""
        return (yield from self._marks.searching(body))

    def unenriched(self, body: bytes, *, trusted: bool = False) -> Reading:
        """Return a request whose spans could not be enriched as a reading without facts: all of its attributes that
        only Spanledger writes are moved aside, but for spans that a `trusted` hop has marked.

        Raises:
            MalformedError: these bytes are no ExportTraceServiceRequest.
        """
        reading = Reading(parse_traces(body), names=self._builder.resolver.keys)
        reading.own = {
            (number, index): None
            for number, group in enumerate(reading.request.groups)
            for index, span in enumerate(group.items)
            if OWN in span and not (trusted and _KIND in span)
        }
        return reading

    def _batch(self, reading: Reading, tenants: dict[str, int], tenant: str, now_ns: int) -> int:
        index = tenants.get(tenant)
        if index is None:
            index = tenants[tenant] = len(reading.batches)
            batch = Batch(tenant_hash(tenant), [], now_ns, self.loop, self._aliases, self.budgets, tenant, self.watched)
            reading.batches.append(batch)
            reading.places.append([])
        return index

    def _read_group(self, group: _Group, marks: tuple[bytes, ...]) -> Steps[None]:
        """Read the spans of a group that hold one of `marks`: most hold that which the one before had."""
        items, index, work, likely = group.spans.items, 0, 0, marks[0] if marks else b""
        body, starts, ends = items.body, items.starts, items.ends
        facts, places = group.reading.batches[group.batch].facts, group.reading.places[group.batch]
        while likely and index < len(starts):
            usual = self._usual_from(group, index) if self._usual.may_lay_out or not index else []
            if usual:
                index = self._enter_usual(group, index, usual)
                yield None
                continue
            start, end = starts[index], ends[index]
            if end - start > GIANT or body.find(likely, start, end) < 0:
                holding, mark = yield from next_holding(items, index, marks)
                likely = mark or likely
                if holding > index:
                    index = holding  # it may be a usual call
                    continue
            if end - start > GIANT:
                fact = yield partial(self._read_giant, group, index)
            else:
                span = body[start:end]
                work += 1 + len(span) // _SPAN_BYTES
                if work >= SLICE:
                    work = 0
                    yield None
                fact = self._read_span(group, index, span)
            if fact is None:
                group.marked = True
            else:
                group.taken.append(index)
                if fact is not _PASS:
                    facts.append(fact)
                    places.append((group.number, index))
                    if fact.trace_id != group.trace_id:
                        self._enter_trace(group, fact.trace_id)
            index += 1

    def _enter_usual(self, group: _Group, first: int, usual: Sequence[UsualFact]) -> int:
        """Enter the facts of usual calls that stand side by side from `first` on; return where the last one ends."""
        run = range(first, first + len(usual))
        group.taken += run
        group.reading.batches[group.batch].facts += usual
        group.reading.places[group.batch] += zip(repeat(group.number), run)
        for trace_id, _ in groupby(usual, key=_trace_id):
            self._enter_trace(group, trace_id)
        return run.stop

    def _enter_trace(self, group: _Group, trace_id: bytes) -> None:
        """Enter the trace of a fact as one that has GenAI spans of its tenant."""
        group.trace_id, tenant = trace_id, group.reading.batches[group.batch].tenant
        group.reading.traces[trace_id + tenant] = None
        self._known.add(trace_id, tenant)

    def _read_giant(self, group: _Group, index: int) -> Fact | None:
        """Do as `_read_span`, on a thread: to cut it out alone takes as long as many others."""
        return self._read_span(group, index, group.spans.items[index], replace(self._builder))

    def _usual_from(self, group: _Group, index: int) -> list[UsualFact]:
        """Return the facts of usual calls that stand side by side from `index` on, in a slice at most."""
        reading, spans = group.reading, group.spans
        try:
            if not self._usual.knows_layouts(spans, reading.headers):
                return []
            end = _end_of_slice(spans.items, index)
            return self._usual.side_by_side(spans.items, index, end, spans, group.now_ns, reading.headers)
        except Exception as error:  # noqa: BLE001 - a failure of ours is counted, and the full rules read them
            reading.failures[type(error).__name__] += 1
            return []

    def _read_span(self, group: _Group, index: int, span: bytes, builder: FactBuilder | None = None) -> Fact | None:
        """Return the fact of a GenAI span, which stands at `index` in its group; None for a plain span; _PASS for one
        that goes on as it came. With a `builder` it is read by the full rules.
        """
        reading, place = group.reading, (group.number, index)
        view: SpanView | None = None
        is_own = span.find(OWN) >= 0 if builder is None else holds(span, (OWN,))
        if is_own:
            reading.own[place] = None
        try:
            view = reading.request.view(*place, span) if builder is None else SpanView.parse(span)
            if is_own and KIND in view.attributes:
                if group.trusted or is_summary(view, self._builder.signing):
                    reading.marked += 1
                    del reading.own[place]
                    return _PASS
                view.attributes = as_sent(span, view.attributes, _ALIASES)
            fact = (builder or self._usual).genai(span, view, group.spans, group.now_ns, reading.headers)
            if fact is None:
                return None
            call = fact.prototype.fact.call if type(fact) is UsualFact else fact.call
            if call is None or call.kind != "llm":
                fact.first_token_ns = 0
                return fact
            # it decides on nothing, so calls that differ in it are read alike
            fact.first_token_ns = first_token_ns(call.dialect, view.attributes, fact.start_ns, fact.end_ns)
            if call.granularity == "per-message" and holds(span, MARKS):
                return self._with_asked(reading, fact, call, view, flat=holds(span, (FLAT_MARK,)))
            return fact
        except MalformedError:
            reason = "malformed_span"
        except Exception as error:  # noqa: BLE001 - docs/contract.md#promise-2-nothing-is-lost
            reason = type(error).__name__
        finally:
            if builder is not None and view is not None:
                view.attributes.clear()
        reading.failures[reason] += 1
        reading.failed.append((*place, reason))
        return _PASS

    def _with_asked(self, reading: Reading, fact: Fact, call: Call, view: SpanView, *, flat: bool) -> Fact:
        """Return a fact with the tool calls of its messages; after a failure of ours without them."""
        try:
            return self._asked.enter(fact, call, view, flat=flat)
        except Exception as error:  # noqa: BLE001 - what messages tell of must not cost a call its price
            reading.failures[type(error).__name__] += 1
            return fact

    def _add_plain(self, reading: Reading, groups: Sequence[_Group]) -> Steps[None]:
        """Add plain spans of traces that have GenAI spans of their tenant, as links and names; keep others until their
        trace has one. Where it is not known of which tenant a trace has some, do both.

        They may name a session or run where the request holds the key of one, or they a marker.
        """
        read, may_name = 0, False
        if any(len(group.taken) < len(group.spans.items) for group in groups):
            may_name = yield from self._naming.searching(reading.request.body)
        for number, group in enumerate(groups):
            if number % RELEASED == RELEASED - 1:
                yield None
            if len(group.taken) < len(group.spans.items):
                read = yield from self._add_plain_of(group, read, may_name=may_name or group.marked)

    def _add_plain_of(self, group: _Group, read: int, *, may_name: bool) -> Steps[int]:
        """Add or keep the plain spans of a group. Returns how many were read, with so many before."""
        reading, known = group.reading, self._known.ids
        items, resource = group.spans.items, self._builder.names_of(group.spans)
        keep = partial(self._earlier.add, reading.batches[group.batch].tenant_name, resource=resource)
        for first in range(0, len(items), RELEASED):
            if first:
                yield None
            places = group.plain(range(first, min(first + RELEASED, len(items))))
            if not places:
                continue
            spans = SpanSlice(items, places)
            ours, rest = spans.split(known) if known else ((), spans)
            if rest is not None:
                keep(rest, may_name=may_name)
            for index in ours:
                read += 1
                if read % SLICE == 0:
                    yield None
                linking = partial(self._link, reading, group.spans, index, resource)
                fact = linking() if items.ends[index] - items.starts[index] <= GIANT else (yield linking)
                if fact is not None and self._enter_link(reading, group.batch, (group.number, index), fact):
                    keep(SpanSlice(items, (index,)), may_name=may_name)
        return read

    def _link(self, reading: Reading, group: ScopeGroup, index: int, resource: Names) -> Fact | None:
        """Return the fact of a plain span, None of one that cannot be read."""
        try:
            return self._plain.fact(group.items[index], resource, group.scope_name)
        except MalformedError:
            reading.failures["malformed_span"] += 1
            return None

    def _enter_link(self, reading: Reading, number: int, place: Place, fact: Fact) -> bool:
        """Add the fact of a plain span to a batch, if its trace may have GenAI spans of its tenant. Return whether the
        span is to be kept: it may be that the trace has those of other tenants alone, or that these are not accounted
        for yet.
        """
        batch = reading.batches[number]
        if self._known.may_be_of(fact.trace_id, batch.tenant):
            batch.facts.append(fact)
            reading.places[number].append(place)
        if not self._known.is_of(fact.trace_id, batch.tenant):
            return True
        others = len(self._claims.unsubmitted) > 1  # nearly never: not that of this reading alone
        return others and self._claims.misses(fact.trace_id + batch.tenant, reading.claim)

    def _add_earlier(
        self,
        reading: Reading,
        traces: Collection[bytes],
        tenants: dict[str, int],
        now_ns: int,
        *,
        claim: EarlierClaim | None,
    ) -> Steps[None]:
        """Add what was kept of plain spans of these traces, each of a tenant by its hash, or of all where that is
        empty. They may be many more than the request has.
        """
        if traces:
            yield from self._reading_unread()
        added = 0
        for number, one in enumerate(traces if self._earlier else (), 1):
            if number % RELEASED == 0:
                yield pause
            trace_id, of = one[:_ID_BYTES], one[_ID_BYTES:]
            if claim is not None and self._earlier.has(trace_id, of) and not claim.takes(one):
                continue
            for tenant, fact in self._earlier.facts(trace_id, of):
                batch = self._batch(reading, tenants, tenant, now_ns)
                reading.batches[batch].facts.append(fact)
                reading.places[batch].append(NO_PLACE)
                if of:
                    reading.earlier.add(one)
                added += 1
                if added % RELEASED == 0:
                    yield pause

    def _reading_unread(self) -> Steps[None]:
        """Read what was let pass unread, each request in one go: another reading may be at it between two."""
        slice_bytes = 0
        while unread := self._earlier.next_unread():
            body, headers = unread
            may_name = self._naming.hits(body)  # it holds no marker
            try:
                for group in parse_traces(body).groups:
                    tenant, names = self._tenant_of(group, headers), self._builder.names_of(group)
                    for first in range(0, len(group.items), RELEASED):
                        places = range(first, min(first + RELEASED, len(group.items)))
                        self._earlier.add(tenant, SpanSlice(group.items, places), names, may_name=may_name)
            except MalformedError:
                pass  # it was let pass as it was
            slice_bytes += _UNREAD_BYTES + len(body)
            if slice_bytes >= _UNREAD_SLICE:
                slice_bytes = 0
                yield pause

    def claim(self) -> EarlierClaim:
        """Return a claim for a reading to take the plain spans that came before it in hand."""
        return EarlierClaim(self._claims)

    def adding_earlier(self, reading: Reading, now_ns: int) -> Steps[None]:
        """Add what readings that this one waited for have not accounted for."""
        awaited = reading.claim.awaited if reading.claim is not None else {}
        tenants = {batch.tenant_name: number for number, batch in enumerate(reading.batches)}
        yield from self._add_earlier(reading, awaited, tenants, now_ns, claim=None)

    def knowing(self, traces: Collection[bytes], now_ns: int, *, claim: EarlierClaim | None = None) -> Steps[Reading]:
        """Treat plain spans of these traces as links: their GenAI spans were read by another process, or before. Each
        is an id, and the hash of the tenant behind it where that is known.

        Return those that came earlier, to be accounted for.
        """
        for number, one in enumerate(traces, 1):
            self._known.add(one[:_ID_BYTES], one[_ID_BYTES:])
            if number % RELEASED == 0:
                yield None
        reading = Reading(TraceRequest(b"", [], 0), claim=claim)
        yield from self._add_earlier(reading, traces, {}, now_ns, claim=claim)
        return reading

    def entered(self, reading: Reading) -> None:
        """Keep no longer what a reading added of earlier spans: it is accounted for, but for what came since."""
        missed = reading.claim.missed if reading.claim is not None else ()
        for one in reading.earlier.difference(missed):
            self._earlier.forget(one[:_ID_BYTES], one[_ID_BYTES:])


def _end_of_slice(items: Items, first: int) -> int:
    """Return the end of a slice of spans from `first` on: `SLICE` at most, and not many bytes but of the first one."""
    starts = items.starts
    last = bisect_right(starts, starts[first] + SLICE * _SPAN_BYTES, first + 1, min(first + SLICE, len(starts)))
    return max(last, first + 1)


_trace_id = attrgetter("trace_id")
_PASS = Fact(b"", b"")
"""Stands for the fact of a span that goes on as it came."""
_KIND = KIND.encode()
_SYNTHESIZED = (synthesized.SOURCE.encode(),)
"""What every synthesized span holds."""
_ALIASES = frozenset(ALIASES)
