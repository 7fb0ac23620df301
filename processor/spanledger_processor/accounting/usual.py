"""Usual calls, accounted for by what the full rules come to for one call like them.

Taken are traces of which nothing is stored and whose GenAI spans in a request are all usual calls (`UsualFact`): of one
library, with ids of their own, none above another span, each with a session of its own or its parent's naming, and of
which no other trace may know. Such calls all count, whatever else comes with them, so that nothing has to be decided:
each is stored, summed and written as one call like it is, with its own ids, times, counts and amounts. Plain spans may
stand above and beside them, as long as they name no run: they are stored as links, and add nothing.

What that is, `accounting.account` says: a pattern is what the full rules make of one call on an empty ledger, with the
places where a call's own values stand. It is used only if it comes to the very same changes for that call. So nothing
of the rules, or of what is stored, is written down here a second time. Whatever depends on more of the ledger than the
running totals of a session and its run has to be refused by `_Usual`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import accumulate, groupby, repeat
from operator import add, attrgetter, gt, itemgetter, sub
from typing import Any, NamedTuple, TypeAlias

from msgspec import structs

from spanledger_processor.accounting.columns import Columns, runs_of, sums_of
from spanledger_processor.accounting.cross_trace_index import CallFilter, CrossTraceIndex, UnknownCalls
from spanledger_processor.accounting.decide import span_of
from spanledger_processor.accounting.facts import (
    Batch,
    Fact,
    Ruling,
    begun_digest,
    digest_with,
    models_reported,
)
from spanledger_processor.accounting.grouping import NOTHING, Named
from spanledger_processor.accounting.one_call import source_of
from spanledger_processor.accounting.totals import Totals
from spanledger_processor.accounting.trace import Posting, Span
from spanledger_processor.accounting.trace_record import (
    SEGMENT_SPANS,
    Beside,
    Head,
    pack_usual,
    pattern_of_row,
    span_in,
    unpack_head,
)
from spanledger_processor.ledger.facts import AHEAD_NS, Latest, ModelUse
from spanledger_processor.ledger.keys import trace_key
from spanledger_processor.ledger.store import Changes, Key, Reader, Table
from spanledger_processor.ledger.sums import Sums, speeds_of
from spanledger_processor.model import Call, Cost, CostParts, Decision, SixCounts, Usage
from spanledger_processor.units import Pico

LONGEST_ID = 128
"""Characters of a response id or a session's that the ledger keeps as they are, whatever they are."""
LARGEST_COUNT = 1 << 60
"""What may be counted of one class."""

_Row: TypeAlias = tuple[int, int, ModelUse, Pico, int]
"""Start, end, use, amount and first token of a call."""
Rules: TypeAlias = Callable[[Batch, Reader], Ruling]

_MOST_PATTERNS = 64
"""Of one prototype: as many as it has prices, and sets of counts that are known."""


class Prototype:
    """A call that was read by the full rules, of which other calls have all but their own values."""

    __slots__ = ("_aliases", "_patterns", "digest", "fact", "models")

    def __init__(self, fact: Fact) -> None:
        self.fact = fact
        self.models = "" if fact.call is None else models_reported(fact.call, None)
        self.digest = begun_digest(self.models)
        """The beginning of the digests of such calls."""
        self._aliases: tuple[str, ...] = ()
        self._patterns: dict[tuple[Any, ...], Pattern | None] = {}

    def pattern(self, fact: UsualFact, batch: Batch, rules: Rules) -> Pattern | None:
        """Return the pattern of a fact of this prototype, None where the full rules have to take it."""
        if self._aliases is not batch.aliases and self._aliases != batch.aliases:
            self._aliases = batch.aliases
            self._patterns.clear()
        _, output, read, write, hour, reasoning = fact.counts
        unknown = output is None, read is None, write is None, hour is None, reasoning is None, not fact.first_token_ns
        which = fact.price, fact.estimate, fact.is_unsure, fact.session.source, unknown
        pattern = self._patterns.get(which)
        if pattern is not None or which in self._patterns:
            return pattern
        if len(self._patterns) >= _MOST_PATTERNS:
            self._patterns.clear()
        pattern = self._patterns[which] = _pattern_of(fact, batch, rules)
        if pattern is not None and not _holds(_another(fact), batch, rules):
            pattern = self._patterns[which] = None
        return pattern


