"""Where counting begins: what was there before the first run, files made anew, forks, and children's usage."""

from __future__ import annotations

from collections import defaultdict

from spanledger_sidecar.sources.mux.children import roll_up
from spanledger_sidecar.sources.mux.usage_file import Bucket, UsageFile
from spanledger_sidecar.sources.mux.work import Work
from spanledger_sidecar.tokens import ZERO, Five, missing


def is_old(work: Work) -> bool:
    """Whether a workspace is from before the first run, so that only what is dated later is new."""
    since_ms, files = work.rules.since_ms, work.files
    dated = [row.end_ms for row in work.rows if row.end_ms]
    if work.last is not None:
        dated.append(work.last.end_ms)
    if dated and min(dated) < since_ms:
        return True
    return bool(since_ms) and not files.arrived and files.began_ms < since_ms


def leave_out(work: Work) -> None:
    """Take all that is there as known; what a row tells of it later is taken from there."""
    since_ms, workspace = work.rules.since_ms, work.workspace
    old = [row for row in work.rows if row.end_ms < since_ms]
    told: dict[str, Five] = defaultdict(lambda: ZERO)
    for row in work.rows:
        if row.end_ms < since_ms or work.in_file(row):
            told[row.key] = told[row.key].plus(row.tokens)
    for key in {*told, *work.models}:
        ledger = workspace.ledger(key)
        ledger.covered = ledger.file.at_least(told[key])
        ledger.loose = missing(ledger.file, told[key])
    if work.files.usage is not None:
        workspace.rolled = list(work.files.usage.children)
    for row in old:
        work.family.take(row.claim, workspace.id)
        workspace.has_rows |= bool(row.tokens.total)
    work.rows = work.rows[len(old) :]


def is_anew(work: Work, usage: UsageFile) -> bool:
    """Whether Mux made the file anew, so that its sums begin again (facts 1.7)."""
    workspace = work.workspace
    if any(child not in usage.children for child in workspace.rolled):
        return True
    return _holds_copies(work) or any(
        _begun_again(ledger.file, usage.models.get(key, Bucket())) for key, ledger in workspace.models.items()
    )


def _holds_copies(work: Work) -> bool:
    """A fork's file that was made anew from its chat, with the rows that were copied: that explains more of it."""
    beside_chat = beside_growth = 0
    for key in work.copied:
        now, before = work.models.get(key, Bucket()).tokens, work.workspace.ledger(key).file
        if not now.holds(work.told(key)):
            return False
        beside_chat += missing(now, work.told(key)).total
        beside_growth += missing(now, before.plus(work.own(key))).total
    return beside_chat < beside_growth


def _begun_again(before: Five, bucket: Bucket) -> bool:
    """Whether a model's bucket lost anything, or says that it holds one request where there were others."""
    if any(now < then for now, then in zip(bucket.tokens, before, strict=True)):
        return True
    return bool(bucket.named) and before.total > 0 and bucket.tokens != before


def rebaseline(work: Work, usage: UsageFile) -> None:
    """Go on from what the new file says; nothing of it is new. It was made from the chat: rows still to come are not
    in it, unless no finer file was seen at all.
    """
    workspace, finer = work.workspace, work.files.chat or bool(work.files.rows)
    work.outcome.rebaselined = True
    workspace.rebaselines += 1
    workspace.anew_ms = work.files.written_ms
    workspace.models = {key: workspace.models[key] for key in usage.models}
    for key, ledger in workspace.models.items():
        ledger.covered = ledger.file
        ledger.loose = ZERO if finer else ledger.file
        ledger.skipped = missing(ledger.file, work.told(key)) if finer else ZERO
        ledger.paid = ZERO
        work.before[key] = ZERO
    workspace.rolled = list(usage.children)


def start_fork(work: Work) -> None:
    """A fork starts from nothing; one by an old version starts with a copy of the file, as its rows show."""
    if not work.files.first or not work.copied:
        return
    ledger = work.workspace.ledger
    if all(ledger(key).file.holds(there.plus(work.own(key))) for key, there in work.copied.items()):
        for key, there in work.copied.items():
            ledger(key).covered = there
            work.before[key] = there


def roll_up_new(work: Work, usage: UsageFile) -> None:
    """Take the usage of children that are new in the file out of what it gained."""
    workspace = work.workspace
    for name, entry in usage.children.items():
        if name in workspace.rolled or name == workspace.id:
            continue
        gained = {key: missing(ledger.file, ledger.covered) for key, ledger in workspace.models.items()}
        owed = roll_up(workspace, work.family.workspace(name), entry, gained, work.family)
        if owed is not None and not (owed.unbounded and work.files.first):
            work.owed.append(owed)
        for key, there in gained.items():
            ledger = workspace.ledger(key)
            work.before[key] = work.before[key].plus(missing(there, missing(ledger.file, ledger.covered)))
        workspace.rolled.append(name)
