"""Usual calls: what a call has of its own, and the prototype and pattern from which all the rest comes.

A pattern is what the full rules (`accounting.account`) make of one call on an empty ledger, with the places where a
call's own values stand. `account_usual` accounts for calls by it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from operator import attrgetter
from typing import Any, TypeAlias

from msgspec import structs

from spanledger_processor.accounting.decide import span_of
from spanledger_processor.accounting.facts import (
    Batch,
    Fact,
    RuledAlike,
    Ruling,
    begun_digest,
    digest_with,
    models_reported,
)
from spanledger_processor.accounting.grouping import NOTHING, Named
from spanledger_processor.accounting.one_call import source_of
from spanledger_processor.accounting.trace import Posting, Span
from spanledger_processor.accounting.trace_record import Head, pattern_of_row, span_in, unpack_head
from spanledger_processor.ledger.keys import trace_key
from spanledger_processor.ledger.store import Key, Reader
from spanledger_processor.ledger.sums import Sums
from spanledger_processor.model import Call, Cost, CostParts, Decision, SixCounts, Usage
from spanledger_processor.units import Pico

LONGEST_ID = 128
"""Characters of a response id or a session's that the ledger keeps as they are, whatever they are."""
LARGEST_COUNT = 1 << 60
"""What may be counted of one class."""

Rules: TypeAlias = Callable[[Batch, Reader], Ruling]
"""`accounting.account`, which stands above."""

_MOST_FORMS = 64
"""Of one prototype: as many as it has prices, and sets of counts that are known."""


class Prototype:
    """A call that was read by the full rules, of which other calls have all but their own values."""

    __slots__ = ("_forms", "digest", "fact", "models", "of_anthropic")

    def __init__(self, fact: Fact) -> None:
        self.fact = fact
        self.models = "" if fact.call is None else models_reported(fact.call, None)
        self.digest = begun_digest(self.models)
        """The beginning of the digests of such calls."""
        claim = span_of(fact).claim
        self.of_anthropic = claim is not None and claim.of_anthropic
        self._forms: dict[tuple[Any, ...], UsualForm] = {}

    def form(self, which: tuple[Any, ...]) -> UsualForm:
        """Return the form of calls of this prototype that are so (`UsualForm.which`)."""
        form = self._forms.get(which)
        if form is None:
            if len(self._forms) >= _MOST_FORMS:
                self._forms.clear()
            form = self._forms[which] = UsualForm(self, which)
        return form


class UsualForm:
    """Calls of a prototype that differ in their own values alone.

    `which` are `price`, `estimate` and `is_unsure` as a fact has them, where the session was named, and of each count
    but the first, and the time of the first token, whether it is unknown. `pattern` is that of such calls in batches
    with these `aliases`; None where the full rules have to take them.
    """

    __slots__ = ("aliases", "pattern", "prototype", "which")

    def __init__(self, prototype: Prototype, which: tuple[Any, ...]) -> None:
        self.prototype, self.which = prototype, which
        self.aliases: tuple[str, ...] | None = None
        self.pattern: Pattern | None = None


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


DECISION_FIELDS = tuple(one.name for one in fields(Decision))
_delegate(
    UsualDecision,
    {
        "usage": lambda decision: decision.fact.call.usage,
        "cost": lambda decision: decision.fact.cost,
        "session_id": lambda decision: decision.fact.session.id,
    },
    [name for name in DECISION_FIELDS if name not in ("session_cost", "run_cost", "run_id", "run_source")],
    "prototype",
)


def decisions_on(ruled: RuledAlike, facts: Sequence[Fact]) -> dict[int, Decision]:
    """Return the decisions on usual calls, which are among these facts, by their indexes."""
    decisions: dict[int, Decision] = {}
    for index, prototype, run, session_cost, run_cost in zip(*ruled, strict=True):
        fact = facts[index]
        assert type(fact) is UsualFact
        decisions[index] = decision = UsualDecision.__new__(UsualDecision)
        decision.fact, decision.prototype, decision.session_cost = fact, prototype, session_cost
        (decision.run_id, decision.run_source), decision.run_cost = run, run_cost
    return decisions


@dataclass(slots=True, eq=False)
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

    @property
    def is_timed(self) -> bool:
        """Return whether it counts how fast such a call was."""
        return self.span.is_model_call and not self.span.detail.failed

    def stand(self) -> tuple[Any, ...]:
        """Return all that a session and its parts get of the call but for its times, counts, amount and model."""
        span, posting = self.span, self.posting
        of_posting = (posting.role, posting.run, posting.agent, posting.agent_parent, posting.turn)
        return (*of_posting, span.parent_session, span.detail, span.instance, span.is_model_call)


def pattern_of(fact: UsualFact, batch: Batch, rules: Rules) -> Pattern | None:
    """Return what the rules make of a call like this one, if that can be taken for others with their own values."""
    prototype = fact.prototype.fact
    call = prototype.call
    if call is None or prototype.run != NOTHING or prototype.session_parent_id or prototype.evidence.ids or call.source:
        return None
    ruling = rules(replace(batch, facts=[whole(fact)]), NOTHING_STORED)
    head, rows = unpack_head(ruling.changes.replace[trace_key(batch.tenant, fact.trace_id)])
    stored = pattern_of_row(rows[0], fact.price, fact.prototype.models, estimate=fact.estimate)
    posting = span_in(rows[0]).posting
    if head != Head() or stored is None or posting is None:
        return None
    span = span_of(whole(fact))
    assert span.claim is not None
    return Pattern(span, posting, source_of(span), span.claim.label, ruling.decisions[0], stored)


def whole(fact: UsualFact) -> Fact:
    """Return the same fact with all its fields."""
    return Fact(**{name: getattr(fact, name) for name in _FACT_FIELDS})


def another(fact: UsualFact) -> UsualFact:
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


class _Nothing:
    """A reader of a ledger that holds nothing."""

    def get(self, _: Key) -> bytes | None:
        return None

    def sums(self, _: Key) -> Sums:
        return Sums()

    def scan(self, *_: object, **__: object) -> Iterator[tuple[Key, bytes]]:
        return iter(())


NOTHING_STORED: Any = _Nothing()
