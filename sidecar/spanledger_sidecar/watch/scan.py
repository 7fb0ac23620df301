"""Folders of sessions, and by what a changed one is told."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

Signals: TypeAlias = dict[str, tuple[int, int, int]]
"""For each file of a folder that is looked at: its time of change (ns), size and inode."""


@dataclass(frozen=True, slots=True)
class Listing:
    """The folders below a home's `sessions`. `links` are symbolic links, `odd` folders whose names are no UTF-8."""

    folders: dict[str, Path] = field(default_factory=dict)
    links: list[Path] = field(default_factory=list)
    odd: list[Path] = field(default_factory=list)


def list_sessions(root: Path) -> Listing | None:
    """The session folders of a home; None where they cannot be listed now, which says nothing about any of them."""
    found = Listing()
    try:
        with os.scandir(root / "sessions") as entries:
            for entry in entries:
                if entry.is_symlink():
                    found.links.append(Path(entry.path))
                elif entry.is_dir() and entry.name.isprintable():
                    found.folders[entry.name] = Path(entry.path)
                elif entry.is_dir():
                    found.odd.append(Path(entry.path))
    except OSError:
        return None
    return found


def signals(folder: Path, names: Iterable[str], below: str = "") -> Signals:
    """The signals of the files `names` in a folder, and of those in the folders inside its folder `below`."""
    found: Signals = {}
    _add(found, str(folder), names, "")
    if below:
        for child in subfolders(folder / below):
            _add(found, str(child), names, f"{child.name}/")
    return found


def subfolders(folder: Path) -> list[Path]:
    """The folders inside a folder, none where there is no such folder."""
    try:
        with os.scandir(folder) as entries:
            return sorted(Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False))
    except OSError:
        return []


def _add(found: Signals, folder: str, names: Iterable[str], prefix: str) -> None:
    for name in names:
        try:
            status = os.stat(f"{folder}/{name}", follow_symlinks=False)  # noqa: PTH116 - a Path for each costs as much again
        except OSError:
            continue
        if not stat.S_ISDIR(status.st_mode):
            found[prefix + name] = (status.st_mtime_ns, status.st_size, status.st_ino)
