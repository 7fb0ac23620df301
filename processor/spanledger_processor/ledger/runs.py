"""The run of what no trace knows one for: the session decides, when somebody asks.

A session's record holds apart what traces with a run of their own booked (`Sums.elsewhere`); the rest stands under the
only run that the session names, else under the only one its parent session names, else under the session itself. So no
amount moves when a run becomes known, or ceases to be the only one, and sums commute.
"""

from __future__ import annotations

from collections.abc import Iterator

from spanledger_processor.ledger.keys import bounded_id, id_bytes, link_key, run_key, session_key
from spanledger_processor.ledger.packing import unpack
from spanledger_processor.ledger.store import Reader, Table, near
from spanledger_processor.ledger.sums import Sums

NAMES, SPAWNED = b"names", b"spawned"
"""Links from a run to the sessions that name it, and from a session to those that it spawned."""

_MOST_SESSIONS = 1024
"""Sessions of one run that are added up at once."""


def run_of_session(session_id: str, runs: set[str], parent_runs: set[str]) -> tuple[str, str]:
    """Return the run where no trace knows one, and its source as on spans: the only run the session names, else its
    parent session's, else the session.

    `runs` and `parent_runs` are the runs named by spans of the session and of its parent session.
    """
    if not session_id:
        return "", ""
    if len(runs) == 1:
        return next(iter(runs)), "session"
    if not runs and len(parent_runs) == 1:
        return next(iter(parent_runs)), "parent_session"
    return session_id, "session_id"


def linked(reader: Reader, tenant: bytes, kind: bytes, identifier: str) -> Iterator[str]:
    """The sessions that stand behind a run (`NAMES`) or a session (`SPAWNED`)."""
    above = kind + id_bytes(bounded_id(identifier))
    for where, record in reader.scan(Table.LINK, tenant, within=near(above)):
        session_id = unpack(record)[2]
        if where == link_key(tenant, kind, identifier, session_id):
            yield session_id


def sessions_under(reader: Reader, tenant: bytes, run_id: str) -> list[str] | None:
    """The sessions whose own part may stand under a run; None if they are too many to be looked at."""
    found = {bounded_id(run_id): None}
    for session_id in linked(reader, tenant, NAMES, run_id):
        found[session_id] = None
        found.update(dict.fromkeys(linked(reader, tenant, SPAWNED, session_id)))
        if len(found) > _MOST_SESSIONS:
            return None
    return list(found)


def all_runs(reader: Reader, tenant: bytes) -> dict[str, Sums]:
    """The totals of every run by its id, of what belongs to none under the empty one."""
    runs: dict[str, Sums] = {}
    for _, record in reader.scan(Table.RUN, tenant):
        sums = Sums.unpack(record)
        runs[sums.labels.get("id", "")] = sums
    named: dict[str, set[str]] = {}
    own: list[tuple[str, str, Sums]] = []
    for _, record in reader.scan(Table.SESSION, tenant):
        sums = Sums.unpack(record)
        session_id = sums.labels.get("id", "")
        if sums.named:
            named[session_id] = sums.named
        own.append((session_id, sums.labels.get("parent", ""), sums.own()))
    for session_id, parent, sums in own:
        run_id, _ = run_of_session(session_id, named.get(session_id, set()), named.get(parent, set()))
        if not sums.spans and not sums.cost and not sums.calls:
            continue
        runs.setdefault(run_id, Sums(labels={"id": run_id})).add(sums)
    return runs


def one_run(reader: Reader, tenant: bytes, run_id: str) -> Sums | None:
    """The totals of one run, None if the ledger has none of that id."""
    record = reader.get(run_key(tenant, run_id))
    total = None if record is None else Sums.unpack(record)
    sessions = sessions_under(reader, tenant, run_id)
    if sessions is None:
        return all_runs(reader, tenant).get(bounded_id(run_id))
    for session_id in sessions:
        session = _session(reader, tenant, session_id)
        if session is None:
            continue
        parent = _session(reader, tenant, session.labels.get("parent", ""))
        of, _ = run_of_session(session_id, session.named, parent.named if parent else set())
        own = session.own()
        if of == bounded_id(run_id) and (own.spans or own.cost or own.calls):
            total = total or Sums(labels={"id": of})
            total.add(own)
    return total


def _session(reader: Reader, tenant: bytes, session_id: str) -> Sums | None:
    record = reader.get(session_key(tenant, session_id)) if session_id else None
    return None if record is None else Sums.unpack(record)
