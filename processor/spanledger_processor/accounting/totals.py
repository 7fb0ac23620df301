"""The ledger's totals: every counted amount stands once in the whole, in a session, in a run and under a model."""

from __future__ import annotations

from collections.abc import Callable

import msgpack

from spanledger_processor.accounting.trace import COUNTED, Place, Span
from spanledger_processor.calls import Pico
from spanledger_processor.grouping.resolve import Named, run_of_session
from spanledger_processor.state.store import Changes, Key, Table, key
from spanledger_processor.state.sums import ID_BOUND, Sums

LEDGER = b"ledger"
CORRECTIONS = b"corrections"
UNATTRIBUTED = ""
"""The id of the session, and of the run, of what has none."""


def session_key(tenant: bytes, session_id: str) -> Key:
    """Where the totals of one session stand."""
    return key(Table.SESSION, tenant, _id(session_id))


def run_key(tenant: bytes, run_id: str) -> Key:
    """Where the totals of one run stand."""
    return key(Table.RUN, tenant, _id(run_id))


def floating_key(tenant: bytes, session_id: str) -> Key:
    """Where the part of a session stands whose run the session decides, with the run that it stands under now."""
    return key(Table.FLOATING, tenant, _id(session_id))


class Totals:
    """Books places in and out of the totals, on top of what a reader knows.

    A span for which no trace names a run floats with its session: when the session's run becomes known, or ceases to
    be the only one, all that floats moves.
    """

    def __init__(self, tenant: bytes, read: Callable[[Key], bytes | None], changes: Changes, now_ns: int) -> None:
        self._tenant = tenant
        self._read = read
        self._changes = changes
        self._now_ms = now_ns // 1_000_000
        self._known: dict[Key, Sums] = {}
        self._floating: dict[str, tuple[str, Sums]] = {}
        self._touched: set[str] = set()

    def book(self, span: Span, place: Place, sign: int = 1) -> None:
        """Enter `span` at `place` (sign 1), or take it out again (sign -1)."""
        sums = span.sums(place.role)
        self._add(key(Table.TOTAL, self._tenant, LEDGER), sums, sign)
        labels = {"id": _cut(place.session)}
        if span.parent_session:
            labels["parent"] = _cut(span.parent_session)
        named = {_cut(place.run)} if place.run else set()
        self._add(session_key(self._tenant, place.session), sums, sign, labels, named)
        if place.run or not place.session:
            self._add(run_key(self._tenant, place.run), sums, sign, {"id": _cut(place.run)})
        else:
            self._float(place.session, sums, sign)
        self._touched.add(place.session)
        if place.role == COUNTED and span.claim is not None:
            self._book_claim(span, place, sums, sign)

    def settle(self) -> None:
        """Move what floats under the runs that the sessions name by now. Call once, after all bookings."""
        for session_id in self._touched:
            run = self.run_of(session_id)
            now_under, sums = self._floating.get(session_id) or self._stored_floating(session_id)
            if run.id != now_under and now_under:
                self._add(run_key(self._tenant, now_under), sums, -1, {"id": _cut(now_under)})
                self._add(run_key(self._tenant, run.id), sums, 1, {"id": _cut(run.id)})
            elif session_id not in self._floating:
                continue
            self._floating[session_id] = (run.id, sums)
        for session_id, (run_id, sums) in self._floating.items():
            record: bytes = msgpack.packb([1, self._now_ms, run_id, sums.pack()])
            self._changes.replace[floating_key(self._tenant, session_id)] = record

    def run_of(self, session_id: str) -> Named:
        """The run of what floats with a session."""
        session = self._total(session_key(self._tenant, session_id))
        parent = session.labels.get("parent", "")
        parent_runs = self._total(session_key(self._tenant, parent)).named if parent else set()
        return run_of_session(session_id, session.named, parent_runs)

    def session_cost(self, session_id: str) -> Pico:
        """The running total of a session, with everything booked so far."""
        return self._total(session_key(self._tenant, session_id)).cost

    def run_cost(self, run_id: str) -> Pico:
        """The running total of a run, with everything booked so far."""
        return self._total(run_key(self._tenant, run_id)).cost

    def _book_claim(self, span: Span, place: Place, sums: Sums, sign: int) -> None:
        claim = span.claim
        if claim is None:
            return
        day = key(Table.DAY, self._tenant, claim.day.to_bytes(4, "big"), _id(claim.provider), _id(claim.model))
        labels = {"day": str(claim.day), "provider": _cut(claim.provider), "model": _cut(claim.model)}
        self._add(day, sums, sign, labels)
        if claim.task_id or claim.task_kind:
            task = key(Table.TASK, self._tenant, _id(place.session), _id(claim.task_id), _id(claim.task_kind))
            labels = {"session": _cut(place.session), "id": _cut(claim.task_id), "kind": _cut(claim.task_kind)}
            self._add(task, sums, sign, labels)

    def _float(self, session_id: str, sums: Sums, sign: int) -> None:
        run_id, floating = self._floating.get(session_id) or self._stored_floating(session_id)
        run_id = run_id or self.run_of(session_id).id
        floating.add(sums, sign)
        self._floating[session_id] = (run_id, floating)
        self._add(run_key(self._tenant, run_id), sums, sign, {"id": _cut(run_id)})

    def _stored_floating(self, session_id: str) -> tuple[str, Sums]:
        record = self._read(floating_key(self._tenant, session_id))
        if record is None:
            return "", Sums()
        _, _, run_id, sums = msgpack.unpackb(record)
        return run_id, Sums.unpack(sums)

    def _add(
        self, where: Key, sums: Sums, sign: int, labels: dict[str, str] | None = None, named: set[str] | None = None
    ) -> None:
        change = self._changes.add.get(where)
        if change is None:
            change = self._changes.add[where] = Sums()
        for total in (change, self._total(where)):
            total.add(sums, sign)
            for name, text in (labels or {}).items():
                total.labels.setdefault(name, text)
            if named and len(total.named) < 3:
                total.named |= named

    def _total(self, where: Key) -> Sums:
        total = self._known.get(where)
        if total is None:
            record = self._read(where)
            total = self._known[where] = Sums() if record is None else Sums.unpack(record)
        return total


def _id(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _cut(text: str) -> str:
    """An id as it is kept in a record."""
    if len(text) * 4 <= ID_BOUND:
        return text
    return _id(text)[:ID_BOUND].decode("utf-8", "ignore")
