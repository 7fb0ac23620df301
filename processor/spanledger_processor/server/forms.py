"""Answers of the HTTP API and of the commands as text: JSON, and rows as CSV (RFC 4180); and ids in its paths."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import quote

import orjson

from spanledger_processor.model import USAGE_CLASSES
from spanledger_processor.server.shapes import Shape

_CLASSES = {
    "tokens": [one.name for one in USAGE_CLASSES if one.unit == "token"],
    "units": [one.name for one in USAGE_CLASSES if one.unit != "token"],
}
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet takes for a formula where a text begins with it; ids and names come from the network."""
_COSTS = ("cost_usd", "cost_usd_exact")
_UNKNOWN = "unknown"
"""In CSV, what calls without a price cost."""
_NAMES = ("model", "day", "id")
"""Keys of what an item of a list is of."""
_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?")
_DOTS = {".": "%2E", "..": "%2E%2E"}
"""Ids that clients take for folders in a path and leave out, percent-encoded or not, and what stands for them there."""


_UNSAFE = re.compile("[\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]")
"""Characters that move, hide or reverse text around them, or end a line."""


def to_json(value: Any, *, indent: bool = False) -> bytes:
    """Return a value as JSON in which no character does anything but show itself: such are written as escapes."""
    try:
        text = orjson.dumps(value, option=orjson.OPT_INDENT_2 if indent else None).decode()
    except TypeError:  # half a surrogate pair, which is no UTF-8
        text = json.dumps(value, indent=2 if indent else None)
    return _UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", text).encode()


def in_path(name: str) -> str:
    """Return an id as it stands in a path."""
    return quote(_DOTS.get(name, name), safe="")


def from_path(text: str) -> str:
    """Return the id that stands in a path, decoded."""
    return next((name for name, in_its_place in _DOTS.items() if text == in_its_place), text)


def visible(text: str) -> str:
    """Return text for a terminal: what would move the cursor, hide or turn round other text is written as an escape."""
    return "".join(
        char if char == "\n" or (char.isprintable() and not _UNSAFE.match(char)) else f"\\u{ord(char):04x}"
        for char in text
    )


def header(shape: Shape, fields: Iterable[str] | None = None) -> list[str]:
    """Return the names of the columns of rows of a shape, or of some of its fields."""
    return [column for name in fields or shape for column in _columns(name)]


def lines(columns: list[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """Return whole rows as lines of CSV, of which some columns are wanted."""
    out = io.StringIO()
    writer = csv.writer(out)
    for row in rows:
        values = dict(_values(row))
        writer.writerow([values.get(column, "") for column in columns])
    return out.getvalue()


def first_line(columns: list[str]) -> str:
    """Return the line with the names of the columns."""
    return lines(columns, [{column: column for column in columns}])


def _columns(name: str) -> list[str]:
    return [f"{name}.{inner}" for inner in _CLASSES[name]] if name in _CLASSES else [name]


def is_unknown(row: Mapping[str, Any]) -> bool:
    """Return whether nothing is known of what a row of sums cost: none of its calls has a price."""
    unpriced = row.get("unpriced")
    return isinstance(unpriced, dict) and 0 < row["calls"] == sum(unpriced.values()) and not row["cost_usd"]


def _values(row: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    costs = _COSTS if is_unknown(row) else ()
    for name, value in row.items():
        if name in costs:
            yield name, _UNKNOWN
        elif name in _CLASSES and isinstance(value, dict):
            yield from ((f"{name}.{inner}", count) for inner, count in value.items())
        else:
            yield name, _cell(value)


def _cell(value: Any) -> Any:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        value = "; ".join(_pairs(value))
    elif isinstance(value, list):
        value = "; ".join(_brief(item) for item in value)
    if not isinstance(value, str):
        return value
    if value.startswith(_FORMULA) and not _NUMBER.fullmatch(value):
        value = f"'{value}"
    return visible(value).replace("\n", "\\u000a")  # a row is a line


def _pairs(value: Mapping[str, Any], before: str = "") -> Iterator[str]:
    """Yield the values of an object with their names, those of an inner one behind its name and a dot."""
    for name, inner in value.items():
        if isinstance(inner, dict):
            yield from _pairs(inner, f"{before}{name}.")
        elif isinstance(inner, list):
            yield f"{before}{name}={', '.join(map(_brief, inner))}"
        elif inner is not None:
            yield f"{before}{name}={inner}"


def _brief(item: Any) -> str:
    """Return an item of a list in short: a model, day or agent with its cost, another object with its values."""
    if not isinstance(item, dict):
        return str(item)
    if "cost_usd_exact" not in item and "calls" not in item:
        return ", ".join(_pairs(item))
    name = next((item[key] for key in _NAMES if item.get(key)), "")
    return f"{name}={_UNKNOWN if is_unknown(item) else item.get('cost_usd_exact', _UNKNOWN)}"
