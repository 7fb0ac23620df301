"""Runs of spans whose trace names none: they follow from the session when they are queried.

A session's record holds apart what traces with a run of their own posted (`Sums.elsewhere`); the rest stands under the
only run that the session names, else under the run of the session that spawned it, else under the session itself. So no
amount moves when a run becomes known, or ceases to be the only one, and sums commute.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from itertools import chain
from types import MappingProxyType
from typing import TypeAlias

from spanledger_processor.ledger.keys import bounded_id, id_bytes, link_key, run_key, session_key
from spanledger_processor.ledger.packing import unpack
from spanledger_processor.ledger.store import Reader, Table, near
from spanledger_processor.ledger.sums import Sums

NAMES, SPAWNED, INSTANCE = b"names", b"spawned", b"instance"
"""Links from a run to the sessions that name it, from a session to those that it spawned, and from a process
(`service.instance.id`) to its sessions.
"""

RunsAndParent: TypeAlias = tuple[Collection[str], str]
"""The runs that spans of a session name, and its parent session."""
_NONE: Mapping[tuple[bytes, str], Iterable[str]] = MappingProxyType({})
_MOST_ABOVE = 64
"""The most ancestors of a session that are visited: the links come from the network."""
MOST_SESSIONS = 1024
"""Sessions of one run that are added up while its spans are accounted for."""


def run_of_session(session_id: str, look: Callable[[str], RunsAndParent]) -> tuple[str, str]:
    """Return the run of a session whose trace names none, and its source as on spans: the only run that the session
    names, else the run of the session that spawned it, else the session. Sessions that spawned each other in a ring are
    of the run of the first of them by id; one that names itself as its parent has none.

    `look` gives the runs that spans of a session name, and the id of its parent session.
    """
    if not session_id:
        return "", ""
    runs, above = look(session_id)
    if len(runs) == 1 and (run := next(iter(runs))):
        return run, "session"
    if runs or above in ("", session_id):
        return session_id, "session_id"
    path = [session_id]
    while above not in path and len(path) < _MOST_ABOVE:
        runs, parent = look(above)
        if len(runs) == 1 and (run := next(iter(runs))):
            return run, "parent_session"
        if runs or parent in ("", above):
            return above, "parent_session"
        path.append(above)
        above = parent
    if above in path:
        above = min(path[path.index(above) :])
    return above, "session_id" if above == session_id else "parent_session"


def run_of(reader: Reader, tenant: bytes, session_id: str) -> str:
    """Return the run that spans of a session count in where their trace names none."""

    def look(one: str) -> RunsAndParent:
        record = reader.get(session_key(tenant, one))
        return ((), "") if record is None else named_by(Sums.unpack(record))

    return run_of_session(session_id, look)[0]


def linked(reader: Reader, tenant: bytes, kind: bytes, identifier: str) -> Iterator[str]:
    """Yield the sessions that name a run (`NAMES`) or that a session spawned (`SPAWNED`)."""
    above = kind + id_bytes(bounded_id(identifier))
    for key, record in reader.scan(Table.LINK, tenant, within=near(above)):
        session_id = unpack(record)[2]
        if key == link_key(tenant, kind, identifier, session_id):
            yield session_id


def sessions_under(
    reader: Reader,
    tenant: bytes,
    run_id: str,
    new: Mapping[tuple[bytes, str], Iterable[str]] = _NONE,
    *,
    most: int | None = MOST_SESSIONS,
) -> list[str] | None:
    """Return the sessions whose own part may belong to a run; None if they are more than `most`: no more are read.

    `new` are links that are not stored yet.
    """
    sessions = {bounded_id(run_id): None}
    waiting = [(SPAWNED, bounded_id(run_id)), (NAMES, bounded_id(run_id))]
    while waiting:
        kind, above = waiting.pop()
        for session_id in chain(linked(reader, tenant, kind, above), new.get((kind, above), ())):
            if session_id not in sessions:
                sessions[session_id] = None
                waiting.append((SPAWNED, session_id))
            if most is not None and len(sessions) > most:
                return None
    return list(sessions)


def all_runs(reader: Reader, tenant: bytes) -> dict[str, Sums]:
    """Return the totals of every run by its id, of what belongs to none under the empty one."""
    runs: dict[str, Sums] = {}
    for _, record in reader.scan(Table.RUN, tenant):
        sums = Sums.unpack(record)
        runs[sums.labels.get("id", "")] = sums
    known: dict[str, RunsAndParent] = {}
    own: list[tuple[str, Sums]] = []
    for _, record in reader.scan(Table.SESSION, tenant):
        sums = Sums.unpack(record)
        session_id = sums.labels.get("id", "")
        if sums.named or sums.parents:
            known[session_id] = named_by(sums)
        own.append((session_id, sums.own()))
    for session_id, sums in own:
        if sums.spans or sums.cost or sums.calls:
            run_id, _ = run_of_session(session_id, lambda of: known.get(of, ((), "")))
            runs.setdefault(run_id, Sums(labels={"id": run_id})).add(sums)
    return runs


def one_run(reader: Reader, tenant: bytes, run_id: str) -> Sums | None:
    """Return the totals of one run, None if the ledger has none of that id."""
    record = reader.get(run_key(tenant, run_id))
    total = None if record is None else Sums.unpack(record)
    for session_id in sessions_under(reader, tenant, run_id, most=None) or ():
        session = reader.sums(session_key(tenant, session_id))
        own = session.own()
        if not (own.spans or own.cost or own.calls):
            continue
        of, _ = run_of_session(session_id, lambda asked: named_by(reader.sums(session_key(tenant, asked))))
        if of == bounded_id(run_id):
            total = total or Sums(labels={"id": of})
            total.add(own)
    return None if total is None or total.is_empty else total


def sessions_of_run(reader: Reader, tenant: bytes, run_id: str, most: int) -> tuple[list[Sums], int]:
    """Return the sessions of which some part belongs to a run, by first activity, and how many more there are."""
    rows = list(each_session_of_run(reader, tenant, run_id))
    rows.sort(key=lambda session: (session.first_ns, session.labels.get("id", "")))
    return rows[:most], max(0, len(rows) - most)


def each_session_of_run(reader: Reader, tenant: bytes, run_id: str) -> Iterator[Sums]:
    """Yield the sessions of which some part belongs to a run."""
    run_id = bounded_id(run_id)
    for session_id in (sessions_under(reader, tenant, run_id, most=None) or ()) if run_id else ():
        session = reader.sums(session_key(tenant, session_id))
        if not session.spans:
            continue
        decided, _ = run_of_session(session_id, lambda asked: named_by(reader.sums(session_key(tenant, asked))))
        if has_part_in(run_id, decided, session.runs):
            yield session


def has_part_in(run_id: str, decided: str, named: Collection[str]) -> bool:
    """Return whether a part of a session that is linked to a run belongs to it: its rest counts in the run `decided`.

    Of one that names more runs than are told apart, each that it is linked to may have a part.
    """
    return decided == run_id or run_id in named or "" in named


def named_by(session: Sums) -> RunsAndParent:
    """Return the runs that spans of a session name, and its parent session."""
    return session.runs, session.parent