class UsualFact(Fact):
    """The fact of a usual call: its own values, and the prototype from which the others come when they are asked for.

    `counts` are of the first six of `USAGE_CLASSES`, the others are not reported; `parts` are those of the amount.
    `price` names where the rates came from, `estimate` says that another amount is possible, and `is_unsure` that
    another reading of the counts is.
    """

    __slots__ = (
        "_call",
        "_cost",
        "amount",
        "counts",
        "estimate",
        "is_unsure",
        "parts",
        "price",
        "prototype",
        "response_id",
    )

    prototype: Prototype
    response_id: str
    counts: SixCounts
    amount: Pico
    parts: CostParts
    price: str
    estimate: bool
    is_unsure: bool
    _call: Call
    _cost: Cost

    @property
    def is_genai(self) -> bool:
        """Return True: it is a call."""
        return True

    def __reduce__(self) -> Any:
        raise TypeError("a usual fact has a prototype, which is not copied with it")


_FACT_FIELDS = tuple(one.name for one in fields(Fact))


def _call_of(fact: UsualFact) -> Call:
    try:
        return fact._call
    except AttributeError:
        assert fact.prototype.fact.call is not None
        usage, own = Usage(*fact.counts), {"response_id": fact.response_id, "estimate": fact.is_unsure}
        fact._call = structs.replace(fact.prototype.fact.call, usage=usage, **own)
        return fact._call


def _digest_of(fact: UsualFact) -> bytes:
    return digest_with(fact.prototype.digest, fact.counts[:5])


def _cost_of(fact: UsualFact) -> Cost:
    try:
        return fact._cost
    except AttributeError:
        fact._cost = Cost(fact.amount, "computed", fact.amount, *fact.parts, None, fact.price, fact.estimate)
        return fact._cost


def _delegate(kind: type[Any], made: Mapping[str, Callable[[Any], Any]], names: Iterable[str], prototype: str) -> None:
    """Let fields of a class be `made`, and others of these names be those of its prototype.

    They are properties: with `__getattr__` each attribute that an object has of its own takes ten times as long.
    """
    for name in names:
        setattr(kind, name, property(made.get(name) or attrgetter(f"{prototype}.{name}")))


_OWN_FIELDS = ("trace_id", "span_id", "parent_id", "start_ns", "end_ns", "day", "session", "first_token_ns")
_delegate(
    UsualFact,
    {"call": _call_of, "cost": _cost_of, "digest": _digest_of},
    [name for name in _FACT_FIELDS if name not in _OWN_FIELDS],
    "prototype.fact",
)


class UsualDecision(Decision):
    """The decision on a usual call: its running totals, and the run that the session decides; the rest is made of that
    on its prototype when it is asked for.
    """

    __slots__ = ("fact", "prototype")

    fact: UsualFact
    prototype: Decision


_DECISION_FIELDS = tuple(one.name for one in fields(Decision))
_delegate(
    UsualDecision,
    {
        "usage": lambda decision: decision.fact.call.usage,
        "cost": lambda decision: decision.fact.cost,
        "session_id": lambda decision: decision.fact.session.id,
    },
    [name for name in _DECISION_FIELDS if name not in ("session_cost", "run_cost", "run_id", "run_source")],
    "prototype",
)


@dataclass(slots=True)
class Pattern:
    """What is stored and answered of a call, with places for its own values; `span` is one of them, with its `posting`.

    `stored` is what its row has in common with others (`trace_record`).
    """

    span: Span
    posting: Posting
    source: str
    label: str
    decision: Decision
    stored: bytes
    of_anthropic: bool

    @property
    def is_timed(self) -> bool:
        """Return whether it counts how fast such a call was."""
        return self.span.is_model_call and not self.span.detail.failed

    def stand(self) -> tuple[Any, ...]:
        """Return all that a session and its parts get of the call but for its times, counts, amount and model."""
        span, posting = self.span, self.posting
        of_posting = (posting.role, posting.run, posting.agent, posting.agent_parent, posting.turn)
        return (*of_posting, span.parent_session, span.detail, span.instance, span.is_model_call)


