"""What changed in a workspace since the last look, as records: every token once (facts 1.8, in that order)."""

from __future__ import annotations

from collections.abc import Iterator

from spanledger_sidecar.records import Record
from spanledger_sidecar.sources.mux import beginnings, build, findings
from spanledger_sidecar.sources.mux.parts import Part, share
from spanledger_sidecar.sources.mux.state import Workspace
from spanledger_sidecar.sources.mux.usage_file import Bucket
from spanledger_sidecar.sources.mux.work import Family, Files, Outcome, Rules, Work, begin
from spanledger_sidecar.tokens import Five


def explain(workspace: Workspace, files: Files, rules: Rules, family: Family) -> Outcome:
    """Bring `workspace` up to `files`, and say what is to be emitted for that."""
    work, usage = begin(workspace, files, rules, family), files.usage
    old = files.first and beginnings.is_old(work)
    anew = usage is not None and workspace.seen_file and beginnings.is_anew(work, usage)
    _look_at_file(work)
    if old:
        beginnings.leave_out(work)
    elif usage is not None and anew:
        beginnings.rebaseline(work, usage)
    elif usage is not None:
        beginnings.start_fork(work)
        beginnings.roll_up_new(work, usage)
    findings.add_rows(work, included=old or anew)
    if old:
        findings.add_last_request(work, old=True)
    elif usage is not None and not anew:
        _add_file_only(work)
    work.outcome.records += _records(work)
    _remember(work, all_known=old or anew)
    return work.outcome


def _look_at_file(work: Work) -> None:
    for key, bucket in work.models.items():
        ledger = work.workspace.ledger(key)
        work.before[key] = ledger.file.at_most(ledger.covered)
        ledger.file, ledger.cost, ledger.complete = bucket.tokens, bucket.cost, bucket.complete


def _add_file_only(work: Work) -> None:
    """What only the usage file shows. Where there is a chat, it is given a moment to show it as well."""
    hold = work.files.chat and work.rules.just_now(work.files.written_ms)
    if not hold:
        findings.add_last_request(work, old=False)
    for key in work.models:
        findings.add_left_over(work, key, hold=hold)


def _records(work: Work) -> Iterator[Record]:
    for key, bucket in work.models.items():
        share(work.parts.get(key, ()), work.workspace.ledger(key), bucket, work.before[key])
    for key, parts in work.parts.items():
        for part in parts:
            yield _record(work, part, work.models.get(key, Bucket()))
    for row in work.rows:
        for tool in row.tools:
            yield build.tool(work.workspace, tool, work.without_span)


def _record(work: Work, part: Part, bucket: Bucket) -> Record:
    workspace, files = work.workspace, work.files
    if part.row is not None:
        if part.cost is None and part.row.cost is not None:
            part.cost, part.charged = part.row.cost, True
        return build.turn(part, part.row)
    since_ms = workspace.changed_ms or files.began_ms
    if part.exact is not None:
        return build.last_request(part, part.exact, since_ms, files.timing)
    if part.owner is not workspace:
        child = part.owner.ledger(part.key)
        child.cost = child.paid = child.cost.plus(Five(part.cost or 0))
        child.complete = child.complete and part.cost is not None
        return build.aggregate(part, bucket, (since_ms, files.written_ms), build.CHILD)
    note = build.REMAINDER if workspace.has_rows else build.AGGREGATE
    return build.aggregate(part, bucket, (since_ms, _end_ms(work, part.key)), note)


def _end_ms(work: Work, key: str) -> int:
    """When usage that only totals show ended: with the model's last request if that is new, else with the file."""
    last = work.files.usage.last if work.files.usage else None
    if last is not None and last.key == key and last.end_ms > work.workspace.last_request_ms:
        return last.end_ms
    return work.files.written_ms


def _remember(work: Work, *, all_known: bool) -> None:
    workspace, usage = work.workspace, work.files.usage
    if usage is None:
        return
    if usage.last is not None and (all_known or not work.outcome.again_ms):
        workspace.last_request_ms = usage.last.end_ms
    workspace.seen_file = True
    if all_known:
        for ledger in workspace.models.values():
            ledger.paid = ledger.cost
    if work.outcome.records or all_known or not workspace.changed_ms:
        workspace.changed_ms = work.files.written_ms
