"""Usual calls, accounted for by what the full rules come to for one call like them.

Taken are traces of which nothing is stored and whose GenAI spans in a request are all usual calls (`usual_traces`): of
one library, each with a session of its own or its parent's naming, and of which no other trace may know. Such calls all
count, whatever else comes with them, so that nothing has to be decided: each is stored, summed and written as one call
like it is, with its own ids, times, counts and amounts. Plain spans beside them are stored as links, and add nothing.

What that is, `accounting.account` says: a pattern is what the full rules make of one call (`usual`). It is used only if
it comes to the very same changes for a second one. So nothing of the rules, or of what is stored, is written down here
a second time. Whatever depends on more of the ledger than the running totals of a session and its run has to be refused
by `_Usual`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import accumulate, chain
from operator import add, attrgetter, itemgetter, sub
from typing import Any, NamedTuple

from spanledger_processor.accounting.column_batch import ColumnBatch
from spanledger_processor.accounting.columns import Columns, UsualColumns, slices_of, sums_of
from spanledger_processor.accounting.cross_trace_index import CallFilter, CrossTraceIndex
from spanledger_processor.accounting.facts import Batch, Fact, RuledAlike, Ruling
from spanledger_processor.accounting.grouping import Named
from spanledger_processor.accounting.totals import GroupedCalls, Totals
from spanledger_processor.accounting.trace_record import Beside, pack_usual, unpack_head
from spanledger_processor.accounting.usual import (
    DECISION_FIELDS,
    NOTHING_STORED,
    Pattern,
    Rules,
    UsualFact,
    UsualForm,
    another,
    decisions_on,
    pattern_of,
    whole,
)
from spanledger_processor.accounting.usual_traces import UsualTrace, UsualTraces, usual_traces
from spanledger_processor.ledger.facts import AHEAD_NS, Latest, ModelUse
from spanledger_processor.ledger.keys import trace_key
from spanledger_processor.ledger.store import Changes, Key, Reader, Table
from spanledger_processor.ledger.sums import speeds_of
from spanledger_processor.model import INPUT
from spanledger_processor.units import Pico


def account_usual(batch: Batch, reader: Reader, calls: CallFilter, rules: Rules) -> tuple[Ruling, list[int]]:
    """Account for the traces of usual calls; return what came of them, and the indexes in the batch of all others.

    `rules` is `accounting.account`, which is above this module.
    """
    usual = _Usual(batch, reader, calls, rules)
    taken = usual.run()
    if not taken:
        return usual.ruling, [*range(batch.count)]
    if sum(len(trace.indexes) + len(trace.of_plain) for trace in taken) == batch.count:
        return usual.ruling, []
    of_taken = set(chain.from_iterable(chain(trace.indexes, trace.of_plain) for trace in taken))
    return usual.ruling, [index for index in range(batch.count) if index not in of_taken]


class _Posted:
    """Usual calls that go to the same totals, by their places among all that are taken; and what several of them of one
    session and pattern used and spent together.
    """

    __slots__ = ("amounts", "pattern", "places", "uses")

    def __init__(self, pattern: Pattern) -> None:
        self.pattern = pattern
        self.places: list[int] = []
        self.uses: list[ModelUse] = []
        self.amounts: list[Pico] = []

    def take(self, places: Sequence[int], use: ModelUse, amount: Pico) -> None:
        """Add some calls."""
        self.places += places
        self.uses.append(use)
        self.amounts.append(amount)


class _Group(_Posted):
    """Calls of one session that are posted as that of `pattern` is; and use and amounts by the label of the models."""

    __slots__ = ("spent", "used")

    def __init__(self, pattern: Pattern) -> None:
        super().__init__(pattern)
        self.used: dict[str, ModelUse] = {}
        self.spent: dict[str, Pico] = {}

    def use(self, label: str, use: ModelUse, amount: Pico) -> None:
        """Note what calls of a model used and spent."""
        if label in self.used:
            self.used[label] = tuple(map(add, self.used[label], use))
            self.spent[label] += amount
        else:
            self.used[label], self.spent[label] = use, amount


class _Taken(NamedTuple):
    """The traces that are accounted for here, and of each call the id of its trace, its own values, and its pattern."""

    traces: Sequence[UsualTrace]
    trace_ids: Sequence[bytes]
    own: Columns
    patterns: Sequence[Pattern]


class _Usual:
    """Accounts for the usual calls of a batch: looks for their traces, adds up what they spent, decides and stores."""

    def __init__(self, batch: Batch, reader: Reader, calls: CallFilter, rules: Rules) -> None:
        self._batch = batch
        self._reader = reader
        self._rules = rules
        self.ruling = Ruling()
        changes = self.ruling.changes
        self._totals = Totals(batch, reader, changes)
        self._index = CrossTraceIndex(batch.tenant, reader, changes, batch.now_ns, batch.digest(), calls)
        self._amounts: dict[str, Pico] = {}
        """What each session spends in this request."""
        self._keys: dict[bytes, Key] = {}
        """Of the record of each trace, by the trace's id: an id is hashed once."""

    def run(self) -> Sequence[UsualTrace]:
        """Account for the traces of usual calls, and return them."""
        batch = self._batch
        usual = batch.usual if isinstance(batch, ColumnBatch) else usual_traces(batch.facts)
        taken = self._taken(usual) if usual is not None else None
        if taken is None or not taken.traces:
            return ()
        self._post(taken)
        self._decide(taken)
        self._index.save()
        return taken.traces

    def _taken(self, usual: UsualTraces) -> _Taken:
        """Return the traces whose calls all count, none of them ahead of the clock, or before itself."""
        usual = usual.apart(self._batch.now_ns + AHEAD_NS)
        forms = usual.calls.forms
        pattern_of_form = {form: self._pattern(form, usual.calls) for form in dict.fromkeys(forms)}
        sources = {form: None if one is None else one.source for form, one in pattern_of_form.items()}
        get, tenant = self._reader.get, self._batch.tenant
        keys = self._keys = {trace.trace_id: trace_key(tenant, trace.trace_id) for trace in usual.traces}
        new = [trace for trace in usual.traces if get(keys[trace.trace_id]) is None]
        by_source: dict[str, list[UsualTrace]] = {}
        for trace in new:
            source, *others = set(map(sources.__getitem__, set(forms[trace.places])))
            if source is not None and not others:
                by_source.setdefault(source, []).append(trace)
        known = set(chain.from_iterable(self._remembered(usual.only(each), one) for one, each in by_source.items()))
        taken = usual.only([trace for trace in usual.traces if trace.trace_id in known])
        patterns = [one for one in map(pattern_of_form.__getitem__, taken.calls.forms) if one is not None]
        return _Taken(taken.traces, taken.calls.trace_ids, taken.calls.own, patterns)

    def _pattern(self, form: UsualForm, calls: UsualColumns) -> Pattern | None:
        """Return the pattern of calls of a form, of which some are among these."""
        if form.aliases != self._batch.aliases:
            fact, bare = calls.fact(calls.forms.index(form)), self._batch.only(())
            form.aliases, form.pattern = bare.aliases, pattern_of(fact, bare, self._rules)
            if form.pattern is not None and not _holds(another(fact), bare, self._rules):
                form.pattern = None
        return form.pattern

    def _remembered(self, usual: UsualTraces, source: str) -> set[bytes]:
        """Return the traces of whose calls no other trace may know; they are remembered."""
        calls = usual.calls
        hashes = usual.hashed(self._batch.tenant)
        if self._index.remember_unknown(hashes, source, calls.trace_ids, calls.own.span_ids):
            return {trace.trace_id for trace in usual.traces}
        if len(usual.traces) == 1:
            return set()
        return set().union(*(self._remembered(usual.only([trace]), source) for trace in usual.traces))

    def _post(self, taken: _Taken) -> None:
        """Enter what the calls spent: sums of those that go to the same totals."""
        own, uses = taken.own, taken.own.uses()
        groups: dict[tuple[str, int], _Group] = {}
        claims: dict[tuple[Pattern, int], _Posted] = {}
        stands: dict[tuple[Any, ...], int] = {}
        stand_of = {one: stands.setdefault(one.stand(), len(stands)) for one in dict.fromkeys(taken.patterns)}
        for (session, pattern, day), places in _alike(taken):
            use, amount = uses[places[0]], own.amounts[places[0]]
            if len(places) > 1:
                of = itemgetter(*places)
                use, amount = tuple(map(sum, zip(*of(uses), strict=True))), sum(of(own.amounts))
            group, claim = groups.get((session, stand_of[pattern])), claims.get((pattern, day))
            if group is None:
                group = groups[session, stand_of[pattern]] = _Group(pattern)
            if claim is None:
                claim = claims[pattern, day] = _Posted(pattern)
            group.take(places, use, amount)
            group.use(pattern.label, use, amount)
            claim.take(places, use, amount)
        ended = [*zip(own.ends, taken.trace_ids, own.span_ids, strict=True)]
        for (session, _), group in groups.items():
            self._post_group(session, group, own, ended)
        for (_, day), claim in claims.items():
            self._post_claim(day, claim, own, uses)
        self._totals.enter()

    def _post_claim(self, day: int, claim: _Posted, own: Columns, uses: Sequence[ModelUse]) -> None:
        """Enter calls of one pattern and day, of any sessions."""
        pattern, of = claim.pattern, _at(claim.places)
        starts, ends = of(own.starts), of(own.ends)
        sums = sums_of(starts, ends, claim.uses, claim.amounts)
        assert pattern.span.claim is not None
        pattern.span.claim.day = day
        if sums.cost:
            sums.models[pattern.label] = sums.cost
        self._totals.post_claims(pattern.span, pattern.posting, sums)
        if pattern.is_timed:
            durations, outputs = map(sub, ends, starts), map(_output, of(uses))
            calls = zip(durations, of(own.first_tokens), outputs, strict=True)
            self._totals.post_speeds(pattern.span, day, speeds_of(calls))

    def _post_group(self, session: str, group: _Group, own: Columns, ended: Sequence[Latest]) -> None:
        """Enter calls of one session that are posted as that of `group.pattern` is."""
        span, posting, of = group.pattern.span, group.pattern.posting, _at(group.places)
        posting.session = session
        starts, ends, amounts, inputs = of(own.starts), of(own.ends), of(own.amounts), of(own.counts[INPUT])
        sums = sums_of(starts, ends, group.uses, group.amounts)
        sums.models = {label: cost for label, cost in group.spent.items() if cost}
        self._amounts[session] = self._amounts.get(session, 0) + sums.cost
        calls = GroupedCalls(starts, ends, inputs, amounts, max(of(ended)), group.used)
        self._totals.post_group(span, posting, sums, calls)

    def _decide(self, taken: _Taken) -> None:
        """Write decisions with running totals, and the traces' records."""
        own, now_ms, changes = taken.own, self._batch.now_ns // 1_000_000, self.ruling.changes
        runs, costs, run_costs = self._running(taken)
        self._decide_on(taken, runs, costs, run_costs)
        stored = [pattern.stored for pattern in taken.patterns]
        columns = [*own.flat(), *zip(*runs, strict=True), costs, run_costs]
        for trace in taken.traces:
            of_trace = stored[trace.places]
            numbers = {one: number for number, one in enumerate(dict.fromkeys(of_trace))}
            values = [[*map(numbers.__getitem__, of_trace)], *map(itemgetter(trace.places), columns)]
            where = self._keys[trace.trace_id]
            beside = _beside(trace) if trace.plain else None
            changes.replace[where] = pack_usual([*numbers], values, now_ms, beside)
            changes.expire.append(where)

    def _running(self, taken: _Taken) -> tuple[list[Named], list[Pico], list[Pico | None]]:
        """Return of each call its run, and the running totals of session and run with it."""
        totals = self._totals
        run_of: dict[str, Named] = {}
        of_sessions: dict[str, Pico] = {}
        of_runs: dict[str, Pico | None] = {}
        for session, amount in self._amounts.items():
            run_of[session] = run = totals.run_of(session)
            of_sessions[session] = totals.session_cost(session) - amount
            if run.id not in of_runs:
                of_runs[run.id] = totals.run_cost(run.id)
            before = of_runs[run.id]
            of_runs[run.id] = None if before is None else before - amount
        runs: list[Named] = []
        costs: list[Pico] = []
        run_costs: list[Pico | None] = []
        for session, places in slices_of(taken.own.sessions):
            amounts, run = taken.own.amounts[places], run_of[session]
            runs += [run] * len(amounts)
            costs += accumulate(amounts[1:], initial=of_sessions[session] + amounts[0])
            before = of_runs[run.id]
            if before is None:
                run_costs += [None] * len(amounts)
            else:
                run_costs += accumulate(amounts[1:], initial=before + amounts[0])
            of_sessions[session], of_runs[run.id] = costs[-1], run_costs[-1]
        return runs, costs, run_costs

    def _decide_on(
        self, taken: _Taken, runs: Sequence[Named], costs: Sequence[Pico], run_costs: Sequence[Pico | None]
    ) -> None:
        """Write the decisions on calls: the run of each, and the running totals with it."""
        indexes = [*chain.from_iterable(trace.indexes for trace in taken.traces)]
        decisions = [pattern.decision for pattern in taken.patterns]
        alike = RuledAlike(indexes, decisions, runs, costs, run_costs)
        if isinstance(self._batch, ColumnBatch):
            self.ruling.alike = alike
        else:
            self.ruling.decisions, self.ruling.fresh = decisions_on(alike, self._batch.facts), indexes


