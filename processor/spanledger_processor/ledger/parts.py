"""A session by agent and by tool, and what it tells of itself beside sums.

What a session did by no named agent is the difference to the session's own sums, so that its agents always add up to
it. Parts live as long as their session. Answers tell the dearest, or most called, apart; the others are one row, exact.
"""

from __future__ import annotations

from collections.abc import Iterator

from spanledger_processor.ledger.dimensions import AGENT
from spanledger_processor.ledger.facts import Facts
from spanledger_processor.ledger.keys import bounded_id, id_bytes
from spanledger_processor.ledger.rows import Row, models, spend, time_of
from spanledger_processor.ledger.store import Reader, Table, near
from spanledger_processor.ledger.sums import Sums

TOOL = "tool"
PARTS_SHOWN = 64
"""Agents, and tools, of a session that an answer tells apart."""


def of_session(reader: Reader, tenant: bytes, session_id: str, session: Sums) -> Row:
    """Return the rows of a session's agents and tools.

    `agents` have what each spent, the dearest first, `parent` where one is known to stand above; the rest of the
    session, by no named agent, has an empty id. They add up to the session. `tools` have calls, failures and denials,
    the most called first.
    """
    agents = _cut(agents_of(reader, tenant, session_id))
    tools = [part for part in _parts(reader, tenant, session_id) if part.labels.get("kind") == TOOL]
    tools = _cut(sorted(tools, key=lambda sums: (-sums.tool_calls, sums.labels.get("id", ""))))
    rest = session.copy()
    for sums in agents:
        rest.add(sums, -1)
    rest.labels = {}
    if agents and (rest.calls or rest.cost):
        agents.append(rest)
    return {
        "agents": [_agent(sums) for sums in agents],
        "tools": [_tool(sums) for sums in tools if sums.tool_calls],
    }


def agents_of(reader: Reader, tenant: bytes, session_id: str) -> list[Sums]:
    """Return the sums of a session's named agents, the dearest first."""
    agents = [part for part in _parts(reader, tenant, session_id) if part.labels.get("kind") == AGENT]
    return sorted(agents, key=lambda sums: (-sums.cost, -sums.calls, sums.labels.get("id", "")))


def described(session: Sums, gap_ms: int) -> Row:
    """Return what a session tells beside sums: who and where, turns, failures, active time, growth of its context.

    `gap_ms` is the longest pause that is part of the active time. A session of which no span tells turns has none, and
    not 0 of them.
    """
    facts = session.facts or Facts()
    per_turn = session.granularities.get("per-turn", 0)
    return {
        "dimensions": {name: values for name, values in sorted(facts.values.items()) if name != "instance"},
        "instances": facts.values.get("instance", []),
        "turns": max(facts.turns, per_turn) or None,
        "failures": facts.failed,
        "denied": facts.denied,
        "active_seconds": facts.active_ms(gap_ms) / 1000,
        "context": [
            {"at": time_of(at * facts.unit_s * 10**9), "input_tokens": size} for at, size in sorted(facts.sizes.items())
        ],
    }


def _parts(reader: Reader, tenant: bytes, session_id: str) -> Iterator[Sums]:
    session_id = bounded_id(session_id)
    for _, record in reader.scan(Table.PART, tenant, within=near(id_bytes(session_id))):
        sums = Sums.unpack(record)
        if sums.labels.get("session") == session_id and sums.spans > 0:
            yield sums


def _cut(parts: list[Sums]) -> list[Sums]:
    """Return the first parts, and all others as one."""
    if len(parts) <= PARTS_SHOWN:
        return parts
    other = Sums()
    for sums in parts[PARTS_SHOWN:]:
        other.add(sums)
    other.labels = {"other": "1"}
    return [*parts[:PARTS_SHOWN], other]


def _agent(sums: Sums) -> Row:
    return {
        **_named(sums),
        **({"parent_id": sums.labels["parent"]} if "parent" in sums.labels else {}),
        **spend(sums),
        "tool_calls": sums.tool_calls,
        "failures": sums.facts.failed if sums.facts else 0,
        "models": models(sums),
        "first": time_of(sums.first_ns),
        "last": time_of(sums.last_ns),
    }


def _tool(sums: Sums) -> Row:
    facts = sums.facts or Facts()
    return {**_named(sums), "calls": sums.tool_calls, "failures": facts.failed, "denied": facts.denied}


def _named(sums: Sums) -> Row:
    return {"id": sums.labels.get("id", ""), **({"other": True} if "other" in sums.labels else {})}
