"""Answer questions about a ledger, over one consistent view of it.

A candidate is an agent of a session that may have had more model, or more context, than its results needed. It is no
saving: whether a smaller model would have done as well is not known here. Compared is the cost of the same tokens at
the list price of other models, at the average size of the agent's calls.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from heapq import nlargest
from itertools import islice, repeat
from operator import add
from typing import Any, TypeAlias

from spanledger_processor.ledger import dimensions
from spanledger_processor.ledger.day_values import UNPRICED, records_of_days
from spanledger_processor.ledger.dimensions import agents_of, listed
from spanledger_processor.ledger.facts import OTHER_MODELS, TOOL_LABEL, USUAL, Lifecycle
from spanledger_processor.ledger.keys import (
    TENANT_HASH,
    UNATTRIBUTED,
    bounded_id,
    corrections_key,
    id_bytes,
    session_key,
    total_key,
)
from spanledger_processor.ledger.rows import Row, date_of, exact_usd, label, money, row, spend, time_of, usd
from spanledger_processor.ledger.runs import all_runs, one_run, run_of
from spanledger_processor.ledger.store import Reader, Table, near, tenant_hash
from spanledger_processor.ledger.sums import Merging, Sums, percentiles
from spanledger_processor.model import CLASS_NAMES, Call, Usage
from spanledger_processor.pricing import Pricer
from spanledger_processor.units import USD, Pico


def sessions(reader: Reader, tenant: bytes) -> list[Row]:
    """Return all sessions, the one last active first; what belongs to none comes last, with an empty id."""
    return _ordered(Sums.unpack(record) for _, record in reader.scan(Table.SESSION, tenant))


def runs(reader: Reader, tenant: bytes) -> list[Row]:
    """Return all runs, the one last active first; what belongs to none comes last, with an empty id."""
    return _ordered(all_runs(reader, tenant).values())


def session(
    reader: Reader, tenant: bytes, session_id: str, lifecycle: Lifecycle = USUAL, now_ns: int = 0
) -> Row | None:
    """Return a session with its state, facts, agents, tools and tasks; None if the ledger has none of that id.

    `state` is there if `now_ns` is given (`facts.Lifecycle`). See `parts` for agents, tools and facts.
    `tasks` has a row for each task and kind; `by_task` one a task, with `kinds` splitting its tokens; `by_model` what
    the tasks spent on each model. Those that spent nothing are left out.
    """
    sums = stored_session(reader, tenant, session_id)
    if sums is None:
        return None
    result = row(sums)
    if now_ns:
        result |= {"label": label(sums), "state": lifecycle.state(sums, now_ns)}
    result |= dimensions.described(sums, lifecycle.active_ns // 10**6) | dimensions.of_session(
        reader, tenant, session_id, sums
    )
    return {**result, "run_id": run_of(reader, tenant, session_id)} | _of_tasks(
        list(_tasks(reader, tenant, session_id))
    )


def stored_session(reader: Reader, tenant: bytes, session_id: str) -> Sums | None:
    """Return the totals of a session; None if the ledger has nothing of it."""
    sums = reader.sums(session_key(tenant, session_id))
    return None if sums.is_empty else sums


def run(reader: Reader, tenant: bytes, run_id: str) -> Row | None:
    """Return a run; None if the ledger has none of that id."""
    total = one_run(reader, tenant, run_id)
    return None if total is None else row(total)


def _of_tasks(parts: list[Sums]) -> dict[str, list[Row]]:
    kinds, ids, by_model = (_grouped(parts, *labels) for labels in (("id", "kind"), ("id",), ("provider", "model")))
    tokens = {kind: sums.spent["input"] + sums.spent["output"] for kind, sums in kinds.items()}
    most_first = sorted(tokens, key=lambda kind: (-tokens[kind], kind))
    by_task = [
        {"id": task, "tokens_total": sums.spent["input"] + sums.spent["output"], **spend(sums)}
        | {"kinds": {kind: tokens[of, kind] for of, kind in most_first if of == task and tokens[of, kind]}}
        for (task,), sums in ids.items()
    ]
    return {
        "tasks": [{**row(sums), "kind": kind} for (_, kind), sums in sorted(kinds.items())],
        "by_task": sorted(by_task, key=lambda task: (-task["tokens_total"], task["id"])),
        "by_model": [
            {"provider": provider, "model": model, **spend(sums)}
            for (provider, model), sums in sorted(by_model.items(), key=lambda item: (-item[1].cost, item[0]))
        ],
    }


def _tasks(reader: Reader, tenant: bytes, session_id: str) -> Iterator[Sums]:
    session_id = bounded_id(session_id)
    for _, record in reader.scan(Table.TASK, tenant, within=near(id_bytes(session_id))):
        sums = Sums.unpack(record)
        if sums.labels.get("session", "") == session_id and (sums.cost or sums.calls):
            yield sums


def _grouped(parts: list[Sums], *labels: str) -> dict[tuple[str, ...], Sums]:
    """Return sums by the values of some of their labels."""
    groups: dict[tuple[str, ...], Sums] = {}
    for sums in parts:
        names = (listed(label, sums.labels.get(label, "")) for label in labels)
        groups.setdefault(tuple(names), Sums()).add(sums)
    return groups


def models(reader: Reader, tenant: bytes, since: int = 0) -> list[Row]:
    """Return all models over all days from `since` (days since 1970) on, the dearest first."""
    return Days(reader, tenant, since).by("model")


def days(reader: Reader, tenant: bytes, since: int = 0) -> list[Row]:
    """Return each UTC day from `since` (days since 1970) on with any spend, by the time that prices go by."""
    return Days(reader, tenant, since).by("day")


_KEPT = 4096
"""Records of days and models that are kept from one list to the next: a few MB."""
_AT_ONCE = 1024
"""Records that are added up at once."""
Group: TypeAlias = tuple[int, str, str]
"""A day, a provider and a model; 0 or empty where sums are not by it."""


class Days:
    """What was spent from one UTC day (days since 1970) to another, both included, by the time that prices go by."""

    def __init__(self, reader: Reader, tenant: bytes, since: int = 0, until: int | None = None) -> None:
        self._reader = reader
        self._tenant = tenant
        self._since = since
        self._until = until
        self._kept: list[tuple[int, list[Any]]] | None = None
        """All of it, where it is little: what is asked for is several lists of the same."""

    def total(self) -> Row:
        """Return the whole of these days."""
        whole = Merging()
        rows = (record for _, record in self._rows())
        while some := list(islice(rows, _AT_ONCE)):
            whole.add_all(some)
        return spend(whole.sums())

    def by(self, what: str, most: int | None = None) -> list[Row]:
        """Return sums by `model` (the dearest first), `day` or `day_model` (in order).

        Of more than `most` the dearest (of days the latest) have a row, and the last row has all others: those, and
        models that were not told apart on their day any more.
        """
        totals = self._totals(what)
        kept = _kept(what, totals, most)
        groups, others, rest = {group: Merging(speeds=True) for group in kept}, Merging(speeds=True), list[list[Any]]()
        for group, record in self._grouped(what):
            merging = groups.get(_known(group, totals))
            if merging is not None:
                merging.add(record)
                continue
            rest.append(record)
            if len(rest) == _AT_ONCE:
                others.add_all(rest)
                rest.clear()
        others.add_all(rest)
        named = [(_names_of(what, group), groups[group].sums()) for group in kept]
        if len(kept) < len(totals):
            named.append(({**_names_of(what, (0, "", OTHER_MODELS)), "other": True}, others.sums()))
        return [{**names, **spend(sums), **_speed(sums)} for names, sums in named]

    def unpriced(self) -> list[Row]:
        """Return calls without a price by provider, model and reason, most first."""
        by_reason: dict[str, dict[Group, tuple[int, ...]]] = {}
        for group, record in self._grouped("model"):
            for reason, calls in record[5].items():
                of_reason = by_reason.setdefault(reason, {})
                of_reason[group] = (of_reason.get(group, (0,))[0] + int(calls),)
        rows: list[Row] = []
        for reason, of_reason in by_reason.items():
            _join_taken_back(of_reason)
            for (_, provider, model), (calls,) in of_reason.items():
                if calls:
                    rows.append({"provider": provider, "model": model, "reason": reason, "calls": calls})
        return sorted(rows, key=lambda row: (-row["calls"], row["provider"], row["model"], row["reason"]))

    def _totals(self, what: str) -> dict[Group, tuple[int, ...]]:
        """Return cost, calls and calls without a price of each group, but for models that are part of the others."""
        totals: dict[Group, tuple[int, ...]] = {}
        for group, record in self._grouped(what):
            cost, calls, unpriced = totals.get(group, (0, 0, 0))
            counts = record[2]
            totals[group] = cost + int(counts[0]), calls + int(counts[1]), unpriced + int(counts[UNPRICED])
        if what != "day":
            _join_taken_back(totals)
        return totals

    def _grouped(self, what: str) -> Iterator[tuple[Group, list[Any]]]:
        """Yield records by group, as they are stored."""
        for day, record in self._rows():
            labels = {} if what == "day" else record[4]
            yield (0 if what == "model" else day, labels.get("provider", ""), labels.get("model", "")), record

    def _rows(self) -> Iterator[tuple[int, list[Any]]]:
        """Yield what was spent by day, provider and model; what moved elsewhere since and left nothing is skipped."""
        if self._kept is not None:
            yield from self._kept
            return
        kept: list[tuple[int, list[Any]]] = []
        for day, record in self._records():
            if len(kept) <= _KEPT:
                kept.append((day, record))
            yield day, record
        if len(kept) <= _KEPT:
            self._kept = kept

    def _records(self) -> Iterator[tuple[int, list[Any]]]:
        """Yield days and the records that they are made of."""
        rows = records_of_days(self._reader, self._tenant, self._since, self._until)
        return ((day, record) for day, record, _ in rows)


def _join_taken_back(totals: dict[Group, tuple[int, ...]]) -> None:
    """Add to the others the models of which less than nothing is left: they were taken out again, or calls of them got
    a price, after a part of them had joined the others.
    """
    for of_others in (False, True):
        negative = [group for group, spent in totals.items() if min(spent) < 0]
        for group in negative:
            others = _others_of(group)
            if (group[2] == OTHER_MODELS) is of_others and group != others:
                spent = totals.pop(group)
                totals[others] = tuple(map(add, totals.get(others, repeat(0)), spent))


def _kept(what: str, totals: Mapping[Group, tuple[int, ...]], most: int | None) -> list[Group]:
    """Return the groups that have a row of their own, in order."""
    groups = [group for group in totals if what != "model" or group[1:] != ("", OTHER_MODELS)]
    if most is not None and len(groups) > most:
        groups = nlargest(most, groups, key=(lambda group: group) if what == "day" else lambda g: (totals[g][0], g))
    return sorted(groups, key=lambda group: (group[0], -totals[group][0], group))


def _others_of(group: Group) -> Group:
    """Return the other models of a group's provider and day; of these, those of all providers."""
    day, provider, model = group
    return day, "" if model == OTHER_MODELS else provider, OTHER_MODELS


