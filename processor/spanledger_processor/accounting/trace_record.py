"""The stored form of a trace: a head with its latest spans, and closed segments of those before them.

A span's row has a part that is packed once, when the span has been decided on (identity, links, names, claim, and the
decision that its attributes are written from again), and behind it what later spans may still change. Closed segments
are written again only if a span in them changes, so to add to a long trace costs as much as to add to a short one.

What usual calls have in common is written once: such a record has what those of one pattern share, and beside it their
own values alone, by what they are; likewise what plain spans of their trace link and name. Read, they are the very rows
that the full rules write for such spans.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, TypeAlias

from msgspec import structs

from spanledger_processor.accounting.facts import NO_EVIDENCE, Evidence, begun_digest, digest_with
from spanledger_processor.accounting.grouping import Named
from spanledger_processor.accounting.trace import COUNTED, NO_DETAIL, Claim, Detail, Fed, Posting, Span, tool_label
from spanledger_processor.ledger.keys import LAST_SEGMENT, settled_key, trace_key
from spanledger_processor.ledger.packing import pack, unpack
from spanledger_processor.ledger.records import DECISION_VALUES, pack_values, unpack_decision, values_in
from spanledger_processor.ledger.store import Reader
from spanledger_processor.model import CLASS_NAMES, NO_SPEND, USAGE_CLASSES, Decision, UsageVector

SEGMENT_SPANS = 32
"""Spans of a closed segment, and of the head at most."""

_VERSION = 2
_ONE_BY_ONE, _USUAL_VERSION = 3, 4
"""Of a record of usual calls (`accounting.usual`); of earlier ones, with a row of own values for each."""
_KNOWN_PLACE, _AGAIN, _CARRIES_BELOW, _FORGOTTEN, _TURN, _LOOPS, _ASKED_BEFORE, _FAILED_BEFORE = (
    1 << bit for bit in range(8)
)
_LOOPS_FROM, _NO_LOOPS = 8, 128
"""Bit of the flags from which on the loops stand that are neither none nor one, and what stands there for none."""

SpanRow: TypeAlias = list[Any]
"""A span's packed part, then its state as `state_of` gives it."""


@dataclass(slots=True)
class Head:
    """The head of a trace's record, without its rows.

    `closed` is the number of the segment that was closed last, `revision` is a hash of all that was ever written to
    segments (a digest of digests), and `forgotten` is how many of their spans the rules do not look at any more.
    `state` is `Trace.state`, `live` are the segments of which the rules look at spans, oldest first; None: at all.
    """

    closed: int = 0
    revision: bytes = b""
    forgotten: int = 0
    state: list[Any] = field(default_factory=list)
    live: list[int] | None = None

    def segments(self) -> Iterable[int]:
        """Return the numbers of the segments that hold spans which the rules look at, oldest first."""
        return range(1, self.closed + 1) if self.live is None else self.live

    def close(self) -> int:
        """Return the number of a new segment: the next one, and after the last the first that holds nothing of use."""
        self.closed = self.closed % LAST_SEGMENT + 1
        if self.live is not None:
            while self.closed in self.live:
                self.closed = self.closed % LAST_SEGMENT + 1
            self.live.append(self.closed)
        return self.closed


def pack_head(head: Head, rows: list[SpanRow], arrival_ms: int) -> bytes:
    """Return the record of a head; its second element is the arrival in ms, by which retention goes."""
    live = () if head.live is None else (head.live,)
    return pack([_VERSION, arrival_ms, head.closed, head.revision, head.forgotten, rows, head.state, *live])


def unpack_head(record: bytes) -> tuple[Head, list[SpanRow]]:
    """Read what `pack_head` wrote, or `pack_usual`."""
    version, _, *values = unpack(record)
    if version == _USUAL_VERSION:
        return Head(), _rows_of(*values)
    if version == _ONE_BY_ONE:
        return Head(), _rows_one_by_one(*values)
    closed, revision, forgotten, rows, *more = values
    return Head(closed, revision, forgotten, more[0] if more else [], more[1] if len(more) > 1 else None), rows


