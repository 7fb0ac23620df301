"""Reconcile the files of one workspace with what was counted of it: every token once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Protocol

from spanledger_sidecar.records import Record
from spanledger_sidecar.sources.mux import build
from spanledger_sidecar.sources.mux.build import Allocation, share
from spanledger_sidecar.sources.mux.files import Bucket, LastRequest, MergedChild, Timing, UsageFile
from spanledger_sidecar.sources.mux.rows import Row, canonical
from spanledger_sidecar.sources.mux.state import ModelState, Workspace
from spanledger_sidecar.tokens import ZERO, TokenVector, at_rate, by_class, missing, settled, taken


@dataclass(slots=True)
class ChildRemainder:
    """A child's usage that only the parent's file shows, still to be found among what the parent's file gained.

    `tokens` by class, or `total` where the classes are not known; neither: whatever is left over.
    """

    child: Workspace
    first_key: str
    tokens: TokenVector | None = None
    total: int | None = None

    @property
    def unbounded(self) -> bool:
        """Whether nothing says how much it is."""
        return self.tokens is None and self.total is None

    def take(self, there: TokenVector) -> TokenVector:
        """The child's part of `there`; what is remainder shrinks by it."""
        if self.tokens is not None:
            part = taken(there, self.tokens)
            self.tokens = missing(self.tokens, part)
        elif self.total is not None:
            part = _first(there, self.total)
            self.total -= part.total
        else:
            part = there
        return part


def known_usage(child: Workspace, entry: MergedChild, store: WorkspaceStore) -> dict[str, TokenVector]:
    """The child's usage by model as far as it was seen, with that of its own children.

    A parent that is removed with its children takes their usage along, and nobody may have seen its file in between.
    """
    known = _seen(child, entry)
    if _sum(known) != entry.tokens:
        for lost in store.lost_children(child.id):
            if lost.id not in child.merged:
                child.merged.append(lost.id)
                for key, tokens in known_usage(lost, MergedChild(), store).items():
                    known[key] = known.get(key, ZERO).plus(tokens)
    return known


def _seen(child: Workspace, entry: MergedChild) -> dict[str, TokenVector]:
    """What its file said, and rows that were written after it."""
    seen = {key: model.file for key, model in child.models.items()} if child.seen_file else {}
    if entry.tokens is not None and _sum(seen) == entry.tokens:
        return seen
    return {key: seen.get(key, ZERO).at_least(model.covered) for key, model in child.models.items()}


def roll_up(
    parent: Workspace, child: Workspace, entry: MergedChild, gained: dict[str, TokenVector], store: WorkspaceStore
) -> ChildRemainder | None:
    """Take what is known of the child out of what the parent's file gained; say what else is remainder to the child.

    Explained usage is counted as covered in the parent's ledgers, and its cost as paid.
    """
    child.named(replace(child.session, parent=parent.id, agent_type=entry.agent_type))
    known = known_usage(child, entry, store)
    for key, tokens in known.items():
        model, own, there = parent.model(key), child.model(key), gained.get(key, ZERO)
        ours = taken(there, tokens)
        reported = own.complete and tokens == own.file
        model.paid = model.paid.plus(own.cost if reported else at_rate(by_class(model.cost, model.paid), there, ours))
        model.covered = model.covered.plus(ours)
    first = canonical(entry.model_key)
    if entry.tokens is not None:
        remainder = missing(entry.tokens, _sum(known))
        return ChildRemainder(child, first, tokens=remainder) if remainder.total else None
    if entry.total is not None:
        left = entry.total - _sum(known).total
        return ChildRemainder(child, first, total=left) if left > 0 else None
    return None if known else ChildRemainder(child, first)


def _sum(models: dict[str, TokenVector]) -> TokenVector:
    total = ZERO
    for tokens in models.values():
        total = total.plus(tokens)
    return total


def _first(there: TokenVector, amount: int) -> TokenVector:
    found = []
    for count in there:
        found.append(min(count, amount))
        amount -= found[-1]
    return TokenVector(*found)


_KEYS_KEPT = 256


class WorkspaceStore(Protocol):
    """The other workspaces, and which of them each row belongs to."""

    def owner(self, dedup_key: bytes) -> str | None: ...

    def take(self, dedup_key: bytes, workspace: str) -> None: ...

    def workspace(self, workspace: str) -> Workspace: ...

    def lost_children(self, workspace: str) -> list[Workspace]:
        """Those whose parent it is, and whose folders are gone."""
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
    was_reset: bool = False