def _known(group: Group, totals: Container[Group]) -> Group:
    """Return the group of these that a group is, or is part of."""
    if group not in totals:
        group = _others_of(group)
    return group if group in totals else _others_of(group)


def _speed(sums: Sums) -> Row:
    return {"speed": speed} if (speed := percentiles(sums.speeds)) else {}


def _names_of(what: str, group: Group) -> Row:
    day, provider, model = group
    named: Row = {} if what == "model" else {"day": date_of(day) if day else None}
    return named if what == "day" else {**named, "provider": provider, "model": model}


def tenants_of(reader: Reader) -> list[bytes]:
    """Return the hashes of the tenants that have data."""
    totals = (key for key, _ in reader.scan(Table.TOTAL, b""))
    return [key[TENANT_HASH] for key in totals if key == total_key(key[TENANT_HASH])]


def tenant_name(reader: Reader, tenant: bytes) -> str:
    """Return a tenant's name; empty for the default one, and where it was not kept."""
    return reader.sums(total_key(tenant)).labels.get("tenant", "")


def tenants(reader: Reader) -> list[Row]:
    """Return the tenants that have data, the dearest first; `tenant` is None where the name was not kept."""
    rows = []
    for tenant, sums in _ledgers(reader):
        name = "" if tenant == tenant_hash("") else sums.labels.get("tenant")
        times = {"first": time_of(sums.first_ns), "last": time_of(sums.last_ns)}
        rows.append({"tenant": name, **spend(sums), "tool_calls": sums.tool_calls, "spans": sums.spans, **times})
    return sorted(rows, key=lambda row: (-row["cost_usd"], row["tenant"] or ""))


