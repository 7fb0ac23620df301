"""The canonical form `h1`: one text for each value. A change here needs a new version in the signature.

    null n | true t | false f | number #<digits>e<exponent>; | text s<length>:<text> | bytes b<length>:<hex>
    list l<count>:<items> | object d<count>:<key and value, keys in code point order>

Lengths stand before what they count (code points), so that no two values share a form. A number is its decimal value
without zeros at either end: 1, 1.0 and 1e0 are one number, "1" is a text. A double is its shortest spelling; an
integer keeps all its digits.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

MAX_DEPTH = 100
"""Objects and lists within each other. What protobuf can carry ends far below (its own limit is 100 messages)."""

_CONSTANTS = {None: "n", True: "t", False: "f"}


_LONGEST_POWER = 1000


class UnreadableError(ValueError):
    """The value has no canonical form: it is nested too deep, or holds what is no argument."""


class Spelled(str):
    """A number as it was spelled, where neither int nor float can hold it."""

    __slots__ = ()


def canonical(value: Any, ignored: frozenset[str] = frozenset()) -> bytes:
    """Return the form of `value` without the fields in `ignored`, in UTF-8 (with lone surrogates).

    A field is named by its keys from the top, joined by dots; those in the objects of a list, as if there were no list.

    Raises:
        UnreadableError: there is none.
    """
    out: list[str] = []
    _put(out, value, ignored, "", MAX_DEPTH)
    return "".join(out).encode("utf-8", "surrogatepass")


def _put(out: list[str], value: Any, ignored: frozenset[str], prefix: str, depth: int) -> None:
    kind = type(value)
    if kind is str:
        out.append(f"s{len(value)}:{value}")
    elif kind is dict:
        _put_object(out, value, ignored, prefix, depth)
    elif value is None or kind is bool:
        out.append(_CONSTANTS[value])
    elif kind is int or kind is float:
        out.append(_number(_spelling(value)))
    elif kind is Spelled:
        out.append(_number(value))
    elif kind is bytes:
        out.append(f"b{2 * len(value)}:{value.hex()}")
    elif (kind is list or kind is tuple) and depth:
        out.append(f"l{len(value)}:")
        for item in value:
            _put(out, item, ignored, prefix, depth - 1)
    else:
        raise UnreadableError("nested too deep" if not depth else f"{kind.__name__} is no kind of argument")


def _put_object(out: list[str], value: dict[Any, Any], ignored: frozenset[str], prefix: str, depth: int) -> None:
    if not depth:
        raise UnreadableError("nested too deep")
    fields = {key if type(key) is str else _key(key): inner for key, inner in value.items()}
    if ignored:
        fields = {key: inner for key, inner in fields.items() if prefix + key not in ignored}
    out.append(f"d{len(fields)}:")
    for key in sorted(fields):
        out.append(f"s{len(key)}:{key}")
        _put(out, fields[key], ignored, f"{prefix}{key}." if ignored else "", depth - 1)


def _key(key: Any) -> str:
    """Return a key that is no text, as JSON would write it."""
    if key is None or type(key) is bool:
        return {None: "null", True: "true", False: "false"}[key]
    if type(key) is int or type(key) is float:
        return _spelling(key)
    raise UnreadableError(f"{type(key).__name__} is no kind of key")


def _spelling(number: int | float) -> str:
    if isinstance(number, float):
        return repr(number)
    try:
        return str(number)
    except ValueError:  # more digits than Python writes at once
        return f"{Decimal(number):f}"


def _number(spelling: str) -> str:
    if spelling.isdigit() and spelling[0] != "0" and spelling[-1] != "0":
        return f"#{spelling}e0;"
    mantissa, _, power = spelling.lower().partition("e")
    whole, _, fraction = mantissa.lstrip("-+").partition(".")
    digits = (whole + fraction).lstrip("0")
    if not digits:
        return "#0e0;"
    if not digits.isdigit() or len(power) > _LONGEST_POWER:
        return f"#{spelling.lower()};"  # nan, inf, -inf, and powers that nobody can count
    short = digits.rstrip("0")
    exponent = int(power or 0) - len(fraction) + len(digits) - len(short)
    return f"#{'-' if mantissa[0] == '-' else ''}{short}e{exponent};"
