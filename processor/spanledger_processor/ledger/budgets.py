"""Budgets and warnings: what was used of each budget, which thresholds were passed, what is to be warned of.

What is used is what the ledger's own sums say, so that it is exact in any order of arrival and after a restart. That a
threshold was passed is stored in the commit that passes it: the first record stays, and it is reported once.

A warning is of a session in which much fails or that suddenly costs more, or of a day in which much has no price. Each
is sent once for a session, or for a tenant and UTC day, like a budget's threshold (`Crossing`). It is derived from the
ledger's sums, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from operator import itemgetter
from types import MappingProxyType
from typing import TypeAlias

from spanledger_processor.ledger import dimensions
from spanledger_processor.ledger.dimensions import AGENT, MODEL, PROVIDER
from spanledger_processor.ledger.facts import OTHER_MODELS, VALUES_OF_A_NAME, Facts
from spanledger_processor.ledger.keys import (
    CROSSINGS_COMPLETE,
    EVERY_TENANT,
    ID_HASH,
    bounded_id,
    budget_key,
    dimension_key,
    hashed_key,
    id_bytes,
    large_run_key,
    order_key,
    part_key,
    session_key,
)
from spanledger_processor.ledger.orders import Order, Position, cost_rank, walk
from spanledger_processor.ledger.packing import pack, unpack
from spanledger_processor.ledger.rows import Row, date_of, exact_usd, time_of, usd
from spanledger_processor.ledger.runs import each_session_of_run, one_run
from spanledger_processor.ledger.store import Key, Reader, Table, near
from spanledger_processor.ledger.sums import Sums
from spanledger_processor.units import NS_PER_DAY, NS_PER_MS, Pico

SESSION, RUN = "session", "run"
PERIODS_OF_DAYS = ("day", "week", "month", "rolling")
PERIODS = (*PERIODS_OF_DAYS, SESSION, RUN)
FORECAST = 0
"""Stands for a threshold: at the present rate, all will be used before the period ends."""
_FORECAST_AFTER = 0.1
"""Share of a period before which nothing is forecast."""
_SENT = pack(True)
"""The end of the record of a crossing whose notification was sent."""
_ROWS = 1000
"""Values of one budget in an answer."""
_LOOKED_AT = 5000
"""Thresholds, the latest ones, among which those of one budget are looked for."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Changed: TypeAlias = Mapping[Key, Sums]
"""The sums that a unit adds to totals, which its reader does not show yet."""

_NOTHING: Changed = MappingProxyType({})


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

    def reported_until(self, day: int, today: int) -> int | None:
        """Return the day that ends what is added up to report a call of `day`: `today`, in the period of today; the
        last of the period before; tomorrow. None of any other call, so that a replay of history reports nothing of it.
        """
        last_before = self.days_until(today)[0] - 1
        untils = (today, last_before, *([today + 1] if day == today + 1 else []))
        return next((until for until in untils if day in self.days_until(until)), None)

    def value_of(self, provider: str, model: str, agent: str, described: Mapping[str, str]) -> str | None:
        """Return the value by which a call counts against it, empty for a budget of all; None if it does not count.

        `described` are the call's values of configured dimensions. A model may be named with its provider in front.
        """
        if not self.dimension:
            return ""
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
        """Return the period in which a threshold is reported once; a rolling one in blocks of its days since 1970."""
        if self.period in (SESSION, RUN):
            return ""
        return date_of(today - today % self.days) or "" if self.period == "rolling" else self.counted_since(today)

    def counted_since(self, today: int) -> str:
        """Return the first day of which it is counted what is used; empty for a session or run."""
        return "" if self.period in (SESSION, RUN) else date_of(self.days_until(today)[0]) or ""

    def passed(self, used: Pico, now_ns: int) -> list[int]:
        """Return the thresholds that are passed, the forecast among them."""
        result = [threshold for threshold in self.thresholds if used * 100 >= threshold * self.amount]
        if self.forecast and self.period in ("day", "week", "month") and used < self.amount:
            today = now_ns // NS_PER_DAY
            gone = (now_ns - self.days_until(today)[0] * NS_PER_DAY) / (self.length(today) * NS_PER_DAY)
            if gone >= _FORECAST_AFTER and used >= gone * self.amount:
                result.append(FORECAST)
        return result