def _ledgers(reader: Reader) -> Iterator[tuple[bytes, Sums]]:
    """Yield the hashes of the tenants that have data, with the sums of each."""
    for key, record in reader.scan(Table.TOTAL, b""):
        tenant = key[TENANT_HASH]
        if key == total_key(tenant):
            yield tenant, Sums.unpack(record)


def first_known(reader: Reader, sessions: Iterable[str]) -> str | None:
    """Return the first of `sessions` that any tenant has; None if none has."""
    tenants = [tenant for tenant, _ in _ledgers(reader)]
    known = (name for name in sessions if any(reader.get(session_key(tenant, name)) is not None for tenant in tenants))
    return next(known, None)


def has_tenant(reader: Reader, tenant: bytes) -> bool:
    """Return whether a tenant has data; the default one always is there."""
    return tenant == tenant_hash("") or reader.get(total_key(tenant)) is not None


def total(reader: Reader, tenant: bytes) -> Row:
    """Return the whole ledger, with what was sent on spans beyond it (docs/contract.md#promise-1-sums-are-true)."""
    record = reader.get(total_key(tenant))
    result = row(Sums.unpack(record) if record else Sums())
    correction = late_correction(reader, tenant)
    result["late_correction_usd"] = usd(correction)
    result["late_correction_usd_exact"] = exact_usd(correction)
    whole = list(_gone(reader, tenant))
    cost = sum(sums.cost for sums in whole)
    result["sessions_gone"] = sum(sums.sessions for sums in whole)
    result["gone_usd"], result["gone_usd_exact"] = usd(cost), exact_usd(cost)
    return result


