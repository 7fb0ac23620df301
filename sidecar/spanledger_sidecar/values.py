"""Single values of files that somebody else writes, taken for what they can be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

Sign: TypeAlias = Callable[[str, Any], tuple[str, str]]
"""A tool's name and arguments to its signature and the signature's scope; both empty if there is none."""

_LONGEST = 256


class UnreadableError(Exception):
    """This file cannot be used as it is now; the message says why, and never what it holds."""


def count(value: Any) -> int:
    """A number of tokens or milliseconds: whole and not negative, 0 for anything else (facts 1.7)."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 2**53:
        return 0
    return int(value)


def text(value: Any) -> str:
    """Text of at most 256 characters, a question mark for each half character; empty for anything else."""
    return value[:_LONGEST].encode("utf-8", "replace").decode() if isinstance(value, str) else ""


def nested(value: Any, *keys: str) -> Any:
    """What stands at a path of keys, None if nothing does."""
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value