def pack_segment(rows: list[SpanRow], arrival_ms: int) -> bytes:
    """Return the record of a closed segment."""
    return pack([_VERSION, arrival_ms, rows])


def unpack_segment(record: bytes) -> list[SpanRow]:
    """Read what `pack_segment` wrote."""
    rows: list[SpanRow] = unpack(record)[2]
    return rows


def row_of(span: Span) -> SpanRow:
    """Return the row of a span that was read from one, or was packed by `fix`."""
    return [span.fixed, *span.stored]


def forgotten(row: SpanRow) -> SpanRow:
    """Return the row of a span that the rules do not look at any more."""
    return [row[0], (row[1] if len(row) > 1 else 0) | _FORGOTTEN, *row[2:]]


def span_in(row: SpanRow) -> Span:
    """Return the span of a stored row, also of one that is forgotten."""
    return _span(row, 0)


def spans_of(rows: Iterable[SpanRow], segment: int) -> list[Span]:
    """Return the spans of stored rows, less those that are forgotten."""
    return [_span(row, segment) for row in rows if len(row) < 2 or not row[1] & _FORGOTTEN]


def id_of(row: SpanRow) -> bytes:
    """Return the span id of a stored row."""
    span_id: bytes = unpack(row[0])[0]
    return span_id


def decision_in(fixed: bytes) -> bytes:
    """Return the packed decision in the packed part of a row; empty for a plain span."""
    row = unpack(fixed)
    return row[-1] if len(row) > _PLAIN else b""


def fix(span: Span, decision: bytes = b"") -> None:
    """Pack what does not change any more of a span that has been decided on, and note its state."""
    span.fixed = pack(_fixed(span, decision))
    span.stored = state_of(span)


def state_of(span: Span) -> list[Any]:
    """Return what later spans may change: flags, place, what was sent, twins. Defaults at the end are left out."""
    posting, sent = span.posting, span.sent
    if posting is None and not span.kind:
        return [_CARRIES_BELOW] if span.carries_below else []
    flags = (_AGAIN if span.again else 0) | (_CARRIES_BELOW if span.carries_below else 0)
    if span.loops:
        flags |= _LOOPS if span.loops == 1 else _LOOPS | (span.loops + _NO_LOOPS) << _LOOPS_FROM
    if span.asked_before or span.failed_before:
        flags |= (_ASKED_BEFORE if span.asked_before else 0) | (_FAILED_BEFORE if span.failed_before else 0)
    if posting is None:
        state: list[Any] = [flags, None, None, None]
    else:
        session = None if posting.session == span.session.id else posting.session
        run = None if posting.run == span.run.id else posting.run
        state = [flags | _KNOWN_PLACE | (_TURN if posting.turn else 0), posting.role or None, session, run]
    of_sent: Any = None
    if sent is not NO_SPEND and sent:
        spend = None if span.claim is None else span.claim.spend
        of_sent = True if sent is spend or sent == spend else [sent.cost, *sent.counts]
    rest = _rest_of(span, posting)
    if rest or of_sent or span.twin or span.lent_session:
        state += (of_sent, span.twin or None, span.lent_session or None, *rest)
    while state and not state[-1]:
        state.pop()
    return state


