"""Define what is remembered of one workspace between two looks at its files."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from spanledger_sidecar.records import Session, pack, unpack
from spanledger_sidecar.tokens import ZERO, TokenVector

_VERSION = 1


@dataclass(slots=True)
class ModelState:
    """One model of a workspace: what its file last said, and how much of that is explained.

    `covered` is what was emitted, was there before the first run, or belongs to another workspace. `unmatched` is the
    part of it for which no row of a finer file is known yet: a row that arrives late takes from there instead of
    counting again. `skipped` is what a file after a reset had beyond its chat, and was not emitted: a row that arrives
    late is, and takes from there. `paid` is the part of the file's cost that went with what is covered.
    """

    file: TokenVector = ZERO
    cost: TokenVector = ZERO
    complete: bool = True
    covered: TokenVector = ZERO
    unmatched: TokenVector = ZERO
    skipped: TokenVector = ZERO
    paid: TokenVector = ZERO


@dataclass(slots=True)
class Workspace:
    """One workspace. `resets` and `closings` are counts that keep ids apart; times are in ms since 1970.

    `reset_ms` is when the file was last seen to be reset. `keys` are the file's keys of models that requests name
    in a way of their own.
    """

    id: str
    session: Session
    models: dict[str, ModelState] = field(default_factory=dict)
    merged: list[str] = field(default_factory=list)
    last_request_ms: int = 0
    changed_ms: int = 0
    resets: int = 0
    reset_ms: int = 0
    closings: int = 0
    written_ms: int = 0
    has_rows: bool = False
    seen_file: bool = False
    closed: bool = False
    root: str = ""
    signals: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)

    def model(self, key: str) -> ModelState:
        return self.models.setdefault(key, ModelState())

    def pack(self) -> bytes:
        """The stored form."""
        models = {
            key: [model.file, model.cost, model.complete, model.covered, model.unmatched, model.skipped, model.paid]
            for key, model in self.models.items()
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
    "merged",
    "last_request_ms",
    "changed_ms",
    "resets",
    "reset_ms",
    "closings",
    "has_rows",
    "seen_file",
    "closed",
    "root",
    "signals",
    "keys",
    "written_ms",
)
_NAMES = ("parent", "name", "project", "agent_type")


def _ledger(row: list[Any]) -> ModelState:
    file, cost, complete, *rest = row
    return ModelState(TokenVector(*file), TokenVector(*cost), complete, *(TokenVector(*amount) for amount in rest))
