"""Read the files of Mux: where its home is, what its configuration names, and the folder of one workspace.

Of config.json, which holds tokens, only names, projects and parents are kept. Mux writes the chat file, then
session-usage.json: so the usage file is read first, and every turn that it holds stands in the chat file that is read
after it.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path, PurePath
from typing import Any, NamedTuple

from spanledger_sidecar.files import FileState, Lines, is_folder, open_plain, read_document
from spanledger_sidecar.records import (
    DAMAGED,
    NO_COUNT,
    NO_TIME,
    Direction,
    Session,
    Sign,
    UnreadableError,
    count,
    nested,
    no_counts,
    text,
    time_ms,
    unknown_directions,
)
from spanledger_sidecar.sources.mux.rows import Row, Wanted, canonical, headless, no_counts_of, turns
from spanledger_sidecar.tokens import ZERO, TokenVector

MARKER = ".xum.legacy-fallback"
_MARKER_BYTES = 64
_LEGACY = (".mux", ".cmux")


def mux_root(environ: Mapping[str, str], home: Path) -> Path:
    """Return the one home that Mux, or Xum, uses; it may not exist yet."""
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
        if candidate is not None and is_folder(candidate):
            return candidate
    return current


def _is_used(path: Path) -> bool:
    try:
        with os.scandir(path) as entries:
            return any(True for _ in entries)
    except OSError:
        return False


def _marked(home: Path) -> Path | None:
    """Return the legacy home that the marker file names."""
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
    """Return all workspaces that have an id."""
    entries = {}
    for path, project in _pairs(document.get("projects")):
        listed = nested(project, "workspaces")
        for entry in listed if isinstance(listed, list) else []:
            workspace = text(nested(entry, "id"))
            if workspace:
                entries[workspace] = _listed(workspace, entry, _project(path, project, entry))
    return entries


def from_metadata(document: dict[str, Any], workspace: str) -> ConfigEntry:
    """Return the metadata of a legacy `metadata.json` in the workspace's own folder."""
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
    return text(PurePath(path.replace("\\", "/")).name)


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
    """Return an ISO time as ms since 1970, 0 if it is none."""
    try:
        moment = datetime.fromisoformat(text(value))
    except ValueError:
        return 0
    return max(0, round(moment.timestamp() * 1000)) if moment.tzinfo else 0


VERSION = 1
_CLASSES = ("input", "cached", "cacheCreate", "output", "reasoning")
_CHILD_CLASSES = ("inputTokens", "cachedTokens", "cacheCreateTokens", "outputTokens", "reasoningTokens")
_CHILD_COUNTS = (*_CHILD_CLASSES, "contextTokens")
_PICO = 10**12
_DEAREST = 10**5
"""USD; what a file says beyond it is no cost, and the sums stay within 63 bits."""
_VAGUE_TIERS = frozenset({"unknown", "mixed", "standard"})


@dataclass(frozen=True, slots=True)
class Bucket:
    """Usage under one model key.

    `cost` is in picodollars and means nothing where not `complete` (docs/formats/mux.md#14-cost).
    """

    tokens: TokenVector = ZERO
    cost: TokenVector = ZERO
    complete: bool = True
    included: bool = False
    tier: str = ""
    named: str = ""
    """The model as the only request so far named it; empty once there were several."""
    unknown: tuple[Direction, ...] = ()
    """Directions of which a number of tokens is none."""


@dataclass(frozen=True, slots=True)
class LastRequest:
    """The last request: its model's key, its exact usage, and its end."""

    key: str
    bucket: Bucket
    end_ms: int


@dataclass(frozen=True, slots=True)
class MergedChild:
    """What a parent's file says of a child that was merged up into it. `tokens` is None where it does not say, or says
    what is no number of tokens.
    """

    tokens: TokenVector | None = None
    total: int | None = None
    cost: int | None = None
    agent_type: str = ""
    model_key: str = ""


@dataclass(frozen=True, slots=True)
class UsageFile:
    """One version of the file."""

    models: dict[str, Bucket] = field(default_factory=dict)
    last: LastRequest | None = None
    children: dict[str, MergedChild] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Timing:
    """The last request of session-timing.json, from its start to its end (docs/formats/mux.md#3-session-timingjson)."""

    key: str
    output: int
    duration_ms: int
    ttft_ms: int | None = None
    agent: str = ""
    row: str = ""
    """The chat row of that turn."""