_output = itemgetter(2)
"""In a `ModelUse`."""


def _alike(taken: _Taken) -> Iterable[tuple[tuple[str, Pattern, int], list[int]]]:
    """Return the places of calls of one session, pattern and day, by these, in the order of the first of each."""
    together: dict[Any, list[int]] = defaultdict(list)
    for place, where in enumerate(zip(taken.own.sessions, taken.patterns, taken.own.days, strict=True)):
        together[where].append(place)
    return together.items()


def _at(places: Sequence[int]) -> itemgetter[Any]:
    """Return what takes the values at these places out of a column."""
    first, *others = places
    return itemgetter(*places) if others else itemgetter(slice(first, first + 1))


def _beside(trace: UsualTrace) -> Beside:
    """Return the plain spans of a trace, in the order in which they came."""
    rank = {index: place for place, index in enumerate(sorted((*trace.indexes, *trace.of_plain)))}
    return [rank[index] for index in trace.of_plain], [*zip(*map(_links, trace.plain), strict=True)]


_links: Callable[[Fact], tuple[Any, ...]] = attrgetter(
    "span_id", "parent_id", "start_ns", "end_ns", "session.id", "session.source"
)


def _holds(fact: UsualFact, batch: Batch, rules: Rules) -> bool:
    """Return whether the known pattern of a fact comes to what the rules come to."""
    batch = replace(batch, facts=[fact])
    ruling = rules(replace(batch, facts=[whole(fact)]), NOTHING_STORED)
    taken, rest = account_usual(batch, NOTHING_STORED, CallFilter(), rules)
    same = not rest and _read(taken.changes) == _read(ruling.changes)
    return same and all(
        getattr(taken.decisions[0], name) == getattr(ruling.decisions[0], name) for name in DECISION_FIELDS
    )


def _read(changes: Changes) -> Changes:
    """Return changes with the records of traces as they are read."""
    heads: dict[Key, Any] = {
        where: unpack_head(record) if where[0] == Table.TRACE else record for where, record in changes.replace.items()
    }
    return replace(changes, replace=heads)
