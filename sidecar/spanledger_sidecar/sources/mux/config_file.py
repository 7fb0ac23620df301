"""config.json: names, projects and parents of workspaces (facts 4). It holds tokens too: nothing else is kept of it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import PurePath
from typing import Any, NamedTuple

from spanledger_sidecar.records import Session
from spanledger_sidecar.values import nested, text

_SYNTHETIC = frozenset({"_multi", "_scratch"})


class Listed(NamedTuple):
    """A workspace in the configuration, and when it was made (ms since 1970, 0: not known)."""

    session: Session
    created_ms: int = 0


def workspaces(document: dict[str, Any]) -> dict[str, Listed]:
    """All workspaces that have an id."""
    found = {}
    for path, project in _pairs(document.get("projects")):
        listed = nested(project, "workspaces")
        for entry in listed if isinstance(listed, list) else []:
            workspace = text(nested(entry, "id"))
            if workspace:
                found[workspace] = _listed(workspace, entry, _project(path, project, entry))
    return found


def from_metadata(document: dict[str, Any], workspace: str) -> Listed:
    """What a legacy `metadata.json` in the workspace's own folder says."""
    project = text(document.get("projectName")) or _base(text(document.get("projectPath")))
    return Listed(Session(workspace, "", text(document.get("name")), project))


def _pairs(projects: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(projects, dict):
        projects = list(projects.items())
    for pair in projects if isinstance(projects, list) else []:
        if isinstance(pair, list | tuple) and len(pair) == 2 and isinstance(pair[0], str):
            yield pair[0], pair[1]


def _project(path: str, project: Any, entry: Any) -> str:
    first = nested(entry, "projects")
    if path in _SYNTHETIC:
        first = first[0] if isinstance(first, list) and first else None
        return text(nested(first, "projectName")) or _base(text(nested(first, "projectPath")))
    return text(nested(project, "displayName")) or _base(path)


def _base(path: str) -> str:
    return PurePath(path.replace("\\", "/")).name


def _listed(workspace: str, entry: dict[str, Any], project: str) -> Listed:
    session = Session(
        workspace,
        text(entry.get("parentWorkspaceId")),
        text(entry.get("name")),
        project,
        text(entry.get("agentType")) or text(entry.get("agentId")),
    )
    return Listed(session, _ms(entry.get("createdAt")))


def _ms(value: Any) -> int:
    """An ISO time as ms since 1970, 0 if it is none."""
    try:
        moment = datetime.fromisoformat(text(value))
    except ValueError:
        return 0
    return max(0, round(moment.timestamp() * 1000)) if moment.tzinfo else 0