@dataclass(slots=True)
class Reconciliation:
    """`rows`: new ones, oldest first. `stand`: usage of the chat by model key; `copied`: that of rows which another
    workspace has (a fork's). `parts`: what is to be emitted, by model key. `before`: what of the file's totals was
    paid for before. `remainder`: what of them is children's. `without_span`: rows, by span id, that make no span.
    `last`: the last request, until it was used.
    """

    workspace: Workspace
    files: Files
    options: Options
    store: WorkspaceStore
    outcome: Outcome = field(default_factory=Outcome)
    rows: list[Row] = field(default_factory=list)
    stand: dict[str, TokenVector] = field(default_factory=lambda: defaultdict(lambda: ZERO))
    copied: dict[str, TokenVector] = field(default_factory=lambda: defaultdict(lambda: ZERO))
    parts: dict[str, list[Allocation]] = field(default_factory=lambda: defaultdict(list))
    before: dict[str, TokenVector] = field(default_factory=lambda: defaultdict(lambda: ZERO))
    remainder: list[ChildRemainder] = field(default_factory=list)
    without_span: set[bytes] = field(default_factory=set)
    last: LastRequest | None = None

    @property
    def models(self) -> dict[str, Bucket]:
        """What the usage file says, by model key."""
        return self.files.usage.models if self.files.usage is not None else {}

    def add(self, part: Allocation) -> None:
        self.parts[part.key].append(part)

    def in_file(self, row: Row) -> bool:
        """Whether the usage file was written after the row's end."""
        return self.files.usage is None or self.files.written_ms >= row.end_ms

    def own(self, key: str) -> TokenVector:
        """What new rows tell of a model."""
        return total(row.tokens for row in self.rows if row.key == key)

    def reported(self, key: str) -> TokenVector:
        """What a file that is reset has of a model: all of the chat, and what came since outside of it."""
        return self.stand[key].plus(total(row.tokens for row in self.rows if row.key == key and not row.in_chat))


def begin(workspace: Workspace, files: Files, options: Options, store: WorkspaceStore) -> Reconciliation:
    """Sort out which rows are new."""
    work = Reconciliation(workspace, files, options, store, last=files.usage.last if files.usage else None)
    _learn_keys(work)
    distinct = {row.dedup_key: _keyed(row, workspace) for row in files.rows}
    for row in sorted(distinct.values(), key=lambda row: row.end_ms):
        owner = store.owner(row.dedup_key)
        if row.in_chat:
            work.stand[row.key] = work.stand[row.key].plus(row.tokens)
        if owner is None:
            work.rows.append(row)
        elif owner != workspace.id:
            work.copied[row.key] = work.copied[row.key].plus(row.tokens)
    return work


def _learn_keys(work: Reconciliation) -> None:
    """The file itself tells under which key it keeps a model that a request named otherwise (facts 1.4)."""
    reported = [(bucket.named, key) for key, bucket in work.models.items()]
    if work.last is not None:
        reported.append((work.last.bucket.named, work.last.key))
    for named, key in reported:
        if named and canonical(named) != key and len(work.workspace.keys) < _KEYS_KEPT:
            work.workspace.keys[named] = key


def _keyed(row: Row, workspace: Workspace) -> Row:
    key = workspace.keys.get(row.named, row.key)
    return row if key == row.key else replace(row, key=key)


def total(amounts: Iterable[TokenVector]) -> TokenVector:
    """The sum of amounts."""
    found = ZERO
    for amount in amounts:
        found = found.plus(amount)
    return found


def same(one: TokenVector, other: TokenVector) -> bool:
    """Whether two amounts are equal by group."""
    return (one.inputs, one.outputs) == (other.inputs, other.outputs)