def parse(document: dict[str, Any]) -> UsageFile:
    """Read the document; parts that are no usage count as none (docs/formats/mux.md#17-sums-that-fall).

    Raises:
        UnreadableError: it is of a version that is not known.
    """
    version = document.get("version")
    if version != VERSION or isinstance(version, bool):
        shown = version if isinstance(version, int) else "another kind"
        raise UnreadableError(f"is of version {shown}, only version {VERSION} is known")
    models = document.get("byModel")
    if not isinstance(models, dict):
        raise UnreadableError("has no usage by model (byModel)")
    children = document.get("rolledUpFrom")
    return UsageFile(
        {text(key): bucket_of(value) for key, value in models.items() if isinstance(value, dict)},
        _turn(document.get("lastRequest")),
        {text(key): _child(value) for key, value in children.items() if value} if isinstance(children, dict) else {},
    )


def bucket_of(value: dict[str, Any]) -> Bucket:
    """Return the bucket that one Usage object holds."""
    counts = [nested(value, name, "tokens") for name in _CLASSES]
    tokens = TokenVector(*map(count, counts))
    costs = [_money(nested(value, name, "cost_usd")) for name in _CLASSES]
    used = [count(amount) or no_counts([amount]) for amount in counts]
    known = all(cost is not None or not amount for cost, amount in zip(costs, used, strict=True))
    tier = text(value.get("serviceTier"))
    return Bucket(
        tokens,
        TokenVector(*(cost or 0 for cost in costs)),
        known and not value.get("hasUnknownCosts"),
        value.get("costsIncluded") is True,
        "" if tier in _VAGUE_TIERS else tier,
        text(value.get("model")),
        unknown_directions(counts[:3], counts[3:]),
    )


def _no_counts(document: dict[str, Any]) -> int:
    models = document.get("byModel")
    usages = models.values() if isinstance(models, dict) else ()
    odd = sum(no_counts(nested(usage, name, "tokens") for name in _CLASSES) for usage in usages)
    entries = document.get("rolledUpFrom")
    for entry in entries.values() if isinstance(entries, dict) else ():
        odd += no_counts(nested(entry, name) for name in (*_CHILD_COUNTS, "totalTokens"))
    return odd


def _money(value: Any) -> int | None:
    """Return USD as picodollars; None for what is no amount of money."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _DEAREST:
        return None
    return round(value * _PICO)


def _turn(value: Any) -> LastRequest | None:
    usage, key, end_ms = nested(value, "usage"), text(nested(value, "model")), time_ms(nested(value, "timestamp"))
    if not isinstance(usage, dict) or not key or not end_ms:
        return None
    return LastRequest(key, bucket_of(usage), end_ms)


def _child(value: Any) -> MergedChild:
    """Read a child's entry: `true` in older versions, totals by class in newer ones (docs/formats/mux.md#12-fields)."""
    if not isinstance(value, dict):
        return MergedChild()
    by_class = TokenVector(*(count(value.get(name)) for name in _CHILD_CLASSES))
    counts = [value[name] for name in _CHILD_COUNTS if name in value]
    known = bool(counts) and not no_counts(counts)
    beyond = count(value.get("contextTokens")) - by_class.inputs
    if "inputTokens" not in value and beyond > 0:
        by_class = by_class.plus(TokenVector(beyond))
    whole = value.get("totalTokens")
    total = None if whole is None or no_counts([whole]) else count(whole)
    cost = _money(value.get("totalCostUsd"))
    named = text(value.get("model"))
    return MergedChild(by_class if known else None, total, cost, text(value.get("agentType")), named)


USAGE, TIMING = "session-usage.json", "session-timing.json"
ARCHIVE, CHAT, HEADLESS = "chat-archive.jsonl", "chat.jsonl", "headless-usage.jsonl"
TRANSCRIPTS = "subagent-transcripts"
NAMES = (USAGE, TIMING, ARCHIVE, CHAT, HEADLESS)
"""The files that are looked at; everything else in the folder is Mux's own affair."""

TIMING_VERSION = 2

