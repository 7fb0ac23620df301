"""The ledger's totals: every counted amount stands once in the whole, in a session, in a run and under a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import TypeVar

from spanledger_processor.accounting.grouping import Named
from spanledger_processor.accounting.trace import COUNTED, Place, Span
from spanledger_processor.ledger.dimensions import AGENT
from spanledger_processor.ledger.keys import (
    LEDGER,
    bounded_id,
    dimension_key,
    id_bytes,
    link_key,
    run_key,
    session_key,
)
from spanledger_processor.ledger.packing import pack
from spanledger_processor.ledger.runs import NAMES, SPAWNED, run_of_session, sessions_under
from spanledger_processor.ledger.store import Changes, Key, Reader, Table, key
from spanledger_processor.ledger.sums import Sums
from spanledger_processor.units import Pico

_NONE: Mapping[str, str] = MappingProxyType({})


class Totals:
    """Books places in and out of the totals, on top of what a reader knows.

    Bookings are gathered first, by where they go, and entered once: `settle`. What is read here decides on no amount,
    only on what spans say of their run and of running totals.
    """

    def __init__(self, tenant: bytes, reader: Reader, changes: Changes, now_ns: int) -> None:
        self._tenant = tenant
        self._reader = reader
        self._changes = changes
        self._now_ms = now_ns // 1_000_000
        self._stored: dict[Key, Sums] = {}
        self._groups: dict[tuple[str, str, str], Sums] = {}
        self._days: dict[tuple[int, str, str, str, tuple[str, ...]], Sums] = {}
        self._tasks: dict[tuple[str, str, str, str, str], Sums] = {}
        self._described: dict[str, dict[str, str]] = {}
        """Names and projects of sessions, where their spans tell them."""
        self._linked: dict[tuple[bytes, str], set[str]] = {}
        """Links that are new."""

    def book(self, span: Span, place: Place, sign: int = 1) -> None:
        """Enter `span` at `place` (sign 1), or take it out again (sign -1)."""
        span.enter(self._of_group(span, place), place.role, sign)
        if place.session and any(span.session_labels):
            labels = self._described.setdefault(place.session, {})
            for name, label in zip(("name", "project"), span.session_labels, strict=True):
                if label:
                    labels[name] = bounded_id(label)
        if place.role == COUNTED and span.claim is not None:
            for sums in self._of_claim(span, place):
                span.enter(sums, place.role, sign)

    def book_group(self, like: Span, place: Place, sums: Sums) -> None:
        """Enter the sums of spans that stand in one session and run as `like` does."""
        self._of_group(like, place).add(sums)

    def book_claims(self, like: Span, place: Place, sums: Sums) -> None:
        """Enter the sums of counted spans, of any sessions, whose claims go where that of `like` does."""
        for into in self._of_claim(like, place):
            into.add(sums)

    def _of_group(self, span: Span, place: Place) -> Sums:
        """Where the session and the run of a span are gathered."""
        return _of(self._groups, (place.session, place.run, span.parent_session))

    def _of_claim(self, span: Span, place: Place) -> list[Sums]:
        """Where what a counted span claims is gathered besides."""
        claim = span.claim
        if claim is None:
            return []
        gathered = [_of(self._days, (claim.day, claim.provider, claim.listed, place.agent, span.detail.dimensions))]
        if claim.task_id or claim.task_kind:
            task = (place.session, claim.task_id, claim.task_kind, claim.provider, claim.listed)
            gathered.append(_of(self._tasks, task))
        return gathered

    def settle(self) -> None:
        """Enter all bookings. Call once."""
        ledger = key(Table.TOTAL, self._tenant, LEDGER)
        for (session, run, parent), sums in self._groups.items():
            self._add(ledger, replace(sums, models={}))
            labels = {"id": bounded_id(session), **({"parent": bounded_id(parent)} if parent else {})}
            labels |= self._described.get(session, {})
            self._link(session, run, parent)
            where = session_key(self._tenant, session)
            self._add(where, sums, 1, labels, {bounded_id(run)} if run else None)
            if run:
                change = self._changes.add[where]
                change.elsewhere = change.elsewhere or Sums()
                change.elsewhere.add(sums)
                self._add(run_key(self._tenant, run), sums, 1, {"id": bounded_id(run)})
        self._settle_claims()

    def _link(self, session: str, run: str, parent: str) -> None:
        """Let a run be asked for the sessions that it may hold."""
        known = self._known(session_key(self._tenant, session))
        if session and run and bounded_id(run) not in known.named:
            self._claim_link(NAMES, run, session)
        if session and parent and known.labels.get("parent") != bounded_id(parent):
            self._claim_link(SPAWNED, parent, session)

    def _claim_link(self, kind: bytes, above: str, session: str) -> None:
        session = bounded_id(session)
        self._changes.claim[link_key(self._tenant, kind, above, session)] = pack([1, self._now_ms, session])
        self._linked.setdefault((kind, bounded_id(above)), set()).add(session)

    def run_of(self, session_id: str) -> Named:
        """The run of what no trace knows one for."""
        return Named(*run_of_session(bounded_id(session_id), self._names))

    def session_cost(self, session_id: str) -> Pico:
        """The running total of a session, with everything that is settled."""
        return self._cost(session_key(self._tenant, session_id))

    def run_cost(self, run_id: str) -> Pico | None:
        """The running total of a run, with everything that is settled; None if too many sessions are part of it."""
        sessions = sessions_under(self._reader, self._tenant, run_id, self._linked)
        if sessions is None:
            return None
        total = self._cost(run_key(self._tenant, run_id))
        for session in sessions:
            where = session_key(self._tenant, session)
            stored, change = self._known(where), self._changes.add.get(where)
            own = _own_cost(stored) + (_own_cost(change) if change else 0)
            if own and self.run_of(session).id == bounded_id(run_id):
                total += own
        return total

    def _settle_claims(self) -> None:
        values: dict[tuple[str, int, str], Sums] = {}
        for (day, provider, model, agent, dimensions), sums in self._days.items():
            where = key(Table.DAY, self._tenant, day.to_bytes(4, "big"), id_bytes(provider), id_bytes(model))
            self._add(where, sums, 1, {"day": str(day), "provider": bounded_id(provider), "model": bounded_id(model)})
            if agent:
                _of(values, (AGENT, day, agent)).add(sums)
            for name, value in zip(dimensions[::2], dimensions[1::2], strict=True):
                _of(values, (name, day, value)).add(sums)
        for (name, day, value), sums in values.items():
            labels = {"day": str(day), "dimension": name, "value": bounded_id(value)}
            self._add(dimension_key(self._tenant, name, day, value), sums, 1, labels)
        for (session, task, kind, provider, model), sums in self._tasks.items():
            where = key(
                Table.TASK,
                self._tenant,
                id_bytes(bounded_id(session)),
                id_bytes(task),
                id_bytes(kind),
                id_bytes(provider),
                id_bytes(model),
            )
            labels = {"session": session, "id": task, "kind": kind, "provider": provider, "model": model}
            self._add(where, sums, 1, {name: bounded_id(label) for name, label in labels.items()})

    def _names(self, session_id: str) -> tuple[set[str], str]:
        """The runs that a session names, and its parent."""
        where = session_key(self._tenant, session_id)
        stored, change = self._known(where), self._changes.add.get(where)
        parent = stored.labels.get("parent", "") or (change.labels.get("parent", "") if change else "")
        return stored.named | change.named if change else stored.named, parent

    def _cost(self, where: Key) -> Pico:
        change = self._changes.add.get(where)
        return self._known(where).cost + (change.cost if change else 0)

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
            total = self._stored[where] = self._reader.sums(where)
        return total


_Place = TypeVar("_Place")


def _of(sums: dict[_Place, Sums], where: _Place) -> Sums:
    found = sums.get(where)
    if found is None:
        found = sums[where] = Sums()
    return found


def _own_cost(sums: Sums) -> Pico:
    return sums.cost - (sums.elsewhere.cost if sums.elsewhere is not None else 0)
