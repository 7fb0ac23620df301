"""What the spans of one request use of the budgets, and the thresholds that it passes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from copy import deepcopy
from dataclasses import replace
from functools import partial

from spanledger_processor.accounting.facts import in_pairs
from spanledger_processor.accounting.totals import Totals
from spanledger_processor.accounting.trace import Span
from spanledger_processor.ledger.budgets import (
    RUN,
    SESSION,
    BudgetRule,
    LargeRun,
    SpentByDay,
    concerns,
)
from spanledger_processor.ledger.crossings import FORECAST, REPORTED_FOR, Crossing, is_stored, share
from spanledger_processor.ledger.keys import bounded_id
from spanledger_processor.ledger.rolling import Reached
from spanledger_processor.ledger.rows import date_of
from spanledger_processor.ledger.store import Changes, Reader
from spanledger_processor.ledger.sums import Sums
from spanledger_processor.model import Decision
from spanledger_processor.units import NS_PER_DAY, Pico


class Budgets:
    """The budgets of one request; each that it touches is added up once."""

    def __init__(
        self, rules: Iterable[BudgetRule], tenant: bytes, reader: Reader, changes: Changes, totals: Totals, now_ns: int
    ) -> None:
        self._rules = [rule for rule in rules if rule.concerns(tenant)]
        self._tenant = tenant
        self._reader = reader
        self._changes = changes
        self._totals = totals
        self._now_ns = now_ns
        self._today = now_ns // NS_PER_DAY
        self._used: dict[tuple[str, str, int], Pico] = {}
        """By budget, value and the day that ends what was added up."""
        self._by_day: dict[tuple[str, str, int], Pico] = {}
        self._spent_by_day = SpentByDay(reader, tenant, changes.add)

    def enter(self, span: Span, decision: Decision) -> None:
        """Put the budget that is used most, of those a counted span counts against, on its decision, from the first
        threshold on.
        """
        most = 0.0
        for rule, value in self._of(span, decision):
            used = self._spent(rule, bounded_id(value), self._today)
            if used * 100 >= min(rule.thresholds, default=100) * rule.amount and share(used, rule.amount) > most:
                most = share(used, rule.amount)
                decision.budget_name, decision.budget_used = rule.name, most

    def _of(self, span: Span, decision: Decision) -> Iterator[tuple[BudgetRule, str]]:
        """Yield the budgets that a span counts against."""
        claim, posting = span.claim, span.posting
        if claim is None or posting is None or not span.counted:
            return
        described = dict(in_pairs(span.detail.dimensions))
        for rule in self._rules:
            if rule.period in (SESSION, RUN):
                value = (decision.session_id if rule.period == SESSION else decision.run_id) or None
            elif claim.day in rule.days_until(self._today):
                value = rule.value_of(claim.provider, claim.listed, posting.agent, described)
            else:
                continue
            if value is not None:
                yield rule, value

    def store_passed(self) -> None:
        """Store the thresholds that are passed by whatever was posted: by what earlier requests brought and this one
        moves to another session, run or agent, too, and by calls of a period that has ended or is to come.
        """
        for rule, value in self._of_groups():
            self._store_passed(rule, value, self._spent(rule, value, self._today))
        for rule, value, days in self._of_days():
            if rule.period == "rolling":
                self._store_reached(rule, value, days)
                continue
            for until in {until for day in days if (until := rule.reported_until(day, self._today)) is not None}:
                self._store_passed(rule, value, used := self._spent(rule, value, until), until)
                if self._today in rule.days_until(until) and used < rule.amount:
                    self._store_forecast(rule, value, self._spent(rule, value, self._today))

    def _of_groups(self) -> Iterator[tuple[BudgetRule, str]]:
        """Yield the budgets of the sessions and runs that anything was posted to, or moved to because of that.

        What stands under no run of its own moves where a span names a first or second run of its session.
        """
        periods, found = {rule.period for rule in self._rules}, dict[tuple[str, str], BudgetRule]()
        for session, run in self._totals.groups() if periods & {SESSION, RUN} else ():
            decided = self._totals.run_of(session).id if RUN in periods and session else ""
            for rule in self._rules:
                values = {SESSION: (session,), RUN: (run, decided)}.get(rule.period, ())
                found.update({(rule.name, bounded_id(value)): rule for value in values if value})
        return ((rule, value) for (_, value), rule in found.items())

    def _of_days(self) -> Iterator[tuple[BudgetRule, str, set[int]]]:
        """Yield the budgets of days, weeks, months and rolling windows, with the days on which anything was posted."""
        rules = [rule for rule in self._rules if rule.period not in (SESSION, RUN)]
        found = dict[tuple[str, str], tuple[BudgetRule, set[int]]]()
        for day, provider, model, agent, dimensions in self._totals.claims() if rules else ():
            described = dict(in_pairs(dimensions))
            for rule in rules:
                value = rule.value_of(provider, model, agent, described)
                if value is not None:
                    found.setdefault((rule.name, bounded_id(value)), (rule, set()))[1].add(day)
        return ((rule, value, days) for (_, value), (rule, days) in found.items())

    def _spent(self, rule: BudgetRule, value: str, until: int) -> Pico:
        """Return what is used of a budget once this request is added, of the period of the day `until`, that day
        included.
        """
        of = (rule.name, value, until)
        if of not in self._used:
            self._used[of] = self._add_up(rule, value, until)
        return self._used[of]

    def _add_up(self, rule: BudgetRule, value: str, until: int) -> Pico:
        if rule.period == SESSION:
            is_one = not rule.dimension or self._concerns(rule, self._totals.session(value))
            return self._totals.session_cost(value) if is_one else 0
        if rule.period == RUN:
            return self._spent_in_run(rule, value)
        return sum(self._spent_on(rule, value, day) for day in rule.days_until(until))

    def _spent_on(self, rule: BudgetRule, value: str, day: int) -> Pico:
        of = (rule.name, value, day)
        if of not in self._by_day:
            self._by_day[of] = self._spent_by_day.of(rule, value, day).cost
        return self._by_day[of]

    def _concerns(self, rule: BudgetRule, session: Sums) -> bool:
        return concerns(self._reader, self._tenant, rule, session, self._changes.add)

    def _spent_in_run(self, rule: BudgetRule, run_id: str) -> Pico:
        """Return what a run has spent; one of too many sessions is noted to be added up, and has what it had then."""
        spent = self._totals.run_cost(run_id)
        if spent is not None:
            sessions = self._totals.sessions_of_run(run_id) if rule.dimension else ()
            return spent if not rule.dimension or any(self._concerns(rule, one) for one in sessions) else 0
        run = LargeRun.read(self._reader, self._tenant, run_id)
        self._changes.replace[run.key] = replace(run, changes=run.changes + 1).pack(self._now_ns)
        first = rule.crossing(self._tenant, run_id, min(rule.thresholds), 0, self._now_ns)
        is_known = not rule.dimension or is_stored(self._reader, first)
        return run.spent if is_known else 0

    def _store_passed(self, rule: BudgetRule, value: str, used: Pico, day: int | None = None) -> None:
        """Store the thresholds that are passed in the period of a day; of a session or run there is none."""
        for threshold in rule.passed(used):
            self._store(rule, rule.crossing(self._tenant, value, threshold, used, self._now_ns, day), day)

    def _store_forecast(self, rule: BudgetRule, value: str, used: Pico) -> None:
        """Store that what is used today will not last; what comes tomorrow by a clock that is ahead is no rate."""
        if rule.will_not_last(used, self._now_ns):
            crossing = rule.crossing(self._tenant, value, FORECAST, used, self._now_ns, self._today)
            self._store(rule, crossing, self._today)

    def _store_reached(self, rule: BudgetRule, value: str, days: Collection[int]) -> None:
        """Store the thresholds of a rolling budget that it reached on the days whose sums have any of `days`."""
        earliest = self._today - REPORTED_FOR - rule.days + 1
        touched = [day for day in days if earliest <= day <= self._today + 1]
        if not touched:
            return
        reached = Reached.read(self._reader, self._tenant, rule, value, self._today)
        before = deepcopy(reached.reported)
        spent = partial(self._spent_on, rule, value)
        for threshold, since, until, used in reached.enter(rule.thresholds, spent, touched, self._today):
            crossing = rule.crossing(self._tenant, value, threshold, used, self._now_ns, until)
            self._store(rule, replace(crossing, since=date_of(since) or "", counted_since=crossing.since), until)
        if reached.reported != before:
            self._changes.replace[reached.key] = reached.pack()

    def _store(self, rule: BudgetRule, crossing: Crossing, day: int | None) -> None:
        if crossing.key not in self._changes.create and not is_stored(self._reader, crossing):
            unpriced = self._unpriced(rule, crossing.value, day)
            self._changes.create[crossing.key] = replace(crossing, unpriced=unpriced).pack()

    def _unpriced(self, rule: BudgetRule, value: str, day: int | None) -> int | None:
        """Return the calls without a price of the period of a day, or of a session; None of a run."""
        if rule.period == SESSION:
            return self._totals.session(value).unpriced
        if day is None:
            return None
        return max(0, sum(self._spent_by_day.of(rule, value, one).unpriced for one in rule.days_until(day)))