def _pattern_of(fact: UsualFact, batch: Batch, rules: Rules) -> Pattern | None:
    """Return what the rules make of a call like this one, if that can be taken for others with their own values."""
    prototype = fact.prototype.fact
    call = prototype.call
    if call is None or prototype.run != NOTHING or prototype.session_parent_id or prototype.evidence.ids or call.source:
        return None
    ruling = rules(replace(batch, facts=[_whole(fact)]), NOTHING_STORED)
    head, rows = unpack_head(ruling.changes.replace[trace_key(batch.tenant, fact.trace_id)])
    stored = pattern_of_row(rows[0], fact.price, fact.prototype.models, estimate=fact.estimate)
    posting = span_in(rows[0]).posting
    if head != Head() or stored is None or posting is None:
        return None
    span = span_of(_whole(fact))
    assert span.claim is not None
    claim = span.claim
    return Pattern(span, posting, source_of(span), claim.label, ruling.decisions[0], stored, claim.of_anthropic)


def _whole(fact: UsualFact) -> Fact:
    """Return the same fact with all its fields."""
    return Fact(**{name: getattr(fact, name) for name in _FACT_FIELDS})


def _another(fact: UsualFact) -> UsualFact:
    """Return a fact like this one that differs in every value of its own."""
    other = UsualFact.__new__(UsualFact)
    other.prototype, other.price, other.estimate, other.is_unsure = (
        fact.prototype,
        fact.price,
        fact.estimate,
        fact.is_unsure,
    )
    other.trace_id, other.span_id = fact.trace_id[::-1] + b"\1", fact.span_id[::-1] + b"\1"
    other.parent_id = fact.parent_id + b"\1"
    other.start_ns, other.end_ns, other.day = fact.start_ns + 1, fact.end_ns + 10**9, fact.day + 1
    other.first_token_ns = fact.first_token_ns and fact.first_token_ns + 2
    other.session, other.response_id = Named(fact.session.id + "'", fact.session.source), fact.response_id + "'"
    input_, *counts = fact.counts
    others = [None if count is None else count + number for number, count in enumerate(counts, 2)]
    other.counts = (input_ + 1, *others)  # type: ignore[assignment]
    other.parts = (fact.parts[0] + 1, fact.parts[1] + 2, fact.parts[2] + 3, fact.parts[3] + 4, fact.parts[4] + 5)
    other.amount = fact.amount + 15
    return other


def _holds(fact: UsualFact, batch: Batch, rules: Rules) -> bool:
    """Return whether the known pattern of a fact comes to what the rules come to."""
    batch = replace(batch, facts=[fact])
    ruling = rules(replace(batch, facts=[_whole(fact)]), NOTHING_STORED)
    taken, rest = account_usual(batch, NOTHING_STORED, CallFilter(), rules)
    same = not rest and _read(taken.changes) == _read(ruling.changes)
    return same and all(
        getattr(taken.decisions[0], name) == getattr(ruling.decisions[0], name) for name in _DECISION_FIELDS
    )


def _read(changes: Changes) -> Changes:
    """Return changes with the records of traces as they are read."""
    heads: dict[Key, Any] = {
        where: unpack_head(record) if where[0] == Table.TRACE else record for where, record in changes.replace.items()
    }
    return replace(changes, replace=heads)


class _Nothing:
    """A reader of a ledger that holds nothing."""

    def get(self, _: Key) -> bytes | None:
        return None

    def sums(self, _: Key) -> Sums:
        return Sums()

    def scan(self, *_: object, **__: object) -> Iterator[tuple[Key, bytes]]:
        return iter(())


NOTHING_STORED: Any = _Nothing()


def account_usual(batch: Batch, reader: Reader, calls: CallFilter, rules: Rules) -> tuple[Ruling, list[int]]:
    """Account for the traces of usual calls; return what came of them, and the indexes in the batch of all others.

    `rules` is `accounting.account`, which is above this module.
    """
    return _Usual(batch, reader, calls, rules).run()


