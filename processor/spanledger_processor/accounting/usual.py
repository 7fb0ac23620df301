"""Usual calls, accounted for by what the full rules come to for one call like them.

Taken are traces of which nothing is stored and whose spans in a request are all usual calls (`UsualFact`): of one
library, with ids of their own, none above another, each with a session of its own or its parent's naming, and of which
no other trace may know. Such calls all count, whatever else comes with them, so that nothing has to be decided: each is
stored, summed and written as one call like it is, with its own ids, times, counts and amounts.

What that is, `accounting.account` says: a pattern is what the full rules make of one call on an empty ledger, with the
places where a call's own values stand. It is used only if it comes to the very same changes for that call. So nothing
of the rules, or of what is stored, is written down here a second time. Whatever depends on more of the ledger than the
running totals of a session and its run has to be refused by `_Usual`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from operator import attrgetter
from typing import Any, TypeAlias

from spanledger_processor.accounting.count_once import source_of
from spanledger_processor.accounting.cross_trace_index import CallFilter, CrossTraceIndex
from spanledger_processor.accounting.decide import span_of
from spanledger_processor.accounting.facts import Batch, Fact, Ruling
from spanledger_processor.accounting.grouping import NOTHING, Named
from spanledger_processor.accounting.totals import Totals
from spanledger_processor.accounting.trace import Place, Span
from spanledger_processor.accounting.trace_record import SEGMENT_SPANS, Head, SpanRow, pack_head, span_in, unpack_head
from spanledger_processor.dialects.usual import SixCounts
from spanledger_processor.ledger.keys import trace_key
from spanledger_processor.ledger.packing import pack, unpack
from spanledger_processor.ledger.records import DECISION_VALUES, pack_values, values_in
from spanledger_processor.ledger.store import Key, Reader
from spanledger_processor.ledger.sums import Sums, speeds_of
from spanledger_processor.model import CLASS_NAMES, Cost, Decision, Usage
from spanledger_processor.units import Pico

LONGEST_ID = 128
"""Characters of a response id or a session's that the ledger keeps as they are, whatever they are."""
LARGEST_COUNT = 1 << 60
"""What may be counted of one class."""

Parts: TypeAlias = tuple[Pico, Pico, Pico, Pico, Pico]
Rules: TypeAlias = Callable[[Batch, Reader], Ruling]

_REST = (None,) * (len(CLASS_NAMES) - 6)
_NO_REST = (0,) * (len(CLASS_NAMES) - 6)
_MOST_PATTERNS = 64
"""Of one like: as many as it has prices, and sets of counts that are told."""


class Like:
    """A call that stands for others: what is not a call's own is the same for all of them."""

    __slots__ = ("_aliases", "_patterns", "fact")

    def __init__(self, fact: Fact) -> None:
        self.fact = fact
        self._aliases: tuple[str, ...] = ()
        self._patterns: dict[tuple[Any, ...], Pattern | None] = {}

    def pattern(self, fact: UsualFact, batch: Batch, rules: Rules) -> Pattern | None:
        """Return the pattern of a fact like this one, None where the full rules have to take it."""
        if self._aliases != batch.aliases:
            self._aliases = batch.aliases
            self._patterns.clear()
        _, output, read, write, hour, reasoning = fact.counts
        told = output is None, read is None, write is None, hour is None, reasoning is None, not fact.first_token_ns
        which = fact.price, fact.estimate, fact.is_unsure, told, fact.session.source
        if which in self._patterns:
            return self._patterns[which]
        if len(self._patterns) >= _MOST_PATTERNS:
            self._patterns.clear()
        pattern = self._patterns[which] = _pattern_of(fact, batch, rules)
        return pattern


