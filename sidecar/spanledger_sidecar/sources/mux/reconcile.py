"""Reconcile the files of one workspace with what was counted of it, so that every token counts once.

The usage file proves sums for each model, and its last request; rows of the finer files prove single turns. A sum may
hold turns whose rows are gone, calls that have no row, and other workspaces' usage; a row may be in no sum, or not yet
(docs/formats/mux.md, docs/sidecar.md "What each file proves"). Modification times do not decide which is the case, for
they lag on network disks; that a file's last request ends after every turn in it does.

Four steps that fill the `Reconciliation`, and change the state of its workspace and of children that were merged into
it, and enter with its store which usage is counted; none opens a file, reads a clock, or writes to a disk.

1. `match` finds the rows that are new, that grew, or that another workspace has, and where counting begins.
2. `baseline` sets what of the file was counted before, or belongs to another workspace: `covered`.
3. `attribute` assigns the growth of the file to rows, the last request, merged children and, last, the remainder.
4. `record` (in `build`) shares out the cost, makes the records, and sets what is remembered.

Worked examples; a, b, ... are the usage of single turns, "rows" those of the chat, "file" the sum of one model:

| seen before | seen now | counted now | because |
|---|---|---|---|
| | file a, rows a | turn a | the row explains the file |
| file a, rows a | file a+b+h, rows a b | turn b, remainder h | h is in the file and has no row |
| file a, rows a | file a, rows a b | turn b | the file's last request ended before b: b is `early` |
| b early, file a | file a+b, rows a b | nothing | the file gained what is early: b has arrived |
| b early, file a | file a+g, rows a b | remainder g | g is not b: b was lost in a crash and stays counted |
| remainder h | file a+h, rows a h | nothing | the row of h is late: it takes from `unmatched` |
| file a+h, rows a | file a+d, rows a | remainder d | reset: the file was made from the chat, h is not in it |
| file h, rows b c (both early) | file b+c, rows b c | nothing | reset: the sums are just the chat, not h and rows |
| file a+d, rows a d | file a+d, rows a | nothing | reset: what has no row is what vanished from the chat |
| child k: file k | parent: file a+k, merged k | turn a | k is the child's and was counted there |
| | parent: file a+k, merged k as 5 tokens of m | turn a, k for the child | what the entry names is taken first |
| | parent: merged k, transcript of k: a compaction | turn k | the entry tells what of k was written to the cache |
| | fork: file {}, rows a of another | nothing | a row counts where it was first |
| | old fork: file a, last request of another | nothing | the file was copied with its last request |
| turn a: 10 tokens | the same row: 15 tokens | 5 tokens | one id that grows counts its growth |
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

from spanledger_sidecar.records import span_id, trace_id
from spanledger_sidecar.sources.mux import proof
from spanledger_sidecar.sources.mux.build import GROWTH, record
from spanledger_sidecar.sources.mux.files import Bucket, UsageFile
from spanledger_sidecar.sources.mux.reconciliation import (
    Allocation,
    Counted,
    Files,
    ModelSums,
    Options,
    Reconciliation,
    WorkspaceStore,
    merge_child,
)
from spanledger_sidecar.sources.mux.rows import NO_MODEL, Row, canonical
from spanledger_sidecar.sources.mux.state import Early, ModelState, Workspace
from spanledger_sidecar.tokens import ZERO, TokenVector, at_rate, by_class, capped, missing, same, taken, total

_KEYS_KEPT = 256
_EARLY_KEPT = 64
_FORKS_EMPTY_MS = 1_773_360_000_000
"""2026-03-13: since Mux 0.21 a fork's usage file starts empty (docs/formats/mux.md#17-sums-that-fall)."""


def reconcile(workspace: Workspace, files: Files, options: Options, store: WorkspaceStore) -> Reconciliation:
    """Bring `workspace` up to date with `files`, and return the records to be sent."""
    reconciliation = match(workspace, files, options, store)
    baseline(reconciliation)
    attribute(reconciliation)
    record(reconciliation)
    return reconciliation


# Step 1: match


