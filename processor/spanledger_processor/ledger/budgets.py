"""Budgets: what was used of each, and which thresholds that passes.

What is used is what the ledger's own sums say, so that it is exact in any order of arrival and after a restart.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from types import MappingProxyType
from typing import NamedTuple, TypeAlias

from spanledger_processor.ledger import dimensions
from spanledger_processor.ledger.crossings import REPORTED_FOR, Crossing, crossings, share
from spanledger_processor.ledger.day_values import UNPRICED
from spanledger_processor.ledger.dimensions import AGENT, MODEL, PROVIDER
from spanledger_processor.ledger.facts import OTHER_MODELS, VALUES_OF_A_NAME, Facts
from spanledger_processor.ledger.keys import (
    EVERY_TENANT,
    bounded_id,
    dimension_key,
    hashed_key,
    id_bytes,
    large_run_key,
    part_key,
    session_key,
)
from spanledger_processor.ledger.orders import Order, cost_rank, walk
from spanledger_processor.ledger.packing import pack, unpack
from spanledger_processor.ledger.rows import Row, date_of, exact_usd, usd
from spanledger_processor.ledger.runs import each_session_of_run, one_run, run_of
from spanledger_processor.ledger.store import Key, Reader, Table, near
from spanledger_processor.ledger.sums import Sums
from spanledger_processor.pricing import provider_name
from spanledger_processor.units import NS_PER_DAY, NS_PER_MS, Pico

SESSION, RUN = "session", "run"
PERIODS_OF_DAYS = ("day", "week", "month", "rolling")
PERIODS = (*PERIODS_OF_DAYS, SESSION, RUN)
_FORECAST_AFTER = 0.1
"""Share of a period before which nothing is forecast."""
_ROWS = 1000
"""Values of one budget in an answer."""
_LOOKED_AT = 5000
"""Thresholds, the latest ones, among which those of one budget are looked for."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Changed: TypeAlias = Mapping[Key, Sums]
"""The sums that a unit adds to totals, which its reader does not show yet."""

_NOTHING: Changed = MappingProxyType({})
_NONE = Sums()


@dataclass(frozen=True, slots=True)
class BudgetRule:
    """An amount that may be spent.

    `period` is `day`, `week` (from Monday), `month` or `rolling` (the last `days`, today included), all by UTC days of
    the calls, or `session` or `run`. `dimension` and `value` say whose spend it is; a dimension without a value gives
    each value a budget of its own, none is the whole ledger of a tenant. `thresholds` in percent. `tenant` is a
    tenant's hash, empty for each.
    """

    name: str
    amount: Pico
    period: str
    days: int = 0
    dimension: str = ""
    value: str = ""
    tenant: bytes = b""
    thresholds: tuple[int, ...] = (50, 80, 100)
    forecast: bool = True

    def concerns(self, tenant: bytes) -> bool:
        """Return whether it is a budget of a tenant."""
        return not self.tenant or self.tenant == tenant

    def days_until(self, today: int) -> range:
        """Return the days of its period that have begun, as days since 1970."""
        date = _EPOCH + timedelta(days=today)
        back = {"day": 0, "week": date.weekday(), "month": date.day - 1, "rolling": self.days - 1}[self.period]
        return range(today - back, today + 1)

    def last_day(self, day: int) -> int:
        """Return the last day of the period of a day, also one to come; of a rolling budget that day itself."""
        return day if self.period == "rolling" else self.days_until(day)[0] + self.length(day) - 1

    def reported_until(self, day: int, today: int) -> int | None:
        """Return the day that ends what is added up to report a call of `day`: the last of its period, or tomorrow, of
        which a clock that is ahead may tell. None of a call from beyond tomorrow, or of a period that is over for so
        long that nothing is reported of it any more.
        """
        last = self.last_day(day)
        return None if last < today - REPORTED_FOR or day > today + 1 else min(last, today + 1)

    def value_of(self, provider: str, model: str, agent: str, described: Mapping[str, str]) -> str | None:
        """Return the value by which a call counts against it, empty for a budget of all; None if it does not count.

        `described` are the call's values of configured dimensions. A model may be named with its provider in front.
        """
        if not self.dimension:
            return ""
        if self.dimension in (MODEL, PROVIDER):
            provider = provider_name(provider)  # of what an earlier version took in, as the span had it
        if self.dimension == MODEL and self.value == f"{provider}/{model}":
            return self.value
        value = {AGENT: agent, MODEL: model, PROVIDER: provider, **described}.get(self.dimension, "")
        return value if value and self.value in ("", value) else None

    def length(self, today: int) -> int:
        """Return the days of its period, also those to come."""
        if self.period == "month":
            date = _EPOCH + timedelta(days=today)
            following = (date.replace(day=28) + timedelta(days=4)).replace(day=1)
            return (following - date.replace(day=1)).days
        return {"day": 1, "week": 7}.get(self.period, self.days)

    def since(self, today: int) -> str:
        """Return the first day of which it is counted what is used; empty for a session or run."""
        return "" if self.period in (SESSION, RUN) else date_of(self.days_until(today)[0]) or ""

    @property
    def kind(self) -> str:
        """Return what it is of, beside its name, amount and value."""
        return f"{self.period} {self.days} {self.dimension}"

    def crossing(
        self, tenant: bytes, value: str, threshold: int, used: Pico, now_ns: int, day: int | None = None
    ) -> Crossing:
        """Return a threshold that was passed in the period of a day; a session or run has none."""
        since, until = ("", "") if day is None else (self.since(day), date_of(self.last_day(day)) or "")
        crossing = Crossing(self.name, tenant, value, since, threshold, used, self.amount, now_ns)
        return replace(crossing, until=until, rule=self.kind)

    def passed(self, used: Pico) -> list[int]:
        """Return the thresholds that are passed."""
        return [threshold for threshold in self.thresholds if used * 100 >= threshold * self.amount]

    def will_not_last(self, used: Pico, now_ns: int) -> bool:
        """Return whether it is forecast that all of what is left will be used before the period ends."""
        if not self.forecast or self.period not in ("day", "week", "month") or used >= self.amount:
            return False
        today = now_ns // NS_PER_DAY
        gone = (now_ns - self.days_until(today)[0] * NS_PER_DAY) / (self.length(today) * NS_PER_DAY)
        return gone >= _FORECAST_AFTER and used >= gone * self.amount