def reconcile(workspace: Workspace, files: Files, options: Options, store: WorkspaceStore) -> Outcome:
    """Bring `workspace` up to `files`, and say what is to be emitted for that."""
    work, usage = begin(workspace, files, options, store), files.usage
    old = files.first and is_old(work)
    reset = usage is not None and workspace.seen_file and is_reset(work, usage)
    _look_at_file(work)
    if old:
        leave_out(work)
    elif usage is not None and reset:
        restart_from(work, usage)
    elif usage is not None:
        start_fork(work)
        roll_up_new(work, usage)
    add_rows(work, included=old or reset)
    if old:
        add_last_request(work, old=True)
    elif usage is not None and not reset:
        _add_file_only(work)
    work.outcome.records += _records(work)
    _remember(work, all_known=old or reset)
    return work.outcome


def _look_at_file(work: Reconciliation) -> None:
    for key, bucket in work.models.items():
        model = work.workspace.model(key)
        work.before[key] = model.file.at_most(model.covered)
        model.file, model.cost, model.complete = bucket.tokens, bucket.cost, bucket.complete


def _add_file_only(work: Reconciliation) -> None:
    """What only the usage file shows. Where there is a chat, it is given a moment to show it as well."""
    hold = work.files.chat and work.options.just_now(work.files.written_ms)
    if not hold:
        add_last_request(work, old=False)
    for key in work.models:
        add_left_over(work, key, hold=hold)


def _records(work: Reconciliation) -> Iterator[Record]:
    for key, bucket in work.models.items():
        share(work.parts.get(key, ()), work.workspace.model(key), bucket, work.before[key])
    for key, parts in work.parts.items():
        for part in parts:
            yield _record(work, part, work.models.get(key, Bucket()))
    for row in work.rows:
        for tool in row.tools:
            yield build.tool(work.workspace, tool, work.without_span)


def _record(work: Reconciliation, part: Allocation, bucket: Bucket) -> Record:
    workspace, files = work.workspace, work.files
    if part.row is not None:
        if part.cost is None and part.row.cost is not None:
            part.cost, part.charged = part.row.cost, True
        return build.turn(part, part.row)
    since_ms = workspace.changed_ms or files.began_ms
    if part.exact is not None:
        return build.last_request(part, part.exact, since_ms, files.timing)
    if part.owner is not workspace:
        child = part.owner.model(part.key)
        child.cost = child.paid = child.cost.plus(TokenVector(part.cost or 0))
        child.complete = child.complete and part.cost is not None
        return build.aggregate(part, bucket, (since_ms, files.written_ms), build.CHILD)
    note = build.REMAINDER if workspace.has_rows else build.AGGREGATE
    return build.aggregate(part, bucket, (since_ms, _end_ms(work, part.key)), note)


def _end_ms(work: Reconciliation, key: str) -> int:
    """When usage that only totals show ended: with the model's last request if that is new, else with the file."""
    last = work.files.usage.last if work.files.usage else None
    if last is not None and last.key == key and last.end_ms > work.workspace.last_request_ms:
        return last.end_ms
    return work.files.written_ms


def _remember(work: Reconciliation, *, all_known: bool) -> None:
    workspace, usage = work.workspace, work.files.usage
    if usage is None:
        return
    if usage.last is not None and (all_known or not work.outcome.again_ms):
        workspace.last_request_ms = usage.last.end_ms
    workspace.seen_file = True
    if all_known:
        for model in workspace.models.values():
            model.paid = model.cost
    if work.outcome.records or all_known or not workspace.changed_ms:
        workspace.changed_ms = work.files.written_ms


def is_old(work: Reconciliation) -> bool:
    """Whether a workspace is from before the first run, so that only what is dated later is new."""
    since_ms, files = work.options.since_ms, work.files
    dated = [row.end_ms for row in work.rows if row.end_ms]
    if work.last is not None:
        dated.append(work.last.end_ms)
    if dated and min(dated) < since_ms:
        return True
    return bool(since_ms) and not files.arrived and files.began_ms < since_ms


def leave_out(work: Reconciliation) -> None:
    """Take all that is there as known; what a row tells of it later is taken from there."""
    since_ms, workspace = work.options.since_ms, work.workspace
    old = [row for row in work.rows if row.end_ms < since_ms]
    reported: dict[str, TokenVector] = defaultdict(lambda: ZERO)
    for row in work.rows:
        if row.end_ms < since_ms or work.in_file(row):
            reported[row.key] = reported[row.key].plus(row.tokens)
    for key in {*reported, *work.models}:
        model = workspace.model(key)
        model.covered = model.file.at_least(reported[key])
        model.unmatched = missing(model.file, reported[key])
    if work.files.usage is not None:
        workspace.merged = list(work.files.usage.children)
    for row in old:
        work.store.take(row.dedup_key, workspace.id)
        workspace.has_rows |= bool(row.tokens.total)
    work.rows = work.rows[len(old) :]


