"""The state of one workspace that is stored between two readings of its files."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from spanledger_sidecar.records import Session, pack, unpack
from spanledger_sidecar.tokens import ZERO, TokenVector, capped, missing

_VERSION = 2


class Early(NamedTuple):
    """The usage of an early row (`ModelState.early`) and its end (ms since 1970; 0: not known).

    `lost`: the file went on without it, and can have it only after it was made anew from the chat.
    """

    end_ms: int
    tokens: TokenVector
    lost: bool = False


@dataclass(slots=True)
class ModelState:
    """One model of a workspace: the sums of its file, and how much of them is explained.

    `covered` is what was emitted, was there before the first run, or belongs to another workspace. `unmatched` is the
    part of it for which no row of a finer file is known yet: a row that arrives late takes from there instead of
    counting again. `paid` is the part of the file's cost that went with what is covered. `chat` is the usage of the
    workspace's own rows in the chat, `copied` that of rows there which another workspace has counted. `early` are rows
    that were emitted and that the file does not have yet, or never will. `in_doubt`: what the file gained may be copied
    rows, of a file that was made anew or copied; so it counts as a guess.
    """

    file: TokenVector = ZERO
    cost: TokenVector = ZERO
    complete: bool = True
    covered: TokenVector = ZERO
    unmatched: TokenVector = ZERO
    paid: TokenVector = ZERO
    chat: TokenVector = ZERO
    early: list[Early] = field(default_factory=list)
    copied: TokenVector = ZERO
    in_doubt: bool = False


@dataclass(slots=True)
class Workspace:
    """One workspace. `closings` is a count that keeps ids apart; times are in ms since 1970.

    `last_request_ms` is the end of the last request that was counted, `seen_last_ms` of the one that was seen,
    `looked_ms` the time of the last look. `written_ms` is when its files were last written. `keys` are the file's keys
    of models that requests name in a way of their own.
    """

    id: str
    session: Session
    models: dict[str, ModelState] = field(default_factory=dict)
    merged: list[str] = field(default_factory=list)
    last_request_ms: int = 0
    seen_last_ms: int = 0
    looked_ms: int = 0
    changed_ms: int = 0
    closings: int = 0
    written_ms: int = 0
    has_rows: bool = False
    seen_file: bool = False
    closed: bool = False
    root: str = ""
    signals: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)

    def model(self, key: str) -> ModelState:
        """Return the state of a model, to change; a new one if nothing is known of it."""
        return self.models.setdefault(key, ModelState())

    def state_of(self, key: str) -> ModelState:
        """Return the state of a model, to read; an empty one, which is not kept, if nothing is known of it."""
        return self.models.get(key) or ModelState()

    def pack(self) -> bytes:
        """Return the stored form."""
        models = {key: [getattr(state, name) for name in _MODEL] for key, state in self.models.items()}
        session = [self.session.parent, self.session.name, self.session.project, self.session.agent_type]
        rest = {name: getattr(self, name) for name in _PLAIN}
        return pack([_VERSION, session, models, rest])

    @classmethod
    def unpack(cls, workspace: str, record: bytes) -> Workspace:
        """Read a stored record; from one of another version, the fields whose meaning is the same now."""
        version, session, models, rest = unpack(record)
        result = cls(workspace, Session(workspace, *session))
        if version == 1:
            rest = dict(zip(_PLAIN_1, rest, strict=False))
            models = {key: _from_version_1(row) for key, row in models.items()}
        result.models = {key: _model(row) for key, row in models.items()}
        for name in _PLAIN:
            setattr(result, name, rest.get(name, getattr(result, name)))
        return result

    def named(self, session: Session) -> None:
        """Take over what is known of the workspace now; a deleted one keeps what was known of it."""
        known = {name: value for name in _NAMES if (value := getattr(session, name))}
        self.session = replace(self.session, **known)


_MODEL = ("file", "cost", "complete", "covered", "unmatched", "paid", "chat", "early", "copied", "in_doubt")
_PLAIN = (
    *("merged", "last_request_ms", "seen_last_ms", "looked_ms", "changed_ms", "closings", "written_ms"),
    *("has_rows", "seen_file", "closed", "root", "signals", "keys"),
)
_PLAIN_1 = (
    *("merged", "last_request_ms", "changed_ms", "", "", "closings", "has_rows", "seen_file", "closed"),
    *("root", "signals", "keys"),
)
_NAMES = ("parent", "name", "project", "agent_type")


def _model(row: list[Any]) -> ModelState:
    file, cost, complete, covered, unmatched, paid, chat, early, *more = row
    rows = [Early(end_ms, TokenVector(*tokens), lost) for end_ms, tokens, lost in early]
    covered, unmatched, paid, chat = (TokenVector(*amount) for amount in (covered, unmatched, paid, chat))
    state = ModelState(TokenVector(*file), TokenVector(*cost), complete, covered, unmatched, paid, chat, rows)
    if more:
        state.copied, state.in_doubt = TokenVector(*more[0]), more[1]
    return state


def _from_version_1(row: list[Any]) -> list[Any]:
    """Return a row of version 1, which knew no `chat` and no `early`: what it had covered beyond its file is early."""
    file, cost, complete, covered, unmatched, _, paid = row
    beyond = missing(TokenVector(*covered), TokenVector(*file))
    early = [(0, beyond, False)] if beyond.total else []
    return [file, cost, complete, capped(TokenVector(*file), TokenVector(*covered)), unmatched, paid, ZERO, early]
