"""The budgets that the spans of a request count against, and the thresholds that they pass."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from spanledger_processor.accounting.totals import Totals
from spanledger_processor.accounting.trace import Span
from spanledger_processor.ledger.budgets import RUN, SESSION, BudgetRule, Crossing, share, spent_in_period
from spanledger_processor.ledger.dimensions import AGENT, MODEL, PROVIDER
from spanledger_processor.ledger.store import Changes, Reader
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
        self._used: dict[tuple[str, str], Pico | None] = {}

    def enter(self, span: Span, decision: Decision) -> None:
        """Name on a counted span the budget that is used most of those it counts against, from the first threshold on;
        claim the thresholds that are passed.
        """
        most = 0.0
        for rule, value in self._of(span, decision):
            used = self._spent(rule, value)
            if used is None or used * 100 < min(rule.thresholds, default=100) * rule.amount:
                continue
            if share(used, rule.amount) > most:
                most = share(used, rule.amount)
                decision.budget_name, decision.budget_used = rule.name, most

    def _of(self, span: Span, decision: Decision) -> Iterator[tuple[BudgetRule, str]]:
        claim, place = span.claim, span.place
        if not self._rules or claim is None or place is None or not span.counted:
            return
        today = self._now_ns // NS_PER_DAY
        named = {AGENT: place.agent, MODEL: claim.listed, PROVIDER: claim.provider}
        said = span.detail.dimensions
        named.update(zip(said[::2], said[1::2], strict=True))
        for rule in self._rules:
            if rule.period in (SESSION, RUN):
                value = decision.session_id if rule.period == SESSION else decision.run_id
                whose = named.get(rule.dimension, "") if rule.dimension else ""
                if value and (not rule.dimension or (whose and rule.value in ("", whose))):
                    yield rule, value
            elif claim.day in rule.days_until(today):
                value = named.get(rule.dimension, "") if rule.dimension else ""
                if not rule.dimension or (value and rule.value in ("", value)):
                    yield rule, value

    def _spent(self, rule: BudgetRule, value: str) -> Pico | None:
        """Return what is used of a budget with this request, and claim what is passed thereby."""
        of = (rule.name, value)
        if of not in self._used:
            self._used[of] = used = self._add_up(rule, value)
            if used is not None:
                self._claim(rule, value, used)
        return self._used[of]

    def _add_up(self, rule: BudgetRule, value: str) -> Pico | None:
        if rule.period == SESSION:
            return self._totals.session_cost(value)
        if rule.period == RUN:
            return self._totals.run_cost(value)
        today = self._now_ns // NS_PER_DAY
        return spent_in_period(self._reader, self._tenant, rule, value, today, self._changes.add)

    def _claim(self, rule: BudgetRule, value: str, used: Pico) -> None:
        since = rule.since(self._now_ns // NS_PER_DAY)
        for threshold in rule.passed(used, self._now_ns):
            crossing = Crossing(rule.name, self._tenant, value, since, threshold, used, rule.amount, self._now_ns)
            if self._reader.get(crossing.where) is None:
                self._changes.claim[crossing.where] = crossing.pack()