def match(workspace: Workspace, files: Files, options: Options, store: WorkspaceStore) -> Reconciliation:
    """Return which rows are new, which grew, which another workspace has, and where counting begins.

    The workspace learns keys of models (`keys`), what of its rows was copied (`copied`), and what may not be new
    (`in_doubt`).
    """
    reconciliation = Reconciliation(workspace, files, options, store, last=files.usage.last if files.usage else None)
    reconciliation.ended_ms = proof.last_turn_in_file_ms(files)
    _learn_keys(reconciliation)
    distinct = {row.dedup_key: _keyed(row, workspace) for row in files.rows}
    for row in sorted(distinct.values(), key=lambda row: row.end_ms):
        counted = store.counted(row.dedup_key)
        own = counted is None or counted.workspace == workspace.id
        if not own:
            reconciliation.copied.add(row.key, row.tokens)
        elif row.in_chat:
            reconciliation.chat.add(row.key, row.tokens)
        if counted is None:
            reconciliation.rows.append(row)
        elif own and (growth := _growth(row, counted)) is not None:
            reconciliation.rows.append(growth)
    if files.first and _is_old(reconciliation):
        reconciliation.start = "old"
    elif files.usage is not None and workspace.seen_file and proof.is_reset(reconciliation, files.usage):
        reconciliation.start = "reset"
    _doubt_copies(reconciliation)
    return reconciliation


def _doubt_copies(reconciliation: Reconciliation) -> None:
    """Mark models whose growth may not be new: rows that a fork copied are gone, or the chat explains more."""
    for key in {*reconciliation.copied, *reconciliation.workspace.models}:
        state, copied = reconciliation.workspace.model(key), reconciliation.copied[key]
        state.in_doubt |= missing(state.copied, copied).total > 0
        state.copied = copied
    if reconciliation.start == "goes on" and reconciliation.workspace.seen_file and proof.may_be_reset(reconciliation):
        for key in reconciliation.models:
            reconciliation.workspace.model(key).in_doubt = True


def _learn_keys(reconciliation: Reconciliation) -> None:
    """Learn the key under which the file keeps a model that a request named otherwise."""
    named = [(bucket.named, key) for key, bucket in reconciliation.models.items()]
    if reconciliation.last is not None:
        named.append((reconciliation.last.bucket.named, reconciliation.last.key))
    for name, key in named:
        if name and canonical(name) != key and len(reconciliation.workspace.keys) < _KEYS_KEPT:
            reconciliation.workspace.keys[name] = key


def _keyed(row: Row, workspace: Workspace) -> Row:
    key = workspace.keys.get(row.named, row.key)
    return row if key == row.key else replace(row, key=key)


def _growth(row: Row, counted: Counted) -> Row | None:
    """Return the growth of a row since it was counted, as a row of its own; None if it has not grown."""
    if counted.tokens is None or counted.tokens.holds(row.tokens):
        return None
    trace = row.trace_id or trace_id("mux turn", row.name)
    span = span_id("mux growth", row.dedup_key.hex(), *row.tokens)
    growth = missing(row.tokens, counted.tokens)
    return replace(row, trace_id=trace, span_id=span, tokens=growth, whole=row.tokens, note=GROWTH, tools=[])


def _is_old(reconciliation: Reconciliation) -> bool:
    """Return whether a workspace is from before the first run, so that only what is dated later is new."""
    since_ms, files = reconciliation.options.since_ms, reconciliation.files
    dates = [row.end_ms for row in reconciliation.rows if row.end_ms]
    if reconciliation.last is not None:
        dates.append(reconciliation.last.end_ms)
    if dates and min(dates) < since_ms:
        return True
    began_ms = files.began_ms or (0 if dates else files.written_ms)
    return bool(since_ms) and not files.arrived and began_ms < since_ms


# Step 2: baseline


def baseline(reconciliation: Reconciliation) -> None:
    """Set what of the file was counted before, or belongs to another workspace."""
    workspace, usage = reconciliation.workspace, reconciliation.files.usage
    if reconciliation.start == "reset" and usage is not None:
        _restart(reconciliation, usage)
    for key, bucket in reconciliation.models.items():
        state = workspace.model(key)
        state.file, state.cost, state.complete = bucket.tokens, bucket.cost, bucket.complete
    if usage is not None and not workspace.seen_file:
        for key, state in workspace.models.items():
            _uncover_beyond(state, missing(state.file, proof.proven_to_be_new(reconciliation, key)))
    if reconciliation.start == "old":
        _take_as_known(reconciliation)
    elif usage is not None:
        if reconciliation.files.first:
            _start_fork(reconciliation, usage)
        _merge_children(reconciliation, usage)
    for key in reconciliation.models:
        reconciliation.before[key] = workspace.model(key).covered.at_most(workspace.model(key).file)


