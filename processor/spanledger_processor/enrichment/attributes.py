"""The attributes that a decision puts on its span (docs/contract.md#attributes-added), encoded and ready to append.

They follow the order of the contract's table. Pieces that repeat from span to span (names, sessions, runs) are kept in
bounded caches; numbers are written behind prefixes made once. Amounts become doubles here and nowhere else: each is the
double nearest to its exact value in USD.

Aliases are keys that other backends read a cost from (docs/contract.md#aliases). Only totals are sure to be what
counts. Parts are written where they add up to it, that is where it was computed here. JSON-valued keys hold JSON text.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from operator import itemgetter
from typing import TypeAlias

from spanledger_processor.accounting.usual import UsualDecision
from spanledger_processor.model import (
    COST_ALIASES,
    INPUT,
    USAGE_CLASSES,
    Cost,
    CostAlias,
    Decision,
    Signature,
    SixCounts,
    Usage,
    counts_of,
)
from spanledger_processor.otlp.encoding import INT64, double, doubles, flag, integer, integer_prefixes, integers, text
from spanledger_processor.units import USD, Pico

_Alias: TypeAlias = Callable[[Cost, Pico], bytes]


def _writer(key: str, alias: CostAlias) -> _Alias:
    """Return what writes an alias of a cost and the amount that counts; parts only where they add up to that."""
    if alias.total:
        return _json(key, alias)
    piece = double(key)
    if alias.part:
        return lambda cost, amount: piece(_sum(cost, alias.part) / USD) if _adds_up(cost, amount) else b""
    return lambda _, amount: piece(amount / USD)


def _json(key: str, alias: CostAlias) -> _Alias:
    piece = text(key)

    def write(cost: Cost, amount: Pico) -> bytes:
        amounts = {alias.total: amount}
        if _adds_up(cost, amount):
            amounts |= {name: _sum(cost, names) for name, names in alias.parts.items()}
        return piece(json.dumps({name: value / USD for name, value in amounts.items()}))

    return write


def _sum(cost: Cost, names: tuple[str, ...]) -> Pico:
    return sum(getattr(cost, name) for name in names)


def _adds_up(cost: Cost, amount: Pico) -> bool:
    """Return whether the computed parts are parts of what counts; a billed cost has none that are known."""
    return cost.computed == amount


ALIASES: Mapping[str, _Alias] = {key: _writer(key, alias) for key, alias in COST_ALIASES.items()}
"""How each alias is written from a cost and the amount that counts."""

_TOTALS_ALONE = frozenset(key for key, alias in COST_ALIASES.items() if alias == CostAlias())
"""Aliases that say nothing but the amount."""


def alias_keys(aliases: Iterable[str]) -> tuple[str, ...]:
    """Return the keys that the aliases of a configuration stand for: `llm.cost.*` is every key that begins so."""
    wanted = [alias.removesuffix("*") for alias in aliases if alias.endswith("*")]
    exact = frozenset(aliases)
    return tuple(key for key in ALIASES if key in exact or key.startswith(tuple(wanted)))


_CACHED = 2048

_KIND = text("spanledger.kind")
_DIALECT = text("spanledger.dialect")
_GRANULARITY = text("spanledger.granularity")
_SESSION_ID = text("spanledger.session.id")
_SESSION_SOURCE = text("spanledger.session.source")
_SESSION_PARENT_ID = text("spanledger.session.parent_id")
_SESSION_CLOSED = flag("spanledger.session.closed", value=True)
_RUN_ID = text("spanledger.run.id")
_RUN_SOURCE = text("spanledger.run.source")
_AGENT_ID = text("spanledger.agent.id")
_AGENT_PARENT_ID = text("spanledger.agent.parent_id")
_TASK_ID = text("spanledger.task.id")
_TASK_KIND = text("spanledger.task.kind")
_COST = double("spanledger.cost.usd")
_PARTS = [
    f"spanledger.cost.{part}_usd" for part in ("input", "cache_read", "cache_write", "output", "other", "computed")
]
_COST_PARTS = doubles(*_PARTS)
_COST_REPORTED = double("spanledger.cost.reported_usd")
_COST_SUBTREE = double("spanledger.cost.subtree_usd")
_COST_SOURCE = text("spanledger.cost.source")
_COST_PRICE = text("spanledger.cost.price")
_COST_UNPRICED = text("spanledger.cost.unpriced")
_COST_ESTIMATE = flag("spanledger.cost.estimate", value=True)
_COST_REPEATS_CHILDREN = flag("spanledger.cost.repeats_children", value=True)
_COST_DUPLICATE_OF = text("spanledger.cost.duplicate_of")
_TOOL_SIGNATURE = text("spanledger.tool.signature")
_TOOL_SIGNATURE_SCOPE = text("spanledger.tool.signature_scope")
_TOOL_REPEATS = integer("spanledger.tool.repeats")
_TOOL_CONSECUTIVE = integer("spanledger.tool.consecutive")
_TOOL_LOOP = {value: flag("spanledger.tool.loop", value=value) for value in (False, True)}
_SESSION_COST = double("spanledger.session.cost_usd")
_RUN_COST = double("spanledger.run.cost_usd")
_BUDGET_NAME = text("spanledger.budget.name")
_BUDGET_USED = double("spanledger.budget.used")
_NOTE = text("spanledger.note")
_SOURCE = text("spanledger.source")

_USAGE = tuple(integer_prefixes(f"spanledger.usage.{one.attribute}") for one in USAGE_CLASSES)


def encode(decision: Decision) -> bytes:
    """Return the attributes of `decision` as encoded `Span.attributes` fields."""
    if type(decision) is UsualDecision:
        writer = _WRITERS.get(id(decision.prototype))
        if writer is None or writer.prototype is not decision.prototype:
            writer = _UsualWriter.of(decision.prototype)
        return writer.encode(decision)
    counted = not decision.repeats_children and not decision.duplicate_of
    pieces = [
        _kind(decision.kind, decision.dialect, decision.granularity),
        _session(decision.session_id, decision.session_source, decision.session_parent_id, decision.session_closed),
        _run(decision.run_id, decision.run_source),
        _agent(decision.agent_id, decision.agent_parent_id, decision.task_id, decision.task_kind),
    ]
    pieces += _spending(decision) if counted else _nothing_added(decision)
    if decision.signature is not None:
        pieces += _tool(decision, decision.signature)
    elif decision.tool_loop:
        pieces.append(_TOOL_LOOP[True])
    if counted:
        pieces += _totals(decision)
    pieces.append(_origin(decision.note, decision.source))
    if counted and decision.cost is not None and decision.cost.amount is not None:
        cost, amount = decision.cost, decision.cost.amount
        pieces += [ALIASES[alias](cost, amount) for alias in decision.aliases if alias in ALIASES]
    return b"".join(pieces)


class _UsualWriter:
    """Writes the attributes of usual calls of one prototype, with all that they have in common encoded once.

    These are the calls of one pattern (`accounting.usual`): prices, which counts there are, and where the session was
    named are the same for all of them.
    """

    def __init__(self, prototype: Decision) -> None:
        assert prototype.usage is not None
        assert prototype.cost is not None
        self.prototype = prototype
        present = [place for place, count in enumerate(counts_of(prototype.usage)) if count is not None]
        self._prefixes = [_USAGE[place] for place in present]
        self._known_counts: Callable[[SixCounts], tuple[int, ...]] = itemgetter(*present, INPUT)
        """Of those that are known, and the input behind them: of one alone it would give no tuple."""
        self._heads: dict[tuple[str, str, str], bytes] = {}
        aliases = [alias for alias in prototype.aliases if alias in ALIASES]
        totals = aliases if _TOTALS_ALONE.issuperset(aliases) else []
        self._aliases = [] if totals else aliases
        self._numbers = len(totals)
        after = _provenance("computed", prototype.cost.price, prototype.cost.estimate, None)
        origin = _origin(prototype.note, prototype.source)
        costs, keys = ("spanledger.cost.usd", *_PARTS), ("spanledger.session.cost_usd", "spanledger.run.cost_usd")
        self._with_run = doubles(*costs, *keys, *totals, between={len(costs): after, len(costs) + 2: origin})
        self._without = doubles(*costs, keys[0], *totals, between={len(costs): after, len(costs) + 1: origin})

    @classmethod
    def of(cls, prototype: Decision) -> _UsualWriter:
        """Return the writer of decisions on calls of this prototype, which is kept."""
        if len(_WRITERS) >= _MOST_WRITERS:
            _WRITERS.clear()
        writer = _WRITERS[id(prototype)] = cls(prototype)
        return writer

    def encode(self, decision: UsualDecision) -> bytes:
        """Return the attributes of one of the calls."""
        fact, session_cost, run_cost = decision.fact, decision.session_cost, decision.run_cost
        assert session_cost is not None
        head = fact.session.id, decision.run_id, decision.run_source
        usd = fact.amount / USD
        given, cache_read, cache_write, output, other = fact.parts
        costs = [usd, given / USD, cache_read / USD, cache_write / USD, output / USD, other / USD, usd]
        costs.append(session_cost / USD)
        if run_cost is not None:
            costs.append(run_cost / USD)
        if self._numbers:
            costs += [usd] * self._numbers
        pieces = [self._heads.get(head) or self._head(*head)]
        pieces += integers(zip(self._prefixes, self._known_counts(fact.counts), strict=False))
        pieces.append(self._without(costs) if run_cost is None else self._with_run(costs))
        if self._aliases:
            cost = fact.cost
            assert cost is not None
            pieces += [ALIASES[alias](cost, fact.amount) for alias in self._aliases]
        return b"".join(pieces)

    def _head(self, session: str, run: str, run_source: str) -> bytes:
        prototype = self.prototype
        if len(self._heads) >= _CACHED:
            self._heads.clear()
        head = self._heads[session, run, run_source] = b"".join(
            (
                _kind(prototype.kind, prototype.dialect, prototype.granularity),
                _session(session, prototype.session_source, prototype.session_parent_id, prototype.session_closed),
                _run(run, run_source),
                _agent(prototype.agent_id, prototype.agent_parent_id, prototype.task_id, prototype.task_kind),
            )
        )
        return head


_MOST_WRITERS = 1024
_WRITERS: dict[int, _UsualWriter] = {}
"""By the identity of the prototype, which the writer holds, so that it stays its own."""


@lru_cache(_CACHED)
def _kind(kind: str, dialect: str, granularity: str) -> bytes:
    return _KIND(kind) + _DIALECT(dialect) + _GRANULARITY(granularity)


@lru_cache(_CACHED)
def _session(identifier: str, source: str, parent_id: str, closed: bool) -> bytes:  # noqa: FBT001 - a cache's key
    named = _SESSION_ID(identifier) + _SESSION_SOURCE(source) if identifier else b""
    parent = _SESSION_PARENT_ID(parent_id) if parent_id else b""
    return named + parent + (_SESSION_CLOSED if closed else b"")


@lru_cache(_CACHED)
def _run(identifier: str, source: str) -> bytes:
    return _RUN_ID(identifier) + _RUN_SOURCE(source) if identifier else b""


@lru_cache(_CACHED)
def _agent(identifier: str, parent_id: str, task_id: str, task_kind: str) -> bytes:
    named = ((_AGENT_ID, identifier), (_AGENT_PARENT_ID, parent_id), (_TASK_ID, task_id), (_TASK_KIND, task_kind))
    return b"".join(piece(value) for piece, value in named if value)


@lru_cache(_CACHED)
def _origin(note: str, source: str) -> bytes:
    return (_NOTE(note) if note else b"") + (_SOURCE(source) if source else b"")


def _nothing_added(decision: Decision) -> list[bytes]:
    """Return why a span with usage adds nothing: never with usage or a cost."""
    if decision.duplicate_of:
        return [_COST_DUPLICATE_OF(decision.duplicate_of)]
    subtree = [] if decision.subtree is None else [_COST_SUBTREE(decision.subtree / USD)]
    return [_COST_REPEATS_CHILDREN, *subtree]


def _spending(decision: Decision) -> list[bytes]:
    pieces = [] if decision.usage is None else _usage(decision.usage)
    if decision.cost is not None:
        pieces += _cost(decision.cost)
    return pieces


def _totals(decision: Decision) -> list[bytes]:
    """Return the running totals after this span, and the budget that it counts against."""
    pieces = [] if decision.session_cost is None else [_SESSION_COST(decision.session_cost / USD)]
    if decision.run_cost is not None:
        pieces.append(_RUN_COST(decision.run_cost / USD))
    if decision.budget_name:
        pieces += [_BUDGET_NAME(decision.budget_name), _BUDGET_USED(decision.budget_used)]
    return pieces


def _usage(usage: Usage) -> list[bytes]:
    """Return the counts that are known; one that no int64 holds cannot be written."""
    counted = zip(_USAGE, counts_of(usage), strict=True)
    return integers([(prefixes, count) for prefixes, count in counted if count is not None and count in INT64])


def _cost(cost: Cost) -> list[bytes]:
    pieces = []
    if cost.amount is not None:
        pieces.append(_COST(cost.amount / USD))
    if cost.computed is not None:
        parts = (cost.input, cost.cache_read, cost.cache_write, cost.output, cost.other, cost.computed)
        pieces.append(_COST_PARTS([part / USD for part in parts]))
    if cost.reported is not None:
        pieces.append(_COST_REPORTED(cost.reported / USD))
    pieces.append(_provenance(cost.source, cost.price, cost.estimate, cost.unpriced))
    return pieces


@lru_cache(_CACHED)
def _provenance(source: str, price: str, estimate: bool, unpriced: str | None) -> bytes:  # noqa: FBT001 - a cache's key
    texts = ((_COST_SOURCE, source), (_COST_PRICE, price), (_COST_UNPRICED, unpriced))
    pieces = [piece(value) for piece, value in texts if value]
    return b"".join(pieces) + (_COST_ESTIMATE if estimate else b"")


def _tool(decision: Decision, signature: Signature) -> list[bytes]:
    pieces = [_TOOL_SIGNATURE(signature.value), _TOOL_SIGNATURE_SCOPE(signature.scope)]
    if decision.tool_repeats:
        pieces += [_TOOL_REPEATS(decision.tool_repeats), _TOOL_CONSECUTIVE(decision.tool_consecutive)]
        pieces.append(_TOOL_LOOP[decision.tool_loop])
    return pieces
