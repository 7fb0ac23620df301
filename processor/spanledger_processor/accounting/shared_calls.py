"""Calls that several traces report: which calls of different traces are one, and the report of it that counts.

Each trace is decided on by itself (`count_once`), as if there were no other. What counts in its own trace, together
with the spans there that report the same call, is a `SharedCall` here. Two of different traces are one call where any
report of the one and any of the other are known to report one (`one_call`); those of a common id are put together
first, then those of equal usage, the nearest in time first. Nothing is put together in which two are known to be two
calls: no call is lost where a third report would fit both. So which calls are one is a function of the set of spans, as
roles in a trace are, and what is put together never changes these.

Rule 2: the richest report of a call counts, and of reports that are alike the one with the greatest id.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from operator import itemgetter
from typing import Any, NamedTuple, TypeAlias

from msgspec import structs

from spanledger_processor.accounting.grouping import Named
from spanledger_processor.accounting.one_call import (
    ONE_CALL,
    contradict,
    one_call,
    richest,
    source_of,
)
from spanledger_processor.accounting.trace import MOST_TWINS, Claim, Span
from spanledger_processor.model import AGGREGATES, NO_SPEND

MOST_CALLS = 16
"""Calls that are looked at together, each of which some other may be."""
_MOST_REPORTS = 6
"""Reports of a call that are compared: libraries, proxies and logs around one call."""
_MOST_KEPT = 1 << 16
"""Comparisons of spans that are kept: 20 MB."""
_UNDECIDED = frozenset({"loose", "few"})
"""Codes by which two calls are not known to be one, nor to be two."""

SpanAt: TypeAlias = tuple[bytes, bytes]
"""A trace, and a span of it."""


class CallReport(NamedTuple):
    """A span that reports a call: where it is, and its session as its own trace names it."""

    at: SpanAt
    span: Span
    session: str


@dataclass(slots=True, eq=False)
class SharedCall:
    """A call as one trace reports it: the report that counts there, and all others.

    `is_fixed`: the trace does not hold the span any more, so that what is stored of it cannot change. `kept` are
    reports of other traces that gave way to it and that these do not hold any more; if there are any, `kept_sources`
    are the sources of all that did.
    """

    reports: Sequence[CallReport]
    """The one that counts first."""
    run: str = ""
    agent: str = ""
    """Of its counted report, as its own trace names them."""
    is_fixed: bool = False
    kept: Sequence[SpanAt] = ()
    kept_sources: frozenset[str] = frozenset()
    compared: Sequence[CallReport] = field(init=False)
    """The reports that those of other traces are compared with: no sums."""

    def __post_init__(self) -> None:
        self.compared = [report for report in self.reports if report.span.kind not in AGGREGATES][:_MOST_REPORTS]

    @property
    def at(self) -> SpanAt:
        """Return where its counted report is."""
        return self.reports[0].at

    @property
    def trace_id(self) -> bytes:
        """Return the trace that reports it."""
        return self.reports[0].at[0]

    @property
    def span(self) -> Span:
        """Return its counted report."""
        return self.reports[0].span

    @property
    def session(self) -> str:
        """Return its session as its own trace names it."""
        return self.reports[0].session

    @property
    def is_linked(self) -> bool:
        """Return whether calls of other traces are known to be it."""
        return bool(self.span.twin or self.span.twins)


class Comparisons:
    """Why calls of different traces are one, or why not: of two spans it is found once while a request is entered.

    `made` is how many spans were compared.
    """

    def __init__(self) -> None:
        self.made = 0
        self._of_spans: dict[tuple[SpanAt, str, SpanAt, str], str] = {}
        self._of_calls: dict[tuple[SpanAt, SpanAt], str] = {}

    def of_spans(self, one: CallReport, other: CallReport) -> str:
        """Return why two spans of two traces report one call, or why not."""
        if other.at < one.at:
            one, other = other, one
        key = one.at, one.session, other.at, other.session
        code = self._of_spans.get(key)
        if code is None:
            if len(self._of_spans) >= _MOST_KEPT:
                self.clear()
            self.made += 1
            code = self._of_spans[key] = _code_across(one.span, one.session, other.span, other.session)
        return code

    def of_calls(self, one: SharedCall, other: SharedCall) -> str:
        """Return why two calls are one, or why not."""
        if one.trace_id == other.trace_id or (one.is_fixed and other.is_fixed):
            return "trace"
        key = (one.at, other.at) if one.at < other.at else (other.at, one.at)
        code = self._of_calls.get(key)
        if code is None:
            code = self._of_calls[key] = self._code(one, other)
        return "library" if code == "equal usage" and not _sources_of(one).isdisjoint(_sources_of(other)) else code

    def _code(self, one: SharedCall, other: SharedCall) -> str:
        """Return the same by the reports of two calls alone."""
        ones, others = one.compared, other.compared
        if not ones or not others:
            return "kind"
        codes = (self.of_spans(a, b) for a in ones for b in others)
        first = next(codes)
        if first == "same id" or contradict(one.span, other.span):
            return first
        is_equal = first == "equal usage"
        for code in codes:
            if code == "same id":
                return code
            is_equal = is_equal or code == "equal usage"
        return "equal usage" if is_equal else first

    def may_be_one(self, one: SharedCall, other: SharedCall) -> bool:
        """Return whether two calls are one, or are not known to be two."""
        code = self.of_calls(one, other)
        return code in ONE_CALL or code in _UNDECIDED

    def clear(self) -> None:
        """Keep nothing any more: a trace is decided on anew."""
        self._of_spans.clear()
        self._of_calls.clear()


def _code_across(one: Span, its_session: str, other: Span, others_session: str) -> str:
    """Return why two spans of two traces report one call, or why not, by the sessions that their traces name for them.

    Where neither names one itself, traces of two sessions may report one call.
    """
    if its_session != others_session and not (one.own_session or other.own_session):
        its_session = others_session = ""
    first, second = _named(one, its_session), _named(other, others_session)
    if second.span_id < first.span_id:  # whichever is looked for
        first, second = second, first
    return one_call(first, second, one_trace=False)


def _named(span: Span, session: str) -> Span:
    """Return a span as if it named a session itself."""
    return span if span.own_session == session else structs.replace(span, session=Named(session), lent_session="")


def groups_of(calls: Iterable[SharedCall], compared: Comparisons) -> list[list[SharedCall]]:
    """Return the calls of several traces, those that are one together; in whatever order they come."""
    ordered = sorted(calls, key=lambda call: call.at)
    codes = [(compared.of_calls(one, other), one, other) for one, other in combinations(ordered, 2)]
    links = [(code != "same id", _apart(one, other), one, other) for code, one, other in codes if code in ONE_CALL]
    links.sort(key=itemgetter(0, 1))
    groups = {call.at: [call] for call in ordered}
    for _, _, one, other in links:
        ones, others = groups[one.at], groups[other.at]
        if ones is not others and all(compared.may_be_one(a, b) for a in ones for b in others):
            ones += others
            groups.update((call.at, ones) for call in others)
    return [[*group] for group in dict.fromkeys(tuple(group) for group in groups.values())]


def may_join(call: SharedCall, group: Sequence[SharedCall], compared: Comparisons) -> bool:
    """Return whether a call is one with those of a group, and none of them speaks against it."""
    is_one = any(compared.of_calls(call, other) in ONE_CALL for other in group)
    return is_one and all(compared.may_be_one(call, other) for other in group)


def _sources_of(call: SharedCall) -> set[str]:
    return {source_of(report.span) for report in call.reports} | call.kept_sources


def _apart(one: SharedCall, other: SharedCall) -> tuple[int, SpanAt, SpanAt]:
    return apart(one.span, other.span), one.at, other.at


def apart(one: Span, other: Span) -> int:
    """Return how far two spans are apart in time, in ns: their starts and their ends."""
    return abs(one.start_ns - other.start_ns) + abs(one.end_ns - other.end_ns)


def why_one(call: SharedCall, counted: SharedCall, group: Sequence[SharedCall], compared: Comparisons) -> str:
    """Return why a call is one with the counted one of its group, or with another that is."""
    codes = (compared.of_calls(call, other) for other in (counted, *group) if other is not call)
    return next((code for code in codes if code in ONE_CALL), "same id")


def counted_of(group: Sequence[SharedCall]) -> SharedCall:
    """Return the call of a group that counts: the richest. What its trace names for it counts as its own.

    Log events of one call have one id in all traces: of these the greatest trace decides.
    """
    fixed = next((call for call in group if call.is_fixed), None)
    if fixed is not None or len(group) == 1:
        return fixed or group[0]
    calls = sorted(group, key=lambda call: call.at, reverse=True)
    spans = [_as_named(call) for call in calls]
    first = richest(spans)
    return next(call for call, span in zip(calls, spans, strict=True) if span is first)


def _as_named(call: SharedCall) -> Span:
    """Return the counted report of a call as if it named itself what its trace names for it."""
    span = _named(call.span, call.session)
    if span.run.id == call.run and span.detail.agent == call.agent:
        return span
    return structs.replace(span, run=Named(call.run), detail=structs.replace(span.detail, agent=call.agent))


def counted_before(group: Sequence[SharedCall], call: SharedCall) -> SharedCall | None:
    """Return the call of a group that counted until this one came, where that reports the same usage and price."""
    reported = _usage_and_price(call.span)
    others = (one for one in group if one is not call and one.span.counted)
    return next((one for one in others if _usage_and_price(one.span) == reported), None)


def _usage_and_price(span: Span) -> tuple[Any, ...]:
    claim = span.claim or Claim()
    return claim.tokens, claim.amount, claim.unpriced, claim.cached


def count_one(group: Sequence[SharedCall]) -> Iterator[SharedCall]:
    """Let one call of a group count; yield those of which that changes something.

    What was sent for the others is carried by the counted one.
    """
    counted = counted_of(group)
    others = sorted((call for call in group if call is not counted), key=lambda call: call.at)
    kept = [at for call in group for at in call.kept]
    sources = {source_of(call.span) for call in others}.union(*[call.kept_sources for call in group])
    if not counted.is_fixed:
        for call in others:
            if call.span.sent:
                counted.span.sent, call.span.sent = counted.span.sent + call.span.sent, NO_SPEND
        twins = [*kept, *[call.at for call in others]][-MOST_TWINS:]
        if _link(counted.span, "", b"", twins, sources):
            yield counted
    for call in others:
        if _link(call.span, counted.span.span_id.hex(), counted.trace_id, [], set()):
            yield call


def _link(span: Span, twin: str, twin_trace: bytes, twins: list[SpanAt], sources: set[str]) -> bool:
    """Enter what calls of other traces are to a span; return whether that is something else than before."""
    before = span.twin, span.twin_trace, span.twins, span.reported_by
    if before == (twin, twin_trace, twins, sources):
        return False
    span.twin, span.twin_trace, span.twins, span.reported_by = twin, twin_trace, twins, sources
    return True


def counted_at(span: Span) -> SpanAt:
    """Return where the report of another trace is that counts for a span, as far as there is one."""
    return span.twin_trace, bytes.fromhex(span.twin)


def unlink(span: Span) -> list[SpanAt]:
    """Let a span that counts no more stand for no call of another trace; return those that it was one with."""
    former = [*span.twins]
    if span.twin_trace:
        former.append(counted_at(span))
        span.twin, span.twin_trace = "", b""
    span.twins, span.reported_by = [], set()
    return former
