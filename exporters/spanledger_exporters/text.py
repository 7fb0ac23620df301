"""Text from elsewhere (answers of destinations, names of spans) made fit for one line of a log or a terminal."""

from __future__ import annotations


def one_line(text: str, longest: int = 300) -> str:
    """`text` without control characters and surrogates, cut at `longest` characters."""
    kept = "".join(char if char.isprintable() else " " for char in text[: longest + 1])
    return kept if len(kept) <= longest else kept[: longest - 1] + "…"
