"""The ledger's totals: every counted amount stands once in the whole, in a session, in a run and under a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import TypeVar

from spanledger_processor.accounting.grouping import Named, run_of_session
from spanledger_processor.accounting.trace import COUNTED, Place, Span
from spanledger_processor.ledger.keys import LEDGER, floating_key, id_bytes, run_key, session_key
from spanledger_processor.ledger.packing import pack, unpack
from spanledger_processor.ledger.store import Changes, Key, Table, key
from spanledger_processor.ledger.sums import ID_BOUND, Sums
from spanledger_processor.units import Pico

_NONE: Mapping[str, str] = MappingProxyType({})


class Totals:
    """Books places in and out of the totals, on top of what a reader knows.

    Bookings are gathered first, by where they go, and entered once: `settle`. A span for which no trace names a run
    floats with its session: when the session's run becomes known, or ceases to be the only one, all that floats moves.
    """

    def __init__(self, tenant: bytes, read: Callable[[Key], bytes | None], changes: Changes, now_ns: int) -> None:
        self._tenant = tenant
        self._read = read
        self._changes = changes
        self._now_ms = now_ns // 1_000_000
        self._stored: dict[Key, Sums] = {}
        self._groups: dict[tuple[str, str, str], Sums] = {}
        self._days: dict[tuple[int, str, str], Sums] = {}
        self._tasks: dict[tuple[str, str, str, str, str], Sums] = {}

    def book(self, span: Span, place: Place, sign: int = 1) -> None:
        """Enter `span` at `place` (sign 1), or take it out again (sign -1)."""
        span.enter(_of(self._groups, (place.session, place.run, span.parent_session)), place.role, sign)
        claim = span.claim
        if place.role != COUNTED or claim is None:
            return
        span.enter(_of(self._days, (claim.day, claim.provider, claim.model)), place.role, sign)
        if claim.task_id or claim.task_kind:
            task = (place.session, claim.task_id, claim.task_kind, claim.provider, claim.model)
            span.enter(_of(self._tasks, task), place.role, sign)

    def settle(self) -> None:
        """Enter all bookings, and move what floats under the runs that the sessions name by now. Call once."""
        floating: dict[str, Sums] = {}
        ledger = key(Table.TOTAL, self._tenant, LEDGER)
        for (session, run, parent), sums in self._groups.items():
            self._add(ledger, replace(sums, models={}))
            labels = {"id": _cut(session), **({"parent": _cut(parent)} if parent else {})}
            self._add(session_key(self._tenant, session), sums, 1, labels, {_cut(run)} if run else None)
            _of(floating, session)
            if run or not session:
                self._add(run_key(self._tenant, run), sums, 1, {"id": _cut(run)})
            else:
                floating[session].add(sums)
        for session, sums in floating.items():
            self._float(session, sums)
        self._settle_claims()

    def run_of(self, session_id: str) -> Named:
        """The run of what floats with a session."""
        names, parent = self._names(session_id)
        return run_of_session(session_id, names, self._names(parent)[0] if parent else set())

    def session_cost(self, session_id: str) -> Pico:
        """The running total of a session, with everything that is settled."""
        return self._cost(session_key(self._tenant, session_id))

    def run_cost(self, run_id: str) -> Pico:
        """The running total of a run, with everything that is settled."""
        return self._cost(run_key(self._tenant, run_id))

    def _settle_claims(self) -> None:
        for (day, provider, model), sums in self._days.items():
            where = key(Table.DAY, self._tenant, day.to_bytes(4, "big"), id_bytes(provider), id_bytes(model))
            self._add(where, sums, 1, {"day": str(day), "provider": _cut(provider), "model": _cut(model)})
        for (session, task, kind, provider, model), sums in self._tasks.items():
            where = key(
                Table.TASK,
                self._tenant,
                id_bytes(session),
                id_bytes(task),
                id_bytes(kind),
                id_bytes(provider),
                id_bytes(model),
            )
            labels = {"session": session, "id": task, "kind": kind, "provider": provider, "model": model}
            self._add(where, sums, 1, {name: _cut(label) for name, label in labels.items()})

    def _float(self, session_id: str, sums: Sums) -> None:
        """Add to what floats with a session, and let all of it stand under the session's run as it is known now."""
        run_id, (under, afloat) = self.run_of(session_id).id, self._stored_floating(session_id)
        if under and under != run_id:
            self._add(run_key(self._tenant, under), afloat, -1, {"id": _cut(under)})
            self._add(run_key(self._tenant, run_id), afloat, 1, {"id": _cut(run_id)})
        if sums.spans or sums.calls or sums.last_ns:
            self._add(run_key(self._tenant, run_id), sums, 1, {"id": _cut(run_id)})
            afloat.add(sums)
        elif not under or under == run_id:
            return
        row = [1, self._now_ms, run_id, afloat.pack()]
        self._changes.replace[floating_key(self._tenant, session_id)] = pack(row)

    def _names(self, session_id: str) -> tuple[set[str], str]:
        """The runs that a session names, and its parent."""
        where = session_key(self._tenant, session_id)
        stored, change = self._known(where), self._changes.add.get(where)
        parent = stored.labels.get("parent", "") or (change.labels.get("parent", "") if change else "")
        return stored.named | change.named if change else stored.named, parent

    def _cost(self, where: Key) -> Pico:
        change = self._changes.add.get(where)
        return self._known(where).cost + (change.cost if change else 0)

    def _stored_floating(self, session_id: str) -> tuple[str, Sums]:
        record = self._read(floating_key(self._tenant, session_id))
        if record is None:
            return "", Sums()
        _, _, run_id, sums = unpack(record)
        return run_id, Sums.unpack(sums)

    def _add(
        self, where: Key, sums: Sums, sign: int = 1, labels: Mapping[str, str] = _NONE, named: set[str] | None = None
    ) -> None:
        change = self._changes.add.get(where)
        if change is None:
            change = self._changes.add[where] = Sums()
        change.add(sums, sign)
        for name, text in labels.items():
            change.labels.setdefault(name, text)
        if named and len(change.named) < 3:
            change.named |= named

    def _known(self, where: Key) -> Sums:
        total = self._stored.get(where)
        if total is None:
            record = self._read(where)
            total = self._stored[where] = Sums() if record is None else Sums.unpack(record)
        return total


_Place = TypeVar("_Place")


def _of(sums: dict[_Place, Sums], where: _Place) -> Sums:
    found = sums.get(where)
    if found is None:
        found = sums[where] = Sums()
    return found


def _cut(text: str) -> str:
    """An id as it is kept in a record."""
    if len(text) * 4 <= ID_BOUND:
        return text
    return id_bytes(text)[:ID_BOUND].decode("utf-8", "ignore")