class _Group:
    """Calls of one session that are posted as that of `pattern` is: the label of the model of each, its start, end, use
    and amount; and the one that ended last.
    """

    __slots__ = ("labels", "latest", "pattern", "spent")

    def __init__(self, pattern: Pattern, latest: Latest) -> None:
        self.pattern = pattern
        self.latest = latest
        self.labels: list[str] = []
        self.spent: tuple[list[int], list[int], list[ModelUse], list[Pico]] = ([], [], [], [])


class _Trace(NamedTuple):
    """The usual calls of a trace, with their columns and indexes in the batch; and the plain spans beside them."""

    trace_id: bytes
    facts: list[UsualFact]
    own: Columns
    indexes: list[int]
    plain: list[Fact]
    of_plain: list[int]


class _Taken(NamedTuple):
    """A trace that was taken in, and the patterns of its calls."""

    trace: _Trace
    patterns: list[Pattern]


class _Usual:
    def __init__(self, batch: Batch, reader: Reader, calls: CallFilter, rules: Rules) -> None:
        self._batch = batch
        self._reader = reader
        self._rules = rules
        self._ruling = Ruling()
        changes = self._ruling.changes
        self._totals = Totals(batch, reader, changes)
        self._index = CrossTraceIndex(batch.tenant, reader, changes, batch.now_ns, batch.digest(), calls)
        self._taken: list[_Taken] = []
        self._stands: dict[tuple[Any, ...], int] = {}
        self._stand_of: dict[int, int] = {}
        """By the identity of a pattern."""
        self._groups: dict[tuple[str, int], _Group] = {}
        """By session, and stand."""
        self._claims: dict[tuple[int, int], tuple[Pattern, list[_Row]]] = {}
        """Calls of one pattern and day, by its identity and the day."""
        self._amounts: dict[str, Pico] = {}
        """What each session spends in this request."""

    def run(self) -> tuple[Ruling, list[int]]:
        rest: list[int] = []
        for trace in _usual_traces(self._batch.facts, rest):
            if not self._take(trace):
                rest += trace.indexes + trace.of_plain
        if self._taken:
            self._post()
            self._decide()
            self._index.save()
        rest.sort()
        return self._ruling, rest

    def _take(self, trace: _Trace) -> bool:
        """Take in a trace, if it is one whose calls all count, none of them ahead of the clock, or before itself."""
        batch, rules = self._batch, self._rules
        trace_id, own = trace.trace_id, trace.own
        if max(own.ends) > batch.now_ns + AHEAD_NS or any(map(gt, own.starts, own.ends)):
            return False
        patterns: list[Pattern] = []
        for fact in trace.facts:
            pattern = fact.prototype.pattern(fact, batch, rules)
            if pattern is None:
                return False
            patterns.append(pattern)
        source, *others = {pattern.source for pattern in patterns}
        if others or self._reader.get(trace_key(batch.tenant, trace_id)) is not None:
            return False
        of_anthropic = [pattern.of_anthropic for pattern in patterns]
        calls = UnknownCalls(own.response_ids, own.counts, own.ends, of_anthropic, own.span_ids)
        if not self._index.remember_unknown(calls, source, trace_id):
            return False
        self._taken.append(_Taken(trace, patterns))
        return True

    def _post(self) -> None:
        """Enter what the calls spent: sums of those that go to the same totals."""
        for taken in self._taken:
            uses = taken.trace.own.uses()
            self._group(taken, uses)
            self._claim(taken, uses)
        for (session, _), group in self._groups.items():
            self._post_group(session, group)
        for (_, day), (pattern, rows) in self._claims.items():
            self._post_claims(day, pattern, rows)
        self._totals.enter()

    def _group(self, taken: _Taken, uses: Sequence[ModelUse]) -> None:
        """Put the calls of a trace beside others of their sessions."""
        own, labels = taken.trace.own, [pattern.label for pattern in taken.patterns]
        ended = [*zip(own.ends, repeat(taken.trace.trace_id, len(uses)), own.span_ids, strict=True)]
        keys = [*zip(own.sessions, map(self._stand, taken.patterns), strict=True)]
        for where, run in runs_of(keys):
            group, latest = self._groups.get(where), max(ended[run])
            if group is None:
                group = self._groups[where] = _Group(taken.patterns[run.start or 0], latest)
            group.latest = max(group.latest, latest)
            group.labels += labels[run]
            starts, ends, used, amounts = group.spent
            starts += own.starts[run]
            ends += own.ends[run]
            used += uses[run]
            amounts += own.amounts[run]

    def _stand(self, pattern: Pattern) -> int:
        """Return a number for what a session gets of calls of a pattern alike (`Pattern.stand`)."""
        number = self._stand_of.get(id(pattern))
        if number is None:
            number = self._stand_of[id(pattern)] = self._stands.setdefault(pattern.stand(), len(self._stands))
        return number

    def _claim(self, taken: _Taken, uses: Sequence[ModelUse]) -> None:
        """Put the calls of a trace beside others of their patterns and days."""
        own, claims = taken.trace.own, self._claims
        rows = zip(own.starts, own.ends, uses, own.amounts, own.first_tokens, strict=True)
        keys = zip(map(id, taken.patterns), own.days, strict=True)
        for which, pattern, row in zip(keys, taken.patterns, rows, strict=True):
            of_claim = claims.get(which)
            if of_claim is None:
                of_claim = claims[which] = pattern, []
            of_claim[1].append(row)

    def _post_claims(self, day: int, pattern: Pattern, rows: Sequence[_Row]) -> None:
        """Enter calls of one pattern and day, of any sessions."""
        assert pattern.span.claim is not None
        pattern.span.claim.day = day
        starts, ends, uses, _, first_tokens = columns = [*zip(*rows, strict=True)]
        sums = sums_of(*columns[:4])
        if sums.cost:
            sums.models[pattern.label] = sums.cost
        self._totals.post_claims(pattern.span, pattern.posting, sums)
        if pattern.is_timed:
            timed = zip(map(sub, ends, starts), first_tokens, map(_output, uses), strict=True)
            self._totals.post_speeds(pattern.span, day, speeds_of(timed))

    def _post_group(self, session: str, group: _Group) -> None:
        """Enter calls of one session that are posted as that of `group.pattern` is."""
        span, posting, (starts, ends, uses, amounts) = group.pattern.span, group.pattern.posting, group.spent
        posting.session = session
        sums = sums_of(*group.spent)
        used: dict[str, ModelUse] = {}
        costs: dict[str, Pico] = {}
        for label, use, amount in zip(group.labels, uses, amounts, strict=True):
            if label in used:
                used[label] = tuple(map(add, used[label], use))
                costs[label] += amount
            else:
                used[label], costs[label] = use, amount
        sums.models = {label: cost for label, cost in costs.items() if cost}
        times, of_calls = [*zip(starts, ends, strict=True)], [*zip(starts, amounts, strict=True)]
        contexts = [*zip(starts, map(_input, uses), strict=True)] if span.is_model_call else []
        self._amounts[session] = self._amounts.get(session, 0) + sums.cost
        self._totals.post_group(span, posting, sums, times, contexts, of_calls, group.latest, used.items())

    def _decide(self) -> None:
        """Write decisions with running totals, and the traces' records."""
        ruling, totals, now_ms = self._ruling, self._totals, self._batch.now_ns // 1_000_000
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
        for taken in self._taken:
            trace, patterns = taken
            runs: list[Named] = []
            costs: list[Pico] = []
            run_costs: list[Pico | None] = []
            for session, places in runs_of(trace.own.sessions):
                amounts, run = trace.own.amounts[places], run_of[session]
                runs += [run] * len(amounts)
                costs += accumulate(amounts[1:], initial=of_sessions[session] + amounts[0])
                before = of_runs[run.id]
                if before is None:
                    run_costs += [None] * len(amounts)
                else:
                    run_costs += accumulate(amounts[1:], initial=before + amounts[0])
                of_sessions[session], of_runs[run.id] = costs[-1], run_costs[-1]
            self._decide_on(taken, runs, costs, run_costs)
            numbers: dict[bytes, int] = {}
            of_pattern = [numbers.setdefault(pattern.stored, len(numbers)) for pattern in patterns]
            own = of_pattern, *trace.own, *zip(*runs, strict=True), costs, run_costs
            where = trace_key(self._batch.tenant, trace.trace_id)
            beside = _beside(trace) if trace.plain else None
            ruling.changes.replace[where] = pack_usual([*numbers], own, now_ms, beside)
            ruling.changes.expire.append(where)

    def _decide_on(
        self, taken: _Taken, runs: Sequence[Named], costs: Sequence[Pico], run_costs: Sequence[Pico | None]
    ) -> None:
        """Write the decisions on the calls of a trace: the run of each, and the running totals with it."""
        trace, ruling = taken.trace, self._ruling
        rows = zip(trace.indexes, trace.facts, taken.patterns, runs, costs, run_costs, strict=True)
        for index, fact, pattern, run, cost, run_cost in rows:
            ruling.decisions[index] = decision = UsualDecision.__new__(UsualDecision)
            decision.fact, decision.prototype, decision.session_cost = fact, pattern.decision, cost
            (decision.run_id, decision.run_source), decision.run_cost = run, run_cost
        ruling.fresh += trace.indexes