ReportError = Callable[[Path, str], None]
"""Told of a file that cannot be used, and why."""


@dataclass(slots=True)
class Folder:
    """What stood in a folder. `usage` is None where there is none that can be read."""

    usage: UsageFile | None = None
    written_ms: int = 0
    timing: Timing | None = None
    rows: list[Row] = field(default_factory=list)
    chat: bool = False
    began_ms: int = 0


@dataclass(frozen=True, slots=True)
class Reader:
    """How folders are read. Without `finer` the chat files are not opened."""

    sign: Sign
    report: ReportError
    finer: bool = True


def read_folder(path: Path, workspace: str, reader: Reader, wanted: Wanted) -> Folder:
    """Read the folder of a workspace; the tools of rows that are not `wanted` are left out."""
    report = reader.report
    folder = Folder()
    document, state = _document(path / USAGE, report)
    if document is not None and state is not None:
        try:
            folder.usage, folder.written_ms = parse(document), state.mtime_ms
        except UnreadableError as error:
            report(path / USAGE, str(error))
        at = nested(document, "lastRequest", "timestamp")
        if at is not None and not time_ms(at):
            report(path / USAGE, NO_TIME.format(1))
        elif odd := _no_counts(document):
            report(path / USAGE, NO_COUNT.format(odd))
    if reader.finer:
        _read_finer(path, workspace, reader, wanted, folder)
    if folder.usage is not None:
        folder.timing = _timing(_document(path / TIMING, report)[0])
    return folder


def _document(path: Path, report: ReportError) -> tuple[dict[str, Any] | None, FileState | None]:
    try:
        return read_document(path)
    except FileNotFoundError:
        pass
    except UnreadableError as error:
        report(path, str(error))
    return None, None


def _timing(document: dict[str, Any] | None) -> Timing | None:
    last = nested(document, "lastRequest")
    if document is None or document.get("version") != TIMING_VERSION or not isinstance(last, dict):
        return None
    return Timing(
        canonical(text(last.get("model"))),
        count(last.get("outputTokens")),
        count(last.get("totalDurationMs")),
        count(last.get("ttftMs")) if last.get("ttftMs") is not None else None,
        text(last.get("agentId")) or text(last.get("mode")),
        text(last.get("messageId")),
    )


def _read_finer(path: Path, workspace: str, reader: Reader, wanted: Wanted, folder: Folder) -> None:
    def add_chat(row: dict[str, Any]) -> None:
        if not folder.began_ms:
            folder.began_ms = time_ms(nested(row, "metadata", "timestamp"))
        result = turns(row, workspace, reader.sign, wanted)
        folder.rows += result
        undated[0] += any(not turn.start_ms for turn in result)
        uncounted[0] += no_counts_of(row.get("metadata")) if result else 0

    undated, uncounted = [0], [0]
    seen: Counter[str] = Counter()

    def add_headless(line: dict[str, Any]) -> None:
        mark = repr((line.get("timestamp"), line.get("source"), line.get("model"), line.get("usage")))
        row = headless(line, seen[mark])
        seen[mark] += 1
        if row is not None:
            folder.rows.append(row)
            undated[0] += not row.end_ms
            uncounted[0] += no_counts_of(line)

    for name, add in ((ARCHIVE, add_chat), (CHAT, add_chat), (HEADLESS, add_headless)):
        undated[0] = uncounted[0] = 0
        if _each_line(path / name, add, reader.report) and add is add_chat:
            folder.chat = True
        if undated[0]:
            reader.report(path / name, NO_TIME.format(undated[0]))
        elif uncounted[0]:
            reader.report(path / name, NO_COUNT.format(uncounted[0]))


def _each_line(path: Path, add: Callable[[dict[str, Any]], None], report: ReportError) -> bool:
    """Give every object of a JSONL file to `add`; return whether there was a file that can be read."""
    lines = Lines()
    try:
        with open_plain(path) as file:
            for _, value in lines.read(file):
                add(value)
    except FileNotFoundError:
        return False
    except UnreadableError as error:
        report(path, str(error))
        return False
    except OSError as error:
        report(path, f"cannot be read to its end: {error.strerror}")
    if lines.damaged:
        report(path, DAMAGED.format(lines.damaged))
    return True