def _restart(reconciliation: Reconciliation, usage: UsageFile) -> None:
    """Begin again with a file that was rebuilt from the chat: the part of it that rows proved before is counted."""
    workspace, finer = reconciliation.workspace, reconciliation.files.chat or bool(reconciliation.files.rows)
    states = workspace.models
    workspace.models = {key: states.get(key, ModelState()) for key in usage.models}
    lost_children = any(child not in usage.children for child in workspace.merged)
    for key, bucket in usage.models.items():
        state = workspace.models[key]
        if not finer or key in NO_MODEL:
            state.covered = bucket.tokens
            state.unmatched = ZERO if finer else bucket.tokens
        else:
            _restart_model(reconciliation, key, bucket, rebuilt=lost_children)
        state.paid = at_rate(bucket.cost, bucket.tokens, state.covered)
        state.early = []
    workspace.merged = [child for child in workspace.merged if child in usage.children]


def _restart_model(reconciliation: Reconciliation, key: str, bucket: Bucket, *, rebuilt: bool) -> None:
    """Begin again with one model of a file; one that only shrank still has what no row ever reported.

    Two writers that overwrite each other make a file smaller too.
    """
    state, now = reconciliation.workspace.models[key], bucket.tokens
    own = missing(reconciliation.chat[key], reconciliation.new(key, in_chat=True))
    rows, others = own.plus(reconciliation.copied[key]), missing(state.file, state.chat)
    reconciliation.vanished[key] = missing(state.chat, own)
    proven = proof.proven_by_last(reconciliation, key)
    pool = missing(now, proven)
    kept = reconciliation.workspace.merged and not rebuilt
    if kept or (others.total and not rebuilt and proof.is_overwritten(reconciliation, key, pool, others)):
        state.covered = capped(pool, own.plus(others))
        return
    late = [
        row
        for row in reconciliation.rows
        if row.key == key
        and row.in_chat
        and reconciliation.may_hold(row.end_ms, reconciliation.workspace.last_request_ms)
    ]
    unmatched = state.unmatched
    for row in late:
        if row.tokens.total and unmatched.holds(row.tokens):
            unmatched = missing(unmatched, row.tokens)
            reconciliation.late.add(row.dedup_key)
            rows = rows.plus(row.tokens)
    state.covered, state.unmatched = capped(pool, rows), ZERO


def _uncover_beyond(state: ModelState, there: TokenVector) -> None:
    """Make early what was covered before there was a file, and is not `there` in it."""
    beyond = missing(state.covered, there)
    if beyond.total:
        state.early.append(Early(0, beyond))
        state.covered = capped(there, state.covered)


def _take_as_known(reconciliation: Reconciliation) -> None:
    """Take all present usage as known; rows that prove it later are deducted from it."""
    since_ms, workspace = reconciliation.options.since_ms, reconciliation.workspace
    old = [row for row in reconciliation.rows if row.end_ms < since_ms]
    in_rows = ModelSums()
    for row in reconciliation.rows:
        if row.end_ms < since_ms or reconciliation.may_hold(row.proven_ms):
            in_rows.add(row.key, row.tokens)
    for key in {*in_rows, *reconciliation.models}:
        state = workspace.model(key)
        state.covered, state.unmatched = state.file.at_least(in_rows[key]), missing(state.file, in_rows[key])
        if reconciliation.files.usage is not None:
            state.covered = state.file
        reconciliation.known += max(state.file.total, in_rows[key].total)
    if reconciliation.files.usage is not None:
        workspace.merged = list(reconciliation.files.usage.children)
    for row in old:
        _take(reconciliation, row, row.tokens)
    reconciliation.rows = [row for row in reconciliation.rows if row.end_ms >= since_ms]


