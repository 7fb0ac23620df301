"""Workspaces inside one transaction: read when first asked for, written back together."""

from __future__ import annotations

from pathlib import Path

from spanledger_sidecar.cursor import Change
from spanledger_sidecar.records import Session
from spanledger_sidecar.sources.mux.build import SOURCE
from spanledger_sidecar.sources.mux.state import Workspace


class StoredFamily:
    """`explain.Family` over the cursor."""

    def __init__(self, change: Change, sessions: Path) -> None:
        self._change = change
        self._sessions = sessions
        self._workspaces: dict[str, Workspace] = {}
        self._claims: dict[bytes, str] = {}

    def owner(self, claim: bytes) -> str | None:
        return self._claims.get(claim) or self._change.owner(claim)

    def take(self, claim: bytes, workspace: str) -> None:
        self._claims[claim] = workspace

    def known(self, workspace: str) -> bool:
        """Whether anything is remembered of a workspace."""
        return workspace in self._workspaces or self._change.state(SOURCE, workspace) is not None

    def workspace(self, workspace: str) -> Workspace:
        found = self._workspaces.get(workspace)
        if found is None:
            record = self._change.state(SOURCE, workspace)
            found = Workspace(workspace, Session(workspace)) if record is None else Workspace.unpack(workspace, record)
            self._workspaces[workspace] = found
        return found

    def lost_children(self, workspace: str) -> list[Workspace]:
        """Looks through all that is remembered: it is asked only where a file tells more than was seen."""
        found = []
        for name, record in self._change.states(SOURCE):
            if Workspace.unpack(name, record).session.parent == workspace and not (self._sessions / name).is_dir():
                found.append(self.workspace(name))
        return found

    def save(self) -> None:
        """Write back every workspace that was asked for, and what they took. Without it, nothing has changed."""
        for claim, workspace in self._claims.items():
            self._change.take(claim, workspace)
        for name, known in self._workspaces.items():
            self._change.remember(SOURCE, name, known.pack())