@dataclass(frozen=True, slots=True)
class Crossing:
    """A threshold of a budget that was passed: by which value of its dimension, or session or run, and when.

    `threshold` in percent, `FORECAST` for a forecast. `sent` is true once its notification was. `warning` is empty
    for a budget, else it is a warning (`of_session`, `of_day`), which say what the other fields are then. Until all of
    the notification is sent, `recorded` is whether its log record was accepted (False: refused for good, None: neither
    yet), and `posted` whether its webhook took it. `counted_since` is the first day of what is used, where that is not
    `since` (a rolling budget's).
    """

    budget: str
    tenant: bytes
    value: str
    since: str
    threshold: int
    used: Pico
    amount: Pico
    at_ns: int
    sent: bool = False
    warning: str = ""
    recorded: bool | None = None
    posted: bool = False
    counted_since: str = ""

    @property
    def key(self) -> Key:
        """Return its key, which stays the same however often the threshold is passed."""
        name = f"\0{self.warning}" if self.warning else self.budget
        return budget_key(self.tenant, name, self.value, self.since, self.threshold)

    @property
    def percent(self) -> str:
        """Return the threshold as text."""
        return "forecast" if self.threshold == FORECAST else str(self.threshold)

    def pack(self) -> bytes:
        """Return the stored form; its second element is the arrival, by which retention goes."""
        values = [self.budget, self.tenant, self.value, self.since, self.threshold, self.warning]
        if self.recorded is not None or self.posted or self.counted_since:
            values += [self.recorded, self.posted, self.counted_since]
        return pack([1, self.arrival_ms, values, self.used, self.amount, self.at_ns, self.sent])

    @classmethod
    def unpack(cls, record: bytes) -> Crossing:
        """Read a stored form."""
        _, _, (budget, tenant, value, since, threshold, *more), used, amount, at_ns, reported, *_ = unpack(record)
        return cls(budget, tenant, value, since, threshold, int(used), int(amount), at_ns, reported, *more)

    @property
    def arrival_ms(self) -> int:
        """Return the time by which it is ordered, and retention goes."""
        return self.at_ns // NS_PER_MS

    @property
    def orders(self) -> set[Key]:
        """Return the keys of its rows in the orders of thresholds or warnings, and of what nobody was told yet."""
        id_hash = self.key[ID_HASH]
        order = Order.WARNINGS if self.warning else Order.THRESHOLDS
        rows = {order_key(self.tenant, bytes((Table.BUDGET, order)), self.arrival_ms, id_hash)}
        if not self.sent:
            rows.add(order_key(EVERY_TENANT, bytes((Table.BUDGET, Order.UNSENT)), self.arrival_ms, id_hash))
        return rows

    def row(self) -> Row:
        """Return the crossing as a row of an answer."""
        return {
            "budget": self.budget,
            "value": self.value,
            "since": self.counted_since or self.since or None,
            "threshold": self.percent,
            "used": share(self.used, self.amount),
            "used_usd_exact": exact_usd(self.used),
            "amount_usd_exact": exact_usd(self.amount),
            "at": time_of(self.at_ns),
        }


def crossing_moved(before: bytes | None, after: bytes) -> tuple[set[Key], set[Key]]:
    """Return the rows in the orders that are to go, and those that are to come, where a crossing's record changes."""
    old = set() if before is None else Crossing.unpack(before).orders
    new = Crossing.unpack(after).orders
    return old - new, new - old


