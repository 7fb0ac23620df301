"""Where the homes are: as Mux and Xum find their own (facts 1.1), and tilth's."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path

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


def tilth_root(home: Path) -> Path:
    """tilth's home."""
    return home / ".tilth"


def real(paths: Iterable[Path]) -> list[Path]:
    """The folders behind `paths` that are there, each once: the old home is a link to the new one."""
    found: dict[tuple[int, int], Path] = {}
    for path in paths:
        try:
            resolved = path.resolve(strict=True)
            status = resolved.stat()
        except OSError:
            continue
        if stat.S_ISDIR(status.st_mode):
            found.setdefault((status.st_dev, status.st_ino), resolved)
    return list(found.values())


def identity(path: Path) -> str:
    """What stays of a folder when it is renamed; empty where it is gone."""
    try:
        status = path.stat()
    except OSError:
        return ""
    return f"{status.st_dev}:{status.st_ino}"


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
