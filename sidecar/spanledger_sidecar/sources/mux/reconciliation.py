"""Define one look at one workspace: what was read, what is known of the others, and what is found out about it."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol, TypeAlias

from spanledger_sidecar.records import Record
from spanledger_sidecar.sources.mux.build import Allocation
from spanledger_sidecar.sources.mux.children import ChildRemainder
from spanledger_sidecar.sources.mux.files import Bucket, LastRequest, Timing, UsageFile
from spanledger_sidecar.sources.mux.rows import Row
from spanledger_sidecar.sources.mux.state import Workspace
from spanledger_sidecar.tokens import ZERO, TokenVector, missing, total

CLOCK_MS = 500
"""By so much a turn may seem to end behind the last request that was written after it."""

Start: TypeAlias = Literal["old", "reset", "goes on"]
"""Where counting begins: `old` takes all that is there as known, `reset` follows a usage file that begins again."""


class Counted(NamedTuple):
    """Which workspace counted a row, and how much (None: not remembered)."""

    workspace: str
    tokens: TokenVector | None = None


class WorkspaceStore(Protocol):
    """The other workspaces, and who counted what."""

    def counted(self, key: bytes) -> Counted | None: ...

    def take(self, key: bytes, workspace: str, tokens: TokenVector) -> None: ...

    def workspace(self, workspace: str) -> Workspace: ...

    def lost_children(self, workspace: str) -> list[Workspace]:
        """Those whose parent it is, and whose folders are gone."""
        ...

    def has_all_of(self, models: dict[str, TokenVector], but: str) -> bool:
        """Whether the file of a workspace other than `but` has at least these sums."""
        ...


@dataclass(frozen=True, slots=True)
class Options:
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

    `usage` is None where there is none that can be read; `written_ms` is when it was written, for spans that have no
    better time. `rows` are all that stand in the finer files. `chat` is true where there are finer files. `created_ms`
    is when the configuration says that the workspace was made, `began_ms` the earliest time known of it (0: none).
    `first` marks one that was not known before, `arrived` one that appeared in a home that was watched already.
    """

    usage: UsageFile | None = None
    written_ms: int = 0
    rows: list[Row] = field(default_factory=list)
    chat: bool = False
    timing: Timing | None = None
    created_ms: int = 0
    began_ms: int = 0
    first: bool = False
    arrived: bool = False


def sums() -> dict[str, TokenVector]:
    return defaultdict(lambda: ZERO)


@dataclass(slots=True)
class Reconciliation:
    """Everything about one look at one workspace.

    From the first step: `rows` are those that are new, oldest first; `chat` the usage of the workspace's own rows in
    the chat, `copied` that of rows which another workspace has, both by model key. From the second: `before` is what
    of the file was counted before this look, `children` what of it is merged children's and still to be found, `late`
    keys of rows whose usage was counted as a remainder, `vanished` what rows that are gone had told. From the third:
    `allocations` by model key; `without_span` span ids of rows that make no span; `retry_ms` when to look again for
    what is held back (0: never). From the fourth: `records`. `last` is the last request until a row took it.
    """

    workspace: Workspace
    files: Files
    options: Options
    store: WorkspaceStore
    start: Start = "goes on"
    rows: list[Row] = field(default_factory=list)
    chat: dict[str, TokenVector] = field(default_factory=sums)
    copied: dict[str, TokenVector] = field(default_factory=sums)
    before: dict[str, TokenVector] = field(default_factory=sums)
    vanished: dict[str, TokenVector] = field(default_factory=sums)
    late: set[bytes] = field(default_factory=set)
    children: list[ChildRemainder] = field(default_factory=list)
    allocations: dict[str, list[Allocation]] = field(default_factory=lambda: defaultdict(list))
    without_span: set[bytes] = field(default_factory=set)
    last: LastRequest | None = None
    retry_ms: int = 0
    known: int = 0
    records: list[Record] = field(default_factory=list)

    @property
    def models(self) -> dict[str, Bucket]:
        """What the usage file says, by model key."""
        return self.files.usage.models if self.files.usage is not None else {}

    @property
    def ended_ms(self) -> int:
        """When the file's last request ended; 0 where it names none."""
        last = self.files.usage.last if self.files.usage is not None else None
        return last.end_ms if last is not None else 0

    def add(self, allocation: Allocation) -> None:
        """Take an allocation. A row from before the workspace was made is a copy, and maybe in another's sums."""
        if allocation.row is not None:
            allocation.guess |= 0 < allocation.row.end_ms < self.files.created_ms
        self.allocations[allocation.key].append(allocation)

    def new(self, key: str, *, in_chat: bool | None = None) -> TokenVector:
        """What new rows tell of a model."""
        rows = (row for row in self.rows if row.key == key and in_chat in (None, row.in_chat))
        return total(row.tokens for row in rows)

    def left(self, key: str) -> TokenVector:
        """What of the file nothing explains yet."""
        state = self.workspace.model(key)
        return missing(state.file, state.covered)

    def may_hold(self, end_ms: int, ended_ms: int | None = None) -> bool:
        """Whether the file can hold a turn that ended then, by its last request."""
        ended_ms = self.ended_ms if ended_ms is None else ended_ms
        return not ended_ms or not end_ms or end_ms <= ended_ms + CLOCK_MS
