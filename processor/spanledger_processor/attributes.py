"""The attributes that a decision puts on its span (contract, "Attributes added"), encoded and ready to append.

They follow the order of the contract's table. Pieces that repeat from span to span (names, sessions, runs) are kept in
bounded caches; numbers are written behind prefixes made once. Amounts become doubles here and nowhere else: each is the
double nearest to its exact value in USD.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import lru_cache

from spanledger_processor.calls import USD, Pico, Usage
from spanledger_processor.decisions import Cost, Decision
from spanledger_processor.wire.pieces import INT64, double, flag, integer, text

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
_COST_INPUT = double("spanledger.cost.input_usd")
_COST_CACHE_READ = double("spanledger.cost.cache_read_usd")
_COST_CACHE_WRITE = double("spanledger.cost.cache_write_usd")
_COST_OUTPUT = double("spanledger.cost.output_usd")
_COST_OTHER = double("spanledger.cost.other_usd")
_COST_COMPUTED = double("spanledger.cost.computed_usd")
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
_NOTE = text("spanledger.note")
_SOURCE = text("spanledger.source")

_USAGE: tuple[tuple[str, Callable[[int], bytes]], ...] = tuple(
    (field, integer(f"spanledger.usage.{field}_tokens"))
    for field in ("input", "output", "cache_read", "cache_write", "cache_write_1h", "reasoning")
)


def encode(decision: Decision) -> bytes:
    """The attributes of `decision` as encoded `Span.attributes` fields."""
    pieces = [
        _kind(decision.kind, decision.dialect, decision.granularity),
        _session(decision.session_id, decision.session_source, decision.session_parent_id, decision.session_closed),
        _run(decision.run_id, decision.run_source),
    ]
    if decision.agent_id or decision.agent_parent_id or decision.task_id or decision.task_kind:
        pieces.append(_agent(decision.agent_id, decision.agent_parent_id, decision.task_id, decision.task_kind))
    pieces += _money(decision)
    if decision.signature is not None:
        pieces += _tool(decision)
    if decision.note or decision.source:
        pieces.append(_origin(decision.note, decision.source))
    return b"".join(pieces)


def usd(amount: Pico) -> float:
    """The double nearest to `amount`."""
    return amount / USD


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


def _money(decision: Decision) -> list[bytes]:
    """What a span adds, or why it adds nothing: never both."""
    if decision.repeats_children:
        subtree = [] if decision.subtree is None else [_COST_SUBTREE(usd(decision.subtree))]
        return [_COST_REPEATS_CHILDREN, *subtree]
    if decision.duplicate_of:
        return [_COST_DUPLICATE_OF(decision.duplicate_of)]
    pieces = [] if decision.usage is None else _usage(decision.usage)
    if decision.cost is not None:
        pieces += _cost(decision.cost)
    if decision.session_cost is not None:
        pieces.append(_SESSION_COST(usd(decision.session_cost)))
    if decision.run_cost is not None:
        pieces.append(_RUN_COST(usd(decision.run_cost)))
    if decision.cost is not None and decision.cost.amount is not None:
        pieces += [_ALIASES[alias](decision.cost, decision.cost.amount) for alias in decision.aliases]
    return pieces


def _usage(usage: Usage) -> list[bytes]:
    """Counts that are known; one that no int64 holds cannot be written."""
    pieces = []
    for field, piece in _USAGE:
        count = getattr(usage, field)
        if count is not None and count in INT64:
            pieces.append(piece(count))
    return pieces


def _cost(cost: Cost) -> list[bytes]:
    pieces = []
    if cost.amount is not None:
        pieces.append(_COST(usd(cost.amount)))
    if cost.computed is not None:
        pieces += _parts(cost, cost.computed)
    if cost.reported is not None:
        pieces.append(_COST_REPORTED(usd(cost.reported)))
    pieces.append(_provenance(cost.source, cost.price, cost.estimate, cost.unpriced))
    return pieces


def _parts(cost: Cost, computed: Pico) -> list[bytes]:
    return [
        _COST_INPUT(usd(cost.input)),
        _COST_CACHE_READ(usd(cost.cache_read)),
        _COST_CACHE_WRITE(usd(cost.cache_write)),
        _COST_OUTPUT(usd(cost.output)),
        _COST_OTHER(usd(cost.other)),
        _COST_COMPUTED(usd(computed)),
    ]


@lru_cache(_CACHED)
def _provenance(source: str, price: str, estimate: bool, unpriced: str | None) -> bytes:  # noqa: FBT001 - a cache's key
    told = ((_COST_SOURCE, source), (_COST_PRICE, price), (_COST_UNPRICED, unpriced))
    pieces = [piece(value) for piece, value in told if value]
    return b"".join(pieces) + (_COST_ESTIMATE if estimate else b"")


def _tool(decision: Decision) -> list[bytes]:
    assert decision.signature is not None
    pieces = [_TOOL_SIGNATURE(decision.signature.value), _TOOL_SIGNATURE_SCOPE(decision.signature.scope)]
    if decision.tool_repeats:
        pieces += [_TOOL_REPEATS(decision.tool_repeats), _TOOL_CONSECUTIVE(decision.tool_consecutive)]
        pieces.append(_TOOL_LOOP[decision.tool_loop])
    return pieces


_USAGE_COST = double("gen_ai.usage.cost")
_OPERATION_COST = double("operation.cost")
_LANGFUSE = text("langfuse.observation.cost_details")
_MLFLOW = text("mlflow.llm.cost")
_OPENINFERENCE_TOTAL = double("llm.cost.total")


def _langfuse(cost: Cost, amount: Pico) -> bytes:
    return _LANGFUSE(json.dumps({"total": usd(amount)}))


def _mlflow(cost: Cost, amount: Pico) -> bytes:
    return _MLFLOW(json.dumps({"total_cost": usd(amount)}))


_ALIASES: dict[str, Callable[[Cost, Pico], bytes]] = {
    "gen_ai.usage.cost": lambda cost, amount: _USAGE_COST(usd(amount)),
    "operation.cost": lambda cost, amount: _OPERATION_COST(usd(amount)),
    "llm.cost.total": lambda cost, amount: _OPENINFERENCE_TOTAL(usd(amount)),
    "langfuse.observation.cost_details": _langfuse,
    "mlflow.llm.cost": _mlflow,
}