class UsualFact(Fact):
    """The fact of a usual call: its own values, and one `like` it. The other fields are made when they are asked for.

    `counts` are of the first six of `USAGE_CLASSES`, the others are not told; `parts` of the amount as in `Cost`.
    `price` names where the rates came from, `estimate` says that another amount is possible, and `is_unsure` that
    another reading of the counts is.
    """

    __slots__ = ("amount", "counts", "estimate", "is_unsure", "like", "parts", "price", "response_id")

    like: Like
    response_id: str
    counts: SixCounts
    amount: Pico
    parts: Parts
    price: str
    estimate: bool
    is_unsure: bool

    def __getattr__(self, name: str) -> Any:
        if name not in _FACT_FIELDS:
            raise AttributeError(name)
        value: Any
        if name == "call":
            assert self.like.fact.call is not None
            usage, own = Usage(*self.counts), {"response_id": self.response_id, "estimate": self.is_unsure}
            value = replace(self.like.fact.call, usage=usage, **own)  # type: ignore[arg-type]
        elif name == "cost":
            value = Cost(self.amount, "computed", self.amount, *self.parts, None, self.price, self.estimate)
        else:
            value = getattr(self.like.fact, name)
        setattr(self, name, value)
        return value

    def __reduce__(self) -> Any:
        raise TypeError("a usual fact is like another one, which is not copied with it")


_FACT_FIELDS = frozenset(one.name for one in fields(Fact))


class UsualDecision(Decision):
    """The decision on a usual call: its own values, and one on a call `like` it; the rest is made when it is asked for.

    Its own are its running totals, and the run that the session decides.
    """

    __slots__ = ("fact", "like")

    fact: UsualFact
    like: Decision

    def __getattr__(self, name: str) -> Any:
        if name not in _DECISION_FIELDS:
            raise AttributeError(name)
        value: Any
        if name == "usage":
            value = Usage(*self.fact.counts)
        elif name == "cost":
            value = self.fact.cost
        else:
            value = self.fact.session.id if name == "session_id" else getattr(self.like, name)
        setattr(self, name, value)
        return value


_DECISION_FIELDS = frozenset(one.name for one in fields(Decision))

_SESSION, _RUN, _RUN_SOURCE, _USAGE, _COST, _SESSION_COST, _RUN_COST = map(
    DECISION_VALUES.index, ("session_id", "run_id", "run_source", "usage", "cost", "session_cost", "run_cost")
)
_NAMED = 5
"""A span's own values with which its row begins, as in `trace_record`: ids of the span and its parent, start, end, and
the session. A pattern that did not fit would be refused."""
_RESPONSE, _CLAIM = 11, 15
_TOKENS, _AMOUNT, _DAY, _FIRST_TOKEN, _FRESH = 0, 1, 5, 13, 14
"""Within the claim."""


@dataclass(slots=True)
class Pattern:
    """What is stored of a call, with places for its own values; `span` is one like it, at `place`."""

    span: Span
    place: Place
    source: str
    label: str
    decision: Decision
    values: list[Any]
    row: list[Any]
    claim: list[Any]
    state: list[Any]

    @property
    def is_timed(self) -> bool:
        """Return whether it counts how fast such a call was."""
        return self.span.is_model_call and not self.span.detail.failed

    def stand(self) -> tuple[Any, ...]:
        """Return all that a session and its parts are told of the call but for its times, counts, amount and model."""
        span, place = self.span, self.place
        of_place = (place.role, place.run, place.agent, place.agent_parent, place.turn)
        return (*of_place, span.parent_session, span.detail, span.instance, span.is_model_call)

    def stored(self, fact: UsualFact, run: Named, session_cost: Pico, run_cost: Pico | None) -> SpanRow:
        """Return the row of the span in its trace's record, with the decision on it."""
        values, amount, counts = self.values.copy(), fact.amount, fact.counts + _REST
        session = values[_SESSION] = fact.session.id
        values[_RUN], values[_RUN_SOURCE], values[_USAGE] = run.id, run.source, counts
        values[_COST] = (amount, "computed", amount, *fact.parts, None, fact.price, fact.estimate, None, "")
        values[_SESSION_COST], values[_RUN_COST] = session_cost, run_cost
        row, claim = self.row.copy(), self.claim.copy()
        row[:_NAMED] = fact.span_id, fact.parent_id, fact.start_ns, fact.end_ns, session
        row[_RESPONSE], row[_CLAIM], row[-1] = fact.response_id, claim, pack_values(values, fact.digest)
        claim[_TOKENS], claim[_AMOUNT], claim[_DAY] = counts, amount, fact.day
        if fact.first_token_ns:
            claim[_FIRST_TOKEN] = fact.first_token_ns
        if len(claim) > _FRESH:
            claim[_FRESH] = fact.parts[0] + fact.parts[2]
        return [pack(row), *self.state]