def _rest_of(span: Span, posting: Posting | None) -> Sequence[Any]:
    """Return the part of a span's state that most have not; nothing where it has none of it."""
    agent = agent_parent = fed = asked = stuck = repeated = own_session = None
    if posting is not None:
        detail = span.detail
        agent = None if posting.agent == detail.agent else posting.agent
        agent_parent = None if posting.agent_parent == detail.agent_parent else posting.agent_parent
        fed, asked, stuck, repeated = posting.fed, posting.asked, posting.stuck, posting.repeated
        own_session = _NO_SESSION if posting.own_session == "" else posting.own_session
    sources, price, twins, elsewhere = span.reported_by, span.lent_price, span.twins, span.elsewhere
    of_twin = span.twin_trace or None, repeated or None, own_session, span.failed_elsewhere or None
    if not any((agent, agent_parent, fed, asked, stuck, sources, price, twins, elsewhere, *of_twin)):
        return ()
    return (
        sorted(sources) if sources else None,
        agent,
        agent_parent,
        list(price) if price else None,
        list(map(list, fed)) if fed else None,
        list(asked) if asked else None,
        list(stuck) if stuck else None,
        [*chain.from_iterable(twins)] if twins else None,
        sorted(elsewhere) if elsewhere else None,
        *of_twin,
    )


_NO_SESSION = True
"""In the place of the session that a span's trace names for it, where that names none."""
_PLAIN = 8
"""Elements of a plain span's row that names a session or a run; four if it names none."""
_WITHOUT_DETAIL = 17
"""Elements of a GenAI span's row whose state is all defaults; the decision is the last one of all."""


def _fixed(span: Span, decision: bytes) -> list[Any]:
    session, run = span.session, span.run
    if span.lent_session:
        session = Named()
    row: list[Any] = [span.span_id, span.parent_id, span.start_ns, span.end_ns]
    if not span.kind and not session.id and not run.id:
        return row
    row += [session.id, session.source, run.id, run.source]
    if not span.kind:
        return row
    claim = span.claim
    detail = () if span.detail is NO_DETAIL else (_detail_row(span.detail),)
    return [
        *row,
        span.kind,
        span.scope,
        span.parent_session,
        span.response,
        span.call_id,
        span.signature,
        span.logged,
        None if claim is None else _claim_row(claim),
        *detail,
        decision,
    ]


def _detail_row(detail: Detail) -> Sequence[Any]:
    values = structs.astuple(detail)
    return values if detail.asked_signatures else values[:-1]


def _claim_row(claim: Claim) -> Sequence[Any]:
    """Return the values of a claim; what only some have is left out at the end."""
    if claim.fresh is not None:
        number = _FRESH + 1 + bool(claim.terms)
    elif claim.first_token_ns:
        number = _FIRST_TOKEN + 1
    else:
        number = _FIRST_TOKEN if claim.card else _FIRST_TOKEN - 1
    return structs.astuple(claim)[:number]


def _span(row: SpanRow, segment: int) -> Span:
    span = _of_fixed(row[0])
    state = span.stored = row[1:]
    span.segment = segment
    if not state:
        return span
    flags, role, session, run, sent, twin, lent, *more = [*state, *_ABSENT[len(state) :]]
    sources, agent, parent, price, fed, asked, stuck, twins, elsewhere, twin_trace, repeated, alone, *last = more
    if price:
        span.lend_price((int(price[0]), price[1], price[2]))
    if lent:
        span.lent_session, span.session = lent, Named(lent, "trace")
    if flags & _KNOWN_PLACE:
        own_session, own_run = span.session.id, span.run.id
        span.posting = Posting(role or "", own_session if session is None else session, own_run if run is None else run)
        span.posting.agent = span.detail.agent if agent is None else agent
        span.posting.agent_parent = span.detail.agent_parent if parent is None else parent
        span.posting.turn, span.posting.repeated = bool(flags & _TURN), repeated or b""
        names_none = alone is _NO_SESSION or (lent and alone is None)  # as rows of earlier versions leave it
        span.posting.own_session = "" if names_none else alone if isinstance(alone, str) else None
        if fed:
            span.posting.fed = tuple(Fed(tool, *map(int, numbers)) for tool, *numbers in fed)
        span.posting.asked, span.posting.stuck = tuple(asked or ()), tuple(stuck or ())
        span.posting.counts_elsewhere = bool(twin_trace)
    _restore_flags(span, flags)
    span.failed_elsewhere = bool(last[0])
    if sent is True and span.claim is not None:
        span.sent = span.claim.spend
    elif sent and sent is not True:
        span.sent = UsageVector.read(sent[0], sent[1:])
    span.twin, span.twin_trace = twin or "", twin_trace or b""
    if sources:
        span.reported_by = {source.removeprefix(_INSTEAD_OF) for source in sources}
    if twins:
        span.twins = [*zip(twins[::2], twins[1::2], strict=True)]
    if elsewhere:
        span.elsewhere = frozenset(elsewhere)
    if fed or (sent and sent is not True):
        span.stored = state_of(span)  # numbers beyond 64 bits come back as text
    return span