def gone(reader: Reader, tenant: bytes, since: int = 0, until: int | None = None) -> tuple[Row, list[Row]]:
    """Return the sums of sessions that were removed: in all, and by UTC day and project.

    Retention or the size of the ledger removed them; their sums are in the unattributed. The day is that of their last
    arrival, from `since` to `until` (days since 1970), both included.
    """
    whole, rows = Sums(), list[Row]()
    days = ((int(sums.labels.get("day", "0")), sums) for sums in _gone(reader, tenant))
    for day, sums in sorted(days, key=lambda item: (item[0], item[1].labels.get("project", ""))):
        if since <= day and (until is None or day <= until):
            whole.add(sums)
            rows.append({"day": date_of(day), "project": sums.labels.get("project", ""), **_of_gone(sums)})
    return _of_gone(whole), rows


def _gone(reader: Reader, tenant: bytes) -> Iterator[Sums]:
    return (Sums.unpack(record) for _, record in reader.scan(Table.GONE, tenant))


def _of_gone(sums: Sums) -> Row:
    return {"sessions": sums.sessions, **spend(sums), "models": row(sums)["models"]}


def late_correction(reader: Reader, tenant: bytes) -> Pico:
    """Return what was sent on spans beyond the ledger of a tenant, or of `EVERY_TENANT`.

    docs/contract.md#promise-1-sums-are-true
    """
    record = reader.get(corrections_key(tenant))
    return Sums.unpack(record).cost if record else 0


def _ordered(totals: Iterable[Sums]) -> list[Row]:
    known = list(totals)
    named = [sums for sums in known if sums.labels.get("id", UNATTRIBUTED) != UNATTRIBUTED and not sums.is_empty]
    rest = [sums for sums in known if sums.labels.get("id", UNATTRIBUTED) == UNATTRIBUTED and sums.spans]
    return [row(sums) for sums in (*sorted(named, key=lambda sums: -sums.last_ns), *rest)]