def _start_fork(reconciliation: Reconciliation, usage: UsageFile) -> None:
    """Start a fork: from nothing; one by an old version starts with a copy of the file, as its rows show, or, without
    rows, its last request: that of another workspace, or one from before it was made.

    Where the file may have what was copied, and the fork is not known to be that old, all that its rows do not tell is
    in doubt: the file may have been made anew. So it is where its last turn may be another workspace's.
    """
    copied = dict(reconciliation.copied)
    is_sure = not proof.ends_as_another(reconciliation)
    if not copied and proof.has_copied_last(reconciliation, usage):
        copied = {key: missing(bucket.tokens, reconciliation.new(key)) for key, bucket in usage.models.items()}
        is_sure = True
    elif copied:
        is_sure = (
            0 < reconciliation.files.created_ms < _FORKS_EMPTY_MS
            or proof.is_copied(reconciliation)
            or proof.has_copied_last(reconciliation, usage)
        )
    model = reconciliation.workspace.model
    if not all(model(key).file.holds(there.plus(reconciliation.new(key))) for key, there in copied.items()):
        return
    if not is_sure:
        for key in usage.models:
            model(key).in_doubt = True
        return
    for key, there in copied.items():
        state = model(key)
        state.covered = capped(state.file, there)
        state.paid = at_rate(state.cost, state.file, state.covered)
        reconciliation.from_source += state.covered.total


def _merge_children(reconciliation: Reconciliation, usage: UsageFile) -> None:
    """Take the usage of children that are new in the file out of what it gained."""
    workspace = reconciliation.workspace
    for name, entry in usage.children.items():
        if name in workspace.merged or name == workspace.id:
            continue
        gained = {key: reconciliation.left(key) for key in workspace.models}
        remainder = merge_child(workspace, reconciliation.store.workspace(name), entry, gained, reconciliation.store)
        if remainder is not None and not (remainder.unbounded and reconciliation.files.first):
            reconciliation.children.append(remainder)
        workspace.merged.append(name)


# Step 3: attribute


def attribute(reconciliation: Reconciliation) -> None:
    """Hand what the file gained to rows, to the last request, to merged children, and to the remainder."""
    by_key = _take_rows(reconciliation)
    early = [key for key in reconciliation.models if reconciliation.workspace.model(key).early]
    for key in dict.fromkeys((*by_key, *early)):
        _attribute_rows(reconciliation, key, by_key.get(key, []))
    if reconciliation.start == "old":
        _attribute_last(reconciliation)
    elif reconciliation.files.usage is not None:
        _attribute_rest(reconciliation)


def _take_rows(reconciliation: Reconciliation) -> dict[str, list[Row]]:
    """Return the new rows with usage by model key, but those that are waited with; each is counted from now."""
    by_key = defaultdict[str, list[Row]](list)
    awaited = {row.dedup_key: row.end_ms for row in reconciliation.rows if _is_awaited(reconciliation, row)}
    if awaited:
        retry_ms = max(awaited.values()) + reconciliation.options.hold_back_ms
        reconciliation.retry_ms = max(reconciliation.retry_ms, retry_ms)
    reconciliation.rows = [row for row in reconciliation.rows if row.dedup_key not in awaited]
    reconciliation.merged = proof.merged_rows(reconciliation, reconciliation.rows)
    classes = reconciliation.merged.tokens
    reconciliation.rows = [replace(row, tokens=classes.get(row.dedup_key, row.tokens)) for row in reconciliation.rows]
    for row in reconciliation.rows:
        _take(reconciliation, row, row.whole or row.tokens)
        if (row.tokens.total or row.unknown) and row.dedup_key not in reconciliation.late:
            by_key[row.key].append(row)
        else:
            reconciliation.without_span.add(row.span_id)
    return by_key


def _take(reconciliation: Reconciliation, row: Row, tokens: TokenVector) -> None:
    """Remember that a row is counted, and whose turn used as much."""
    reconciliation.store.take(row.dedup_key, reconciliation.workspace.id, tokens)
    reconciliation.workspace.has_rows |= bool(tokens.total)
    if row.in_chat:
        reconciliation.remember_usage(row.key, tokens)


def _is_awaited(reconciliation: Reconciliation, row: Row) -> bool:
    """Return whether the usage file, which is written a moment after the row, does not have its cost yet.

    A file without any last request, as a fork's is, tells nothing of when it has a row: else a fork would take a row
    that the workspace it was copied from waits with.
    """
    if reconciliation.files.usage is None or not reconciliation.options.just_now(row.end_ms):
        return False
    by_time = row.in_chat and reconciliation.ended_ms
    is_in_file = reconciliation.may_hold(row.end_ms) if by_time else reconciliation.left(row.key).holds(row.tokens)
    return not is_in_file


