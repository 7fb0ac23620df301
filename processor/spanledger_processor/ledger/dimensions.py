"""Sums by dimension: team, user, service and the like, by UTC day and value.

Only values that are named have records. What has none is the difference to the sums of the days, so that the values,
the others and the unattributed always add up to the whole, whatever dimensions a configuration had at the time. Of one
dimension and day the dearest values stand alone (`VALUES_KEPT`); the rest are one, "other" (`retention.Narrowing`).

The parts of a session are its sums by agent and by tool. What it did by no named agent is the difference to its own
sums, so that its agents always add up to it. Parts live as long as their session.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import TypeAlias

from spanledger_processor.ledger.day_values import DayValues, day_values, records_of_days, values_of
from spanledger_processor.ledger.facts import EARLIEST_NS, Facts
from spanledger_processor.ledger.keys import bounded_id, dimension_day, id_bytes, part_key, total_key
from spanledger_processor.ledger.rows import Row, date_of, listed_model, models, money, spend, time_of
from spanledger_processor.ledger.runs import each_session_of_run
from spanledger_processor.ledger.store import Reader, Table, near
from spanledger_processor.ledger.sums import Merging, Sums
from spanledger_processor.model import USAGE_CLASSES
from spanledger_processor.pricing import provider_name
from spanledger_processor.units import MS_PER_DAY, NS_PER_DAY, Pico

MODEL, PROVIDER, AGENT = "model", "provider", "agent"
"""Dimensions that need no configuration: what every call tells, and the agent of a span or of what stands above it."""
VALUES_KEPT = 512
"""Values of one dimension and day that are distinguished for good; up to twice as many until retention goes round."""


def values(
    reader: Reader, tenant: bytes, name: str, since: int = 0, until: int | None = None, most: int | None = None
) -> tuple[list[Row], int]:
    """Return the values of a dimension from one UTC day (days since 1970) to another, both included, the dearest first,
    and how many have no row of their own because they are more than `most`.

    A row has the sums, the cost by model, and the cost by day. Behind them come, where there are any, the other values
    (`other`) and what names none (`unattributed`, not by model). All rows together are the whole of those days, and the
    days of all rows those days.
    """
    whole, totals, days = _days(reader, tenant, name, since, until)
    ranked, others = _ranked(days)
    kept, rest = ranked[:most], ranked[len(ranked) if most is None else most :]
    rows, all_values = list[Row](), Merging()
    for _, of_day in days:
        all_values.add(of_day.whole)
    whole.take_out(all_values)
    for value, places in kept:
        merging = Merging()
        merging.add_all([days[number][1].row(at) for number, at in places])
        if merging.is_below_nothing:
            others += places
            continue
        all_values.take_out(merging)
        rows.append(_row({"value": value}, merging.sums(), _by_day(days, places)))
    others += [place for _, places in rest for place in places]
    if others:
        rows.append(_row({"value": "", "other": True}, all_values.sums(), _by_day(days, others)))
    unattributed = whole.sums()
    if unattributed.calls or unattributed.cost:
        rows.append({"value": "", "unattributed": True, **spend(unattributed), "days": _rest_by_day(totals, days)})
    return rows, len(rest)


def costs(reader: Reader, tenant: bytes, name: str, since: int, until: int) -> dict[str, tuple[Pico, int]]:
    """Return what each value of a dimension cost, and its calls without a price, from one UTC day to another, both
    included.
    """
    result: dict[str, tuple[Pico, int]] = {}
    for _, of_day in _days(reader, tenant, name, since, until)[2]:
        unpriced = of_day.unpriced()
        for value, cost, without in zip(of_day.names, of_day.costs, unpriced, strict=True):
            if value:
                before = result.get(value, (0, 0))
                result[value] = before[0] + cost, before[1] + without
    return result


def exists(reader: Reader, tenant: bytes, name: str) -> bool:
    """Return whether a ledger has any value of a dimension: also of one that is not configured any more."""
    if name in (MODEL, PROVIDER, AGENT):
        return True
    whole = reader.sums(total_key(tenant))
    last = whole.arrival_ms // MS_PER_DAY + 1
    days = range(max(EARLIEST_DAY, min(whole.first_ns // NS_PER_DAY, last)), last + 1)
    within = (near(dimension_day(name, day)) for day in reversed(days))
    records = (record for one in within for _, record in reader.scan(Table.DIMENSION, tenant, within=one))
    return any(Sums.unpack(record).labels.get("dimension") == name for record in records)


def has_value(reader: Reader, tenant: bytes, session: Sums, name: str, value: str) -> bool:
    """Return whether anything in a session has a value of a dimension, as far as the session keeps its values."""
    if name == AGENT:
        return reader.sums(part_key(tenant, session.labels.get("id", ""), AGENT, value)).spans > 0
    facts = session.facts
    if name in (MODEL, PROVIDER):
        return any(value in names_in(label, name) for label in (*session.models, *(facts.models if facts else ())))
    return facts is not None and value in facts.values.get(name, ())


def run_has_value(reader: Reader, tenant: bytes, run: Sums, name: str, value: str) -> bool:
    """Return whether a session of a run has a value of a dimension."""
    sessions = each_session_of_run(reader, tenant, run.labels.get("id", ""))
    return any(has_value(reader, tenant, session, name, value) for session in sessions)


def listed(dimension: str, value: str) -> str:
    """Return a value of a dimension as sums have it, in whatever spelling of its provider a user writes it."""
    if dimension == PROVIDER:
        return provider_name(value)
    return listed_model(value) if dimension == MODEL else value


def names_in(label: str, dimension: str) -> tuple[str, ...]:
    """Return what the label of a model, with or without a provider in front, may name of `model` or `provider`."""
    label = listed_model(label)
    provider, has_provider, model = label.partition("/")
    if dimension == PROVIDER:
        return (provider,) if has_provider else ()
    return (label, model)


_Places: TypeAlias = list[tuple[int, int]]
"""The number of a day in a list of days, and where a value stands in it."""


def _ranked(days: Sequence[tuple[int, DayValues]]) -> tuple[list[tuple[str, _Places]], _Places]:
    """Return the values, the dearest first, with their places, and the places of what is no value's own.

    A value may have less than nothing left of a day: a part of it went to the others before it was taken out again.
    """
    places_of: dict[str, _Places] = {}
    others: _Places = []
    totals: dict[str, tuple[int, int]] = {}
    for number, (_, of_day) in enumerate(days):
        for at, (value, cost, calls) in enumerate(zip(of_day.names, of_day.costs, of_day.calls, strict=True)):
            if value is None or cost < 0 or calls < 0:
                others.append((number, at))
                continue
            places_of.setdefault(value, []).append((number, at))
            before = totals.get(value, (0, 0))
            totals[value] = before[0] + cost, before[1] + calls
    ranked = sorted(places_of.items(), key=lambda item: (-totals[item[0]][0], -totals[item[0]][1], item[0]))
    return ranked, others


def _by_day(days: Sequence[tuple[int, DayValues]], places: _Places) -> list[Row]:
    sums: dict[int, tuple[int, int]] = {}
    for number, at in places:
        day, of_day = days[number]
        cost, calls = sums.get(day, (0, 0))
        sums[day] = cost + of_day.costs[at], calls + of_day.calls[at]
    return _day_rows(sums)


def _rest_by_day(totals: Mapping[int, tuple[int, int]], days: Sequence[tuple[int, DayValues]]) -> list[Row]:
    """Return by day what no value of a dimension has."""
    rest = dict(totals)
    for day, of_day in days:
        cost, calls = rest[day]
        rest[day] = cost - sum(of_day.costs), calls - sum(of_day.calls)
    return _day_rows({day: left for day, left in rest.items() if any(left)})


def _day_rows(sums: Mapping[int, tuple[int, int]]) -> list[Row]:
    return [{"day": date_of(day), **money(cost), "calls": calls} for day, (cost, calls) in sorted(sums.items())]


def _row(named: Row, total: Sums, days: list[Row]) -> Row:
    return {**named, **spend(total), "models": models(total), "days": days}


def _days(
    reader: Reader, tenant: bytes, name: str, since: int, until: int | None
) -> tuple[Merging, dict[int, tuple[int, int]], list[tuple[int, DayValues]]]:
    """Return all that was spent, its cost and calls by day, and by day what the values of a dimension did."""
    whole, by_day = Merging(), dict[int, list[bytes]]()
    totals: dict[int, tuple[int, int]] = {}
    for day, row, record in records_of_days(reader, tenant, since, until):
        (cost, calls), before = whole.add(row), totals.get(day, (0, 0))
        totals[day] = before[0] + cost, before[1] + calls
        by_day.setdefault(day, []).append(record)
    if name in (MODEL, PROVIDER):
        return whole, totals, [(day, values_of(records, name)) for day, records in by_day.items()]
    return whole, totals, [(day, day_values(reader, tenant, name, day)) for day in by_day]


TOOL = "tool"
"""The dimension of tools has executions, what they cost by themselves, and what their results brought into calls; it is
no part of what calls spent.
"""
EARLIEST_DAY = EARLIEST_NS // NS_PER_DAY
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
    if agents and (rest.calls or rest.cost or rest.tool_calls or (rest.facts is not None and rest.facts.failed)):
        agents.append(rest)
    return {
        "agents": [_agent(sums) for sums in agents],
        "tools": _settled([_tool(sums) for sums in tools]),
    }


def tools(reader: Reader, tenant: bytes, since: int, until: int | None, most: int) -> tuple[list[Row], int]:
    """Return the rows of all tools from one UTC day (days since 1970) to another, both included, the most called first,
    and how many more there are. Those, and what is not distinguished by day, are one row behind them (`other`).
    """
    whole, by_tool = reader.sums(total_key(tenant)), dict[str | None, Sums]()
    first, last = whole.first_ns // NS_PER_DAY, whole.arrival_ms // MS_PER_DAY + 1
    first = max(since, EARLIEST_DAY, first if first <= last else 0)  # a clock that is ahead stands for no day
    for day in range(first, 1 + (last if until is None else min(until, last))):
        for _, record in reader.scan(Table.DIMENSION, tenant, within=near(dimension_day(TOOL, day))):
            sums = Sums.unpack(record)
            if sums.labels.get("dimension") == TOOL and sums.labels.get("day") == str(day):
                by_tool.setdefault(sums.labels.get("value"), Sums()).add(sums)
    other = by_tool.pop(None, Sums())
    rows = [(tool, sums) for tool, sums in by_tool.items() if _is_used(sums)]
    rows.sort(key=lambda row: (-row[1].tool_calls, row[0] or ""))
    shown = [{"id": tool or "", **_of_tool(sums)} for tool, sums in rows[:most]]
    for _, sums in rows[most:]:
        other.add(sums)
    if _is_used(other):
        shown.append({"id": "", "other": True, **_of_tool(other)})
    return _settled(shown), max(0, len(rows) - most)


def agents_of(reader: Reader, tenant: bytes, session_id: str) -> list[Sums]:
    """Return the sums of a session's named agents, the dearest first."""
    parts = (part for part in _parts(reader, tenant, session_id) if part.labels.get("kind") == AGENT)
    agents = [part for part in parts if not part.is_empty]  # loops that were taken back are of tools
    return sorted(agents, key=lambda sums: (-sums.cost, -sums.calls, sums.labels.get("id", "")))