def is_reset(work: Reconciliation, usage: UsageFile) -> bool:
    """Whether Mux made the file reset, so that its sums begin again (facts 1.7)."""
    workspace = work.workspace
    if any(child not in usage.children for child in workspace.merged):
        return True
    return _holds_copies(work) or any(
        _begun_again(model.file, usage.models.get(key, Bucket())) for key, model in workspace.models.items()
    )


def _holds_copies(work: Reconciliation) -> bool:
    """A fork's file that was reset from its chat, with the rows that were copied: that explains more of it."""
    beside_chat = beside_growth = 0
    for key in work.copied:
        now, before = work.models.get(key, Bucket()).tokens, work.workspace.model(key).file
        if not now.holds(work.reported(key)):
            return False
        beside_chat += missing(now, work.reported(key)).total
        beside_growth += missing(now, before.plus(work.own(key))).total
    return beside_chat < beside_growth


def _begun_again(before: TokenVector, bucket: Bucket) -> bool:
    """Whether a model's bucket lost anything, or says that it holds one request where there were others."""
    if any(now < then for now, then in zip(bucket.tokens, before, strict=True)):
        return True
    return bool(bucket.named) and before.total > 0 and bucket.tokens != before


def restart_from(work: Reconciliation, usage: UsageFile) -> None:
    """Go on from what the new file says; nothing of it is new. It was made from the chat: rows still to come are not
    in it, unless no finer file was seen at all.
    """
    workspace, finer = work.workspace, work.files.chat or bool(work.files.rows)
    work.outcome.was_reset = True
    workspace.resets += 1
    workspace.reset_ms = work.files.written_ms
    workspace.models = {key: workspace.models[key] for key in usage.models}
    for key, model in workspace.models.items():
        model.covered = model.file
        model.unmatched = ZERO if finer else model.file
        model.skipped = missing(model.file, work.reported(key)) if finer else ZERO
        model.paid = ZERO
        work.before[key] = ZERO
    workspace.merged = list(usage.children)


def start_fork(work: Reconciliation) -> None:
    """A fork starts from nothing; one by an old version starts with a copy of the file, as its rows show."""
    if not work.files.first or not work.copied:
        return
    model = work.workspace.model
    if all(model(key).file.holds(there.plus(work.own(key))) for key, there in work.copied.items()):
        for key, there in work.copied.items():
            model(key).covered = there
            work.before[key] = there


def roll_up_new(work: Reconciliation, usage: UsageFile) -> None:
    """Take the usage of children that are new in the file out of what it gained."""
    workspace = work.workspace
    for name, entry in usage.children.items():
        if name in workspace.merged or name == workspace.id:
            continue
        gained = {key: missing(model.file, model.covered) for key, model in workspace.models.items()}
        remainder = roll_up(workspace, work.store.workspace(name), entry, gained, work.store)
        if remainder is not None and not (remainder.unbounded and work.files.first):
            work.remainder.append(remainder)
        for key, there in gained.items():
            model = workspace.model(key)
            work.before[key] = work.before[key].plus(missing(there, missing(model.file, model.covered)))
        workspace.merged.append(name)


def add_rows(work: Reconciliation, *, included: bool) -> None:
    """Take every new row. `included`: what the usage file has of them is covered already."""
    workspace = work.workspace
    work.rows = [row for row in work.rows if not _too_early(work, row)]
    known = set() if included else _known(work)
    for row in work.rows:
        work.store.take(row.dedup_key, workspace.id)
        if row.tokens.total and row.dedup_key not in known:
            work.add(_part(work, row, included=included and work.in_file(row)))
        else:
            work.without_span.add(row.span_id)
        workspace.has_rows |= bool(row.tokens.total)


def _too_early(work: Reconciliation, row: Row) -> bool:
    """Whether the usage file, which follows the chat file in a moment, has yet to tell what the row cost."""
    if work.in_file(row) or not work.options.just_now(row.end_ms):
        return False
    work.outcome.again_ms = max(work.outcome.again_ms, row.end_ms + work.options.settle_ms)
    return True