def _restore_flags(span: Span, flags: int) -> None:
    span.again, span.carries_below = bool(flags & _AGAIN), bool(flags & _CARRIES_BELOW)
    span.loops, span.asked_before = int(bool(flags & _LOOPS)), bool(flags & _ASKED_BEFORE)
    span.failed_before = bool(flags & _FAILED_BEFORE)
    if flags >> _LOOPS_FROM:
        span.loops = (flags >> _LOOPS_FROM) - _NO_LOOPS


_INSTEAD_OF = "instead of "
"""Before a source whose report had counted first, in records of earlier releases."""
_ABSENT: list[Any] = [0, *[None] * 19]


def _of_fixed(fixed: bytes) -> Span:
    row = unpack(fixed)
    span = Span(row[0], row[1], row[2], row[3])
    span.fixed = fixed
    if len(row) == 4:
        return span
    if row[4]:
        span.session = Named(row[4], row[5])
    if row[6]:
        span.run = Named(row[6], row[7])
    if len(row) == _PLAIN:
        return span
    span.kind, span.scope, span.parent_session, span.response, span.call_id = row[8:13]
    span.signature, span.logged, claim = row[13:16]
    if len(row) > _WITHOUT_DETAIL:
        agent, parent, tool, failed, dimensions, *more = row[16]
        span.detail = Detail(agent, parent, tool, failed, tuple(dimensions), *more[:3], *map(tuple, more[3:5]))
        if len(more) > 5 and more[5]:
            span.detail = structs.replace(span.detail, asked_again=tuple(map(tuple, more[5])))
        if len(more) > 6:
            span.detail = structs.replace(span.detail, asked_signatures=tuple(more[6]))
    if claim is not None:
        tokens, amount, *rest = claim
        span.claim = Claim(_all_classes(tokens), None if amount is None else int(amount), *rest[:7])
        if len(rest) > 7:
            span.claim.evidence = evidence_of(rest[7])
            span.claim.cached = len(rest) > 8 and rest[8]
            span.claim.granularity = rest[9] if len(rest) > 9 else ""
            span.claim.card = rest[10] if len(rest) > 10 else ""
            span.claim.first_token_ns = rest[11] if len(rest) > 11 else 0
            span.claim.fresh = int(rest[12]) if len(rest) > 12 else None
            span.claim.terms = rest[13] if len(rest) > 13 else 0
    return span


def evidence_of(row: list[Any]) -> Evidence:
    """Return the evidence of a stored claim."""
    asked, ids, origin = row
    return Evidence(asked, tuple(ids), tuple(origin)) if asked or ids or origin else NO_EVIDENCE


def _all_classes(tokens: list[int | None]) -> tuple[int | None, ...]:
    """Return the counts of a claim; one of a version that had fewer classes knows nothing of the others."""
    if not tokens:
        return ()
    return (*tokens, *[None] * (len(USAGE_CLASSES) - len(tokens)))[: len(USAGE_CLASSES)]


@dataclass(frozen=True, slots=True)
class StoredSpan:
    """A GenAI span as it is remembered: the decision that its attributes were written from, and its place now.

    `counts` is false for one that adds nothing to the ledger now, also where it was sent with a cost before that was
    known. `provider` and `model` are empty where it claims no usage.
    """

    decision: Decision
    counts: bool
    session_id: str
    run_id: str
    provider: str = ""
    model: str = ""


