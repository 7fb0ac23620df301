"""Parts as records: their ids, times and words."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from spanledger_sidecar.ids import span_id, trace_id
from spanledger_sidecar.records import ClosedRecord, Record, ToolRecord, UsageRecord
from spanledger_sidecar.sources.mux.chat import Row, Tool
from spanledger_sidecar.sources.mux.names import model_of
from spanledger_sidecar.sources.mux.parts import Part, share
from spanledger_sidecar.sources.mux.state import Workspace
from spanledger_sidecar.sources.mux.usage_file import Bucket, Turn
from spanledger_sidecar.tokens import missing, settled

SOURCE = "mux"

TURN = "one turn: its model calls are summed, and no tier of price is known of each"
AGGREGATE = "per-session aggregate: no per-call or per-tool detail"
REMAINDER = "per-session aggregate: what the usage file has beyond the turns that the chat files show"
CHILD = "per-session aggregate: usage of a sub-agent that only its parent's file still shows"
INCLUDED = "covered by a subscription: nothing was charged"


@dataclass(frozen=True, slots=True)
class Timing:
    """The last request of session-timing.json: how long it took, from its start to its end (facts 3)."""

    key: str
    output: int
    duration_ms: int
    ttft_ms: int | None = None
    agent: str = ""


def turn(part: Part, row: Row) -> UsageRecord:
    """One row of a chat or headless file."""
    named = model_of(part.key)
    note = INCLUDED if part.charged and not part.cost else row.note or TURN
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
        note=note,
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


def last_request(part: Part, last: Turn, since_ms: int, timing: Timing | None) -> UsageRecord:
    """The turn that the usage file itself proves."""
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
        note=INCLUDED if part.charged and not part.cost else TURN,
    )


def aggregate(part: Part, bucket: Bucket, times_ms: tuple[int, int], note: str) -> UsageRecord:
    """What the file gained and nothing finer explains; its id is that of the totals that it leads to."""
    ledger = part.owner.ledger(part.key)
    identity = ("mux aggregate", part.owner.id, part.key, *ledger.file, part.owner.rebaselines)
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
        (ledger.file, ledger.cost.total if ledger.complete else None),
        model_key=part.key,
        service_tier=bucket.tier,
        note=f"{note}; {INCLUDED}" if part.charged and not part.cost else note,
    )


def closed(workspace: Workspace, at_ms: int) -> Record:
    """The end of a workspace that was deleted."""
    identity = ("mux closed", workspace.id, workspace.closings)
    return ClosedRecord(SOURCE, workspace.session, trace_id(*identity), span_id(*identity), at_ms, at_ms)


def held_back(workspace: Workspace, now_ms: int) -> list[Record]:
    """What a workspace's file showed, and was held back for a finer row, when the workspace is gone."""
    records: list[Record] = []
    for key, ledger in workspace.models.items():
        left = missing(ledger.file, ledger.covered)
        if not left.total:
            continue
        part = Part(workspace, key, left)
        bucket = Bucket(ledger.file, ledger.cost, ledger.complete)
        before = ledger.covered
        ledger.covered = settled(ledger.file, ledger.covered.plus(left))
        share([part], ledger, bucket, before)
        end_ms = workspace.changed_ms or now_ms
        records.append(aggregate(part, bucket, (end_ms, end_ms), REMAINDER))
    return records