def _pattern_of(fact: UsualFact, batch: Batch, rules: Rules) -> Pattern | None:
    """Return what the rules make of a call like this one, if that can be taken for others with their own values."""
    like = fact.like.fact
    call = like.call
    if call is None or like.run != NOTHING or like.session_parent_id or like.evidence.ids or call.source:
        return None
    ruling = rules(replace(batch, facts=[_whole(fact)]), NOTHING_STORED)
    head, rows = unpack_head(ruling.changes.replace[trace_key(batch.tenant, fact.trace_id)])
    row, (_, *state) = unpack(rows[0][0]), rows[0]
    place = span_in(rows[0]).place
    if head != Head() or len(row) <= _CLAIM + 1 or not isinstance(row[_CLAIM], list) or place is None:
        return None
    span = span_of(_whole(fact))
    assert span.claim is not None
    values = values_in(row[-1])
    pattern = Pattern(
        span, place, source_of(span), span.claim.label, ruling.decisions[0], values, row, row[_CLAIM], state
    )
    other = _another(fact)
    return pattern if _holds(pattern, other, replace(batch, facts=[other]), rules) else None


def _whole(fact: UsualFact) -> Fact:
    """Return the same fact with all its fields."""
    return Fact(**{name: getattr(fact, name) for name in _FACT_FIELDS})


def _another(fact: UsualFact) -> UsualFact:
    """Return a fact like this one that differs in every value of its own."""
    other = UsualFact.__new__(UsualFact)
    other.like, other.price, other.estimate, other.is_unsure = fact.like, fact.price, fact.estimate, fact.is_unsure
    other.trace_id, other.span_id = fact.trace_id[::-1] + b"\1", fact.span_id[::-1] + b"\1"
    other.parent_id, other.digest = fact.parent_id + b"\1", fact.digest[::-1]
    other.start_ns, other.end_ns, other.day = fact.start_ns + 1, fact.end_ns + 10**9, fact.day + 1
    other.first_token_ns = fact.first_token_ns and fact.first_token_ns + 2
    other.session, other.response_id = Named(fact.session.id + "'", fact.session.source), fact.response_id + "'"
    input_, *counts = fact.counts
    others = [None if count is None else count + number for number, count in enumerate(counts, 2)]
    other.counts = (input_ + 1, *others)  # type: ignore[assignment]
    other.parts = (fact.parts[0] + 1, fact.parts[1] + 2, fact.parts[2] + 3, fact.parts[3] + 4, fact.parts[4] + 5)
    other.amount = fact.amount + 15
    return other


def _holds(pattern: Pattern, fact: UsualFact, batch: Batch, rules: Rules) -> bool:
    """Return whether a pattern comes to what the rules come to for a fact."""
    ruling = rules(replace(batch, facts=[_whole(fact)]), NOTHING_STORED)
    usual = _Usual(batch, NOTHING_STORED, CallFilter(), lambda _: pattern)
    taken, rest = usual.run()
    same = not rest and taken.changes == ruling.changes
    return same and all(
        getattr(taken.decisions[0], name) == getattr(ruling.decisions[0], name) for name in _DECISION_FIELDS
    )


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
    """Account for the traces of usual calls; return what came of them, and the places in the batch of all others.

    `rules` is `accounting.account`, which is above this module.
    """
    return _Usual(batch, reader, calls, lambda fact: fact.like.pattern(fact, batch, rules)).run()


class _Group:
    """Calls of one session that stand there as that of the pattern `like` does; `models` are their costs by model."""

    __slots__ = ("facts", "like", "models")

    def __init__(self, like: Pattern) -> None:
        self.like = like
        self.facts: list[UsualFact] = []
        self.models: dict[str, Pico] = {}


