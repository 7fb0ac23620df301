"""What is remembered of one workspace between two looks at its files."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from spanledger_sidecar.packing import pack, unpack
from spanledger_sidecar.records import Session
from spanledger_sidecar.tokens import ZERO, Five

_VERSION = 1


@dataclass(slots=True)
class Ledger:
    """One model of a workspace: what its file last said, and how much of that is explained.

    `covered` is what was emitted, was there before the first run, or is another workspace's; `loose` is the part of it
    for which no row of a finer file is known yet: a row that comes late takes from there instead of counting again.
    `skipped` is what a file made anew had beyond its chat, and was not emitted: a row that comes late is, and takes
    from there. `paid` is the part of the file's cost that went with what is covered.
    """

    file: Five = ZERO
    cost: Five = ZERO
    complete: bool = True
    covered: Five = ZERO
    loose: Five = ZERO
    skipped: Five = ZERO
    paid: Five = ZERO


@dataclass(slots=True)
class Workspace:
    """One workspace. `rebaselines` and `closings` are counts that keep ids apart; times are in ms since 1970.

    `anew_ms` is when the file was last seen to have been made anew. `keys` are the file's keys of models that requests
    name in a way of their own.
    """

    id: str
    session: Session
    models: dict[str, Ledger] = field(default_factory=dict)
    rolled: list[str] = field(default_factory=list)
    last_request_ms: int = 0
    changed_ms: int = 0
    rebaselines: int = 0
    anew_ms: int = 0
    closings: int = 0
    has_rows: bool = False
    seen_file: bool = False
    closed: bool = False
    root: str = ""
    signals: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)

    def ledger(self, key: str) -> Ledger:
        return self.models.setdefault(key, Ledger())

    def pack(self) -> bytes:
        """The stored form."""
        models = {
            key: [led.file, led.cost, led.complete, led.covered, led.loose, led.skipped, led.paid]
            for key, led in self.models.items()
        }
        session = [self.session.parent, self.session.name, self.session.project, self.session.agent_type]
        rest = [getattr(self, name) for name in _PLAIN]
        return pack([_VERSION, session, models, rest])

    @classmethod
    def unpack(cls, workspace: str, record: bytes) -> Workspace:
        """Read a stored record."""
        _, session, models, rest = unpack(record)
        found = cls(workspace, Session(workspace, *session))
        found.models = {key: _ledger(row) for key, row in models.items()}
        for name, value in zip(_PLAIN, rest, strict=False):
            setattr(found, name, value)
        return found

    def named(self, session: Session) -> None:
        """Take over what is known of the workspace now; a deleted one keeps what was known of it."""
        known = {name: value for name in _NAMES if (value := getattr(session, name))}
        self.session = replace(self.session, **known)


_PLAIN = (
    "rolled",
    "last_request_ms",
    "changed_ms",
    "rebaselines",
    "anew_ms",
    "closings",
    "has_rows",
    "seen_file",
    "closed",
    "root",
    "signals",
    "keys",
)
_NAMES = ("parent", "name", "project", "agent_type")


def _ledger(row: list[Any]) -> Ledger:
    file, cost, complete, *rest = row
    return Ledger(Five(*file), Five(*cost), complete, *(Five(*amount) for amount in rest))
