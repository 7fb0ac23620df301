"""The questions that one asks of a ledger, over one consistent view of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from spanledger_processor.ledger import dimensions
from spanledger_processor.ledger.keys import CORRECTIONS, LEDGER, UNATTRIBUTED, bounded_id, id_bytes, session_key
from spanledger_processor.ledger.rows import Row, date_of, exact_usd, row, spend, usd
from spanledger_processor.ledger.runs import all_runs, one_run
from spanledger_processor.ledger.store import Reader, Table, key, near
from spanledger_processor.ledger.sums import Sums
from spanledger_processor.units import Pico


def sessions(reader: Reader, tenant: bytes) -> list[Row]:
    """All sessions, the one last active first; what belongs to none comes last, with an empty id."""
    return _ordered(Sums.unpack(record) for _, record in reader.scan(Table.SESSION, tenant))


def runs(reader: Reader, tenant: bytes) -> list[Row]:
    """All runs, the one last active first; what belongs to none comes last, with an empty id."""
    return _ordered(all_runs(reader, tenant).values())


def session(reader: Reader, tenant: bytes, session_id: str) -> Row | None:
    """One session with its tasks, None if the ledger has none of that id.

    `tasks` has a row for each task and kind; `by_task` one a task, with `kinds` splitting its tokens; `by_model` what
    the tasks spent on each model. Those that spent nothing are left out.
    """
    record = reader.get(session_key(tenant, session_id))
    if record is None:
        return None
    found = row(Sums.unpack(record))
    return {**found, **_of_tasks(list(_tasks(reader, tenant, session_id)))}


def run(reader: Reader, tenant: bytes, run_id: str) -> Row | None:
    """One run, None if the ledger has none of that id."""
    total = one_run(reader, tenant, run_id)
    return None if total is None else row(total)


def _of_tasks(parts: list[Sums]) -> dict[str, list[Row]]:
    kinds, ids, by_model = (_grouped(parts, *labels) for labels in (("id", "kind"), ("id",), ("provider", "model")))
    tokens = {where: sums.spent["input"] + sums.spent["output"] for where, sums in kinds.items()}
    most_first = sorted(tokens, key=lambda where: (-tokens[where], where))
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
    """Sums by the values of some of their labels."""
    groups: dict[tuple[str, ...], Sums] = {}
    for sums in parts:
        groups.setdefault(tuple(sums.labels.get(label, "") for label in labels), Sums()).add(sums)
    return groups


def models(reader: Reader, tenant: bytes, since: int = 0) -> list[Row]:
    """All models over all days from `since` (days since 1970) on, the dearest first."""
    by_model: dict[tuple[str, str], Sums] = {}
    for day, sums in _days(reader, tenant):
        if day >= since:
            by_model.setdefault((sums.labels.get("provider", ""), sums.labels.get("model", "")), Sums()).add(sums)
    ranked = sorted(by_model.items(), key=lambda item: (-item[1].cost, item[0]))
    return [{"provider": provider, "model": model, **spend(sums)} for (provider, model), sums in ranked]


def dimension(reader: Reader, tenant: bytes, name: str, since: int = 0) -> Row | None:
    """A dimension by value (`dimensions.values`); None for a name that none can have."""
    return {"dimension": name, "values": dimensions.values(reader, tenant, name, since)} if name else None


def days(reader: Reader, tenant: bytes, since: int = 0) -> list[Row]:
    """Each UTC day from `since` (days since 1970) on that something was spent on, by the time that prices go by."""
    by_day: dict[int, Sums] = {}
    for day, sums in _days(reader, tenant):
        if day >= since:
            by_day.setdefault(day, Sums()).add(sums)
    return [{"day": date_of(day), **spend(sums)} for day, sums in sorted(by_day.items())]


def spent(reader: Reader, tenant: bytes, since: int) -> Row:
    """What was spent from a UTC day (days since 1970) on."""
    whole = Sums()
    for day, sums in _days(reader, tenant):
        if day >= since:
            whole.add(sums)
    return spend(whole)


def _days(reader: Reader, tenant: bytes) -> Iterator[tuple[int, Sums]]:
    """What was spent by day, provider and model; what moved elsewhere since and left nothing is skipped."""
    for _, record in reader.scan(Table.DAY, tenant):
        sums = Sums.unpack(record)
        if sums.calls or sums.cost:
            yield int(sums.labels.get("day", "0")), sums


def total(reader: Reader, tenant: bytes) -> Row:
    """The whole ledger, with what was sent on spans beyond it (docs/contract.md#promise-1-sums-are-true)."""
    record = reader.get(key(Table.TOTAL, tenant, LEDGER))
    found = row(Sums.unpack(record) if record else Sums())
    correction = late_correction(reader, tenant)
    found["late_correction_usd"] = usd(correction)
    found["late_correction_usd_exact"] = exact_usd(correction)
    found["sessions_gone"] = sum(Sums.unpack(record).sessions for _, record in reader.scan(Table.GONE, tenant))
    return found


def gone(reader: Reader, tenant: bytes) -> list[Row]:
    """Per UTC day of their last arrival: the sessions that are no longer told apart, and what they had spent.

    They gave way to `state.retention.sessions` or to the size of the ledger; their sums are in the unattributed.
    """
    found = [Sums.unpack(record) for _, record in reader.scan(Table.GONE, tenant)]
    by_day = sorted(found, key=lambda sums: int(sums.labels.get("day", "0")))
    return [
        {"day": date_of(int(sums.labels.get("day", "0"))), "sessions": sums.sessions, **spend(sums)} for sums in by_day
    ]


def late_correction(reader: Reader, tenant: bytes) -> Pico:
    """Return what was sent on spans beyond the ledger of a tenant, or of `EVERY_TENANT`.

    docs/contract.md#promise-1-sums-are-true
    """
    record = reader.get(key(Table.TOTAL, tenant, CORRECTIONS))
    return Sums.unpack(record).cost if record else 0


def _ordered(totals: Iterable[Sums]) -> list[Row]:
    found = list(totals)
    named = [sums for sums in found if sums.labels.get("id", UNATTRIBUTED) != UNATTRIBUTED]
    rest = [sums for sums in found if sums.labels.get("id", UNATTRIBUTED) == UNATTRIBUTED and sums.spans]
    return [row(sums) for sums in (*sorted(named, key=lambda sums: -sums.last_ns), *rest)]
