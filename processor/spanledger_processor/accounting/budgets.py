"""What the spans of one request use of the budgets, and the thresholds that it passes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from spanledger_processor.accounting.facts import in_pairs
from spanledger_processor.accounting.totals import Totals
from spanledger_processor.accounting.trace import Span
from spanledger_processor.ledger.budgets import (
    RUN,
    SESSION,
    BudgetRule,
    LargeRun,
    concerns,
    spent_in_period,
)
from spanledger_processor.ledger.crossings import FORECAST, Crossing, share
from spanledger_processor.ledger.keys import bounded_id, budget_key
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

    def enter(self, span: Span, decision: Decision) -> None:
        """Put the budget that is used most, of those a counted span counts against, on its decision, from the first
        threshold on, and store the thresholds that are passed.
        """
        most, counts = 0.0, span.counted and span.claim is not None
        for rule, value in self._of(span, decision):
            used = self._spent(rule, value, self._today)
            if not counts or used * 100 < min(rule.thresholds, default=100) * rule.amount:
                continue
            if share(used, rule.amount) > most:
                most = share(used, rule.amount)
                decision.budget_name, decision.budget_used = rule.name, most

    def _of(self, span: Span, decision: Decision) -> Iterator[tuple[BudgetRule, str]]:
        """Yield the budgets that a span counts against; those of its session and run also where it is not counted: it
        may be what shows that they are concerned, or that a session belongs to a run.
        """
        for rule in self._rules:
            value = {SESSION: decision.session_id, RUN: decision.run_id}.get(rule.period)
            if value:
                yield rule, value
        claim, posting = span.claim, span.posting
        if not self._rules or claim is None or posting is None or not span.counted:
            return
        described = dict(in_pairs(span.detail.dimensions))
        for rule in self._rules:
            if rule.period not in (SESSION, RUN) and claim.day in rule.days_until(self._today):
                value = rule.value_of(claim.provider, claim.listed, posting.agent, described)
                if value is not None:
                    yield rule, value

    def store_posted(self) -> None:
        """Store the thresholds that are passed by whatever was posted: also what earlier requests brought and this one
        moves to another session, run or agent, and calls of a period that has ended or is to come.
        """
        periods = {rule.period for rule in self._rules}
        for session, run in self._totals.groups() if periods & {SESSION, RUN} else ():
            if RUN in periods and session and not run:
                run = self._totals.run_of(session).id
            for rule in self._rules:
                if value := {SESSION: session, RUN: run}.get(rule.period):
                    self._spent(rule, value, self._today)
        by_days = [rule for rule in self._rules if rule.period not in (SESSION, RUN)]
        for day, provider, model, agent, dimensions in self._totals.claims() if by_days else ():
            described = dict(in_pairs(dimensions))
            for rule in by_days:
                until = rule.reported_until(day, self._today)
                value = rule.value_of(provider, model, agent, described)
                if until is not None and value is not None:
                    self._spent(rule, value, until)

    def _spent(self, rule: BudgetRule, value: str, until: int) -> Pico:
        """Return what is used of a budget once this request is added, of the period of the day `until`, that day
        included, and store the thresholds that it passes.
        """
        of = (rule.name, value := bounded_id(value), until)
        if of not in self._used:
            self._used[of] = used = self._add_up(rule, value, until)
            self._store_passed(rule, value, used, until)
        return self._used[of]

    def _add_up(self, rule: BudgetRule, value: str, until: int) -> Pico:
        if rule.period == SESSION:
            is_one = not rule.dimension or self._concerns(rule, self._totals.session(value))
            return self._totals.session_cost(value) if is_one else 0
        if rule.period == RUN:
            return self._spent_in_run(rule, value)
        return spent_in_period(self._reader, self._tenant, rule, value, until, self._changes.add)

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
        first = budget_key(self._tenant, rule.name, run_id, "", min(rule.thresholds))
        is_known = not rule.dimension or self._reader.get(first) is not None
        return run.spent if is_known else 0

    def _store_passed(self, rule: BudgetRule, value: str, used: Pico, until: int) -> None:
        passed = Crossing(rule.name, self._tenant, value, rule.since(until), 0, used, rule.amount, self._now_ns)
        if rule.period == "rolling":
            passed = replace(passed, counted_since=rule.counted_since(until))
        for threshold in rule.passed(used, self._now_ns):
            if threshold == FORECAST and until != self._today:
                continue
            crossing = replace(passed, threshold=threshold)
            if self._reader.get(crossing.key) is None:
                self._changes.create.setdefault(crossing.key, crossing.pack())