class _Usual:
    def __init__(
        self, batch: Batch, reader: Reader, calls: CallFilter, pattern_of: Callable[[UsualFact], Pattern | None]
    ) -> None:
        self._batch = batch
        self._reader = reader
        self._ruling = Ruling()
        changes = self._ruling.changes
        self._totals = Totals(batch, reader, changes)
        self._index = CrossTraceIndex(batch.tenant, reader, changes, batch.now_ns, batch.digest(), calls)
        self._pattern_of = pattern_of
        self._now_ms = batch.now_ns // 1_000_000
        self._taken: list[tuple[bytes, list[int], list[UsualFact], list[Pattern]]] = []
        """Traces: their ids, the places of their facts in the batch, those, and their patterns."""

    def run(self) -> tuple[Ruling, list[int]]:
        rest: list[int] = []
        for trace_id, places in _usual_traces(self._batch.facts, rest):
            facts: Any = [self._batch.facts[place] for place in places]
            if not self._take(trace_id, places, facts):
                rest += places
        if self._taken:
            self._book()
            self._decide()
            self._index.save()
        rest.sort()
        return self._ruling, rest

    def _take(self, trace_id: bytes, places: list[int], facts: list[UsualFact]) -> bool:
        """Take in a trace, if it is one whose calls all count."""
        patterns: list[Pattern] = []
        for fact in facts:
            pattern = self._pattern_of(fact)
            if pattern is None:
                return False
            patterns.append(pattern)
        index, source, hashes_of = self._index, patterns[0].source, self._index.hashes_of
        if any(pattern.source != source for pattern in patterns):
            return False
        hashes = [hashes_of(fact.response_id, (), fact.counts, fact.end_ns) for fact in facts]
        if index.may_know(hashes, source):
            return False
        if self._reader.get(trace_key(self._batch.tenant, trace_id)) is not None:
            return False
        for fact, of_fact in zip(facts, hashes, strict=True):
            index.remember_call(of_fact, source, (trace_id, fact.span_id))
        self._taken.append((trace_id, places, facts, patterns))
        return True

    def _book(self) -> None:
        """Enter what the calls spent: sums of those that go to the same totals."""
        stands: dict[tuple[Any, ...], int] = {}
        stand_of: dict[int, int] = {}
        groups: dict[tuple[str, int], _Group] = {}
        claims: dict[tuple[int, int], tuple[Pattern, list[UsualFact]]] = {}
        for _, _, facts, patterns in self._taken:
            for fact, pattern in zip(facts, patterns, strict=True):
                which = id(pattern)
                of_claim = claims.get((which, fact.day))
                if of_claim is None:
                    of_claim = claims[which, fact.day] = (pattern, [])
                    stand_of[which] = stands.setdefault(pattern.stand(), len(stands))
                of_claim[1].append(fact)
                where = fact.session.id, stand_of[which]
                group = groups.get(where)
                if group is None:
                    group = groups[where] = _Group(pattern)
                group.facts.append(fact)
                if amount := fact.amount:
                    models, label = group.models, pattern.label
                    models[label] = models.get(label, 0) + amount
        for (session, _), group in groups.items():
            self._book_group(session, group)
        for (_, day), (pattern, facts) in claims.items():
            span, claim = pattern.span, pattern.span.claim
            assert claim is not None
            claim.day = day
            sums = _sums(facts, {})
            if sums.cost:
                sums.models[pattern.label] = sums.cost
            self._totals.book_claims(span, pattern.place, sums)
            if pattern.is_timed:
                self._totals.book_speeds(span, day, [bucket for fact in facts for bucket in _speeds(fact)])
        self._totals.settle()

    def _book_group(self, session: str, group: _Group) -> None:
        """Enter calls of one session that stand there as `group.like` does."""
        span, place = group.like.span, replace(group.like.place, session=session)
        sums = _sums(group.facts, group.models)
        self._totals.book_group(span, place, sums)
        times = [(fact.start_ns, fact.end_ns) for fact in group.facts]
        contexts = [(fact.start_ns, fact.counts[0]) for fact in group.facts] if span.is_model_call else []
        amounts = [(fact.start_ns, fact.amount) for fact in group.facts]
        latest = max([(fact.end_ns, fact.trace_id, fact.span_id) for fact in group.facts])
        self._totals.book_facts(span, place, times, contexts, amounts, latest, sums)

    def _decide(self) -> None:
        """Write decisions with running totals, and the traces' records."""
        ruling, totals = self._ruling, self._totals
        run_of: dict[str, Named] = {}
        of_sessions: dict[str, Pico] = {}
        of_runs: dict[str, Pico | None] = {}
        for session, amount in self._amounts().items():
            run_of[session] = run = totals.run_of(session)
            of_sessions[session] = totals.session_cost(session) - amount
            if run.id not in of_runs:
                of_runs[run.id] = totals.run_cost(run.id)
            before = of_runs[run.id]
            of_runs[run.id] = None if before is None else before - amount
        for trace_id, places, facts, patterns in self._taken:
            rows: list[SpanRow] = []
            for place, fact, pattern in zip(places, facts, patterns, strict=True):
                session = fact.session.id
                run = run_of[session]
                of_sessions[session] = session_cost = of_sessions[session] + fact.amount
                run_cost = of_runs[run.id]
                if run_cost is not None:
                    of_runs[run.id] = run_cost = run_cost + fact.amount
                decision = UsualDecision.__new__(UsualDecision)
                decision.session_cost, decision.run_cost = session_cost, run_cost
                decision.run_id, decision.run_source = run
                decision.budget_name = ""  # with budgets nothing comes here
                decision.fact, decision.like = fact, pattern.decision
                ruling.decisions[place] = decision
                rows.append(pattern.stored(fact, run, session_cost, run_cost))
            ruling.fresh += places
            where = trace_key(self._batch.tenant, trace_id)
            ruling.changes.replace[where] = pack_head(Head(), rows, self._now_ms)
            ruling.changes.expire.append(where)

    def _amounts(self) -> dict[str, Pico]:
        """Return what each session spends in this request."""
        amounts: dict[str, Pico] = {}
        for _, _, facts, _ in self._taken:
            for fact in facts:
                amounts[fact.session.id] = amounts.get(fact.session.id, 0) + fact.amount
        return amounts


