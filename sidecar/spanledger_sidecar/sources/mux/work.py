"""One look at one workspace: what was read, what is being found out about it, and what comes of that."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Protocol

from spanledger_sidecar.records import Record
from spanledger_sidecar.sources.mux.build import Timing
from spanledger_sidecar.sources.mux.chat import Row
from spanledger_sidecar.sources.mux.children import Owed
from spanledger_sidecar.sources.mux.names import canonical
from spanledger_sidecar.sources.mux.parts import Part
from spanledger_sidecar.sources.mux.state import Workspace
from spanledger_sidecar.sources.mux.usage_file import Bucket, Turn, UsageFile
from spanledger_sidecar.tokens import ZERO, Five

_KEYS_KEPT = 256


class Family(Protocol):
    """The other workspaces, and which of them each row belongs to."""

    def owner(self, claim: bytes) -> str | None: ...

    def take(self, claim: bytes, workspace: str) -> None: ...

    def workspace(self, workspace: str) -> Workspace: ...

    def lost_children(self, workspace: str) -> list[Workspace]:
        """Those whose parent it is, and whose folders are gone."""
        ...


@dataclass(frozen=True, slots=True)
class Rules:
    """`since_ms`: what ended before is old (0: nothing is). `settle_ms`: how long a finer row is waited for."""

    since_ms: int = 0
    now_ms: int = 0
    settle_ms: int = 0

    def just_now(self, at_ms: int) -> bool:
        """Whether other files may still follow what was written then. A clock far ahead of ours holds nothing up."""
        return abs(self.now_ms - at_ms) < self.settle_ms


@dataclass(slots=True)
class Files:
    """The files of one workspace as they were read, the usage file before the chat files.

    `usage` is None where there is none that can be read; `written_ms` is when it was written. `rows` are all that stand
    in the finer files. `chat` is true where there are finer files. `began_ms` is the earliest time known of the
    workspace (0: none). `first` marks one that was not known before, `arrived` one that appeared in a home that was
    watched already.
    """

    usage: UsageFile | None = None
    written_ms: int = 0
    rows: list[Row] = field(default_factory=list)
    chat: bool = False
    timing: Timing | None = None
    began_ms: int = 0
    first: bool = False
    arrived: bool = False


@dataclass(slots=True)
class Outcome:
    """Records to emit, in order; when to look again for what is held back (ms since 1970, 0: never)."""

    records: list[Record] = field(default_factory=list)
    again_ms: int = 0
    rebaselined: bool = False


@dataclass(slots=True)
class Work:
    """`rows`: new ones, oldest first. `stand`: usage of the chat by model key; `copied`: that of rows which another
    workspace has (a fork's). `parts`: what is to be emitted, by model key. `before`: what of the file's totals was
    paid for before. `owed`: what of them is children's. `without_span`: rows, by span id, that make no span.
    `last`: the last request, until it was used.
    """

    workspace: Workspace
    files: Files
    rules: Rules
    family: Family
    outcome: Outcome = field(default_factory=Outcome)
    rows: list[Row] = field(default_factory=list)
    stand: dict[str, Five] = field(default_factory=lambda: defaultdict(lambda: ZERO))
    copied: dict[str, Five] = field(default_factory=lambda: defaultdict(lambda: ZERO))
    parts: dict[str, list[Part]] = field(default_factory=lambda: defaultdict(list))
    before: dict[str, Five] = field(default_factory=lambda: defaultdict(lambda: ZERO))
    owed: list[Owed] = field(default_factory=list)
    without_span: set[bytes] = field(default_factory=set)
    last: Turn | None = None

    @property
    def models(self) -> dict[str, Bucket]:
        """What the usage file says, by model key."""
        return self.files.usage.models if self.files.usage is not None else {}

    def add(self, part: Part) -> None:
        self.parts[part.key].append(part)

    def in_file(self, row: Row) -> bool:
        """Whether the usage file was written after the row's end."""
        return self.files.usage is None or self.files.written_ms >= row.end_ms

    def own(self, key: str) -> Five:
        """What new rows tell of a model."""
        return total(row.tokens for row in self.rows if row.key == key)

    def told(self, key: str) -> Five:
        """What a file that is made anew has of a model: all of the chat, and what came since outside of it."""
        return self.stand[key].plus(total(row.tokens for row in self.rows if row.key == key and not row.in_chat))


def begin(workspace: Workspace, files: Files, rules: Rules, family: Family) -> Work:
    """Sort out which rows are new."""
    work = Work(workspace, files, rules, family, last=files.usage.last if files.usage else None)
    _learn_keys(work)
    distinct = {row.claim: _keyed(row, workspace) for row in files.rows}
    for row in sorted(distinct.values(), key=lambda row: row.end_ms):
        owner = family.owner(row.claim)
        if row.in_chat:
            work.stand[row.key] = work.stand[row.key].plus(row.tokens)
        if owner is None:
            work.rows.append(row)
        elif owner != workspace.id:
            work.copied[row.key] = work.copied[row.key].plus(row.tokens)
    return work


def _learn_keys(work: Work) -> None:
    """The file itself tells under which key it keeps a model that a request named otherwise (facts 1.4)."""
    told = [(bucket.named, key) for key, bucket in work.models.items()]
    if work.last is not None:
        told.append((work.last.bucket.named, work.last.key))
    for named, key in told:
        if named and canonical(named) != key and len(work.workspace.keys) < _KEYS_KEPT:
            work.workspace.keys[named] = key


def _keyed(row: Row, workspace: Workspace) -> Row:
    key = workspace.keys.get(row.named, row.key)
    return row if key == row.key else replace(row, key=key)


def total(amounts: Iterable[Five]) -> Five:
    """The sum of amounts."""
    found = ZERO
    for amount in amounts:
        found = found.plus(amount)
    return found


def same(one: Five, other: Five) -> bool:
    """Whether two amounts are equal by group."""
    return (one.inputs, one.outputs) == (other.inputs, other.outputs)