_output, _input = itemgetter(2), itemgetter(1)
"""In a `ModelUse`."""


def _beside(trace: _Trace) -> Beside:
    """Return the plain spans of a trace, in the order in which they came."""
    rank = {index: place for place, index in enumerate(sorted((*trace.indexes, *trace.of_plain)))}
    return [rank[index] for index in trace.of_plain], [*zip(*map(_links, trace.plain), strict=True)]


_links: Callable[[Fact], tuple[Any, ...]] = attrgetter(
    "span_id", "parent_id", "start_ns", "end_ns", "session.id", "session.source"
)


def _usual_traces(facts: Sequence[Fact], rest: list[int]) -> Iterator[_Trace]:
    """Yield traces of usual calls that are apart; the indexes of the others go to `rest`."""
    ids = [*map(_trace_id, facts)]
    traces: dict[bytes, list[int]] = {}
    for trace_id, side_by_side in groupby(range(len(ids)), ids.__getitem__):
        traces.setdefault(trace_id, []).extend(side_by_side)
    for trace_id, indexes in traces.items():
        trace = None
        if len(indexes) <= SEGMENT_SPANS:
            of_trace: list[Any] = [facts[index] for index in indexes]
            kinds = set(map(type, of_trace))
            if kinds == _USUAL:
                trace = _Trace(trace_id, of_trace, Columns.of(of_trace), indexes, [], [])
            elif kinds == _MIXED:
                trace = _parted(trace_id, of_trace, indexes)
        if trace is not None and _are_apart(trace):
            yield trace
        else:
            rest += indexes


