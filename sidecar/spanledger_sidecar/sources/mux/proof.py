"""Find what a usage file proves: which rows it has, and whether its sums begin again.

Mux makes a file that is lost from the chat, without what only the file had (docs/formats/mux.md). Nothing here changes
what it is given.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import TypeVar

from spanledger_sidecar.records import dedup_key
from spanledger_sidecar.sources.mux.files import Bucket, LastRequest, UsageFile
from spanledger_sidecar.sources.mux.reconciliation import (
    NO_MERGED_ROWS,
    Files,
    MergedRows,
    Reconciliation,
    seen_usage,
    usage_key,
)
from spanledger_sidecar.sources.mux.rows import Row
from spanledger_sidecar.sources.mux.state import Early
from spanledger_sidecar.tokens import ZERO, TokenVector, by_class, missing, same, total

_TRIED = 10
"""Rows of which every selection is tried."""

_VAGUE_INPUT, _VAGUE_OUTPUT = (
    (tuple(map(TokenVector._fields.index, names)),) for names in (("input", "cache_create"), ("output", "reasoning"))
)
"""Classes between which a row may not tell: what was put in and not cached, and what was put out."""

_Usage = TypeVar("_Usage", bound=Row | Early)


def held(rows: list[Row], early: list[Early], want: TokenVector) -> tuple[list[Row], list[Early]]:
    """Return which new rows and which early ones the file has, by what it gained.

    All new rows if they fit, with the early ones that make up exactly the rest; else those that are exactly what it
    gained; else all new ones: then rows tell more than the file, which has nothing beside them.
    """
    new = total(row.tokens for row in rows)
    if want.holds(new):
        return rows, _arrived(early, missing(want, new))
    mixed: list[Row | Early] = [*rows, *(one for one in early if not one.lost)]
    chosen = exactly(mixed, want)
    if chosen is None:
        return rows, []
    return [one for one in chosen if isinstance(one, Row)], [one for one in chosen if isinstance(one, Early)]


def _arrived(early: list[Early], want: TokenVector) -> list[Early]:
    """Return those that make up exactly `want`: any that are not lost, or all, for a new file has all of the chat."""
    lost = [one for one in early if one.lost]
    arrived = exactly([one for one in early if not one.lost], want)
    if arrived is not None:
        return arrived
    return next((all_ for all_ in (lost, early) if same(total(one.tokens for one in all_), want)), [])


def exactly(candidates: Sequence[_Usage], want: TokenVector) -> list[_Usage] | None:
    """Return the fewest of the newest candidates whose usage is exactly `want`; None if no selection is."""
    if not want.total:
        return []
    newest = candidates[: -_TRIED - 1 : -1]
    for size in range(1, len(newest) + 1):
        for chosen in combinations(newest, size):
            if same(total(one.tokens for one in chosen), want):
                return list(chosen)
    return None


def corrected(rows: list[Row], gain: TokenVector) -> dict[bytes, TokenVector]:
    """Return the usage of `rows` by dedup key, with the classes that the file proves.

    A compaction's row lacks the cache writes, which then stand in its uncached input, and a row of Anthropic's lacks
    the reasoning. The sums of a group stay; what rows have too much of a class, and the file has more of another of
    the same group, changes its class in the rows that cannot tell.
    """
    result = {row.dedup_key: row.tokens for row in rows}
    over = list(total(result.values()).minus(gain))
    for row in rows:
        for group in _VAGUE_INPUT * row.vague_input + _VAGUE_OUTPUT * (not row.tokens.reasoning):
            counts = list(result[row.dedup_key])
            for source in group:
                for target in group:
                    moved = max(0, min(over[source], -over[target], counts[source]))
                    counts[source], counts[target] = counts[source] - moved, counts[target] + moved
                    over[source], over[target] = over[source] - moved, over[target] + moved
            result[row.dedup_key] = TokenVector(*counts)
    return result


def merged_rows(reconciliation: Reconciliation, rows: list[Row]) -> MergedRows:
    """Return which of a removed child's rows its parent's file has, with the classes that the file proves.

    Those that are, with what was known before, just what the parent's file says of the child. It tells no models: of
    compactions on several, each class is right only over all of them, which is not proved.
    """
    entry = reconciliation.entry
    if entry is None or entry.tokens is None:
        return NO_MERGED_ROWS
    seen = total(seen_usage(reconciliation.workspace, entry).values())
    gain = missing(entry.tokens, seen)
    merged = rows if same(total(row.tokens for row in rows), gain) else exactly(rows, gain)
    if not merged:
        return NO_MERGED_ROWS
    classes_proven = len({row.key for row in rows if row.lacks_writes}) <= 1
    return MergedRows(corrected(merged, by_class(entry.tokens, seen)), classes_proven)


def is_reset(reconciliation: Reconciliation, usage: UsageFile) -> bool:
    """Return whether the sums begin again: Mux makes a lost file from its chat, without what only the file had."""
    workspace = reconciliation.workspace
    if any(child not in usage.children for child in workspace.merged):
        return True
    begun = (
        _lacks_last(reconciliation, usage)
        or any(_lacks_rows(reconciliation, key) for key in usage.models)
        or _is_the_chat(reconciliation, usage)
    )
    if may_be_reset(reconciliation) and is_copied(reconciliation):
        return True
    if begun and not workspace.merged:  # a file made anew names no child that was merged
        return True
    return any(_begins_again(state.file, usage.models.get(key, Bucket())) for key, state in workspace.models.items())


def _lacks_last(reconciliation: Reconciliation, usage: UsageFile) -> bool:
    """Return whether the sums did not grow by a last request that is new, as they do where they go on."""
    last, seen_ms = usage.last, max(reconciliation.workspace.seen_last_ms, reconciliation.workspace.last_request_ms)
    if last is None or last.end_ms <= seen_ms or last.key not in usage.models:
        return False
    growth = missing(usage.models[last.key].tokens, reconciliation.workspace.state_of(last.key).file)
    return not growth.holds(last.bucket.tokens)


def _lacks_rows(reconciliation: Reconciliation, key: str) -> bool:
    """Return whether the sums hold all of the chat, and did not grow by its new rows: they began again before."""
    state, now = reconciliation.workspace.state_of(key), reconciliation.models[key].tokens
    rows = [row for row in reconciliation.rows if row.key == key and reconciliation.may_hold(row.proven_ms)]
    growth = missing(now, state.file)
    explained = growth.plus(state.unmatched)
    if not any(row.in_chat for row in rows) or explained.holds(total(row.tokens for row in rows)):
        return False
    if not now.holds(reconciliation.chat[key].plus(reconciliation.new(key, in_chat=False))):
        return False
    return exactly(rows, missing(growth, proven_by_last(reconciliation, key))) is None


def _is_the_chat(reconciliation: Reconciliation, usage: UsageFile) -> bool:
    """Return whether the sums are exactly those of the chat, and did not grow by what was new: they were made from it.

    With the last request, where its row is gone already. Sums that only grew and came to be just those are not
    distinguished; the rows show all that such a file has.
    """
    grew = False
    for key, bucket in usage.models.items():
        proven = proven_by_last(reconciliation, key)
        if not same(bucket.tokens, reconciliation.chat[key].plus(reconciliation.copied[key]).plus(proven)):
            return False
        state = reconciliation.workspace.state_of(key)
        new: list[Row | Early] = [
            row for row in reconciliation.rows if row.key == key and reconciliation.may_hold(row.proven_ms)
        ]
        gain = missing(missing(bucket.tokens, state.file), proven)
        is_explained = same(total(row.tokens for row in new), gain) or exactly([*state.early, *new], gain) is not None
        grew |= state.file.total > 0 and not is_explained
    return grew


def is_copied(reconciliation: Reconciliation) -> bool:
    """Return whether a fork's file is the sum of its chat's rows, copied ones included: it was copied or rebuilt.

    Its last request, and the turn that was timed last, must be of rows that are known. Else a turn of the fork whose
    row is gone may have used as much by chance.
    """
    last, timing, rows = reconciliation.last, reconciliation.files.timing, reconciliation.files.rows
    for key in {*reconciliation.models, *reconciliation.copied}:
        in_file = reconciliation.models.get(key, Bucket()).tokens
        in_rows = reconciliation.copied[key].plus(reconciliation.chat[key])
        if not same(in_file, in_rows) and not same(in_file, in_rows.plus(reconciliation.new(key, in_chat=False))):
            return False
    if last is not None and not any(row.key == last.key and same(row.tokens, last.bucket.tokens) for row in rows):
        return False
    if timing is None or timing.row in {"", *(row.name for row in rows)}:
        return True
    return reconciliation.store.counted(dedup_key("mux turn", timing.row)) is not None


def may_be_reset(reconciliation: Reconciliation) -> bool:
    """Return whether the chat explains more of the file than that it grew: it may have been made anew."""
    beside_chat = beside_growth = 0
    for key in {*reconciliation.models, *reconciliation.copied}:
        copied = reconciliation.copied[key]
        now, before = reconciliation.models.get(key, Bucket()).tokens, reconciliation.workspace.state_of(key).file
        chat = copied.plus(reconciliation.chat[key]).plus(reconciliation.new(key, in_chat=False))
        if not now.holds(chat):
            return False
        beside_chat += missing(now, chat).total
        beside_growth += missing(now, before.plus(reconciliation.new(key))).total
    return beside_chat < beside_growth


def _begins_again(before: TokenVector, bucket: Bucket) -> bool:
    """Return whether a model's bucket shrank, or holds one request where there were others."""
    if any(now < then for now, then in zip(bucket.tokens, before, strict=True)):
        return True
    return bool(bucket.named) and before.total > 0 and bucket.tokens != before


