"""Read the homes of Mux and Xum: their workspaces, children before parents, and those that were deleted."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from spanledger_sidecar.cursor import Change, Cursor
from spanledger_sidecar.files import (
    FileErrors,
    Signals,
    identity_of,
    is_folder,
    list_sessions,
    newest,
    read_document,
    real_folders,
    signals,
    subfolders,
)
from spanledger_sidecar.records import Record, Session, Sign, UnreadableError, UsageRecord
from spanledger_sidecar.sources import Counts, ScanContext, packed
from spanledger_sidecar.sources.mux import build
from spanledger_sidecar.sources.mux.build import SOURCE
from spanledger_sidecar.sources.mux.files import (
    NAMES,
    TRANSCRIPTS,
    ConfigEntry,
    Folder,
    MergedChild,
    Reader,
    UsageFile,
    from_metadata,
    mux_root,
    read_folder,
    workspaces,
)
from spanledger_sidecar.sources.mux.reconcile import reconcile
from spanledger_sidecar.sources.mux.reconciliation import Counted, Files, Options, Reconciliation
from spanledger_sidecar.sources.mux.rows import Wanted
from spanledger_sidecar.sources.mux.state import Workspace
from spanledger_sidecar.tokens import TokenVector


class CursorStore:
    """Implements `reconciliation.WorkspaceStore` over one transaction of the cursor."""

    def __init__(self, change: Change, sessions: Path) -> None:
        self._change = change
        self._sessions = sessions
        self._workspaces: dict[str, Workspace] = {}
        self._counted: dict[bytes, Counted] = {}

    def counted(self, key: bytes) -> Counted | None:
        taken = self._counted.get(key)
        if taken is None and (stored := self._change.counted(key)) is not None:
            workspace, tokens = stored
            taken = Counted(workspace, TokenVector(*tokens) if tokens else None)
        return taken

    def take(self, key: bytes, workspace: str, tokens: TokenVector) -> None:
        self._counted[key] = Counted(workspace, tokens)

    def has_all_of(self, models: dict[str, TokenVector], but: str) -> bool:
        for name, record in self._change.states(SOURCE):
            if name != but:
                other = Workspace.unpack(name, record)
                if all(key in other.models and other.models[key].file.contains(sum_) for key, sum_ in models.items()):
                    return True
        return False

    def remembers(self, workspace: str) -> bool:
        """Return whether anything is remembered of a workspace."""
        return workspace in self._workspaces or self._change.state(SOURCE, workspace) is not None

    def workspace(self, workspace: str) -> Workspace:
        result = self._workspaces.get(workspace)
        if result is None:
            record = self._change.state(SOURCE, workspace)
            result = Workspace(workspace, Session(workspace)) if record is None else Workspace.unpack(workspace, record)
            self._workspaces[workspace] = result
        return result

    def lost_children(self, workspace: str) -> list[Workspace]:
        """Read all stored states: it is called only where a file has more usage than was seen."""
        children = []
        for name, record in self._change.states(SOURCE):
            if Workspace.unpack(name, record).session.parent == workspace and not (self._sessions / name).is_dir():
                children.append(self.workspace(name))
        return children

    def save(self) -> None:
        """Write back every workspace that was asked for, and what they took. Without it, nothing has changed."""
        packed = {name: known.pack() for name, known in self._workspaces.items()}
        for key, counted in self._counted.items():
            self._change.count(key, *counted)
        for name, record in packed.items():
            self._change.remember(SOURCE, name, record)


_GROUP = 200
"""Workspaces in one transaction."""


@dataclass(slots=True)
class _Root:
    """A home as it was last seen. `arrived`: what appears in it from now on is new."""

    path: Path
    identity: str
    arrived: bool
    config: dict[str, ConfigEntry] = field(default_factory=dict)
    config_signals: Signals = field(default_factory=dict)


class MuxSource:
    """Implements `sources.Source` for Mux and Xum."""

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
        self.errors = FileErrors()
        self._cursor = cursor
        self._reader = Reader(sign, self.errors, finer)
        self._paths = paths
        self._environ = environ
        self._roots: dict[str, _Root] = {}
        self._scanned: set[str] = set(cursor.meta("mux roots") or ())
        self._without_home = False
        self._seen: dict[str, int] = {}
        self._open: dict[str, str] = {}
        self._empty: set[str] = set()
        self.again: dict[str, tuple[int, Path]] = {}
        for workspace, record in cursor.states(self.name):
            self._note(Workspace.unpack(workspace, record))

    def candidates(self) -> list[Path]:
        return list(self._paths) or [mux_root(self._environ, Path(self._environ.get("HOME") or Path.home()))]

    def roots(self) -> list[Path]:
        roots = real_folders(self.candidates())
        self._without_home |= not roots
        return roots

    def scan(self, roots: list[Path], context: ScanContext) -> None:
        taken: dict[str, Path] = {}
        for path in roots:
            root = self._root(path)
            listing = list_sessions(path, self.errors)
            if root is None or listing is None:
                continue
            folders = self._first_come(listing, taken, path)
            changed = [
                name for name, folder in folders.items() if self._changed(name, folder) or self._due(name, context)
            ]
            self.counts.unread += self._still_unread(folders, changed)
            gone = [name for name, home in self._open.items() if home == root.identity and name not in listing]
            if self._look_at(root, changed + gone, context):
                self._scanned_all(root)
        self.counts.sessions = len(taken)

    def _still_unread(self, folders: dict[str, Path], changed: list[str]) -> int:
        """Return how many folders are as they were when nothing in them could be read."""
        faulty = {path.parent for path in self.errors.named()}
        return sum(folders[name] in faulty for name in self._empty & (folders.keys() - set(changed)))

    def _first_come(self, listing: dict[str, Path], taken: dict[str, Path], root: Path) -> dict[str, Path]:
        """Return the folders to look at: the first of each name, over all homes."""
        folders = {}
        for workspace, folder in listing.items():
            if taken.setdefault(workspace, root) == root:
                folders[workspace] = folder
            else:
                self.errors(folder, f"is a workspace that {taken[workspace]} has too, and is left out")
        return folders

    def touched(self, sessions: dict[str, Path], context: ScanContext) -> None:
        for path in set(sessions.values()):
            root = self._root(path)
            if root is not None and is_folder(path / "sessions"):
                own = [name for name, home in sessions.items() if home == path and self._is_of(name, root)]
                self._look_at(root, own, context)

    def _is_of(self, workspace: str, root: _Root) -> bool:
        """Return False for another home's workspace of the same name; one that has moved is found by the next scan."""
        return self._open.get(workspace, root.identity) == root.identity

    def _root(self, path: Path) -> _Root | None:
        identity = identity_of(path)
        if not identity:
            return None
        root = self._roots.get(identity)
        if root is None or root.path != path:
            root = _Root(path, identity, identity in self._scanned or self._without_home)
            self._roots[identity] = root
        self._read_config(root)
        return root

    def _read_config(self, root: _Root) -> None:
        current = signals(root.path, ("config.json",))
        if current == root.config_signals:
            return
        root.config_signals = current
        try:
            root.config = workspaces(read_document(root.path / "config.json")[0])
        except FileNotFoundError:
            return
        except UnreadableError as error:
            self.errors(root.path / "config.json", str(error))

    def _scanned_all(self, root: _Root) -> None:
        root.arrived = True
        if root.identity not in self._scanned:
            self._scanned.add(root.identity)
            with self._cursor.write() as change:
                change.set_meta("mux roots", sorted(self._scanned))

    def _changed(self, workspace: str, folder: Path) -> bool:
        return self._seen.get(workspace) != _mark(self._signals(folder)) or workspace not in self._open

    def _due(self, workspace: str, context: ScanContext) -> bool:
        return workspace in self.again and self.again[workspace][0] <= context.now_ms

    @staticmethod
    def _signals(folder: Path) -> Signals:
        return signals(folder, NAMES, TRANSCRIPTS)

    def _note(self, workspace: Workspace) -> None:
        """Cache in memory what every scan needs."""
        self._seen[workspace.id] = _mark(workspace.signals)
        if workspace.seen_file or workspace.has_rows:
            self._empty.discard(workspace.id)
        else:
            self._empty.add(workspace.id)
        if workspace.closed or not workspace.root:
            self._open.pop(workspace.id, None)
        else:
            self._open[workspace.id] = workspace.root

    def _look_at(self, root: _Root, names: list[str], context: ScanContext) -> bool:
        """Read these workspaces in groups; return whether all of them were read."""
        ordered = sorted(names, key=lambda name: self._order(root, name))
        for start in range(0, len(ordered), _GROUP):
            if not context.room():
                return False
            group = ordered[start : start + _GROUP]
            with self._cursor.write() as change:
                touched = self._look_at_group(change, root, group, context)
            for workspace in touched:
                self._note(workspace)
            context.progress(start + len(group), len(ordered))
        return True

    def _order(self, root: _Root, name: str) -> tuple[int, bool, int, str]:
        """Return the order of reading: children before their parents, whose files tell of them; then old before young,
        which may be forks: those that are known before new ones, then by when they say that they were made.
        """
        depth, listed = 0, root.config.get(name)
        created_ms = listed.created_ms if listed else 0
        while listed is not None and listed.session.parent and depth < 8:
            depth, listed = depth + 1, root.config.get(listed.session.parent)
        return -depth, name not in self._seen, created_ms, name

    def _look_at_group(self, change: Change, root: _Root, names: list[str], context: ScanContext) -> list[Workspace]:
        """Read each by itself: an unexpected error in one workspace must not stop the others."""
        touched = []
        for name in names:
            store = CursorStore(change, root.path / "sessions")
            folder = root.path / "sessions" / name
            try:
                if folder.is_dir() and not folder.is_symlink():
                    records = self._look_at_one(store, root, name, folder, context)
                elif store.remembers(name):
                    records = self._close(store, store.workspace(name), context)
                else:
                    continue
                spans = packed(records, store.workspace(name).written_ms or context.now_ms)
                store.save()
            except OSError as error:
                self.errors(folder, f"cannot be read: {error.strerror}")
                self.counts.unread += 1
                continue
            except Exception as error:  # noqa: BLE001
                self.errors(folder, f"could not be read ({type(error).__name__}: this is a bug)")
                self.counts.unread += 1
                continue
            change.enqueue(spans)
            self.counts.add(records)
            touched.append(store.workspace(name))
        return touched

    def _look_at_one(
        self, store: CursorStore, root: _Root, name: str, folder: Path, context: ScanContext
    ) -> list[Record]:
        current = self._signals(folder)
        transcripts = list(subfolders(folder / TRANSCRIPTS)) if self._reader.finer else []
        first = not store.remembers(name)
        workspace = store.workspace(name)
        workspace.named(self._listed(root, name, folder).session)
        workspace.root, workspace.signals, workspace.closed = root.identity, current, False
        errors_before = self.errors.count
        read = read_folder(folder, name, self._reader, _wanted(store, context, first=first))
        self.counts.unread += self.errors.count > errors_before and read.usage is None and not (read.chat or read.rows)
        records: list[Record] = []
        for child in transcripts:  # listed before the usage file was read, which had their entries earlier
            records += self._transcript(store, root, name, child, context, read.usage)
        workspace.written_ms = read.written_ms or newest(current)
        outcome = self._explain(store, workspace, read, root, context, first=first)
        self.counts.resets += outcome.start == "reset"
        if outcome.start == "old":
            new = sum(one.tokens.total for one in outcome.records if isinstance(one, UsageRecord))
            if outcome.known > new:
                self.counts.known[name] = outcome.known - new
        if outcome.from_source:
            self.counts.copied[name] = outcome.from_source
        if outcome.retry_ms:
            self.again[name] = (outcome.retry_ms, root.path)
            workspace.signals = {}  # after a restart too, what was held back is looked at again
        else:
            self.again.pop(name, None)
        return records + outcome.records

    def _transcript(
        self,
        store: CursorStore,
        root: _Root,
        parent: str,
        folder: Path,
        context: ScanContext,
        usage: UsageFile | None,
    ) -> list[Record]:
        """Return the rows of a removed child whose chat its parent, with the usage file `usage`, keeps."""
        first = not store.remembers(folder.name)
        read = read_folder(folder, folder.name, self._reader, _wanted(store, context, first=first))
        read.usage = None
        workspace = store.workspace(folder.name)
        if first:
            workspace.closed = True
        listed, above = self._listed(root, folder.name, folder).session, store.workspace(parent).session
        entry = usage.children.get(folder.name, MergedChild()) if usage is not None else MergedChild()
        workspace.named(Session(folder.name, parent, listed.name, listed.project or above.project, entry.agent_type))
        return self._explain(store, workspace, read, root, context, usage, first=first).records

    def _explain(
        self,
        store: CursorStore,
        workspace: Workspace,
        read: Folder,
        root: _Root,
        context: ScanContext,
        parent: UsageFile | None = None,
        *,
        first: bool,
    ) -> Reconciliation:
        listed = root.config.get(workspace.id)
        files = Files(
            read.usage,
            read.written_ms,
            read.rows,
            read.chat,
            read.timing,
            listed.created_ms if listed else 0,
            (listed.created_ms if listed else 0) or read.began_ms,
            parent,
            first=first,
            arrived=root.arrived,
        )
        return reconcile(workspace, files, Options(context.since_ms, context.now_ms, context.hold_back_ms), store)

    def _listed(self, root: _Root, name: str, folder: Path) -> ConfigEntry:
        listed = root.config.get(name)
        if listed is not None:
            return listed
        try:
            return from_metadata(read_document(folder / "metadata.json")[0], name)
        except (FileNotFoundError, UnreadableError):
            return ConfigEntry(Session(name))

    def _close(self, store: CursorStore, workspace: Workspace, context: ScanContext) -> list[Record]:
        """Return the end of a workspace whose folder is gone, reported once; what was held back of it comes first."""
        self.again.pop(workspace.id, None)
        if workspace.closed:
            return []
        workspace.closed = True
        workspace.signals = {}
        records = build.held_back(workspace, context.now_ms, store)
        workspace.closings += 1
        return [*records, build.closed(workspace, context.now_ms)]


def _wanted(store: CursorStore, context: ScanContext, *, first: bool) -> Wanted:
    """Return new rows, but none from before the first run."""
    since_ms = context.since_ms if first else 0
    return lambda key, end_ms: not 0 < end_ms < since_ms and store.counted(key) is None


def _mark(file_signals: Signals) -> int:
    return hash(tuple(sorted((name, *signal) for name, signal in file_signals.items())))