def _attribute_rows(reconciliation: Reconciliation, key: str, rows: list[Row]) -> None:
    """Emit `rows` of one model, and find which of them, and of those that are early, the file has."""
    state = reconciliation.workspace.model(key)
    if reconciliation.files.usage is None:
        late = _take_late(reconciliation, state, rows, ZERO)
        rows = [row for row in rows if row.dedup_key not in late]
        reached = []
    else:
        reached = [row for row in rows if reconciliation.may_hold(row.proven_ms)]
    for row in rows:
        if row not in reached:
            reconciliation.add(Allocation(reconciliation.workspace, key, row.tokens, row))
            _remember_early(reconciliation, state, row)
    if reconciliation.start == "old":
        for row in reached:
            reconciliation.add(Allocation(reconciliation.workspace, key, row.tokens, row, in_file=True))
    if reconciliation.start == "old" or reconciliation.files.usage is None:
        return
    gain = missing(state.file, state.covered)
    exact, proven = _exact(reconciliation, key, reached, gain)
    if exact is not None:
        last, reconciliation.last = reconciliation.last, None
        reconciliation.add(Allocation(reconciliation.workspace, key, proven, exact, last, in_file=True))
    open_rows = [row for row in reached if row is not exact]
    want = missing(gain, proven)
    late = _take_late(reconciliation, state, open_rows, want)
    open_rows = [row for row in open_rows if row.dedup_key not in late]
    held, arrived = proof.held(
        open_rows, [early for early in state.early if reconciliation.may_hold(early.end_ms)], want
    )
    corrected = proof.corrected(held, by_class(state.file, state.covered.plus(proven)))
    for row in open_rows:
        tokens = corrected.get(row.dedup_key, row.tokens)
        reconciliation.add(Allocation(reconciliation.workspace, key, tokens, row, in_file=row in held))
        if row not in held:
            _remember_early(reconciliation, state, row)
    for early in arrived:
        reconciliation.add(Allocation(reconciliation.workspace, key, early.tokens, in_file=True, silent=True))
    explained = capped(want, total([*corrected.values(), *(early.tokens for early in arrived)]))
    if exact is not None:
        explained = explained.plus(proven)
    state.covered = capped(state.file, state.covered.plus(explained))
    state.early = [
        early._replace(lost=bool(early.end_ms and reconciliation.ended_ms and reconciliation.may_hold(early.end_ms)))
        for early in state.early
        if early not in arrived
    ][-_EARLY_KEPT:]


def _remember_early(reconciliation: Reconciliation, state: ModelState, row: Row) -> None:
    """Keep a row that the file may come to hold. Before any file was seen, it is covered in advance."""
    if reconciliation.files.usage is None and not reconciliation.workspace.seen_file:
        state.covered = state.covered.plus(row.tokens)
    else:
        state.early.append(Early(row.proven_ms, row.tokens))


def _exact(
    reconciliation: Reconciliation, key: str, rows: list[Row], gain: TokenVector
) -> tuple[Row | None, TokenVector]:
    """Return the row that is the last request, which has the classes and the cost that a row may lack; and its usage.

    A last request that is new and has no row is not any other row's: its usage comes back without one.
    """
    last = reconciliation.last
    if last is None or last.key != key or not gain.holds(last.bucket.tokens):
        return None, ZERO
    if last.end_ms <= reconciliation.workspace.last_request_ms and not reconciliation.files.first:
        return None, ZERO
    for row in reversed(rows):
        if proof.is_last(row, last):
            return row, last.bucket.tokens
    return None, ZERO if proof.is_early(reconciliation, key, last) else proof.proven_by_last(reconciliation, key)


