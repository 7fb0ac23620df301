"""Sums by dimension: team, user, service and the like, by UTC day and value.

Only values that are named have records. What has none is the difference to the sums of the days, so that the values,
the others and the unattributed always add up to the whole, whatever dimensions a configuration had at the time. Of one
dimension and day the dearest values are told apart (`VALUES_KEPT`); the rest are one, "other" (`retention.Narrowing`).
"""

from __future__ import annotations

from collections.abc import Iterator

from spanledger_processor.ledger.keys import dimension_day
from spanledger_processor.ledger.rows import Row, date_of, models, money, spend
from spanledger_processor.ledger.store import Reader, Table, near
from spanledger_processor.ledger.sums import Sums

MODEL, PROVIDER, AGENT = "model", "provider", "agent"
"""Dimensions that need no configuration: what every call tells, and the agent of a span or of what stands above it."""
VALUES_KEPT = 512
"""Values of one dimension and day that are told apart for good; up to twice as many until retention goes round."""


def values(reader: Reader, tenant: bytes, name: str, since: int = 0, until: int | None = None) -> list[Row]:
    """Return the values of a dimension from one UTC day (days since 1970) to another, both included, the dearest first.

    A row has the sums, the cost by model, and the cost by day. Behind them come, where there are any, the values that
    are not told apart (`other`) and what names none (`unattributed`). All rows together are the whole of those days.
    """
    rest, by_value = Sums(), dict[str | None, dict[int, Sums]]()
    for day, whole in _whole_days(reader, tenant, since, until).items():
        for sums in whole:
            rest.add(sums)
        found = _by_label(name, whole) if name in (MODEL, PROVIDER) else _of_day(reader, tenant, name, day)
        for value, sums in found:
            rest.add(sums, -1)
            told_apart = value if sums.cost >= 0 and sums.calls >= 0 else None
            by_value.setdefault(told_apart, {}).setdefault(day, Sums()).add(sums)
    other = by_value.pop(None, {})
    rows = [_row({"value": value}, of_days) for value, of_days in by_value.items()]
    rows.sort(key=lambda row: (-row["cost_usd"], -row["calls"], row["value"]))
    if other:
        rows.append(_row({"value": "", "other": True}, other))
    if rest.calls or rest.cost:
        rows.append({"value": "", "unattributed": True, **spend(rest)})
    return rows


def _row(named: Row, of_days: dict[int, Sums]) -> Row:
    total = Sums()
    for sums in of_days.values():
        total.add(sums)
    by_day = sorted(of_days.items())
    return {
        **named,
        **spend(total),
        "models": models(total),
        "days": [{"day": date_of(day), **money(sums.cost), "calls": sums.calls} for day, sums in by_day],
    }


def _whole_days(reader: Reader, tenant: bytes, since: int, until: int | None) -> dict[int, list[Sums]]:
    """Return all that was spent, in parts by provider and model, by day."""
    found: dict[int, list[Sums]] = {}
    for _, record in reader.scan(Table.DAY, tenant):
        sums = Sums.unpack(record)
        day = int(sums.labels.get("day", "0"))
        if (sums.calls or sums.cost) and since <= day and (until is None or day <= until):
            found.setdefault(day, []).append(sums)
    return found


def _by_label(name: str, parts: list[Sums]) -> Iterator[tuple[str | None, Sums]]:
    return ((value, sums) for sums in parts if (value := sums.labels.get(name, "")))


def _of_day(reader: Reader, tenant: bytes, name: str, day: int) -> Iterator[tuple[str | None, Sums]]:
    """Yield the values of one dimension on one day; None for those that are not told apart."""
    for _, record in reader.scan(Table.DIMENSION, tenant, within=near(dimension_day(name, day))):
        sums = Sums.unpack(record)
        labels = sums.labels
        if labels.get("dimension") == name and labels.get("day") == str(day) and (sums.calls or sums.cost):
            yield labels.get("value"), sums