def stored_span(reader: Reader, tenant: bytes, trace_id: bytes, span_id: bytes) -> StoredSpan | None:
    """Return what is remembered of a span; None if that is nothing, or it is no GenAI span."""
    record = reader.get(trace_key(tenant, trace_id))
    if record is None:
        return None
    head, rows = unpack_head(record)
    settled = segment_of(reader.get(settled_key(tenant, trace_id, span_id)))
    for number in (0, *((settled,) if settled else head.segments())):
        closed = reader.get(trace_key(tenant, trace_id, number)) if number else None
        for row in unpack_segment(closed) if closed is not None else rows if not number else ():
            if id_of(row) == span_id and (packed := decision_in(row[0])):
                return _stored(span_in(row), unpack_decision(packed)[0])
    return None


def pack_settled(segment: int) -> bytes:
    """Return the record of the segment that holds a span which the rules do not look at any more."""
    return segment.to_bytes(2, "big")


def segment_of(settled: bytes | None) -> int:
    """Read what `pack_settled` wrote; 0 where there is none."""
    return 0 if settled is None else int.from_bytes(settled, "big")


def _stored(span: Span, decision: Decision) -> StoredSpan:
    posting, claim = span.posting, span.claim
    return StoredSpan(
        decision,
        counts=(posting is not None and posting.role == COUNTED) or span.fee > 0,
        session_id=(posting.session if posting is not None else "") or decision.session_id,
        run_id=(posting.run if posting is not None else "") or decision.run_id,
        provider=claim.provider if claim is not None else "",
        model=claim.model if claim is not None else tool_label(span.detail.tool) if span.fee else "",
    )


# Usual calls.

OwnValues: TypeAlias = Sequence[Sequence[Any]]
"""What usual calls of a trace have of their own, by what it is: numbers of their patterns in the record, their
`Columns` one behind the other, ids and sources of runs, running totals of sessions and runs."""
Beside: TypeAlias = tuple[Sequence[int], Sequence[Sequence[Any]]]
"""Plain spans that name no run: their places among all spans of the trace, in order, and by what it is, what they have:
ids of the span and its parent, start, end, and the session and its source."""
_LINKS = 4
"""Values before the session."""
_COUNTS, _PARTS = slice(6, 12), slice(13, 18)
"""Where counts and the parts of an amount stand among them."""

_SESSION, _RUN, _RUN_SOURCE, _USAGE, _COST, _SESSION_COST, _RUN_COST = map(
    DECISION_VALUES.index, ("session_id", "run_id", "run_source", "usage", "cost", "session_cost", "run_cost")
)
_OWN_VALUES = (_SESSION, _RUN, _RUN_SOURCE, _USAGE, _COST, _SESSION_COST, _RUN_COST)
_NAMED = 5
"""A span's own values with which its row begins: ids of the span and its parent, start, end, and the session."""
_RESPONSE, _CLAIM = 11, 15
"""In the packed part of a row (`fix`)."""
_TOKENS, _AMOUNT, _DAY, _FIRST_TOKEN, _FRESH = 0, 1, 5, 13, 14
"""Within the claim."""
_REST = (None,) * (len(CLASS_NAMES) - 6)


def pattern_of_row(row: Sequence[Any], price: str, models: str, *, estimate: bool) -> bytes | None:
    """Return what a row has in common with those of calls like it; None if it is of another form."""
    fixed, (_, *state) = unpack(row[0]), row
    if len(fixed) <= _CLAIM + 1 or not isinstance(fixed[_CLAIM], list):
        return None
    values = values_in(fixed[-1])
    for index in _OWN_VALUES:
        values[index] = None
    claim = fixed[_CLAIM]
    for index in (_TOKENS, _AMOUNT, _DAY, _FIRST_TOKEN, _FRESH):
        if index < len(claim):
            claim[index] = None
    fixed[:_NAMED] = [None] * _NAMED
    fixed[_RESPONSE] = fixed[-1] = None
    return pack([fixed, values, state, price, estimate, models])


