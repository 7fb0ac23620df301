"""Mux's homes: their workspaces, read children first, and those that went."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from spanledger_sidecar import roots as resolution
from spanledger_sidecar.cursor import Change, Cursor
from spanledger_sidecar.homes.family import StoredFamily
from spanledger_sidecar.homes.folder import NAMES, TRANSCRIPTS, Folder, Reader, read_folder
from spanledger_sidecar.homes.home import Counts, Look
from spanledger_sidecar.homes.troubles import Troubles
from spanledger_sidecar.reading import read_document
from spanledger_sidecar.records import Record, Session
from spanledger_sidecar.sources.mux import build
from spanledger_sidecar.sources.mux.chat import Wanted
from spanledger_sidecar.sources.mux.config_file import Listed, from_metadata, workspaces
from spanledger_sidecar.sources.mux.explain import explain
from spanledger_sidecar.sources.mux.state import Workspace
from spanledger_sidecar.sources.mux.work import Files, Outcome, Rules
from spanledger_sidecar.values import Sign, UnreadableError
from spanledger_sidecar.watch.scan import Listing, Signals, list_sessions, signals, subfolders

_GROUP = 200
"""Workspaces in one transaction."""


@dataclass(slots=True)
class _Root:
    """A home as it was last seen. `arrived`: what appears in it from now on is new."""

    path: Path
    identity: str
    arrived: bool
    config: dict[str, Listed] = field(default_factory=dict)
    config_signals: Signals = field(default_factory=dict)


class MuxHome:
    """Implements `home.Home` for Mux and Xum."""

    name = build.SOURCE
    names: Collection[str] = NAMES

    def __init__(
        self,
        cursor: Cursor,
        sign: Sign,
        paths: Sequence[Path] = (),
        *,
        finer: bool = True,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self.counts = Counts()
        self.troubles = Troubles()
        self._cursor = cursor
        self._reader = Reader(sign, self.troubles, finer)
        self._paths = paths
        self._environ = environ
        self._roots: dict[str, _Root] = {}
        self._scanned: set[str] = set(cursor.meta("mux roots") or ())
        self._without_home = False
        self._seen: dict[str, int] = {}
        self._open: dict[str, str] = {}
        self.again: dict[str, tuple[int, Path]] = {}
        for workspace, record in cursor.states(self.name):
            self._note(Workspace.unpack(workspace, record))

    def roots(self) -> list[Path]:
        paths = self._paths or [resolution.mux_root(self._environ, Path(self._environ.get("HOME") or Path.home()))]
        found = resolution.real(paths)
        self._without_home |= not found
        return found

    def scan(self, roots: list[Path], look: Look) -> None:
        taken: dict[str, Path] = {}
        for path in roots:
            root = self._root(path)
            listing = list_sessions(path)
            if root is None or listing is None:
                continue
            folders = self._first_come(listing, taken, path)
            changed = [name for name, folder in folders.items() if self._changed(name, folder) or self._due(name, look)]
            gone = [name for name, home in self._open.items() if home == root.identity and name not in listing.folders]
            if self._look_at(root, changed + gone, look):
                self._scanned_all(root)
        self.counts.sessions = len(taken)

    def _first_come(self, listing: Listing, taken: dict[str, Path], root: Path) -> dict[str, Path]:
        """The folders to look at: the first of each name, over all homes."""
        for link in listing.links:
            self.troubles(link, "is a symbolic link, which is not followed")
        for folder in listing.odd:
            self.troubles(folder, "has a name that is no text, and is left out")
        folders = {}
        for workspace, folder in listing.folders.items():
            if taken.setdefault(workspace, root) == root:
                folders[workspace] = folder
            else:
                self.troubles(folder, f"is a workspace that {taken[workspace]} has too, and is left out")
        return folders

    def touched(self, sessions: dict[str, Path], look: Look) -> None:
        for path in set(sessions.values()):
            root = self._root(path)
            if root is not None and (path / "sessions").is_dir():
                own = [name for name, home in sessions.items() if home == path and self._is_of(name, root)]
                self._look_at(root, own, look)

    def _is_of(self, workspace: str, root: _Root) -> bool:
        """Not a workspace of another home that has the same name; one that has moved is found by the next scan."""
        return self._open.get(workspace, root.identity) == root.identity

    def _root(self, path: Path) -> _Root | None:
        identity = resolution.identity(path)
        if not identity:
            return None
        root = self._roots.get(identity)
        if root is None or root.path != path:
            root = _Root(path, identity, identity in self._scanned or self._without_home)
            self._roots[identity] = root
        self._read_config(root)
        return root

    def _read_config(self, root: _Root) -> None:
        found = signals(root.path, ("config.json",))
        if found == root.config_signals:
            return
        root.config_signals = found
        try:
            root.config = workspaces(read_document(root.path / "config.json")[0])
        except FileNotFoundError:
            return
        except UnreadableError as error:
            self.troubles(root.path / "config.json", str(error))

    def _scanned_all(self, root: _Root) -> None:
        root.arrived = True
        if root.identity not in self._scanned:
            self._scanned.add(root.identity)
            with self._cursor.write() as change:
                change.set_meta("mux roots", sorted(self._scanned))

    def _changed(self, workspace: str, folder: Path) -> bool:
        return self._seen.get(workspace) != _mark(self._signals(folder)) or workspace not in self._open

    def _due(self, workspace: str, look: Look) -> bool:
        return workspace in self.again and self.again[workspace][0] <= look.now_ms

    @staticmethod
    def _signals(folder: Path) -> Signals:
        return signals(folder, NAMES, TRANSCRIPTS)

    def _note(self, workspace: Workspace) -> None:
        """Keep in memory what every scan asks."""
        self._seen[workspace.id] = _mark(workspace.signals)
        if workspace.closed or not workspace.root:
            self._open.pop(workspace.id, None)
        else:
            self._open[workspace.id] = workspace.root

    def _look_at(self, root: _Root, names: list[str], look: Look) -> bool:
        """Look at these workspaces in groups; whether all of them were looked at."""
        ordered = sorted(names, key=lambda name: self._order(root, name))
        for start in range(0, len(ordered), _GROUP):
            if not look.room():
                return False
            group = ordered[start : start + _GROUP]
            with self._cursor.write() as change:
                records, touched = self._look_at_group(change, root, group, look)
                change.enqueue(self.counts.made(records))
            for workspace in touched:
                self._note(workspace)
            look.progress(start + len(group), len(ordered))
        return True

    def _order(self, root: _Root, name: str) -> tuple[int, int, str]:
        """Children before their parents, whose files tell of them; then older before younger, which may be forks."""
        depth, listed = 0, root.config.get(name)
        created_ms = listed.created_ms if listed else 0
        while listed is not None and listed.session.parent and depth < 8:
            depth, listed = depth + 1, root.config.get(listed.session.parent)
        return -depth, created_ms, name

    def _look_at_group(
        self, change: Change, root: _Root, names: list[str], look: Look
    ) -> tuple[list[Record], list[Workspace]]:
        records: list[Record] = []
        touched = []
        for name in names:
            family = StoredFamily(change, root.path / "sessions")
            folder = root.path / "sessions" / name
            try:
                if folder.is_dir() and not folder.is_symlink():
                    found = self._look_at_one(family, root, name, folder, look)
                elif family.known(name):
                    found = self._close(family.workspace(name), look)
                else:
                    continue
            except Exception as error:  # noqa: BLE001 - what we did not foresee in one workspace must not stop the others
                self.troubles(folder, f"could not be read ({type(error).__name__}: this is a bug)")
                continue
            family.save()
            records += found
            touched.append(family.workspace(name))
        return records, touched

    def _look_at_one(self, family: StoredFamily, root: _Root, name: str, folder: Path, look: Look) -> list[Record]:
        found = self._signals(folder)
        records: list[Record] = []
        for child in subfolders(folder / TRANSCRIPTS) if self._reader.finer else ():
            records += self._transcript(family, root, name, child, look)
        first = not family.known(name)
        workspace = family.workspace(name)
        workspace.named(self._listed(root, name, folder).session)
        workspace.root, workspace.signals, workspace.closed = root.identity, found, False
        read = read_folder(folder, name, self._reader, _wanted(family, look, first=first))
        outcome = self._explain(family, workspace, read, root, look, first=first)
        self.counts.rebaselines += outcome.rebaselined
        if outcome.again_ms:
            self.again[name] = (outcome.again_ms, root.path)
            workspace.signals = {}  # after a restart too, what was held back is looked at again
        else:
            self.again.pop(name, None)
        return records + outcome.records

    def _transcript(self, family: StoredFamily, root: _Root, parent: str, folder: Path, look: Look) -> list[Record]:
        """What a parent keeps of the chat of a child that was removed: the child's own rows."""
        first = not family.known(folder.name)
        read = read_folder(folder, folder.name, self._reader, _wanted(family, look, first=first))
        read.usage = None
        workspace = family.workspace(folder.name)
        if first:
            workspace.closed = True
        workspace.named(Session(folder.name, parent))
        return self._explain(family, workspace, read, root, look, first=first).records

    def _explain(
        self, family: StoredFamily, workspace: Workspace, read: Folder, root: _Root, look: Look, *, first: bool
    ) -> Outcome:
        listed = root.config.get(workspace.id)
        files = Files(
            read.usage,
            read.written_ms,
            read.rows,
            read.chat,
            read.timing,
            (listed.created_ms if listed else 0) or read.began_ms,
            first=first,
            arrived=root.arrived,
        )
        return explain(workspace, files, Rules(look.since_ms, look.now_ms, look.settle_ms), family)

    def _listed(self, root: _Root, name: str, folder: Path) -> Listed:
        listed = root.config.get(name)
        if listed is not None:
            return listed
        try:
            return from_metadata(read_document(folder / "metadata.json")[0], name)
        except (FileNotFoundError, UnreadableError):
            return Listed(Session(name))

    def _close(self, workspace: Workspace, look: Look) -> list[Record]:
        """The end of a workspace whose folder is gone, told once; what was held back of it comes first."""
        self.again.pop(workspace.id, None)
        if workspace.closed:
            return []
        workspace.closed = True
        workspace.signals = {}
        records = build.held_back(workspace, look.now_ms)
        workspace.closings += 1
        return [*records, build.closed(workspace, look.now_ms)]


def _wanted(family: StoredFamily, look: Look, *, first: bool) -> Wanted:
    """New rows, but none from before the first run."""
    since_ms = look.since_ms if first else 0
    return lambda claim, end_ms: not 0 < end_ms < since_ms and family.owner(claim) is None


def _mark(found: Signals) -> int:
    return hash(tuple(sorted((name, *signal) for name, signal in found.items())))
