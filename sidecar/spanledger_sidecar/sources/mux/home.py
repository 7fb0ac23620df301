"""Find Mux's home, and read names, projects and parents of workspaces from its config.json.

config.json holds tokens too: nothing else is kept of it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path, PurePath
from typing import Any, NamedTuple

from spanledger_sidecar.records import Session, nested, text

MARKER = ".xum.legacy-fallback"
_MARKER_BYTES = 64
_LEGACY = (".mux", ".cmux")


def mux_root(environ: Mapping[str, str], home: Path) -> Path:
    """The one home that Mux, or Xum, uses; it may not exist yet."""
    for variable in ("XUM_ROOT", "MUX_ROOT"):
        if environ.get(variable):
            return Path(environ[variable])
    suffix = "-dev" if environ.get("NODE_ENV") == "development" else ""
    current, former = home / f".xum{suffix}", home / f".mux{suffix}"
    if _is_used(current):
        return current
    legacy = None if suffix else _marked(home)
    candidates = [legacy, current, former, None if suffix else home / ".cmux"]
    for candidate in candidates:
        if candidate is not None and candidate.is_dir():
            return candidate
    return current


def _is_used(path: Path) -> bool:
    try:
        with os.scandir(path) as entries:
            return any(True for _ in entries)
    except OSError:
        return False


def _marked(home: Path) -> Path | None:
    """The legacy home that the marker file names."""
    marker = home / MARKER
    try:
        status = marker.lstat()
        if not stat.S_ISREG(status.st_mode) or status.st_size > _MARKER_BYTES:
            return None
        name = marker.read_text("utf-8").strip()
    except (OSError, ValueError):
        return None
    return home / name if name in _LEGACY else None


_SYNTHETIC = frozenset({"_multi", "_scratch"})


class ConfigEntry(NamedTuple):
    """A workspace in the configuration, and when it was made (ms since 1970, 0: not known)."""

    session: Session
    created_ms: int = 0


def workspaces(document: dict[str, Any]) -> dict[str, ConfigEntry]:
    """All workspaces that have an id."""
    found = {}
    for path, project in _pairs(document.get("projects")):
        listed = nested(project, "workspaces")
        for entry in listed if isinstance(listed, list) else []:
            workspace = text(nested(entry, "id"))
            if workspace:
                found[workspace] = _listed(workspace, entry, _project(path, project, entry))
    return found


def from_metadata(document: dict[str, Any], workspace: str) -> ConfigEntry:
    """What a legacy `metadata.json` in the workspace's own folder says."""
    project = text(document.get("projectName")) or _base(text(document.get("projectPath")))
    return ConfigEntry(Session(workspace, "", text(document.get("name")), project))


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


def _listed(workspace: str, entry: dict[str, Any], project: str) -> ConfigEntry:
    session = Session(
        workspace,
        text(entry.get("parentWorkspaceId")),
        text(entry.get("name")),
        project,
        text(entry.get("agentType")) or text(entry.get("agentId")),
    )
    return ConfigEntry(session, _ms(entry.get("createdAt")))


def _ms(value: Any) -> int:
    """An ISO time as ms since 1970, 0 if it is none."""
    try:
        moment = datetime.fromisoformat(text(value))
    except ValueError:
        return 0
    return max(0, round(moment.timestamp() * 1000)) if moment.tzinfo else 0