def pack_usual(patterns: Sequence[bytes], own: OwnValues, arrival_ms: int, beside: Beside | None = None) -> bytes:
    """Return the record of a trace of usual calls, and of the plain spans `beside` them. What is the same of all of
    them stands there once.
    """
    plain = () if beside is None else (beside[0], _stored_once(beside[1]))
    return pack([_USUAL_VERSION, arrival_ms, patterns, len(own[0]), _stored_once(own), *plain])


def _stored_once(columns: Iterable[Sequence[Any]]) -> list[Sequence[Any]]:
    return [
        column[:1] if column[0] == column[-1] and column.count(column[0]) == len(column) else column
        for column in columns
    ]


def _rows_of(
    patterns: Sequence[bytes],
    number: int,
    stored: Sequence[Sequence[Any]],
    places: Sequence[int] = (),
    plain: Sequence[Sequence[Any]] = (),
) -> list[SpanRow]:
    """Return the rows of what `pack_usual` packed, each whole."""
    rows = [_row_of(unpack(patterns[own[0]]), own) for own in _by_span(stored, number)]
    for place, own in zip(places, _by_span(plain, len(places)), strict=True):
        rows.insert(place, [pack([*own[:_LINKS], *([*own[_LINKS:], "", ""] if own[_LINKS] else ())])])
    return rows


def _by_span(stored: Sequence[Sequence[Any]], number: int) -> Iterator[tuple[Any, ...]]:
    """Yield the values of each of so many spans."""
    return zip(*[column if len(column) > 1 else [*column] * number for column in stored], strict=True)


def _row_of(pattern: list[Any], own: tuple[Any, ...]) -> SpanRow:
    counts, parts, models = own[_COUNTS], own[_PARTS], pattern[5]
    digest = digest_with(begun_digest(models), counts[:5])
    return _whole_row(pattern, (*own[1:6], digest, counts, own[12], parts, *own[18:]))


def _rows_one_by_one(patterns: Sequence[bytes], rows: Sequence[Sequence[Any]]) -> list[SpanRow]:
    """Return the rows of a record of an earlier version, in which the own values of each call stood together."""
    whole: list[SpanRow] = []
    for number, *own in rows:
        span_id, parent_id, start_ns, end_ns, session, response, digest, counts, amount, parts, *more = own
        day, first_token_ns, *run = more
        values = (span_id, parent_id, start_ns, end_ns, response, digest, counts, amount, parts)
        whole.append(_whole_row(unpack(patterns[number]), (*values, day, first_token_ns, session, *run)))
    return whole


def _whole_row(pattern: list[Any], own: Sequence[Any]) -> SpanRow:
    row, values, state, price, estimate = pattern[:5]
    span_id, parent_id, start_ns, end_ns, response, digest, counts, amount, parts, *more = own
    day, first_token_ns, session, run_id, run_source, session_cost, run_cost = more
    tokens = (*counts, *_REST)
    values[_SESSION], values[_RUN], values[_RUN_SOURCE], values[_USAGE] = session, run_id, run_source, tokens
    values[_COST] = (amount, "computed", amount, *parts, None, price, estimate, None, "")
    values[_SESSION_COST], values[_RUN_COST] = session_cost, run_cost
    claim = row[_CLAIM]
    claim[_TOKENS], claim[_AMOUNT], claim[_DAY] = tokens, amount, day
    if len(claim) > _FIRST_TOKEN:
        claim[_FIRST_TOKEN] = first_token_ns
    if len(claim) > _FRESH:
        claim[_FRESH] = int(parts[0]) + int(parts[2])
    row[:_NAMED] = span_id, parent_id, start_ns, end_ns, session
    row[_RESPONSE], row[-1] = response, pack_values(values, digest)
    return [pack(row), *state]