def _known(work: Reconciliation) -> set[bytes]:
    """Claims of rows whose usage was emitted before, as a part of what only the usage file showed then.

    Rows are known for as much as they tell more than the file gained, oldest first. Where that is no whole number of
    rows, the last one is known too, and what it tells more is left over.
    """
    rows: dict[str, list[Row]] = defaultdict(list)
    for row in work.rows:
        if row.tokens.total and work.in_file(row) and not _skipped(work, row).total:
            rows[row.key].append(row)
    return set[bytes]().union(*(_known_of(work.workspace.model(key), reported) for key, reported in rows.items()))


def _known_of(model: ModelState, rows: list[Row]) -> set[bytes]:
    gained = missing(model.file, model.covered)
    more = taken(model.unmatched, missing(total(row.tokens for row in rows), gained))
    known: set[bytes] = set()
    for whole in (True, False):
        for row in rows:
            used = taken(more, row.tokens)
            if row.dedup_key in known or not used.total or (whole and not more.holds(row.tokens)):
                continue
            more, model.unmatched = more.minus(used), model.unmatched.minus(used)
            known.add(row.dedup_key)
    return known


def _part(work: Reconciliation, row: Row, *, included: bool) -> Allocation:
    part = Allocation(work.workspace, row.key, row.tokens, row)
    if not included:
        part.exact = _exact(work, row)
        part.tokens = part.exact.bucket.tokens if part.exact is not None else row.tokens
        model = work.workspace.model(row.key)
        skipped = _skipped(work, row)
        model.skipped = model.skipped.minus(skipped)
        model.covered = settled(model.file, model.covered.plus(part.tokens).minus(skipped))
    return part


def _skipped(work: Reconciliation, row: Row) -> TokenVector:
    """The part of the row that a file reset had, and that was not emitted."""
    if row.end_ms > work.workspace.reset_ms:
        return ZERO
    return taken(work.workspace.model(row.key).skipped, row.tokens)


def _exact(work: Reconciliation, row: Row) -> LastRequest | None:
    """The last request, if it is this row: it has the classes and the cost that a row may lack. Used once."""
    last = work.last
    if last is None or last.key != row.key or not -1000 <= last.end_ms - row.end_ms <= 60_000:
        return None
    if not same(last.bucket.tokens, row.tokens):
        return None
    work.last = None
    return last


def add_last_request(work: Reconciliation, *, old: bool) -> None:
    """The last request as a turn, where no finer file tells of turns. `old`: all of the file is covered already."""
    last, workspace = work.last, work.workspace
    if last is None or workspace.has_rows or last.key not in workspace.models:
        return
    if last.end_ms <= workspace.last_request_ms or (old and last.end_ms < work.options.since_ms):
        return
    model = workspace.model(last.key)
    there = model.file if old else missing(model.file, model.covered)
    if not last.bucket.tokens.total or not there.holds(last.bucket.tokens):
        return
    work.add(Allocation(workspace, last.key, last.bucket.tokens, exact=last))
    if not old:
        model.covered = model.covered.plus(last.bucket.tokens)
        model.unmatched = model.unmatched.plus(last.bucket.tokens)


def add_left_over(work: Reconciliation, key: str, *, hold: bool) -> None:
    """What nothing else explains: children's first, the rest its own. `hold`: a finer row may still tell of that."""
    model = work.workspace.model(key)
    left = missing(model.file, model.covered)
    for remainder in sorted(work.remainder, key=lambda remainder: remainder.first_key != key):
        part = remainder.take(left)
        if part.total:
            left = missing(left, part)
            model.covered = model.covered.plus(part)
            _credit(remainder.child.model(key), part)
            work.add(Allocation(remainder.child, key, part))
    if not left.total:
        model.covered = settled(model.file, model.covered)
    elif hold:
        work.outcome.again_ms = work.files.written_ms + work.options.settle_ms
    else:
        model.covered = settled(model.file, model.covered.plus(left))
        model.unmatched = model.unmatched.plus(left)
        work.add(Allocation(work.workspace, key, left))


def _credit(model: ModelState, part: TokenVector) -> None:
    model.file = model.file.plus(part)
    model.covered = model.covered.plus(part)
    model.unmatched = model.unmatched.plus(part)