LEAST_COST: Pico = USD // 20
"""The least spend of an agent that is a candidate: 0.05 USD."""
PREMIUM_OUTPUT: Pico = 20 * USD
"""List price of a million output tokens from which on a model is a premium one."""
LITTLE_OUTPUT, FEW_TOOLS = 2_000, 5
"""Output tokens and tool calls of an agent below and up to which a premium model did little."""
LARGE_CONTEXT, LITTLE_SHARE = 50_000, 0.01
"""Input tokens a call from which on a context is large, and output tokens for each of them up to which little came."""
CHEAPER: Sequence[tuple[str, str]] = (
    ("anthropic", "claude-haiku-4-5"),
    ("anthropic", "claude-sonnet-4-5"),
    ("openai", "gpt-5-mini"),
    ("google", "gemini-2.5-flash"),
)
"""Provider and model of what is compared where nothing else is asked for."""


def candidates(
    reader: Reader,
    tenant: bytes,
    session_id: str,
    pricer: Pricer,
    now_ns: int,
    models: Sequence[tuple[str, str]] = CHEAPER,
) -> list[Row]:
    """Return the agents of a session that are worth a look, the dearest first, with the evidence.

    `over_powered`: a premium model, little output and few tool calls. `over_provisioned`: large contexts for little
    output. An agent with calls without a price, or on several models, is compared like any other; what has no list
    price is left out of the comparison.
    """
    rows: list[Row] = []
    for agent in agents_of(reader, tenant, session_id):
        if agent.cost < LEAST_COST or not agent.calls:
            continue
        spent = agent.spent
        inputs, outputs = spent["input"], spent["output"]
        premium = any(_is_premium(label, pricer, now_ns) for label in agent.models)
        over_powered = premium and outputs < LITTLE_OUTPUT and agent.tool_calls <= FEW_TOOLS
        over_provisioned = inputs >= LARGE_CONTEXT * agent.calls and outputs <= LITTLE_SHARE * inputs
        kinds = [
            name for name, holds in (("over_powered", over_powered), ("over_provisioned", over_provisioned)) if holds
        ]
        if kinds:
            rows.append(
                {
                    "agent": agent.labels.get("id", ""),
                    "kinds": kinds,
                    **money(agent.cost),
                    "calls": agent.calls,
                    "models": sorted(agent.models),
                    "input_tokens_a_call": inputs // agent.calls,
                    "output_tokens": outputs,
                    "tool_calls": agent.tool_calls,
                    "same_tokens_on": _compared(agent, models, pricer, now_ns),
                }
            )
    return rows


def _compared(agent: Sums, models: Sequence[tuple[str, str]], pricer: Pricer, now_ns: int) -> list[Row]:
    """Return what the agent's tokens cost on other models: only on those where it is less, the cheapest first.

    Beside what was spent on models: tools that have a price cost the same with any model.
    """
    average = Usage(
        **{name: count // agent.calls for name, count in zip(CLASS_NAMES, agent.usage, strict=True) if count}
    )
    of_models = agent.cost - sum(cost for label, cost in agent.models.items() if label.startswith(TOOL_LABEL))
    amounts = [
        (amount * agent.calls, provider, model)
        for provider, model in models
        if (amount := _list_price(provider, model, average, pricer, now_ns)) is not None
    ]
    return [
        {"provider": provider, "model": model, **money(amount), "share": amount / of_models}
        for amount, provider, model in sorted(amounts)
        if amount < of_models
    ]


def _is_premium(label: str, pricer: Pricer, now_ns: int) -> bool:
    provider, _, model = label.rpartition("/")
    amount = _list_price(provider, model, Usage(input=0, output=1_000_000), pricer, now_ns)
    return amount is not None and amount >= PREMIUM_OUTPUT


def _list_price(provider: str, model: str, usage: Usage, pricer: Pricer, now_ns: int) -> Pico | None:
    call = Call("", "llm", provider=provider, request_model=model, usage=usage)
    return pricer.cost(call, now_ns).computed
