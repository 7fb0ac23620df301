"""Account for new spans of a long trace without running `count_once.match` over all of its spans.

A trace that an agent works on for hours arrives in many requests. Roles are a function of all its spans, but in a plain
trace no later span changes them: counted are calls with ids of their own that share their usage with no call of another
source; above them only aggregates claim, and each repeats a counted call already. A span that breaks one of these
conditions ends the shortcut, and `match` decides on the trace. A differential test compares both
(tests/accounting/test_incremental.py).

The `_enter` methods note what spans bring, and return whether the trace still is plain. Where one returns False, a part
may have been noted: the object is of no use any more, and whoever holds it lets go of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from spanledger_processor.accounting.count_once import calls_again, holds_steps
from spanledger_processor.accounting.grouping import MAX_DEPTH, Groups
from spanledger_processor.accounting.links_and_times import Forest
from spanledger_processor.accounting.one_call import ReportSource, uncached_inputs
from spanledger_processor.accounting.tool_calls import AskedTools, ToolResults
from spanledger_processor.accounting.trace import COUNTED, MAX_SPANS, REPEATS, Claim, Span, Trace
from spanledger_processor.model import AGGREGATES, CALLS, CONTAINERS, INPUT

_NO_CALLS = AGGREGATES | CONTAINERS
_MOST_KNOWN = 16 * MAX_SPANS
"""Ids and token counts that are remembered of a trace; a call without tools has three, with caches five."""


@dataclass(slots=True)
class Incremental:
    """The state of a plain trace, which names one session and one run at most; of no use once `add` returns False."""

    session: str = ""
    run: str = ""
    names_agents: bool = False
    _has_agents: bool = False
    has_lent: bool = False
    """A call of another trace lends a session, which holds while this one names none."""
    roles: dict[bytes, str] = field(default_factory=dict)
    _repeating: frozenset[bytes] = frozenset()
    """Ids of aggregates that repeat a counted call."""
    _above: set[bytes] = field(default_factory=set)
    """Ids of the spans above those that claim."""
    _uppers: set[bytes] = field(default_factory=set)
    """Ids of the spans above any other."""
    _above_agents: set[bytes] = field(default_factory=set)
    """Ids of the spans above an agent's."""
    _above_tools: set[bytes] = field(default_factory=set)
    """Ids of the spans above a tool's."""
    _ids: set[str | bytes] = field(default_factory=set)
    _sources: dict[int, ReportSource] = field(default_factory=dict)
    """By input tokens, also without caches: the one source of the calls that have as many."""
    _all_sources: set[ReportSource] = field(default_factory=set)
    _tells_less: bool = False
    """One of the calls tells no input."""
    results: ToolResults = field(default_factory=lambda: ToolResults({}))
    """The calls and tools of the trace; complete where `_has_tools` is true, else empty."""
    asked: AskedTools = field(default_factory=AskedTools)
    _has_tools: bool = False

    @classmethod
    def of(cls, trace: Trace, roles: Mapping[bytes, str]) -> Incremental | None:
        """Return the state of a trace whose spans have these roles, None if it is not plain."""
        sessions, runs, names_agents = trace.names()
        if len(sessions) > 1 or len(runs) > 1 or trace.cut:
            return None
        known = cls("".join(sessions), "".join(runs), _repeating=_repeating(trace, roles), _above=set(trace.awaited))
        known.has_lent = any(span.lent_session for span in trace.spans.values())
        known.names_agents = names_agents
        known._has_agents = names_agents or any(span.kind == "agent" for span in trace.spans.values())
        if not known._enter_all(trace, trace.spans.values()):
            return None
        known._has_tools = any(span.kind == "tool" for span in trace.spans.values())
        known.results = ToolResults.of(trace.spans, known.groups(trace), known.roles)
        known.asked = AskedTools.of(trace.spans.values())
        return known

    def add(self, trace: Trace, spans: Iterable[Span]) -> bool:
        """Take in spans that `trace` holds already; return whether it still is plain with them."""
        added = list(spans)
        if not all(map(self._names_no_other, added)) or not self._enter_agents(trace, added):
            return False
        if any(self._brings_tool(trace, span) for span in added):
            return False
        self.asked.add(added)
        return self._enter_all(trace, added) and self._enter_results(trace, added)

    def forget(self, trace: Trace, gone: Iterable[Span]) -> bool:
        """Let go of spans that `trace` does not hold any more; return whether that is possible.

        What they were known by stays, so that a span like one of them is left to `match`; but not for ever.
        """
        known = len(self._ids) + len(self._sources) + len(self._uppers) + len(self._above) + len(self._above_tools)
        if trace.cut or self.names_agents != trace.names().has_agents or known > _MOST_KNOWN:
            return False
        tools: set[bytes] = set()
        for span in gone:
            if span.detail.asked or span.detail.stuck:
                return False
            self.roles.pop(span.span_id, None)
            if self._has_tools:
                self.results.remove(span)
            if span.kind == "tool":
                tools.add(span.span_id)
        if tools:
            self.asked.remove_tools(tools)
        return True

    def _enter_results(self, trace: Trace, added: list[Span]) -> bool:
        """Enter results of tools; return whether they still went into the known calls as they did."""
        if not self._has_tools:
            if not any(span.kind == "tool" for span in added):
                return True
            self._has_tools, added = True, list(trace.spans.values())
        groups = self.groups(trace)
        touched = {call.span_id: call for span in added for call in self.results.add(span, groups, self.roles)}
        return all(call.posting is None or call.posting.fed == self.results.fed(call) for call in touched.values())

    def _brings_tool(self, trace: Trace, span: Span) -> bool:
        """Return whether a new span puts a tool above known calls or tools, which gives them another context."""
        if span.span_id not in self._above and span.span_id not in self._above_tools:
            return False
        above: Span | None = span
        for _ in range(MAX_DEPTH):
            if above is None or above.kind == "tool":
                return above is not None
            above = trace.spans.get(above.parent_id)
        return True

    def _enter_all(self, trace: Trace, spans: Iterable[Span]) -> bool:
        """Give spans their roles, and note where they stand; return whether the trace still is plain with them."""
        for span in spans:
            if not self._enter(trace, span):
                return False
            _climb_into(self._uppers, trace, span)
            if span.kind == "agent" or span.span_id in self._above_agents:
                _climb_into(self._above_agents, trace, span)
            if span.kind == "tool" or span.span_id in self._above_tools:
                _climb_into(self._above_tools, trace, span)
        return True

    def groups(self, trace: Trace) -> Groups:
        """Return the sessions and runs of `trace`."""
        return Groups(trace.spans, {self.session}, {self.run}, names_agents=self.names_agents)

    def _names_no_other(self, span: Span) -> bool:
        sessions = ("",) if self.has_lent else ("", self.session)  # a trace that names one itself is lent none
        return span.session.id in sessions and span.run.id in ("", self.run)

    def _enter_agents(self, trace: Trace, spans: list[Span]) -> bool:
        """Note that there are agents; return False where one comes above known spans, which changes their postings."""
        self.names_agents = self.names_agents or any(span.detail.agent for span in spans)
        self._has_agents = self._has_agents or self.names_agents or any(span.kind == "agent" for span in spans)
        return not self._has_agents or not any(self._brings_agent(trace, span) for span in spans)

    def _brings_agent(self, trace: Trace, span: Span) -> bool:
        """Return whether a new span puts an agent above known ones, or links them to one."""
        if span.span_id not in self._uppers:
            return False
        above: Span | None = span
        for _ in range(MAX_DEPTH):
            if above is None:
                return False
            if above.detail.agent or (above.kind == "agent" and span.span_id in self._above_agents):
                return True
            above = trace.spans.get(above.parent_id)
        return True

    def _enter(self, trace: Trace, span: Span) -> bool:
        claim = span.claim
        if self._shows_rounds(trace, span) or (claim is not None and span.library.tells_last_step):
            return False
        if claim is None:
            return not (span.carries_below or span.span_id in self._above) or self._enter_ancestors(trace, span)
        if span.span_id in self._repeating:
            self.roles[span.span_id] = REPEATS
            return self._enter_ancestors(trace, span)
        if claim.card or (span.logged and claim.unpriced == "no_model"):
            return False
        if span.twin or span.carries_below or claim.fallback or span.kind in _NO_CALLS or span.span_id in self._above:
            return False
        if not self._enter_ids(span, claim) or not self._enter_source(span):
            return False
        self.roles[span.span_id] = COUNTED
        return self._enter_ancestors(trace, span)

    def _shows_rounds(self, trace: Trace, span: Span) -> bool:
        """Return whether a tool is below a call whose library then made several calls, or any step below its call."""
        if span.kind not in CALLS:
            caller = trace.spans.get(span.parent_id)
            return caller is not None and ((span.kind == "tool" and calls_again(caller)) or holds_steps(caller))
        return span.span_id in self._uppers and (calls_again(span) or holds_steps(span))

    def _enter_ids(self, span: Span, claim: Claim) -> bool:
        """Note a call's ids, and the source of calls with its input; return whether no other call may be the same."""
        ids: set[str | bytes] = set(claim.evidence.ids)
        if span.response:
            ids.add(span.response)
        if not self._ids.isdisjoint(ids):
            return False
        self._ids |= ids
        given = claim.tokens[INPUT] if claim.tokens else None
        if not given:
            return True
        source, known = (span.scope, span.logged), self._sources
        without_caches = uncached_inputs(claim.tokens, of_anthropic=claim.of_anthropic)
        return all(known.setdefault(one, source) == source for one in (given, *without_caches))

    def _enter_source(self, span: Span) -> bool:
        """Note a call's source; return whether there is no other where a call tells no input: it may be the same."""
        self._tells_less = self._tells_less or not span.has_input
        self._all_sources.add((span.scope, span.logged))
        return not self._tells_less or len(self._all_sources) == 1

    def _enter_ancestors(self, trace: Trace, span: Span) -> bool:
        """Note the ancestors of a span; return whether none of the known ones claims."""
        ancestor = span.parent_id
        while ancestor and ancestor not in self._above:
            above = trace.spans.get(ancestor)
            if above is not None and above.claim is not None and ancestor not in self._repeating:
                return False
            self._above.add(ancestor)
            ancestor = b"" if above is None else above.parent_id
        return True


def _climb_into(uppers: set[bytes], trace: Trace, span: Span) -> None:
    """Add the ancestors of a span to `uppers`, which holds those of other spans."""
    ancestor = span.parent_id
    while ancestor and ancestor not in uppers:
        uppers.add(ancestor)
        above = trace.spans.get(ancestor)
        ancestor = b"" if above is None else above.parent_id


def _repeating(trace: Trace, roles: Mapping[bytes, str]) -> frozenset[bytes]:
    """Return the aggregates that repeat a counted call, or one that is forgotten."""
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
        if role == COUNTED and (span := trace.spans.get(span_id)) and span.spends
    }
    carrying = {span.span_id: 1 for span in trace.spans.values() if span.carries_below}
    return frozenset(repeating & (carrying.keys() | Forest(trace.spans).sums_below(carrying | counted).keys()))


def _is_plain_aggregate(span: Span) -> bool:
    claim = span.claim
    has_usage = claim is not None and bool(claim.tokens) and not claim.fallback
    return has_usage and span.kind in AGGREGATES and not span.twin