def share(used: Pico, amount: Pico) -> float:
    """Return how much of an amount is used; 1 is all of it."""
    return used / amount


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
            for threshold in rule.passed(run.spent, now_ns):
                yield Crossing(rule.name, run.tenant, run.id, "", threshold, run.spent, rule.amount, now_ns)


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


def spent_in_period(
    reader: Reader, tenant: bytes, rule: BudgetRule, value: str, today: int, changed: Changed = _NOTHING
) -> Pico:
    """Return what was spent in the period of `today` by a value of a rule's dimension, or by all."""
    total = 0
    for day in rule.days_until(today):
        if rule.dimension and rule.dimension not in (MODEL, PROVIDER):
            key = dimension_key(tenant, rule.dimension, day, value)
            total += reader.sums(key).cost + (changed[key].cost if key in changed else 0)
        else:
            total += _spent_on_day(reader, tenant, rule, value, day, changed)
    return total


def _spent_on_day(reader: Reader, tenant: bytes, rule: BudgetRule, value: str, day: int, changed: Changed) -> Pico:
    stored = (unpack(record) for _, record in reader.scan(Table.DAY, tenant, within=near(day.to_bytes(4, "big"))))
    costs = [(row[4], int(row[2][0])) for row in stored]
    costs += [(sums.labels, sums.cost) for key, sums in changed.items() if key[0] == Table.DAY]
    of_day = ((labels, cost) for labels, cost in costs if labels.get("day") == str(day))
    return sum(
        cost
        for labels, cost in of_day
        if rule.value_of(labels.get("provider", ""), labels.get("model", ""), "", {}) == value
    )


def crossings(reader: Reader, tenant: bytes, *, warnings: bool) -> Iterator[Crossing]:
    """Yield a tenant's warnings, or thresholds of budgets, that are kept: the newest first."""
    return (crossing for _, crossing in placed_crossings(reader, tenant, warnings=warnings))


