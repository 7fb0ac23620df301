"""What is new: turns that rows tell, the last request, and what is left over of the usage file, in that order."""

from __future__ import annotations

from collections import defaultdict

from spanledger_sidecar.sources.mux.chat import Row
from spanledger_sidecar.sources.mux.parts import Part
from spanledger_sidecar.sources.mux.state import Ledger
from spanledger_sidecar.sources.mux.usage_file import Turn
from spanledger_sidecar.sources.mux.work import Work, same, total
from spanledger_sidecar.tokens import ZERO, Five, missing, settled, taken


def add_rows(work: Work, *, included: bool) -> None:
    """Take every new row. `included`: what the usage file has of them is covered already."""
    workspace = work.workspace
    work.rows = [row for row in work.rows if not _too_early(work, row)]
    known = set() if included else _known(work)
    for row in work.rows:
        work.family.take(row.claim, workspace.id)
        if row.tokens.total and row.claim not in known:
            work.add(_part(work, row, included=included and work.in_file(row)))
        else:
            work.without_span.add(row.span_id)
        workspace.has_rows |= bool(row.tokens.total)


def _too_early(work: Work, row: Row) -> bool:
    """Whether the usage file, which follows the chat file in a moment, has yet to tell what the row cost."""
    if work.in_file(row) or not work.rules.just_now(row.end_ms):
        return False
    work.outcome.again_ms = max(work.outcome.again_ms, row.end_ms + work.rules.settle_ms)
    return True


def _known(work: Work) -> set[bytes]:
    """Claims of rows whose usage was emitted before, as a part of what only the usage file showed then.

    Rows are known for as much as they tell more than the file gained, oldest first. Where that is no whole number of
    rows, the last one is known too, and what it tells more is left over.
    """
    rows: dict[str, list[Row]] = defaultdict(list)
    for row in work.rows:
        if row.tokens.total and work.in_file(row) and not _skipped(work, row).total:
            rows[row.key].append(row)
    return set[bytes]().union(*(_known_of(work.workspace.ledger(key), told) for key, told in rows.items()))


def _known_of(ledger: Ledger, rows: list[Row]) -> set[bytes]:
    gained = missing(ledger.file, ledger.covered)
    more = taken(ledger.loose, missing(total(row.tokens for row in rows), gained))
    known: set[bytes] = set()
    for whole in (True, False):
        for row in rows:
            used = taken(more, row.tokens)
            if row.claim in known or not used.total or (whole and not more.holds(row.tokens)):
                continue
            more, ledger.loose = more.minus(used), ledger.loose.minus(used)
            known.add(row.claim)
    return known


def _part(work: Work, row: Row, *, included: bool) -> Part:
    part = Part(work.workspace, row.key, row.tokens, row)
    if not included:
        part.exact = _exact(work, row)
        part.tokens = part.exact.bucket.tokens if part.exact is not None else row.tokens
        ledger = work.workspace.ledger(row.key)
        skipped = _skipped(work, row)
        ledger.skipped = ledger.skipped.minus(skipped)
        ledger.covered = settled(ledger.file, ledger.covered.plus(part.tokens).minus(skipped))
    return part


def _skipped(work: Work, row: Row) -> Five:
    """The part of the row that a file made anew had, and that was not emitted."""
    if row.end_ms > work.workspace.anew_ms:
        return ZERO
    return taken(work.workspace.ledger(row.key).skipped, row.tokens)


def _exact(work: Work, row: Row) -> Turn | None:
    """The last request, if it is this row: it has the classes and the cost that a row may lack. Used once."""
    last = work.last
    if last is None or last.key != row.key or not -1000 <= last.end_ms - row.end_ms <= 60_000:
        return None
    if not same(last.bucket.tokens, row.tokens):
        return None
    work.last = None
    return last


def add_last_request(work: Work, *, old: bool) -> None:
    """The last request as a turn, where no finer file tells of turns. `old`: all of the file is covered already."""
    last, workspace = work.last, work.workspace
    if last is None or workspace.has_rows or last.key not in workspace.models:
        return
    if last.end_ms <= workspace.last_request_ms or (old and last.end_ms < work.rules.since_ms):
        return
    ledger = workspace.ledger(last.key)
    there = ledger.file if old else missing(ledger.file, ledger.covered)
    if not last.bucket.tokens.total or not there.holds(last.bucket.tokens):
        return
    work.add(Part(workspace, last.key, last.bucket.tokens, exact=last))
    if not old:
        ledger.covered = ledger.covered.plus(last.bucket.tokens)
        ledger.loose = ledger.loose.plus(last.bucket.tokens)


def add_left_over(work: Work, key: str, *, hold: bool) -> None:
    """What nothing else explains: children's first, the rest its own. `hold`: a finer row may still tell of that."""
    ledger = work.workspace.ledger(key)
    left = missing(ledger.file, ledger.covered)
    for owed in sorted(work.owed, key=lambda owed: owed.first_key != key):
        part = owed.take(left)
        if part.total:
            left = missing(left, part)
            ledger.covered = ledger.covered.plus(part)
            _credit(owed.child.ledger(key), part)
            work.add(Part(owed.child, key, part))
    if not left.total:
        ledger.covered = settled(ledger.file, ledger.covered)
    elif hold:
        work.outcome.again_ms = work.files.written_ms + work.rules.settle_ms
    else:
        ledger.covered = settled(ledger.file, ledger.covered.plus(left))
        ledger.loose = ledger.loose.plus(left)
        work.add(Part(work.workspace, key, left))


def _credit(ledger: Ledger, part: Five) -> None:
    ledger.file = ledger.file.plus(part)
    ledger.covered = ledger.covered.plus(part)
    ledger.loose = ledger.loose.plus(part)