def _usual_traces(facts: Sequence[Fact], rest: list[int]) -> Iterator[tuple[bytes, list[int]]]:
    """Yield traces of usual calls with ids of their own, none above another; the places of the others go to `rest`."""
    traces: dict[bytes, list[int]] = {}
    for place, fact in enumerate(facts):
        of_trace = traces.get(fact.trace_id)
        if of_trace is None:
            traces[fact.trace_id] = [place]
        else:
            of_trace.append(place)
    for trace_id, places in traces.items():
        if len(places) <= SEGMENT_SPANS and all(type(facts[place]) is UsualFact for place in places):
            of_trace_: Any = [facts[place] for place in places]
            ids = set(map(_span_id, of_trace_))
            if len(ids) == len(set(map(_response_id, of_trace_))) == len(places) and ids.isdisjoint(
                map(_parent_id, of_trace_)
            ):
                yield trace_id, places
                continue
        rest += places


_span_id, _parent_id, _response_id = map(attrgetter, ("span_id", "parent_id", "response_id"))


def _speeds(fact: UsualFact) -> list[int]:
    return speeds_of(fact.end_ns - fact.start_ns, fact.first_token_ns, fact.counts[1] or 0)


def _sums(facts: list[UsualFact], models: dict[str, Pico]) -> Sums:
    """Return the sums of counted calls, as `Span.enter` makes them one by one."""
    number = len(facts)
    counts = [
        sum([count or 0 for count in of_class]) for of_class in zip(*[fact.counts for fact in facts], strict=True)
    ]
    return Sums(
        cost=sum([fact.amount for fact in facts]),
        calls=number,
        priced=number,
        usage=(*counts, *_NO_REST),
        spans=number,
        first_ns=min([fact.start_ns for fact in facts]),
        last_ns=max([fact.end_ns for fact in facts]),
        models=models,
    )