def is_overwritten(reconciliation: Reconciliation, key: str, pool: TokenVector, others: TokenVector) -> bool:
    """Return whether the file still has the usage that no row proved, and lacks at most some rows."""
    whole = reconciliation.chat[key].plus(others)
    if by_class(pool, reconciliation.chat[key]).contains(others):
        return True
    rows = [row for row in reconciliation.files.rows if row.key == key and row.in_chat]
    return pool.contains(others) and whole.holds(pool) and exactly(rows, missing(whole, pool)) is not None


def proven_by_last(reconciliation: Reconciliation, key: str) -> TokenVector:
    """Return the last request where it is new and no row proves it; one that a rebuild wrote repeats the last row."""
    last = reconciliation.last
    if last is None or last.key != key or last.end_ms <= reconciliation.workspace.last_request_ms:
        return ZERO
    if _has_unknown_row(reconciliation, last):
        return last.bucket.tokens
    rows = (row for row in reconciliation.files.rows if row.key == key and row.in_chat)
    if any(same(row.tokens, last.bucket.tokens) for row in rows):
        return ZERO
    return last.bucket.tokens


def proven_to_be_new(reconciliation: Reconciliation, key: str) -> TokenVector:
    """Return the last request, where it is a new row's or no row's."""
    last = reconciliation.last
    if last is not None and any(row.key == key == last.key and is_last(row, last) for row in reconciliation.rows):
        return last.bucket.tokens
    return proven_by_last(reconciliation, key)


