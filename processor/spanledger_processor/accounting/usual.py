"""What tells whether new spans leave the old ones of a trace as they are, so that nobody has to look at these again.

A trace that an agent works on for hours arrives in many requests. The roles are a function of all its spans
(`roles`), but in the usual one, as known here, each span that claims is counted whatever comes, or repeats what is
below it. Counted are calls with a response id of their own that share their usage with none of another source; above
them nothing claims but aggregates that repeat a counted call already, which a further one does not change. Whatever
might be different ends that, and the rules look at the whole trace.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from spanledger_processor.accounting.forest import Forest
from spanledger_processor.accounting.grouping import Groups
from spanledger_processor.accounting.roles import CONTAINERS, REPEATS
from spanledger_processor.accounting.same import AGGREGATES
from spanledger_processor.accounting.trace import COUNTED, Claim, Span, Trace

_NO_CALLS = AGGREGATES | CONTAINERS


@dataclass(slots=True)
class Usual:
    """A trace that names one session and one run at most. Where `add` says False, it is to be thrown away."""

    session: str = ""
    run: str = ""
    roles: dict[bytes, str] = field(default_factory=dict)
    _settled: frozenset[bytes] = frozenset()
    """Ids of aggregates that repeat a counted call."""
    _above: set[bytes] = field(default_factory=set)
    """Ids of what stands above spans that claim."""
    _responses: set[str] = field(default_factory=set)
    _sources: dict[int, tuple[str, bool]] = field(default_factory=dict)
    """By input tokens: the one source of the calls that have as many."""

    def add(self, trace: Trace, spans: Iterable[Span]) -> bool:
        """Take in spans that stand in `trace` already; whether it is still a usual one with them."""
        return all(self._names_no_other(span) and self._takes(trace, span) for span in spans)

    def groups(self, trace: Trace) -> Groups:
        """The groups of `trace`."""
        return Groups(trace.spans, {self.session}, {self.run})

    def _names_no_other(self, span: Span) -> bool:
        return span.session.id in ("", self.session) and span.run.id in ("", self.run)

    def _takes(self, trace: Trace, span: Span) -> bool:
        claim = span.claim
        if claim is None:
            return span.span_id not in self._above or self._climb(trace, span)
        if span.span_id in self._settled:
            self.roles[span.span_id] = REPEATS
            return self._climb(trace, span)
        if span.twin or span.carries_below or claim.fallback or span.kind in _NO_CALLS or span.span_id in self._above:
            return False
        if not self._is_one_of_its_kind(span, claim):
            return False
        self.roles[span.span_id] = COUNTED
        return self._climb(trace, span)

    def _is_one_of_its_kind(self, span: Span, claim: Claim) -> bool:
        if span.response:
            if span.response in self._responses:
                return False
            self._responses.add(span.response)
        tokens = claim.tokens
        source = (span.scope, span.logged)
        return not (tokens and tokens[0]) or self._sources.setdefault(tokens[0], source) == source

    def _climb(self, trace: Trace, span: Span) -> bool:
        """Note what stands above a span; whether nothing of it claims, as far as it is known."""
        ancestor = span.parent_id
        while ancestor and ancestor not in self._above:
            above = trace.spans.get(ancestor)
            if above is not None and above.claim is not None and ancestor not in self._settled:
                return False
            self._above.add(ancestor)
            ancestor = b"" if above is None else above.parent_id
        return True


def usual_of(trace: Trace, roles: Mapping[bytes, str]) -> Usual | None:
    """What is to be known of `trace`, in which spans play `roles`, if it is a usual one."""
    sessions = {span.session.id for span in trace.spans.values()} - {""}
    runs = {span.run.id for span in trace.spans.values()} - {""}
    if len(sessions) > 1 or len(runs) > 1:
        return None
    known = Usual("".join(sessions), "".join(runs), _settled=_settled(trace, roles))
    return known if known.add(trace, trace.spans.values()) else None


def _settled(trace: Trace, roles: Mapping[bytes, str]) -> frozenset[bytes]:
    repeating = {
        span_id
        for span_id, role in roles.items()
        if role == REPEATS and (span := trace.spans.get(span_id)) and _is_plain_aggregate(span)
    }
    if not repeating:
        return frozenset()
    counted = {
        span_id: 1
        for span_id, role in roles.items()
        if role == COUNTED and (claim := trace.spans[span_id].claim) is not None and claim.spends
    }
    return frozenset(repeating & Forest(trace.spans).sums_below(counted).keys())


def _is_plain_aggregate(span: Span) -> bool:
    claim = span.claim
    told = claim is not None and bool(claim.tokens) and not claim.fallback
    return told and span.kind in AGGREGATES and not span.twin and not span.carries_below