@dataclass(frozen=True, slots=True)
class LargeRun:
    """A run of too many sessions to be added up with a request, of which there is a budget.

    It is added up beside requests (`server/session_watch`): `spent` is what it came to then. `changes` counts requests
    that spent something in it, `added` is how many they were when it was added up last.
    """

    tenant: bytes
    id: str
    changes: int = 0
    added: int = 0
    spent: Pico = 0

    @property
    def key(self) -> Key:
        """Return its key."""
        return large_run_key(self.tenant, self.id)

    @property
    def is_due(self) -> bool:
        """Return whether something was spent since it was added up."""
        return self.changes != self.added

    def pack(self, now_ns: int) -> bytes:
        """Return the stored form; its second element is the arrival, by which retention goes."""
        return pack([1, now_ns // NS_PER_MS, self.tenant, self.id, self.changes, self.added, self.spent])

    @classmethod
    def unpack(cls, record: bytes) -> LargeRun:
        """Read a stored form."""
        _, _, tenant, run_id, changes, added, spent, *_ = unpack(record)
        return cls(tenant, run_id, changes, added, int(spent))

    @classmethod
    def read(cls, reader: Reader, tenant: bytes, run_id: str) -> LargeRun:
        """Return what is known of a run."""
        record = reader.get(large_run_key(tenant, run_id))
        return cls(tenant, bounded_id(run_id)) if record is None else cls.unpack(record)

    def added_up(self, reader: Reader) -> LargeRun:
        """Return it with what its sessions have spent by now."""
        total = one_run(reader, self.tenant, self.id)
        return replace(self, added=self.changes, spent=0 if total is None else total.cost)


def due_runs(reader: Reader) -> list[LargeRun]:
    """Return the runs that are to be added up, in the order of their keys."""
    runs = (LargeRun.unpack(record) for _, record in reader.scan(Table.LARGE_RUN, EVERY_TENANT))
    return [run for run in runs if run.is_due]


def passed_by_run(reader: Reader, rules: Iterable[BudgetRule], run: LargeRun, now_ns: int) -> Iterator[Crossing]:
    """Yield the thresholds of budgets of each run that a run has passed."""
    for rule in rules:
        if rule.period == RUN and rule.concerns(run.tenant) and _concerns_run(reader, run.tenant, rule, run.id):
            for threshold in rule.passed(run.spent):
                yield rule.crossing(run.tenant, run.id, threshold, run.spent, now_ns)


def concerns(reader: Reader, tenant: bytes, rule: BudgetRule, session: Sums, changed: Changed = _NOTHING) -> bool:
    """Return whether a budget per session is one of this session: whether anything in it has the value of the rule's
    dimension, or any value of it.

    A session of which not all values are kept, of three and more, or not all models, is taken to have each.
    """
    name, facts, session_id = rule.dimension, session.facts, session.labels.get("id", "")
    if not name or facts is None:
        return True
    if name == AGENT and rule.value:
        key = part_key(tenant, session_id, AGENT, rule.value)
        return reader.sums(key).spans + (changed[key].spans if key in changed else 0) > 0
    if name == AGENT:
        stored = reader.scan(Table.PART, tenant, within=near(id_bytes(session_id)))
        parts = [*(Sums.unpack(record) for _, record in stored), *changed.values()]
        return any(part.labels.get("kind") == AGENT and part.labels["session"] == session_id for part in parts)
    if name in (MODEL, PROVIDER):
        labels = facts.models
        if OTHER_MODELS in labels or (not labels and session.calls):
            return True
        return any(not rule.value or rule.value in dimensions.names_in(label, name) for label in labels)
    known = facts.values.get(name, ())
    return len(known) >= VALUES_OF_A_NAME or (rule.value in known if rule.value else bool(known))


class Used(NamedTuple):
    """What was spent, and how many calls have no price and may have cost something beside it."""

    cost: Pico = 0
    unpriced: int = 0


class SpentByDay:
    """What was spent on single days (since 1970); of all models each day is read once."""

    def __init__(self, reader: Reader, tenant: bytes, changed: Changed = _NOTHING) -> None:
        self._reader = reader
        self._tenant = tenant
        self._changed = changed
        self._models: dict[int, list[tuple[str, str, Used]]] = {}
        """By day: provider, model and what was spent on it."""

    def of(self, rule: BudgetRule, value: str, day: int) -> Used:
        """Return what was spent on a day by a value of a rule's dimension, or by all."""
        if rule.dimension and rule.dimension not in (MODEL, PROVIDER):
            key = dimension_key(self._tenant, rule.dimension, day, value)
            stored, changed = self._reader.sums(key), self._changed.get(key, _NONE)
            return Used(stored.cost + changed.cost, stored.unpriced + changed.unpriced)
        if day not in self._models:
            self._models[day] = [*self._read(day)]
        return _total(
            used for provider, model, used in self._models[day] if rule.value_of(provider, model, "", {}) == value
        )

    def _read(self, day: int) -> Iterator[tuple[str, str, Used]]:
        scanned = self._reader.scan(Table.DAY, self._tenant, within=near(day.to_bytes(4, "big")))
        stored = (unpack(record) for _, record in scanned)
        spent = [(row[4], Used(int(row[2][0]), int(row[2][UNPRICED]))) for row in stored]
        changed = (sums for key, sums in self._changed.items() if key[0] == Table.DAY)
        spent += [(sums.labels, Used(sums.cost, sums.unpriced)) for sums in changed]
        for labels, used in spent:
            if labels.get("day") == str(day):
                yield labels.get("provider", ""), labels.get("model", ""), used


def _total(spent: Iterable[Used]) -> Used:
    """Return what was spent in all."""
    cost = unpriced = 0
    for used in spent:
        cost += used.cost
        unpriced += used.unpriced
    return Used(cost, unpriced)


def rows(
    reader: Reader,
    tenant: bytes,
    rules: Iterable[BudgetRule],
    now_ns: int,
    wanted: str | None,
    session_id: str | None = None,
) -> list[Row]:
    """Return what is used of each budget, the most used first.

    With `wanted`, of that value of a dimension, session or run only, and of the budgets of all; empty: only of those.
    With a session, of the budgets that its calls count against.
    """
    spent = SpentByDay(reader, tenant)
    result = [
        _row(rule, value, used, now_ns)
        for rule in rules
        if rule.concerns(tenant)
        for one in ((wanted,) if session_id is None else _values_of(reader, tenant, rule, session_id))
        for value, used in islice(_used(reader, tenant, rule, spent, now_ns // NS_PER_DAY, one), _ROWS)
    ]
    return sorted(result, key=lambda row: (-row["used"], row["budget"], row["value"]))


def _values_of(reader: Reader, tenant: bytes, rule: BudgetRule, session_id: str) -> Iterable[str]:
    """Return the values by which calls of a session count against a budget: those that anything in it has."""
    if rule.period == SESSION:
        return (session_id,)
    if not rule.dimension and rule.period != RUN:
        return ("",)
    key = session_key(tenant, session_id)
    if not session_id or reader.get(key) is None:
        return ()
    session = reader.sums(key)
    if rule.period == RUN:  # of several that its spans name, a call may be in each
        return {run_of(reader, tenant, session_id), *session.runs} - {""}
    if rule.value:
        return (rule.value,) if concerns(reader, tenant, rule, session) else ()
    if rule.dimension == AGENT:
        return [agent.labels["id"] for agent in dimensions.agents_of(reader, tenant, session_id)]
    facts = session.facts or Facts()
    if rule.dimension in (MODEL, PROVIDER):
        labels = {*session.models, *facts.models} - {OTHER_MODELS}
        named = [dimensions.names_in(label, rule.dimension) for label in sorted(labels)]
        return {names[-1] or names[0] for names in named if names}
    return facts.values.get(rule.dimension, ())


def _used(
    reader: Reader, tenant: bytes, rule: BudgetRule, spent: SpentByDay, today: int, wanted: str | None
) -> Iterator[tuple[str, Used]]:
    if wanted and rule.period in PERIODS_OF_DAYS:
        wanted = dimensions.listed(rule.dimension, wanted)
    if rule.period == SESSION:
        yield from _sessions(reader, tenant, rule, wanted)
    elif rule.period == RUN:
        yield from _runs(reader, tenant, rule, wanted)
    elif rule.dimension and not rule.value and wanted is None:
        days = rule.days_until(today)
        costs = dimensions.costs(reader, tenant, rule.dimension, days[0], days[-1])
        for value, (cost, unpriced) in sorted(costs.items(), key=lambda item: (-item[1][0], item[0])):
            yield value, Used(cost, unpriced)
    elif rule.dimension and wanted == "":
        return  # what has no value is in no budget of one
    elif wanted in (None, rule.value) or not rule.value:  # what is a budget of all concerns each of them
        value = rule.value or (wanted or "" if rule.dimension else "")
        yield value, _total(spent.of(rule, value, day) for day in rule.days_until(today))


def _sessions(reader: Reader, tenant: bytes, rule: BudgetRule, wanted: str | None) -> Iterator[tuple[str, Used]]:
    """Yield one session, or those that have passed a threshold, the dearest first."""
    if wanted is not None:
        key = session_key(tenant, wanted)
        if wanted and reader.get(key) is not None and concerns(reader, tenant, rule, session := reader.sums(key)):
            yield wanted, _of_sums(session)
        return
    least = min(rule.thresholds, default=100) * rule.amount // 100
    for position in walk(reader, tenant, Table.SESSION, Order.COST):
        if position[0] < cost_rank(least):
            return
        session = reader.sums(hashed_key(tenant, Table.SESSION, position[1]))
        if session.cost >= least and concerns(reader, tenant, rule, session):
            yield session.labels.get("id", ""), _of_sums(session)


def _runs(reader: Reader, tenant: bytes, rule: BudgetRule, wanted: str | None) -> Iterator[tuple[str, Used]]:
    """Yield one run, or those that passed a threshold lately, and that no later span shows not to have done so."""
    least = 0 if wanted is not None else min(rule.thresholds, default=100) * rule.amount // 100
    latest = islice(crossings(reader, tenant, warnings=False), _LOOKED_AT if wanted is None else 0)
    names = dict.fromkeys([wanted] if wanted is not None else (one.value for one in latest if one.budget == rule.name))
    for name in filter(None, names):
        total = one_run(reader, tenant, name)
        if total is not None and total.cost >= least and _concerns_run(reader, tenant, rule, name):
            yield name, _of_sums(total)


def _concerns_run(reader: Reader, tenant: bytes, rule: BudgetRule, run_id: str) -> bool:
    """Return whether a budget per run is one of this run: whether it is one of any of its sessions."""
    sessions = each_session_of_run(reader, tenant, run_id) if rule.dimension else ()
    return not rule.dimension or any(concerns(reader, tenant, rule, session) for session in sessions)


def _of_sums(sums: Sums) -> Used:
    return Used(sums.cost, sums.unpriced)


def _row(rule: BudgetRule, value: str, spent: Used, now_ns: int) -> Row:
    used = max(0, spent.cost)  # a part of a value may have joined the others of its day, and was taken back since
    return {
        "budget": rule.name,
        "period": rule.period,
        "since": rule.since(now_ns // NS_PER_DAY) or None,
        "dimension": rule.dimension,
        "value": value,
        "amount_usd": usd(rule.amount),
        "amount_usd_exact": exact_usd(rule.amount),
        "used_usd": usd(used),
        "used_usd_exact": exact_usd(used),
        "used": share(used, rule.amount),
        "unpriced_calls": max(0, spent.unpriced),  # likewise
        "passed": rule.passed(used),
        "forecast": rule.will_not_last(used, now_ns),
        "over": used >= rule.amount,
    }
