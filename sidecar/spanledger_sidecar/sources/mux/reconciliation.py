"""The working state of one reconciliation: the files that were read, the other workspaces, and the results.

Also here: what of a parent's usage is that of children which were merged into its file (docs/formats/mux.md).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple, Protocol, TypeAlias

from spanledger_sidecar.records import Record, dedup_key
from spanledger_sidecar.sources.mux.files import Bucket, LastRequest, MergedChild, Timing, UsageFile
from spanledger_sidecar.sources.mux.rows import Row, canonical
from spanledger_sidecar.sources.mux.state import Workspace
from spanledger_sidecar.tokens import ZERO, TokenVector, at_rate, by_class, missing, taken, total, with_total


@dataclass(slots=True)
class Allocation:
    """Usage of one model to be emitted for `owner`: a row, the last request, or (neither) what is left over.

    `exact` is the last request where it proves this very usage. `in_file`: the usage file has it, and its cost.
    `silent`: it was emitted before, and only takes its cost. `guess`: whose it is was guessed. `reported` is what an
    entry in the file says that it cost; `cost` (picodollars) is filled in by `share`.
    """

    owner: Workspace
    key: str
    tokens: TokenVector
    row: Row | None = None
    exact: LastRequest | None = None
    in_file: bool = False
    silent: bool = False
    guess: bool = False
    reported: int | None = None
    cost: int | None = None
    charged: bool = False

    @property
    def free(self) -> bool:
        """Return whether its own row marks it as covered by a subscription."""
        return self.row is not None and self.row.cost == 0


@dataclass(slots=True)
class ChildRemainder:
    """A child's usage that only the parent's file shows, still to be found among what the parent's file gained.

    `key` is the model that the entry names; `tokens` by class, or `amount` where the classes are not known; neither:
    whatever is left over. `cost` is what the entry says of it (picodollars, None: nothing). `parts` is what was found.
    """

    child: Workspace
    key: str
    tokens: TokenVector | None = None
    amount: int | None = None
    cost: int | None = None
    parts: list[Allocation] = field(default_factory=list)

    @property
    def unbounded(self) -> bool:
        """Return whether its amount is not known."""
        return self.tokens is None and self.amount is None

    def take(self, there: TokenVector) -> TokenVector:
        """Return the child's part of `there`; what is still to be found shrinks by it."""
        if self.tokens is not None:
            part = taken(there, self.tokens)
            self.tokens = missing(self.tokens, part)
        elif self.amount is not None:
            part = _first(there, self.amount)
            self.amount -= part.total
        else:
            part = there
        return part

    def share_cost(self) -> None:
        """Distribute the entry's cost over the allocations by their tokens; the last one takes the rest."""
        allocated = sum(part.tokens.total for part in self.parts)
        if not self.cost or not allocated or (self.tokens or ZERO).total or self.amount:
            return
        shares = [self.cost * part.tokens.total // allocated for part in self.parts]
        shares[-1] += self.cost - sum(shares)
        for part, share in zip(self.parts, shares, strict=True):
            part.reported = share


def merge_child(
    parent: Workspace, child: Workspace, entry: MergedChild, gained: dict[str, TokenVector], store: WorkspaceStore
) -> ChildRemainder | None:
    """Subtract the known usage of a child from what its parent's file gained; return what else of it is the child's.

    The parent's models count what is explained as covered, and its cost as paid.
    """
    project = child.session.project or parent.session.project
    child.named(replace(child.session, parent=parent.id, project=project, agent_type=entry.agent_type))
    known = _merge_lost(child, entry, store)
    complete = True
    paid = 0
    for key, tokens in known.items():
        model, own, there = parent.model(key), child.model(key), gained.get(key, ZERO)
        ours = taken(there, tokens)
        if not ours.total:
            continue
        is_exact = own.complete and tokens == own.file
        cost = own.cost if is_exact else at_rate(by_class(model.cost, model.paid), there, ours)
        if not own.file.total and own.paid.total:
            cost = with_total(cost, own.paid.total)
        complete, paid = complete and is_exact, paid + cost.total
        model.paid = model.paid.plus(cost)
        model.covered = model.covered.plus(ours)
    key, seen = canonical(entry.model_key), total(known.values())
    cost_left = max(0, entry.cost - paid) if entry.cost and complete else None
    if entry.tokens is not None:
        rest = missing(entry.tokens, seen)
        return ChildRemainder(child, key, tokens=rest, cost=cost_left) if rest.total else None
    if entry.total is not None:
        left = entry.total - seen.total
        return ChildRemainder(child, key, amount=left, cost=cost_left) if left > 0 else None
    return None if known else ChildRemainder(child, key)


def _merge_lost(child: Workspace, entry: MergedChild, store: WorkspaceStore) -> dict[str, TokenVector]:
    """Merge a child's own lost children into it; return its usage by model as far as it was seen, with theirs.

    A parent that is removed with its children takes their usage along, and nobody may have seen its file in between.
    """
    known = seen_usage(child, entry)
    if total(known.values()) != entry.tokens:
        for lost in store.lost_children(child.id):
            if lost.id not in child.merged:
                child.merged.append(lost.id)
                for key, tokens in _merge_lost(lost, MergedChild(), store).items():
                    known[key] = known.get(key, ZERO).plus(tokens)
    return known


def seen_usage(child: Workspace, entry: MergedChild) -> dict[str, TokenVector]:
    """Return the usage in the child's own files by model: its usage file, and rows that the file did not have."""
    seen = {key: state.file for key, state in child.models.items()} if child.seen_file else {}
    if entry.tokens is not None and total(seen.values()) == entry.tokens:
        return seen
    return {
        key: seen.get(key, ZERO).at_least(total([state.covered, *(early.tokens for early in state.early)]))
        for key, state in child.models.items()
    }


def _first(there: TokenVector, amount: int) -> TokenVector:
    result = []
    for count in there:
        result.append(min(count, amount))
        amount -= result[-1]
    return TokenVector(*result)


CLOCK_MS = 500
"""How much later than the last request a turn that was written before it may seem to end."""

Start: TypeAlias = Literal["old", "reset", "goes on"]
"""Where counting begins: `old` takes all that is there as known, `reset` follows a usage file that begins again."""


class Counted(NamedTuple):
    """Which workspace counted a row, and how much (None: not remembered)."""

    workspace: str
    tokens: TokenVector | None = None


class WorkspaceStore(Protocol):
    """The other workspaces, and which of them counted what."""

    def counted(self, key: bytes) -> Counted | None:
        """Return what was counted under a dedup key; None if nothing was."""
        ...

    def take(self, key: bytes, workspace: str, tokens: TokenVector) -> None:
        """Remember that a workspace counted so much under a dedup key."""
        ...

    def workspace(self, workspace: str) -> Workspace:
        """Return the state of a workspace, a new one if nothing is known of it."""
        ...

    def lost_children(self, workspace: str) -> list[Workspace]:
        """Return the children of a workspace whose folders are gone."""
        ...

    def has_all_of(self, models: dict[str, TokenVector], but: str) -> bool:
        """Return whether the file of a workspace other than `but` has at least these sums."""
        ...


@dataclass(frozen=True, slots=True)
class Options:
    """`since_ms`: what ended before is old (0: nothing is). `now_ms`: when the files were looked at (ms since 1970).

    `hold_back_ms`: how long a finer row is waited for.
    """

    since_ms: int = 0
    now_ms: int = 0
    hold_back_ms: int = 0

    def just_now(self, at_ms: int) -> bool:
        """Return whether other files may still follow what was written then. A clock far ahead delays nothing."""
        return abs(self.now_ms - at_ms) < self.hold_back_ms


@dataclass(slots=True)
class Files:
    """The files of one workspace as they were read, the usage file before the chat files.

    `usage` is None where there is none that can be read; `written_ms` is when it was written, for spans that have no
    better time. `rows` are all that stand in the finer files. `chat` is true where there are finer files. `created_ms`
    is when the configuration says that the workspace was made, `began_ms` the earliest time known of it (0: none).
    `parent` is the usage file of the parent of a child that was removed, where these are what is kept of its chat.
    `first` marks one that was not known before, `arrived` one that appeared in a home that was watched already.
    """

    usage: UsageFile | None = None
    written_ms: int = 0
    rows: list[Row] = field(default_factory=list)
    chat: bool = False
    timing: Timing | None = None
    created_ms: int = 0
    began_ms: int = 0
    parent: UsageFile | None = None
    first: bool = False
    arrived: bool = False


def usage_key(key: str, tokens: TokenVector) -> bytes:
    """Return the key under which it is stored that some turn used so much of a model."""
    return dedup_key("mux usage", key, *tokens)


class ModelSums(dict[str, TokenVector]):
    """Sums by model key, which begin at nothing; a sum that is asked for is not made thereby."""

    def __missing__(self, key: str) -> TokenVector:
        return ZERO

    def add(self, key: str, tokens: TokenVector) -> None:
        """Add to the sum of a model."""
        self[key] = self[key].plus(tokens)


class MergedRows(NamedTuple):
    """What a parent's file proves of a removed child's rows: which of them it has, by dedup key and with their classes.

    `classes_proven`: it tells all classes of each, not only over all of them.
    """

    tokens: Mapping[bytes, TokenVector]
    classes_proven: bool


NO_MERGED_ROWS = MergedRows({}, classes_proven=False)


@dataclass(slots=True)
class Reconciliation:
    """One reconciliation of one workspace; each step adds to it.

    From the first step: `rows` are those that are new, oldest first; `chat` the usage of the workspace's own rows in
    the chat, `copied` that of rows which another workspace has, both by model key. From the second: `before` is what
    of the file was counted before this look, `children` what of it is merged children's and still to be found,
    `from_source` how many tokens of it were taken for a fork's copy, `late` keys of rows whose usage was counted as a
    remainder, `known` how many tokens are from before usage counts, `vanished` what was of rows that are gone. From
    the third: `allocations` by model key; `without_span` span ids of rows that make no span; `retry_ms` when to look
    again for what is held back (0: never); `merged` what a removed child's parent proves of its rows. From the fourth:
    `records`. `last` is the last request until a row took it, `ended_ms` the time until which turns ended that the
    file can hold (0 where it names no last request).
    """

    workspace: Workspace
    files: Files
    options: Options
    store: WorkspaceStore
    start: Start = "goes on"
    rows: list[Row] = field(default_factory=list)
    chat: ModelSums = field(default_factory=ModelSums)
    copied: ModelSums = field(default_factory=ModelSums)
    before: ModelSums = field(default_factory=ModelSums)
    vanished: ModelSums = field(default_factory=ModelSums)
    late: set[bytes] = field(default_factory=set)
    children: list[ChildRemainder] = field(default_factory=list)
    allocations: dict[str, list[Allocation]] = field(default_factory=lambda: defaultdict(list))
    without_span: set[bytes] = field(default_factory=set)
    last: LastRequest | None = None
    ended_ms: int = 0
    merged: MergedRows = NO_MERGED_ROWS
    retry_ms: int = 0
    known: int = 0
    from_source: int = 0
    records: list[Record] = field(default_factory=list)

    @property
    def models(self) -> dict[str, Bucket]:
        """Return the buckets of the usage file, by model key."""
        return self.files.usage.models if self.files.usage is not None else {}

    @property
    def entry(self) -> MergedChild | None:
        """Return the entry of a removed child in the parent's file."""
        return self.files.parent.children.get(self.workspace.id) if self.files.parent is not None else None

    @property
    def seen_until_ms(self) -> int:
        """Return until when what is written was seen in this look; later than now where a clock was set back."""
        return max(self.options.now_ms, self.files.written_ms if self.files.usage is not None else 0, self.ended_ms)

    def add(self, allocation: Allocation) -> None:
        """Take an allocation.

        A row from before the workspace was made is a copy, and maybe in another's sums. Of a compaction, only a usage
        file tells what was written to the cache.
        """
        if (row := allocation.row) is not None:
            allocation.guess |= 0 < row.end_ms < self.files.created_ms
            allocation.guess |= row.lacks_writes and not allocation.in_file and not self.merged.classes_proven
        self.allocations[allocation.key].append(allocation)

    def new(self, key: str, *, in_chat: bool | None = None) -> TokenVector:
        """Return the sum of new rows of a model."""
        rows = (row for row in self.rows if row.key == key and in_chat in (None, row.in_chat))
        return total(row.tokens for row in rows)

    def left(self, key: str) -> TokenVector:
        """Return what of the file nothing explains yet."""
        state = self.workspace.state_of(key)
        return missing(state.file, state.covered)

    def remember_usage(self, key: str, tokens: TokenVector) -> None:
        """Remember that a turn of this workspace used so much of a model, if no other's did before."""
        if tokens.total and self.store.counted(amount := usage_key(key, tokens)) is None:
            self.store.take(amount, self.workspace.id, tokens)

    def may_hold(self, end_ms: int, ended_ms: int | None = None) -> bool:
        """Return whether the file can hold a turn that ended then, by its last request."""
        ended_ms = self.ended_ms if ended_ms is None else ended_ms
        return not ended_ms or not end_ms or end_ms <= ended_ms + CLOCK_MS
