"""The values of a dimension on a UTC day that is over, in one record: lists over many days read a record a day.

The records of single values (`Table.DIMENSION`) stay what counts. Upkeep packs them together once a day is over and
nothing came for it for ten minutes; whatever adds to one of them, or removes or renames it, takes the packed ones out
of use in the same commit (`outdated`), so that they are never anything else than the records are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from spanledger_processor.ledger.facts import OTHER_MODELS
from spanledger_processor.ledger.keys import day_values_key, dimension_day, total_key
from spanledger_processor.ledger.packing import pack, unpack
from spanledger_processor.ledger.store import Key, Reader, Table, near
from spanledger_processor.ledger.sums import Merging
from spanledger_processor.pricing import provider_name
from spanledger_processor.units import MS_PER_DAY

OUTDATED = b""
"""A record that stands for none."""
_VERSION = 1
_VALUES_PACKED = 16
"""Fewer values of a day are read one by one."""
_QUIET_MS = 10 * 60_000
_DAYS_APART = 400
UNPRICED = 3
"""Where the calls without a price stand in the counts of an unpacked record."""


@dataclass(frozen=True, slots=True)
class DayValues:
    """What the values of a dimension spent on a day: names (None: of all others), costs, calls and records, in one
    order, those without any left out; and the sum of all.
    """

    names: list[str | None]
    costs: list[int]
    calls: list[int]
    records: list[bytes]
    whole: list[Any]

    def unpriced(self) -> list[int]:
        """Return the calls without a price of each; of a day without any no record is unpacked."""
        if not int(self.whole[2][UNPRICED]) and min(self.calls, default=0) >= 0:
            return [0] * len(self.records)
        return [int(self.row(at)[2][UNPRICED]) for at in range(len(self.records))]

    def row(self, at: int) -> list[Any]:
        """Return a value's unpacked record."""
        row: list[Any] = unpack(self.records[at])
        return row


def day_values(reader: Reader, tenant: bytes, name: str, day: int) -> DayValues:
    """Return what the values of a dimension spent on a day (since 1970)."""
    within = near(dimension_day(name, day))
    if record := reader.get(day_values_key(bytes((Table.DIMENSION,)) + tenant + within)):
        _, _, *of, names, costs, calls, records, whole = unpack(record)
        if of == [name, day]:  # another dimension and day may have the same hash
            return DayValues(names, [*map(int, costs)], [*map(int, calls)], records, whole)
    return _read(name, day, (record for _, record in reader.scan(Table.DIMENSION, tenant, within=within)))


def _read(name: str, day: int, records: Iterable[bytes]) -> DayValues:
    of = {"dimension": name, "day": str(day)}
    return _collected(
        (record, row, row[4].get("value")) for record, row in _spent(records) if of.items() <= row[4].items()
    )


def values_of(records: Iterable[bytes], name: str) -> DayValues:
    """Return what the records of one day by provider and model say of each of these; what names none is left out."""
    rows = ((record, row, name_in(row[4], name)) for record, row in _spent(records))
    return _collected((record, row, value) for record, row, value in rows if value != "")


def name_in(labels: Mapping[str, str], name: str) -> str | None:
    """Return the provider or model of a record, None where that is not told apart on its day any more."""
    value, of_others = labels.get(name, ""), labels.get("model") == OTHER_MODELS
    if of_others and (name == "model" or not value):
        return None
    return value if name == "model" else provider_name(value)


def _spent(records: Iterable[bytes]) -> Iterator[tuple[bytes, list[Any]]]:
    rows = ((record, unpack(record)) for record in records)
    return ((record, row) for record, row in rows if has_spent(row))


def has_spent(row: list[Any]) -> bool:
    """Return whether an unpacked record has a cost or calls; numbers beyond 64 bits are text."""
    return row[2][0] not in (0, "0") or row[2][1] not in (0, "0")


def _collected(rows: Iterable[tuple[bytes, list[Any], str | None]]) -> DayValues:
    whole, result = Merging(), DayValues([], [], [], [], [])
    for record, row, value in rows:
        cost, calls = whole.add(row)
        result.names.append(value)
        result.costs.append(cost)
        result.calls.append(calls)
        result.records.append(record)
    result.whole.extend(whole.row())
    return result


def records_of_days(
    reader: Reader, tenant: bytes, since: int, until: int | None
) -> Iterator[tuple[int, list[Any], bytes]]:
    """Yield days, their rows by provider and model, and the records of those, from one day to another, both included.

    Of up to about a year only those days are read. Providers have their one name, also those that earlier versions
    stored as spans had them; so a day may have several rows of one provider and model.
    """
    # no call is of a later day than tomorrow
    last = reader.sums(total_key(tenant)).arrival_ms // MS_PER_DAY + 1 if until is None else until
    few = since > 0 and last - since <= _DAYS_APART
    by_day = (near(day.to_bytes(4, "big")) for day in range(since, last + 1)) if few else (b"",)
    for within in dict.fromkeys(by_day):
        for _, record in reader.scan(Table.DAY, tenant, within=within):
            row = unpack(record)
            labels = row[4]
            day = int(labels.get("day", "0"))
            if has_spent(row) and since <= day and (until is None or day <= until):
                if "provider" in labels:
                    labels["provider"] = provider_name(labels["provider"])
                yield day, row, record


def outdated(keys: Iterable[Key]) -> set[Key]:
    """Return the keys of the packed records that hold any of these records, if they are of values of dimensions."""
    return {day_values_key(key) for key in keys if key[0] == Table.DIMENSION}


def is_over(record: bytes, now_ms: int) -> bool:
    """Return whether the day of a value is over, and nothing was added to it for ten minutes."""
    _, arrival_ms, _, _, labels, *_ = unpack(record)
    return (int(labels.get("day", "0")) + 1) * MS_PER_DAY <= now_ms and arrival_ms <= now_ms - _QUIET_MS


def packed(records: Sequence[bytes]) -> bytes:
    """Return all values of a dimension on one day as a record, `OUTDATED` where they are few."""
    if len(records) < _VALUES_PACKED:
        return OUTDATED
    labels = unpack(records[0])[4]
    name, day = labels.get("dimension", ""), int(labels.get("day", "0"))
    values = _read(name, day, records)
    return pack([_VERSION, 0, name, day, values.names, values.costs, values.calls, values.records, values.whole])