def _take_late(reconciliation: Reconciliation, state: ModelState, rows: list[Row], want: TokenVector) -> set[bytes]:
    """Take from `unmatched` the usage of rows that was counted before, as a part of what only the usage file showed
    then; these rows make no span. Returns their keys.

    These are rows that ended before the last request which was counted then, and that were not in the chat yet: a
    turn's row is in the chat before the file has it, but not a tool's call of a model, or an aborted turn. Else only
    rows that the file could hold at the last look, for as much as they tell more than the file gained, oldest first.
    Where that is no whole number of rows, the last one is late too, and what it tells more is left over.
    """
    looked_ms = reconciliation.workspace.looked_ms or reconciliation.seen_until_ms
    counted_ms = reconciliation.workspace.last_request_ms
    late: set[bytes] = set()
    for row in rows:
        if row.tokens.total and 0 < row.proven_ms <= counted_ms and state.unmatched.holds(row.tokens):
            state.unmatched = state.unmatched.minus(taken(state.unmatched, row.tokens))
            late.add(row.dedup_key)
            reconciliation.without_span.add(row.span_id)
    rows = [row for row in rows if row.dedup_key not in late]
    seen = [row for row in rows if row.end_ms <= looked_ms and reconciliation.may_hold(row.proven_ms, counted_ms)]
    more = taken(state.unmatched, missing(total(row.tokens for row in rows), want))
    for whole in (True, False):
        for row in seen:
            used = taken(more, row.tokens)
            if row.dedup_key in late or not used.total or (whole and not more.holds(row.tokens)):
                continue
            more, state.unmatched = more.minus(used), state.unmatched.minus(used)
            late.add(row.dedup_key)
            reconciliation.without_span.add(row.span_id)
    return late


def _attribute_last(reconciliation: Reconciliation) -> None:
    """Attribute the last request as a turn, where no file has the turns."""
    last, workspace, old = reconciliation.last, reconciliation.workspace, reconciliation.start == "old"
    if last is None or workspace.has_rows or last.key not in reconciliation.models:
        return
    if last.end_ms <= workspace.last_request_ms or (old and last.end_ms < reconciliation.options.since_ms):
        return
    state = workspace.model(last.key)
    there = state.file if old else reconciliation.left(last.key)
    if not last.bucket.tokens.total or not there.holds(last.bucket.tokens):
        return
    reconciliation.add(
        Allocation(workspace, last.key, last.bucket.tokens, exact=last, in_file=True, guess=state.in_doubt)
    )
    reconciliation.last = None
    if not old:
        state.covered = state.covered.plus(last.bucket.tokens)
        state.unmatched = state.unmatched.plus(last.bucket.tokens)


def _attribute_rest(reconciliation: Reconciliation) -> None:
    """Attribute what only the usage file shows. Where there is a chat, it is given a moment to show it as well.

    Not after a reset: what vanished from the chat is known in this look only.
    """
    written_ms = max(reconciliation.files.written_ms, reconciliation.ended_ms)
    hold = reconciliation.files.chat and reconciliation.options.just_now(written_ms) and reconciliation.start != "reset"
    if not hold:
        _attribute_last(reconciliation)
    _attribute_children(reconciliation)
    for key in reconciliation.models:
        state, left = reconciliation.workspace.model(key), reconciliation.left(key)
        if left.total and hold:
            reconciliation.retry_ms = max(reconciliation.retry_ms, written_ms + reconciliation.options.hold_back_ms)
            continue
        if left.total and not (reconciliation.start == "reset" and same(left, reconciliation.vanished[key])):
            state.unmatched = state.unmatched.plus(left)
            guess, proven = reconciliation.start == "reset" or state.in_doubt, proof.proven_by_last(reconciliation, key)
            guess |= reconciliation.files.first and proof.is_of_another(reconciliation, key, left)
            tokens = proven.plus(missing(left, proven)) if left.holds(proven) else left
            reconciliation.add(Allocation(reconciliation.workspace, key, tokens, in_file=True, guess=guess))
        state.covered, state.in_doubt = state.file, False


def _attribute_children(reconciliation: Reconciliation) -> None:
    """Attribute usage to merged children: first what an entry names, then what is missing, in the other models."""
    for named in (True, False):
        for child in reconciliation.children:
            for key in reconciliation.models:
                if named != (key == child.key) or (named and child.unbounded):
                    continue
                part = child.take(reconciliation.left(key))
                if not part.total:
                    continue
                state = reconciliation.workspace.model(key)
                state.covered = state.covered.plus(part)
                allocation = Allocation(child.child, key, part, in_file=True, guess=not named or state.in_doubt)
                child.parts.append(allocation)
                reconciliation.add(allocation)
                _credit(child.child.model(key), part)
                child.child.looked_ms = reconciliation.options.now_ms
    for child in reconciliation.children:
        child.share_cost()


def _credit(state: ModelState, part: TokenVector) -> None:
    state.file = state.file.plus(part)
    state.covered = state.covered.plus(part)
    state.unmatched = state.unmatched.plus(part)
