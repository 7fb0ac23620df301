"""The files of one workspace's folder, read in the order in which they can be trusted together.

Mux writes the chat file, then the usage file: so the usage file is read first, and every turn that it holds stands in
the chat file that is read after it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from spanledger_sidecar.reading import Lines, Signal, open_plain, read_document
from spanledger_sidecar.sources.mux.build import Timing
from spanledger_sidecar.sources.mux.chat import Row, Wanted, headless, turns
from spanledger_sidecar.sources.mux.names import canonical
from spanledger_sidecar.sources.mux.usage_file import UsageFile, parse
from spanledger_sidecar.values import Sign, UnreadableError, count, nested, text

USAGE, TIMING = "session-usage.json", "session-timing.json"
ARCHIVE, CHAT, HEADLESS = "chat-archive.jsonl", "chat.jsonl", "headless-usage.jsonl"
TRANSCRIPTS = "subagent-transcripts"
NAMES = (USAGE, TIMING, ARCHIVE, CHAT, HEADLESS)
"""The files that are looked at; everything else in the folder is Mux's own affair."""

TIMING_VERSION = 2

Trouble = Callable[[Path, str], None]
"""Told of a file that cannot be used, and why."""


@dataclass(slots=True)
class Folder:
    """What stood in a folder. `usage` is None where there is none that can be read.

    `timing` is read only where no row tells how long a turn took.
    """

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
    trouble: Trouble
    finer: bool = True


def read_folder(path: Path, workspace: str, how: Reader, wanted: Wanted) -> Folder:
    """Read the folder of a workspace; the tools of rows that are not `wanted` are left out."""
    trouble = how.trouble
    folder = Folder()
    document, signal = _document(path / USAGE, trouble)
    if document is not None and signal is not None:
        try:
            folder.usage, folder.written_ms = parse(document), signal.mtime_ms
        except UnreadableError as error:
            trouble(path / USAGE, str(error))
    if how.finer:
        _read_finer(path, workspace, how, wanted, folder)
    if folder.usage is not None and not folder.rows:
        folder.timing = _timing(_document(path / TIMING, trouble)[0])
    return folder


def _document(path: Path, trouble: Trouble) -> tuple[dict[str, Any] | None, Signal | None]:
    try:
        return read_document(path)
    except FileNotFoundError:
        pass
    except UnreadableError as error:
        trouble(path, str(error))
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
    )


def _read_finer(path: Path, workspace: str, how: Reader, wanted: Wanted, folder: Folder) -> None:
    def add_chat(row: dict[str, Any]) -> None:
        if not folder.began_ms:
            folder.began_ms = count(nested(row, "metadata", "timestamp"))
        folder.rows += turns(row, workspace, how.sign, wanted)

    seen: Counter[str] = Counter()

    def add_headless(line: dict[str, Any]) -> None:
        mark = repr((line.get("timestamp"), line.get("source"), line.get("model"), line.get("usage")))
        row = headless(line, seen[mark])
        seen[mark] += 1
        if row is not None:
            folder.rows.append(row)

    for name, add in ((ARCHIVE, add_chat), (CHAT, add_chat), (HEADLESS, add_headless)):
        if _each_line(path / name, add, how.trouble) and add is add_chat:
            folder.chat = True


def _each_line(path: Path, add: Callable[[dict[str, Any]], None], trouble: Trouble) -> bool:
    """Give every object of a JSONL file to `add`; whether there was a file that can be read."""
    lines = Lines()
    try:
        with open_plain(path) as file:
            for _, value in lines.read(file):
                add(value)
    except FileNotFoundError:
        return False
    except UnreadableError as error:
        trouble(path, str(error))
        return False
    except OSError as error:
        trouble(path, f"cannot be read to its end: {error.strerror}")
    if lines.damaged:
        trouble(path, f"has {lines.damaged} damaged lines, which are left out")
    return True
