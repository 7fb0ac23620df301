"""Read attribute values as texts, counts, flags, amounts and versions. Any key may have a value of any type."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Any

from spanledger_processor.dialects.schema import Keys, ScopedSpan
from spanledger_processor.units import USD, Pico

MAX_COUNT = 10**12
"""A count of tokens beyond this is no count: it is over a thousand times the largest context."""

MAX_USD = 10**9

_BLANKS = " \t\r\n"
_QUOTES = _BLANKS + "\"'"


class NoCountError(ValueError):
    """A value under a token key that is no count of tokens."""


def text(value: Any) -> str:
    """Return a text without blanks around it or the quotes of a JSON-encoded string; "" for anything else."""
    return value.strip(_QUOTES) if isinstance(value, str) else ""


def identifier(value: Any) -> str:
    """Return a text that names something: without blanks around it, or the quotes around a JSON-encoded string, which
    MLflow makes of all its attributes. A quote at one end alone is part of it. "" for anything else.
    """
    if not isinstance(value, str):
        return ""
    name = value.strip(_BLANKS)
    return name[1:-1].strip(_BLANKS) if len(name) > 1 and name[0] == name[-1] == '"' else name


def first(view: ScopedSpan, keys: Keys) -> Any:
    """Return the first value under `keys`, None if there is none."""
    for key in keys:
        value = view.attributes.get(key)
        if value is not None and value != "":
            return value
    return None


def first_text(view: ScopedSpan, keys: Keys, as_text: Callable[[Any], str] = text) -> str:
    """Return the first text under `keys`, without the quotes of a JSON string."""
    get = view.attributes.get
    for key in keys:
        value = as_text(get(key))
        if value:
            return value
    return ""


def count(value: Any) -> int | None:
    """Return a count of tokens: an integer, a whole double, or either spelled out. None if there is no value.

    NaN is none as well: the AI SDK writes it where a provider does not tell.

    Raises:
        NoCountError: it is none (negative, too large, a fraction, infinite, a truth value, other text).
    """
    if type(value) is int:
        number = value
    elif value is None or value == "" or value != value:
        return None
    else:
        number = _whole(value)
    if 0 <= number <= MAX_COUNT:
        return number
    raise NoCountError


def _whole(value: Any) -> int:
    if isinstance(value, str) and len(value) <= 32:
        try:
            value = float(value)
        except ValueError:
            raise NoCountError from None
    if not isinstance(value, float) or not value.is_integer():  # also the infinities
        raise NoCountError
    return int(value)


def flag(value: Any) -> bool | None:
    """Return a truth value, also one that is spelled out; None for anything else."""
    return value if isinstance(value, bool) else {"true": True, "false": False}.get(text(value).lower())


def money(value: Any, unit: Pico = USD) -> Pico | None:
    """Return an amount in pico-USD of a number of `unit` (pico-USD); None where it is no amount, or below zero."""
    if isinstance(value, bool) or not isinstance(value, int | float | str) or (isinstance(value, str) and not value):
        return None
    try:
        amount = Decimal(repr(value) if isinstance(value, float) else value[:64] if isinstance(value, str) else value)
    except InvalidOperation:
        return None
    if not amount.is_finite() or not 0 <= amount <= MAX_USD * USD // unit:
        return None
    return round(amount * unit)


def version_of(version: str) -> tuple[int, ...]:
    """Return the numbers that a version begins with, three at most."""
    parts: list[int] = []
    for part in version.lstrip("v").split(".")[:3]:
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not digits or len(digits) > 9:
            break
        parts.append(int(digits))
    return tuple(parts)