def is_last(row: Row, last: LastRequest) -> bool:
    """Return whether a row is the last request, written a moment after it; a call outside any turn never is."""
    return row.in_chat and -1000 <= last.end_ms - row.end_ms <= 60_000 and same(last.bucket.tokens, row.tokens)


def last_turn_in_file_ms(files: Files) -> int:
    """Return when the latest of the turns ended that the file's last request shows to be over; 0 where it names none.

    That is its own end; where a clock was set back, turns that stand before it in the chat have later ends.
    """
    last = files.usage.last if files.usage is not None else None
    if last is None:
        return 0
    ends = [last.end_ms]
    for number, row in enumerate(reversed(files.rows)):
        if is_last(row, last):
            ends += [earlier.end_ms for earlier in files.rows[: len(files.rows) - number] if earlier.in_chat]
            break
    return max(ends)


def last_request_key(last: LastRequest) -> bytes:
    """Return the key of a last request, the same in the file of any workspace."""
    return dedup_key("mux last request", last.key, last.end_ms, *last.bucket.tokens)


def has_copied_last(reconciliation: Reconciliation, usage: UsageFile) -> bool:
    """Return whether the last request is another workspace's: counted there, or from before this one was made."""
    last, name = usage.last, reconciliation.workspace.id
    if last is None:
        return False
    counted = reconciliation.store.counted(last_request_key(last))
    if counted is not None:
        return counted.workspace != name
    if not 0 < last.end_ms < reconciliation.files.created_ms:
        return False
    return reconciliation.store.has_all_of({key: bucket.tokens for key, bucket in usage.models.items()}, name)


def is_of_another(reconciliation: Reconciliation, key: str, tokens: TokenVector) -> bool:
    """Return whether a turn of another workspace used exactly so much."""
    counted = reconciliation.store.counted(usage_key(key, tokens))
    return counted is not None and counted.workspace != reconciliation.workspace.id


def ends_as_another(reconciliation: Reconciliation) -> bool:
    """Return whether the file's last turn, without a row, may be another workspace's: by its row, or its usage."""
    last, timing, rows = reconciliation.last, reconciliation.files.timing, reconciliation.files.rows
    if timing is not None and timing.row not in {"", *(row.name for row in rows)}:
        counted = reconciliation.store.counted(dedup_key("mux turn", timing.row))
        if counted is not None and counted.workspace != reconciliation.workspace.id:
            return True
    if last is None or any(row.key == last.key and same(row.tokens, last.bucket.tokens) for row in rows):
        return False
    return is_of_another(reconciliation, last.key, last.bucket.tokens)


def is_early(reconciliation: Reconciliation, key: str, last: LastRequest) -> bool:
    """Return whether the last request is a row that was counted before the file had it."""
    return not _has_unknown_row(reconciliation, last) and any(
        same(early.tokens, last.bucket.tokens) and reconciliation.may_hold(early.end_ms) and not early.lost
        for early in reconciliation.workspace.state_of(key).early
    )


def _has_unknown_row(reconciliation: Reconciliation, last: LastRequest) -> bool:
    """Return whether the turn that was timed last is the last request, and its row is gone before anybody saw it."""
    timing = reconciliation.files.timing
    if timing is None or not timing.row or (timing.key, timing.output) != (last.key, last.bucket.tokens.outputs):
        return False
    known = any(row.name == timing.row for row in reconciliation.files.rows)
    return not known and reconciliation.store.counted(dedup_key("mux turn", timing.row)) is None
