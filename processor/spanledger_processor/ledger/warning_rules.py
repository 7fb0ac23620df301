"""What is to be warned of: a session in which much fails or that suddenly costs more, a day in which much has no price.

Each is sent once for a session, or for a tenant and UTC day, like a budget's threshold (`crossings`). It is derived
from the ledger's sums.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from spanledger_processor.ledger.crossings import Crossing
from spanledger_processor.ledger.facts import Facts
from spanledger_processor.ledger.rows import Row, date_of, exact_usd, time_of
from spanledger_processor.ledger.store import Reader, Table, near
from spanledger_processor.ledger.sums import Sums
from spanledger_processor.units import Pico

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
