"""Find which rows a usage file has, by what it gained, and what it proves of their classes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import TypeVar

from spanledger_sidecar.sources.mux.rows import Row
from spanledger_sidecar.sources.mux.state import Early
from spanledger_sidecar.tokens import TokenVector, missing, same, total

_TRIED = 10
"""Rows of which every selection is tried."""

_Usage = TypeVar("_Usage", bound=Row | Early)


def held(rows: list[Row], early: list[Early], want: TokenVector) -> tuple[list[Row], list[Early]]:
    """Which new rows and which early ones the file has, by what it gained.

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
    """Those that make up exactly `want`: any that are not lost, or all that are, for a new file has all of the chat."""
    lost = [one for one in early if one.lost]
    arrived = exactly([one for one in early if not one.lost], want)
    if arrived is not None:
        return arrived
    return next((all_ for all_ in (lost, early) if same(total(one.tokens for one in all_), want)), [])


def exactly(candidates: Sequence[_Usage], want: TokenVector) -> list[_Usage] | None:
    """The fewest of the newest candidates whose usage is exactly `want`; None if no selection is."""
    if not want.total:
        return []
    newest = candidates[: -_TRIED - 1 : -1]
    for size in range(1, len(newest) + 1):
        for chosen in combinations(newest, size):
            if same(total(one.tokens for one in chosen), want):
                return list(chosen)
    return None


def corrected(rows: list[Row], gain: TokenVector) -> dict[bytes, TokenVector]:
    """The usage of `rows` by dedup key, with the classes that the file proves.

    A compaction's row lacks the cache writes, which then stand in its uncached input, and a row of Anthropic's lacks
    the reasoning. The sums of a group stay; what rows have too much of a class, and the file has more of another of
    the same group, changes its class in the rows that cannot tell.
    """
    result = {row.dedup_key: row.tokens for row in rows}
    over = list(total(result.values()).minus(gain))
    for row in rows:
        for group in ((0, 2),) * row.vague_input + ((3, 4),) * (not row.tokens.reasoning):
            counts = list(result[row.dedup_key])
            for source in group:
                for target in group:
                    moved = max(0, min(over[source], -over[target], counts[source]))
                    counts[source], counts[target] = counts[source] - moved, counts[target] + moved
                    over[source], over[target] = over[source] - moved, over[target] + moved
            result[row.dedup_key] = TokenVector(*counts)
    return result