_USUAL, _MIXED = {UsualFact}, {UsualFact, Fact}


def _parted(trace_id: bytes, facts: list[Any], indexes: list[int]) -> _Trace | None:
    """Return the usual calls of a trace and its plain spans; None with another among them, or one that names a run."""
    usual = [(index, fact) for index, fact in zip(indexes, facts, strict=True) if type(fact) is UsualFact]
    plain = [(index, fact) for index, fact in zip(indexes, facts, strict=True) if type(fact) is Fact]
    if any(fact.call is not None or fact.run.id for _, fact in plain):
        return None
    of_calls, calls = zip(*usual, strict=True)
    of_plain, others = zip(*plain, strict=True)
    return _Trace(trace_id, [*calls], Columns.of(calls), [*of_calls], [*others], [*of_plain])


def _are_apart(trace: _Trace) -> bool:
    """Return whether spans and responses have ids of their own, and no usual call stands above another span."""
    own, plain = trace.own, trace.plain
    ids, number = set(own.span_ids), len(trace.facts)
    if not len(ids) == len(set(own.response_ids)) == number or not ids.isdisjoint(own.parent_ids):
        return False
    others = set(map(_span_id, plain))
    return len(others) == len(plain) and ids.isdisjoint(others) and ids.isdisjoint(map(_parent_id, plain))


_trace_id, _span_id, _parent_id = map(attrgetter, ("trace_id", "span_id", "parent_id"))
