"""Label values that come from the network, kept from growing without end."""

from __future__ import annotations

OTHER = "other"

_LONGEST = 120
"""Characters of a label value that are kept."""


class Bounded:
    """Lets the first `limit` distinct tuples of values through; every later one becomes "other"."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._known: set[tuple[str, ...]] = set()

    def __call__(self, *values: str) -> tuple[str, ...]:
        clean = tuple(_clean(value) for value in values)
        if clean in self._known:
            return clean
        if len(self._known) >= self._limit:
            return (OTHER,) * len(values)
        self._known.add(clean)
        return clean


def _clean(value: str) -> str:
    """What may stand in a scrape: valid UTF-8, no control characters, not long, never empty."""
    kept = "".join(char if char.isprintable() else "?" for char in value[:_LONGEST])
    return kept or "unknown"
