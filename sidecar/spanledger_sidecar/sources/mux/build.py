"""Share out the cost of usage that is to be emitted, and make it records: ids, times and notes."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from spanledger_sidecar.records import ClosedRecord, Record, ToolRecord, UsageRecord, span_id, trace_id
from spanledger_sidecar.sources.mux.files import Bucket, LastRequest, Timing
from spanledger_sidecar.sources.mux.rows import Row, Tool, model_of
from spanledger_sidecar.sources.mux.state import ModelState, Workspace
from spanledger_sidecar.tokens import ZERO, TokenVector, at_rate, by_class, with_total


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
        """Return whether its own row says that a subscription covered it."""
        return self.row is not None and self.row.cost == 0


def share(parts: Iterable[Allocation], model: ModelState, bucket: Bucket, before: TokenVector) -> None:
    """Hand out the cost that the file gained for one model to the parts that are emitted of it.

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


SOURCE = "mux"

TURN = "one turn: its model calls are summed, and no tier of price is known of each"
AGGREGATE = "per-session aggregate: no per-call or per-tool detail"
REMAINDER = "per-session aggregate: what the usage file has beyond the turns that the chat files show"
CHILD = "per-session aggregate: usage of a sub-agent that only its parent's file still shows"
GROWTH = "what one turn used beyond what was counted of it before"
GUESS = "a guess: nothing says more of whose it is"
INCLUDED = "covered by a subscription: nothing was charged"


def turn(part: Allocation, row: Row) -> UsageRecord:
    """One row of a chat or headless file."""
    named = model_of(part.key)
    note = INCLUDED if part.charged and not part.cost else row.note or TURN
    note = "; ".join([note, *[GUESS] * part.guess])
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
    )


def tool(owner: Workspace, found: Tool, without_span: Collection[bytes]) -> ToolRecord:
    """One tool call of a turn, below the turn's span unless that is among those `without_span`."""
    return ToolRecord(
        SOURCE,
        owner.session,
        found.trace_id,
        found.span_id,
        found.start_ms,
        found.end_ms,
        found.name,
        found.call_id,
        found.signature,
        found.signature_scope,
        found.failed,
        parent_id=b"" if found.parent_id in without_span else found.parent_id,
    )


def last_request(part: Allocation, last: LastRequest, since_ms: int, timing: Timing | None) -> UsageRecord:
    """Return the turn that the usage file itself proves."""
    identity = ("mux last request", part.owner.id, part.key, last.end_ms)
    if timing is not None and (timing.key != part.key or timing.output != part.tokens.outputs):
        timing = None
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
        note="; ".join([INCLUDED if part.charged and not part.cost else TURN, *[GUESS] * part.guess]),
        estimate=part.guess,
    )


def aggregate_identity(part: Allocation, last_ms: int, nth: int) -> tuple[object, ...]:
    """By what a sum is known: the totals that it leads to, and the last request that the file names with them.

    A file that is made anew names another, so that totals that it reaches again are told apart, also where the cursor
    was lost. `nth` tells those apart that name none.
    """
    return "mux aggregate", part.owner.id, part.key, *part.owner.model(part.key).file, last_ms, nth


def aggregate(
    part: Allocation, bucket: Bucket, times_ms: tuple[int, int], note: str, identity: tuple[object, ...]
) -> UsageRecord:
    """Return what the file gained and nothing finer explains."""
    model = part.owner.model(part.key)
    end_ms = times_ms[1]
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
        note="; ".join([note, *[INCLUDED] * (part.charged and not part.cost), *[GUESS] * part.guess]),
        estimate=part.guess,
    )


def closed(workspace: Workspace, at_ms: int) -> Record:
    """Return the end of a workspace that was deleted."""
    identity = ("mux closed", workspace.id, workspace.closings)
    return ClosedRecord(SOURCE, workspace.session, trace_id(*identity), span_id(*identity), at_ms, at_ms)