def placed_crossings(
    reader: Reader, tenant: bytes, *, warnings: bool, below: Position | None = None
) -> Iterator[tuple[Position, Crossing]]:
    """Yield them with their positions, only those below `below`, if it is given: those that are asked for are read.

    A ledger of an earlier version that was never written since has no order of them.
    """
    if reader.get(CROSSINGS_COMPLETE) is None:
        crossings = ((key, Crossing.unpack(record)) for key, record in reader.scan(Table.BUDGET, EVERY_TENANT))
        mine = ((key, one) for key, one in crossings if one.tenant == tenant and bool(one.warning) == warnings)
        placed = (((one.at_ns // NS_PER_MS, key[ID_HASH]), one) for key, one in mine)
        yield from sorted((one for one in placed if below is None or one[0] < below), key=itemgetter(0), reverse=True)
        return
    order = Order.WARNINGS if warnings else Order.THRESHOLDS
    for position in walk(reader, tenant, Table.BUDGET, order, below):
        if (record := reader.get(hashed_key(EVERY_TENANT, Table.BUDGET, position[1]))) is not None:
            yield position, Crossing.unpack(record)


def unsent_crossings(reader: Reader) -> Iterator[Crossing]:
    """Yield the crossings whose notification is due, the oldest first."""
    if reader.get(CROSSINGS_COMPLETE) is None:
        records = (record for _, record in reader.scan(Table.BUDGET, EVERY_TENANT) if record[-1:] != _SENT)
    else:
        positions = [*walk(reader, EVERY_TENANT, Table.BUDGET, Order.UNSENT)][::-1]
        keys = (hashed_key(EVERY_TENANT, Table.BUDGET, id_hash) for _, id_hash in positions)
        records = (record for record in map(reader.get, keys) if record is not None)
    yield from map(Crossing.unpack, records)


def rows(reader: Reader, tenant: bytes, rules: Iterable[BudgetRule], now_ns: int, wanted: str | None) -> list[Row]:
    """Return what is used of each budget, the most used first.

    With `wanted`, of that value of a dimension, session or run only, and of the budgets of all; empty: only of those.
    """
    result = [
        _row(rule, value, used, now_ns)
        for rule in rules
        if rule.concerns(tenant)
        for value, used in islice(_used(reader, tenant, rule, now_ns // NS_PER_DAY, wanted), _ROWS)
    ]
    return sorted(result, key=lambda row: (-row["used"], row["budget"], row["value"]))


def _used(
    reader: Reader, tenant: bytes, rule: BudgetRule, today: int, wanted: str | None
) -> Iterator[tuple[str, Pico]]:
    if rule.period == SESSION:
        yield from _sessions(reader, tenant, rule, wanted)
    elif rule.period == RUN:
        yield from _runs(reader, tenant, rule, wanted)
    elif rule.dimension and not rule.value and wanted is None:
        days = rule.days_until(today)
        costs = dimensions.costs(reader, tenant, rule.dimension, days[0], days[-1])
        yield from sorted(costs.items(), key=lambda item: (-item[1], item[0]))
    elif rule.dimension and wanted == "":
        return  # what has no value is in no budget of one
    elif wanted in (None, rule.value) or not rule.value:  # what is a budget of all concerns each of them
        value = rule.value or (wanted or "" if rule.dimension else "")
        yield value, spent_in_period(reader, tenant, rule, value, today)


def _sessions(reader: Reader, tenant: bytes, rule: BudgetRule, wanted: str | None) -> Iterator[tuple[str, Pico]]:
    """Yield one session, or those that have passed a threshold, the dearest first."""
    if wanted is not None:
        key = session_key(tenant, wanted)
        if wanted and reader.get(key) is not None and concerns(reader, tenant, rule, session := reader.sums(key)):
            yield wanted, session.cost
        return
    least = min(rule.thresholds, default=100) * rule.amount // 100
    for position in walk(reader, tenant, Table.SESSION, Order.COST):
        if position[0] < cost_rank(least):
            return
        session = reader.sums(hashed_key(tenant, Table.SESSION, position[1]))
        if session.cost >= least and concerns(reader, tenant, rule, session):
            yield session.labels.get("id", ""), session.cost


def _runs(reader: Reader, tenant: bytes, rule: BudgetRule, wanted: str | None) -> Iterator[tuple[str, Pico]]:
    """Yield one run, or those that have passed a threshold lately."""
    latest = islice(crossings(reader, tenant, warnings=False), _LOOKED_AT if wanted is None else 0)
    names = dict.fromkeys([wanted] if wanted is not None else (one.value for one in latest if one.budget == rule.name))
    for name in filter(None, names):
        if (total := one_run(reader, tenant, name)) is not None and _concerns_run(reader, tenant, rule, name):
            yield name, total.cost


def _concerns_run(reader: Reader, tenant: bytes, rule: BudgetRule, run_id: str) -> bool:
    """Return whether a budget per run is one of this run: whether it is one of any of its sessions."""
    sessions = each_session_of_run(reader, tenant, run_id) if rule.dimension else ()
    return not rule.dimension or any(concerns(reader, tenant, rule, session) for session in sessions)


def _row(rule: BudgetRule, value: str, used: Pico, now_ns: int) -> Row:
    passed = rule.passed(used, now_ns)
    return {
        "budget": rule.name,
        "period": rule.period,
        "since": rule.counted_since(now_ns // NS_PER_DAY) or None,
        "dimension": rule.dimension,
        "value": value,
        "amount_usd": usd(rule.amount),
        "amount_usd_exact": exact_usd(rule.amount),
        "used_usd": usd(used),
        "used_usd_exact": exact_usd(used),
        "used": share(used, rule.amount),
        "passed": [threshold for threshold in passed if threshold != FORECAST],
        "forecast": FORECAST in passed,
        "over": used >= rule.amount,
    }


WARNINGS = FAILURE_RATE, UNPRICED_SHARE, COST_RISE = "failure_rate", "unpriced_share", "cost_rise"
_EARLIER = 4
"""Stretches with calls that make a history."""


@dataclass(frozen=True, slots=True)
class WarningRules:
    """The thresholds of warnings; a rule that is None is off.

    `failure_rate`: percent of a session's spans that failed, and failed spans at least. `unpriced_share`: percent of a
    day's calls without a price, and calls at least. `cost_rise`: how many times as much as usual a session spends, and
    how much at least.
    """

    failure_rate: tuple[int, int] | None = None
    unpriced_share: tuple[int, int] | None = None
    cost_rise: tuple[float, Pico] | None = None

    @property
    def are_on(self) -> bool:
        """Return whether there is any rule."""
        return self.of_sessions or self.unpriced_share is not None

    @property
    def of_sessions(self) -> bool:
        """Return whether there is any rule for sessions."""
        return self.failure_rate is not None or self.cost_rise is not None


def of_session(rules: WarningRules, tenant: bytes, session: Sums, now_ns: int) -> Iterator[Crossing]:
    """Yield what is to be warned of in a session.

    `used` and `amount` are its failed spans and all of them, or what it cost in the latest stretch and usually does.
    """
    facts, name = session.facts, session.labels.get("id", "")
    if facts is None or not name:
        return
    if rules.failure_rate is not None:
        percent, least = rules.failure_rate
        if facts.failed >= least and facts.failed * 100 >= percent * session.spans:
            yield Crossing("", tenant, name, "", percent, facts.failed, session.spans, now_ns, warning=FAILURE_RATE)
    if rules.cost_rise is not None and (rise := cost_rise(facts, *rules.cost_rise)) is not None:
        yield Crossing("", tenant, name, "", 0, *rise, now_ns, warning=COST_RISE)


def cost_rise(facts: Facts, factor: float, least: Pico) -> tuple[Pico, Pico] | None:
    """Return what a session cost in its latest stretch, and what it usually costs in one; None if that is no rise.

    All stretches are as long as one another, a minute or a thirty-second part of the session. Usual is the median of
    those before in which anything was spent.
    """
    if not facts.costs:
        return None
    latest = max(facts.costs)
    before = sorted(cost for at, cost in facts.costs.items() if at != latest and cost > 0)
    if len(before) < _EARLIER:
        return None
    cost, usual = facts.costs[latest], before[len(before) // 2]
    return (cost, usual) if cost >= least and cost >= factor * usual else None


def of_day(rules: WarningRules, reader: Reader, tenant: bytes, day: int, now_ns: int) -> Iterator[Crossing]:
    """Yield what is to be warned of in a UTC day (days since 1970); `used` and `amount` are unpriced calls and all."""
    if rules.unpriced_share is None:
        return
    percent, least = rules.unpriced_share
    calls = unpriced = 0
    for _, record in reader.scan(Table.DAY, tenant, within=near(day.to_bytes(4, "big"))):
        sums = Sums.unpack(record)
        if sums.labels.get("day") == str(day):
            calls, unpriced = calls + sums.calls, unpriced + sums.unpriced
    if calls >= least and unpriced * 100 >= percent * calls:
        since = date_of(day) or ""
        yield Crossing("", tenant, "", since, percent, unpriced, calls, now_ns, warning=UNPRICED_SHARE)


def warning_row(crossing: Crossing) -> Row:
    """Return a warning as a row of an answer."""
    row: Row = {"warning": crossing.warning, "session": crossing.value or None, "day": crossing.since or None}
    if crossing.warning == COST_RISE:
        row |= {"cost_usd_exact": exact_usd(crossing.used), "usual_usd_exact": exact_usd(crossing.amount)}
    else:
        counted = "failed" if crossing.warning == FAILURE_RATE else "unpriced"
        of = "spans" if crossing.warning == FAILURE_RATE else "calls"
        row |= {counted: crossing.used, of: crossing.amount, "share": crossing.used / crossing.amount}
    return {**row, "at": time_of(crossing.at_ns)}