def described(session: Sums, gap_ms: int) -> Row:
    """Return the facts of a session: who and where, turns, failures, active time, growth of its context.

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
        "loops": facts.loops,
        "active_seconds": facts.active_ms(gap_ms) / 1000,
        "usage_by_model": _by_model(session, facts),
        "context": [
            {"at": time_of(at * facts.unit_s * 10**9), "input_tokens": size} for at, size in sorted(facts.sizes.items())
        ],
        "last_span": None
        if facts.latest is None
        else {"trace_id": facts.latest[1].hex(), "span_id": facts.latest[2].hex(), "end": time_of(facts.latest[0])},
    }


def _by_model(session: Sums, facts: Facts) -> list[Row]:
    """Return calls, tokens and cost by model, the dearest first.

    The cost of a model is left out where none of its calls has a price: whether they cost anything is not known. None
    are returned of a session with calls that an earlier version took in, which kept no more than the cost.
    """
    if sum(use[0] for use in facts.models.values()) != session.calls:
        return []
    used, spent = dict[str, tuple[int, ...]](), dict[str, Pico | None]()
    for label, use in facts.models.items():
        model = listed_model(label)
        used[model] = tuple(map(sum, zip_longest(used.get(model, ()), use, fillvalue=0)))
        spent[model] = None if session.unpriced else 0
    for label, amount in session.models.items():
        model = listed_model(label)
        spent[model] = (spent.get(model) or 0) + amount
    ranked = sorted(spent.items(), key=lambda item: (-(item[1] or 0), item[0]))
    rows = list[Row]()
    for model, cost in ranked:
        calls, *counts = used.get(model, (0,))
        by_class = list(zip(USAGE_CLASSES, [*counts, *[0] * (len(USAGE_CLASSES) - len(counts))], strict=True))
        units = {one.name: count for one, count in by_class if one.unit != "token" and count}
        row: Row = {"model": model, **({} if cost is None else money(cost)), "calls": calls}
        row["tokens"] = {one.name: count for one, count in by_class if one.unit == "token"}
        rows.append({**row, **({"units": units} if units else {})})
    return rows


def _parts(reader: Reader, tenant: bytes, session_id: str) -> Iterator[Sums]:
    session_id = bounded_id(session_id)
    for _, record in reader.scan(Table.PART, tenant, within=near(id_bytes(session_id))):
        sums = Sums.unpack(record)
        if sums.labels.get("session") == session_id and (sums.spans > 0 or _is_used(sums)):
            yield sums


def _is_used(sums: Sums) -> bool:
    """Return whether a tool has calls or loops; a loop may be entered or taken back on another day than its call."""
    return sums.tool_calls > 0 or (sums.facts is not None and sums.facts.loops != 0)


def _settled(tools: list[Row]) -> list[Row]:
    """Return the rows of tools that have calls or loops, none with fewer than no loops.

    A call that comes late and shows that calls of another tool were no loop is posted with the loops that it takes
    back: they are taken out of the tools that have most. The sum stays what it is, where it is not below none itself.
    """
    owed = -sum(min(0, row["loops"]) for row in tools)
    for row in sorted(tools, key=lambda row: -row["loops"]):
        taken = min(owed, row["loops"]) if row["loops"] > 0 else row["loops"]
        row["loops"] -= taken
        owed -= max(0, taken)
    return [row for row in tools if row["calls"] or row["loops"]]


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
        **({"parent_id": parent} if (parent := sums.parent) else {}),
        **spend(sums),
        "tool_calls": sums.tool_calls,
        "failures": sums.facts.failed if sums.facts else 0,
        "models": models(sums),
        "first": time_of(sums.first_ns),
        "last": time_of(sums.last_ns),
    }


def _tool(sums: Sums) -> Row:
    return {**_named(sums), **_of_tool(sums)}


def _of_tool(sums: Sums) -> Row:
    facts = sums.facts or Facts()
    reported = {"calls": sums.tool_calls, "failures": facts.failed, "denied": facts.denied, "loops": facts.loops}
    return {**reported, **money(sums.cost), "fed": _fed(facts)}


def _fed(facts: Facts) -> Row | None:
    """Return what the results of a tool brought into model calls; None where no result is seen to."""
    results, tokens, cost, unpriced = facts.fed
    if not results:
        return None
    known = money(cost) if results > unpriced else {}
    return {"results": results, "input_tokens": tokens, **known, "unpriced": unpriced, "estimate": True}


def _named(sums: Sums) -> Row:
    return {"id": sums.labels.get("id", ""), **({"other": True} if "other" in sums.labels else {})}
