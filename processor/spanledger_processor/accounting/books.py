"""The traces that one request touches: what was known of them, what is new, and who plays which role by now."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from spanledger_processor.accounting.across import Across, Places
from spanledger_processor.accounting.grouping import Groups, Named
from spanledger_processor.accounting.remembered import Known, Remembered
from spanledger_processor.accounting.roles import richness, roles
from spanledger_processor.accounting.trace import COUNTED, Place, Span, Trace
from spanledger_processor.accounting.trace_record import pack, pack_span, pack_spans, unpack
from spanledger_processor.accounting.usual import Usual, usual_of
from spanledger_processor.ledger.store import Changes, Key, Table, key
from spanledger_processor.model import NO_SPEND, UsageVector


@dataclass(slots=True)
class Page:
    """One trace while a request is entered. `new` has the places in the request of its new GenAI spans.

    `excess` is by how much what was sent exceeds the ledger: `excess_before` the request, and when its spans have found
    their places. `added` are all new spans. While it is `usual`, nothing that was known of the others changes.
    """

    trace: Trace
    groups: Groups
    roles: dict[bytes, str]
    excess_before: UsageVector
    excess: UsageVector = NO_SPEND
    new: list[tuple[int, Span]] = field(default_factory=list)
    added: list[Span] = field(default_factory=list)
    rows: dict[bytes, bytes] = field(default_factory=dict)
    usual: Usual | None = None

    def place(self, span: Span) -> Place:
        """Where a span of this trace stands, by all that is known now."""
        role = self.roles.get(span.span_id, "")
        return Place(role, self.groups.session(span).id, self.groups.run(span).id)

    def refresh(self) -> None:
        """Decide the roles anew; call after a twin was found."""
        self.usual = None
        self.roles = roles(self.trace)

    def share_session(self, span: Span, named: Named) -> None:
        """Let a call that is counted here stand under its twin's session, where its own trace names none."""
        if named.id and not self.groups.session(span).id:
            self.usual = None
            span.session = Named(named.id, "trace")
            self.groups = Groups(self.trace.spans)

    def credit(self) -> UsageVector:
        """What was sent too much, as long as the new spans have no places."""
        return excess(self.trace) if self.usual is None else self.excess_before

    def known(self) -> Known:
        """What to remember of the trace; call when all is settled."""
        for span in self.added:
            span.closes = False  # as when it is read again
        changed = self.trace.spans.values() if self.usual is None else self.added
        rows = {} if self.usual is None else self.rows
        rows.update((span.span_id, pack_span(span)) for span in changed)
        return Known(self.trace, self.excess, rows, self.usual or usual_of(self.trace, self.roles))


class Pages:
    """All traces that a request touches, and those of other traces' spans that report the same calls."""

    def __init__(
        self,
        tenant: bytes,
        read: Callable[[Key], bytes | None],
        changes: Changes,
        now_ns: int,
        remembered: Remembered,
    ) -> None:
        self._remembered = remembered
        self._tenant = tenant
        self._read = read
        self._changes = changes
        self._now_ns = now_ns
        self._across = Across(tenant, read, changes, now_ns)
        self._pages: dict[bytes, Page] = {}

    def __iter__(self) -> Iterator[Page]:
        return iter(self._pages.values())

    def enter(self, trace_id: bytes, spans: list[tuple[int, Span]]) -> None:
        """Add the spans of a request to their trace; one that holds no GenAI span by then is not remembered."""
        known = self._load(trace_id)
        trace, length = known.trace, len(known.trace.spans)
        new: list[tuple[int, Span]] = []
        added: list[Span] = []
        for index, span in spans:
            if span.kind:
                new.append((index, span))
            elif span.span_id in trace.spans:
                continue
            trace.spans[span.span_id] = span
            added.append(span)
        usual = known.usual
        if usual is not None and len(trace.spans) == length + len(added) and usual.add(trace, added):
            page = Page(trace, usual.groups(trace), usual.roles, known.excess, rows=known.rows, usual=usual)
        elif any(span.kind for span in trace.spans.values()):
            page = Page(trace, Groups(trace.spans), roles(trace), known.excess)
        else:
            return
        page.new, page.added = new, added
        self._pages[trace_id] = page

    def find_twins(self) -> None:
        """Let each new span that would be counted look for a span of another trace that reports the same call."""
        for trace_id, page in list(self._pages.items()):
            for _, span in page.new:
                if page.roles.get(span.span_id) != COUNTED:
                    continue
                places = self._across.places(span)
                if not self._has_better_twin(places, trace_id, page, span):
                    self._across.remember(places, trace_id, span, page.groups.session(span).id)

    def _has_better_twin(self, places: Places, trace_id: bytes, page: Page, span: Span) -> bool:
        for other_id, told in self._across.candidates(places, trace_id, span):
            other_page = self._page(other_id)
            other = other_page.trace.spans.get(told.span_id)
            if other is not None and other_page.roles.get(other.span_id) != COUNTED:
                continue
            self._across.take(places, span, other_id, told.span_id)
            if other is None or richness(span)[:2] <= richness(other)[:2]:
                span.twin = told.span_id.hex()
                if other is not None:
                    other_page.share_session(other, page.groups.session(span))
                page.refresh()
                return True
            other.twin = span.span_id.hex()
            span.sent, other.sent = span.sent + other.sent, NO_SPEND
            page.usual = None
            page.share_session(span, other_page.groups.session(other))
            other_page.refresh()
            return False
        return False

    def keep(self) -> None:
        """Write everything down."""
        self._across.save()
        for trace_id, page in self._pages.items():
            where = key(Table.TRACE, self._tenant, trace_id)
            if self._remembered.wants(page.trace):
                known = page.known()
                record = pack_spans(known.rows.values(), self._now_ns)
                self._remembered.put(where, record, known)
            else:
                page.trace.forget_oldest()
                record = pack(page.trace, self._now_ns)
            self._changes.replace[where] = record
            self._changes.expire.append(where)

    def _page(self, trace_id: bytes) -> Page:
        page = self._pages.get(trace_id)
        if page is None:
            known = self._load(trace_id)
            trace = known.trace
            page = self._pages[trace_id] = Page(trace, Groups(trace.spans), roles(trace), known.excess)
        return page

    def _load(self, trace_id: bytes) -> Known:
        where = key(Table.TRACE, self._tenant, trace_id)
        record = self._read(where)
        if record is None:
            return Known(Trace())
        known = self._remembered.take(where, record)
        if known is None:
            trace = unpack(record)
            known = Known(trace, excess(trace))
        return known


def excess(trace: Trace) -> UsageVector:
    """By how much what was sent of a trace exceeds what its spans add to the ledger."""
    total = NO_SPEND
    for span in trace.spans.values():
        if span.sent:
            total = total + span.sent
        if span.counted and span.claim is not None:
            total = total - span.claim.spend
    return total
