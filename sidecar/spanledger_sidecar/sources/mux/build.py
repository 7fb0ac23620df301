"""The last step of `reconcile`: distribute the cost over the usage that is emitted, and make records of it.

Also here: their ids, times and notes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from spanledger_sidecar.records import (
    USAGE_UNKNOWN,
    ClosedRecord,
    Record,
    ToolRecord,
    UsageRecord,
    dedup_key,
    span_id,
    trace_id,
)
from spanledger_sidecar.sources.mux import proof
from spanledger_sidecar.sources.mux.files import Bucket, LastRequest, MergedChild, Timing, UsageFile
from spanledger_sidecar.sources.mux.reconciliation import Allocation, Files, Options, Reconciliation, WorkspaceStore
from spanledger_sidecar.sources.mux.rows import Row, Tool, model_of
from spanledger_sidecar.sources.mux.state import ModelState, Workspace
from spanledger_sidecar.tokens import ZERO, TokenVector, at_rate, by_class, total, with_total

SOURCE = "mux"

TURN = "one turn: its model calls are summed, and no tier of price is known of each"
AGGREGATE = "per-session aggregate: no per-call or per-tool detail"
REMAINDER = "per-session aggregate: what the usage file has beyond the turns that the chat files show"
CHILD = "per-session aggregate: usage of a sub-agent that only its parent's file still shows"
GROWTH = "what one turn used beyond what was counted of it before"
GUESS = "a guess: nothing says more of whose it is"
INCLUDED = "covered by a subscription: nothing was charged"


def record(reconciliation: Reconciliation) -> None:
    """Distribute the cost, make the records, and set the state that is stored."""
    reconciliation.records += _records(reconciliation)
    workspace, usage = reconciliation.workspace, reconciliation.files.usage
    workspace.looked_ms = reconciliation.seen_until_ms
    for key in {*reconciliation.chat, *workspace.models}:
        if key in workspace.models or key in reconciliation.models:
            workspace.model(key).chat = reconciliation.chat[key]
    if usage is None:
        return
    all_known = reconciliation.start in ("old", "reset")
    if usage.last is not None and (all_known or not reconciliation.retry_ms):
        workspace.last_request_ms = max(workspace.last_request_ms, usage.last.end_ms)
        reconciliation.store.take(
            proof.last_request_key(usage.last), _owner_of(reconciliation, usage.last), usage.last.bucket.tokens
        )
        reconciliation.remember_usage(usage.last.key, usage.last.bucket.tokens)
    workspace.seen_last_ms = max(workspace.seen_last_ms, reconciliation.ended_ms)
    workspace.seen_file = True
    if reconciliation.start == "old":
        for state in workspace.models.values():
            state.paid = state.cost
    if reconciliation.records or all_known or not workspace.changed_ms:
        workspace.changed_ms = reconciliation.files.written_ms


def _owner_of(reconciliation: Reconciliation, last: LastRequest) -> str:
    """Return the workspace that a last request belongs to: the one where it was seen first."""
    counted = reconciliation.store.counted(proof.last_request_key(last))
    return reconciliation.workspace.id if counted is None else counted.workspace


def _records(reconciliation: Reconciliation) -> Iterator[Record]:
    for key, bucket in reconciliation.models.items():
        parts = [part for part in reconciliation.allocations.get(key, ()) if part.in_file]
        if reconciliation.start == "old":
            share(parts, ModelState(), bucket, ZERO)
        else:
            share(parts, reconciliation.workspace.model(key), bucket, reconciliation.before[key])
    if reconciliation.entry is not None and reconciliation.files.parent is not None:
        _share_of_child(reconciliation, reconciliation.entry, reconciliation.files.parent)
    for key, parts in reconciliation.allocations.items():
        for part in parts:
            if not part.silent:
                yield _record(reconciliation, part, reconciliation.models.get(key, Bucket()))
    for row in reconciliation.rows:
        for called in row.tools:
            yield tool(reconciliation.workspace, called, reconciliation.without_span)


def _share_of_child(reconciliation: Reconciliation, entry: MergedChild, parent: UsageFile) -> None:
    """Share the cost of a removed child in its parent's file among the child's rows, by the file's rates."""
    models, workspace = parent.models, reconciliation.workspace
    parts = [
        part
        for allocations in reconciliation.allocations.values()
        for part in allocations
        if part.row is not None and part.row.dedup_key in reconciliation.merged.tokens and part.row.cost is None
    ]
    if entry.cost is None or any(not models.get(part.key, Bucket(complete=False)).complete for part in parts):
        return
    buckets = [models[part.key] for part in parts]
    weights = [at_rate(one.cost, one.tokens, part.tokens).total for one, part in zip(buckets, parts, strict=True)]
    charged = sum(row.cost or 0 for row in reconciliation.rows)
    left, whole = entry.cost - charged - total(state.paid for state in workspace.models.values()).total, sum(weights)
    if left < 0 or not whole:
        return
    costs = [left * weight // whole for weight in weights]
    costs[-1] += left - sum(costs)
    for part, cost in zip(parts, costs, strict=True):
        part.cost = cost
        state = workspace.model(part.key)
        state.paid = state.paid.plus(TokenVector(cost))


def _record(reconciliation: Reconciliation, part: Allocation, bucket: Bucket) -> Record:
    workspace, files = reconciliation.workspace, reconciliation.files
    if part.row is not None:
        if part.cost is None and part.row.cost is not None:
            part.cost, part.charged = part.row.cost, True
        return turn(part, part.row)
    since_ms = workspace.changed_ms or files.began_ms
    if part.exact is not None:
        return last_request(part, part.exact, since_ms, files.timing)
    if part.owner is not workspace:
        child = part.owner.model(part.key)
        child.cost = child.paid = child.cost.plus(TokenVector(part.cost or 0))
        child.complete = child.complete and part.cost is not None
        return aggregate(part, bucket, (since_ms, files.written_ms), CHILD, _identity(reconciliation, part))
    note = REMAINDER if workspace.has_rows else AGGREGATE
    return aggregate(part, bucket, (since_ms, _end_ms(reconciliation, part.key)), note, _identity(reconciliation, part))


def _identity(reconciliation: Reconciliation, part: Allocation) -> tuple[object, ...]:
    """Return the identity of a sum; one that was reached before, with the same last request, gets another number."""
    last_ms = (
        (reconciliation.ended_ms or reconciliation.workspace.seen_last_ms)
        if part.owner is reconciliation.workspace
        else 0
    )
    nth = 0
    while reconciliation.store.counted(key := dedup_key(*aggregate_identity(part, last_ms, nth))) is not None:
        nth += 1
    reconciliation.store.take(key, part.owner.id, part.tokens)
    return aggregate_identity(part, last_ms, nth)


def held_back(workspace: Workspace, now_ms: int, store: WorkspaceStore) -> list[Record]:
    """Return what a workspace's file showed, and was held back for a finer row, when the workspace is gone."""
    reconciliation = Reconciliation(workspace, Files(written_ms=workspace.changed_ms or now_ms), Options(), store)
    records: list[Record] = []
    for key, state in workspace.models.items():
        left, before = reconciliation.left(key), state.covered
        if left.total:
            part, bucket = (
                Allocation(workspace, key, left, in_file=True),
                Bucket(state.file, state.cost, state.complete),
            )
            state.covered = state.file
            share([part], state, bucket, before)
            records.append(_record(reconciliation, part, bucket))
    return records


def _end_ms(reconciliation: Reconciliation, key: str) -> int:
    """Return the end of usage that only totals show: the model's last request if that is new, else the file's."""
    last = reconciliation.files.usage.last if reconciliation.files.usage else None
    if last is not None and last.key == key and last.end_ms > reconciliation.workspace.last_request_ms:
        return last.end_ms
    return reconciliation.files.written_ms


def share(parts: Iterable[Allocation], model: ModelState, bucket: Bucket, before: TokenVector) -> None:
    """Distribute the cost that the file gained for one model over the allocations that are emitted of it.

    Exact turns take what the file says of them; of the rest each class of tokens costs the same, so the sums are the
    file's. `before` is what of the file had been paid for before.
    """
    tokens, cost = by_class(bucket.tokens, before), by_class(bucket.cost, model.paid)
    for part in sorted(parts, key=lambda part: (not part.free, part.exact is None)):
        given = ZERO
        if part.exact is not None and part.exact.bucket.complete:
            given = part.exact.bucket.cost
        elif bucket.complete and not part.free:
            given = at_rate(cost, tokens, part.tokens)
            if part.reported is not None:
                given = with_total(given, part.reported)
        _price(part, bucket, given)
        tokens, cost, model.paid = by_class(tokens, part.tokens), by_class(cost, given), model.paid.plus(given)
    open_classes = by_class(bucket.tokens, model.covered)
    model.paid = TokenVector(
        *(paid if left else whole for paid, left, whole in zip(model.paid, open_classes, bucket.cost, strict=True))
    )


def _price(part: Allocation, bucket: Bucket, given: TokenVector) -> None:
    exact = part.exact.bucket if part.exact is not None else None
    if part.row is not None and part.row.cost is not None:
        part.cost, part.charged = part.row.cost, True
    elif exact is not None and exact.included:
        part.cost, part.charged = 0, True
    elif exact is not None and exact.complete:
        part.cost = exact.cost.total
    elif part.reported is not None:
        part.cost = part.reported
    elif bucket.complete:
        part.cost = given.total
        part.charged = bucket.included and not part.cost


def turn(part: Allocation, row: Row) -> UsageRecord:
    """Return the record of one row of a chat or headless file."""
    named = model_of(part.key)
    note = INCLUDED if part.charged and not part.cost else row.note or TURN
    unknown = part.exact.bucket.unknown if part.exact is not None else row.unknown
    note = "; ".join([note, *[GUESS] * part.guess, *[USAGE_UNKNOWN] * bool(unknown)])
    return UsageRecord(
        SOURCE,
        part.owner.session,
        row.trace_id,
        row.span_id,
        row.start_ms,
        row.end_ms,
        "per-turn",
        *named,
        part.tokens,
        part.cost,
        part.charged,
        model_key=part.key,
        service_tier=row.tier or (part.exact.bucket.tier if part.exact else ""),
        agent=row.agent,
        route=row.route,
        ttft_ms=row.ttft_ms,
        finish_reason=row.finish_reason,
        write_1h=row.write_1h if row.whole is None else None,
        note=note,
        estimate=part.guess,
        unknown=unknown,
    )


def tool(owner: Workspace, call: Tool, without_span: Collection[bytes]) -> ToolRecord:
    """Return the record of one tool call of a turn, a child of the turn's span unless that is in `without_span`."""
    return ToolRecord(
        SOURCE,
        owner.session,
        call.trace_id,
        call.span_id,
        call.start_ms,
        call.end_ms,
        call.name,
        call.call_id,
        call.signature,
        call.signature_scope,
        call.failed,
        parent_id=b"" if call.parent_id in without_span else call.parent_id,
    )


def last_request(part: Allocation, last: LastRequest, since_ms: int, timing: Timing | None) -> UsageRecord:
    """Return the turn that the usage file itself proves."""
    identity = ("mux last request", part.owner.id, part.key, last.end_ms)
    if timing is not None and (timing.key != part.key or timing.output != part.tokens.outputs):
        timing = None
    note = INCLUDED if part.charged and not part.cost else TURN
    start_ms = last.end_ms - timing.duration_ms if timing else min(since_ms or last.end_ms, last.end_ms)
    return UsageRecord(
        SOURCE,
        part.owner.session,
        trace_id(*identity),
        span_id(*identity),
        start_ms,
        last.end_ms,
        "per-turn",
        *model_of(part.key),
        part.tokens,
        part.cost,
        part.charged,
        model_key=part.key,
        service_tier=last.bucket.tier,
        agent=timing.agent if timing else "",
        ttft_ms=timing.ttft_ms if timing else None,
        note="; ".join([note, *[GUESS] * part.guess, *[USAGE_UNKNOWN] * bool(last.bucket.unknown)]),
        estimate=part.guess,
        unknown=last.bucket.unknown,
    )


def aggregate_identity(part: Allocation, last_ms: int, nth: int) -> tuple[object, ...]:
    """Return what identifies a sum: the totals that it leads to, and the last request that the file names with them.

    A file that is made anew names another, so that totals that it reaches again differ, also where the cursor was lost.
    `nth` distinguishes those that name none.
    """
    return "mux aggregate", part.owner.id, part.key, *part.owner.model(part.key).file, last_ms, nth


def aggregate(
    part: Allocation, bucket: Bucket, times_ms: tuple[int, int], note: str, identity: tuple[object, ...]
) -> UsageRecord:
    """Return what the file gained and nothing finer explains."""
    model = part.owner.model(part.key)
    end_ms = times_ms[1]
    included = part.charged and not part.cost
    notes = [note, INCLUDED * included, GUESS * part.guess, USAGE_UNKNOWN * bool(bucket.unknown)]
    return UsageRecord(
        SOURCE,
        part.owner.session,
        trace_id(*identity),
        span_id(*identity),
        min(times_ms[0] or end_ms, end_ms),
        end_ms,
        "per-session-aggregate",
        *model_of(part.key),
        part.tokens,
        part.cost,
        part.charged,
        (model.file, model.cost.total if model.complete else None),
        model_key=part.key,
        service_tier=bucket.tier,
        note="; ".join(filter(None, notes)),
        estimate=part.guess,
        unknown=bucket.unknown,
    )


def closed(workspace: Workspace, at_ms: int) -> Record:
    """Return the end of a workspace that was deleted."""
    identity = ("mux closed", workspace.id, workspace.closings)
    return ClosedRecord(SOURCE, workspace.session, trace_id(*identity), span_id(*identity), at_ms, at_ms)
