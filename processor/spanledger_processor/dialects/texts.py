"""Objects inside strings: JSON, or Python's repr of dictionaries and objects. No more is parsed than is asked for."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import orjson

MAX_WHOLE = 256 * 1024
"""Characters of a text that is parsed as a whole."""

MAX_SEARCHED = 4 * 1024 * 1024
"""Characters of a text in which usage objects are looked for."""

MAX_REPR = 8 * 1024
_MOST_FOUND = 16

_USAGE = re.compile(
    r"""(?:[uU]sage(?:_metadata|Metadata|_object)?|billed_units)["']\s{0,8}:\s{0,8}\{"""
    r"""|[uU]sage(?:_metadata)?=(?P<object>\w{1,64}\()"""
)
"""`"usage": {`, `'usage_metadata': {` and the like, and `usage=Usage(`; what stands before is looked at afterwards."""

_NAMED_SO = ("usage", "Usage", "billed_units")
"""What every match of `_USAGE` begins with."""
_BEFORE = ('"', "'", '"token_', "'token_", '"token', "'token", " ", "(", ",", " token_", "(token_")
_LONGEST_BEFORE = max(map(len, _BEFORE))
_BRACES = re.compile(r"""[{}]|"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'""")
_DECODER = json.JSONDecoder()


def parse(value: Any) -> Any:
    """Return the object or list that a text encodes, None if it cannot be read; any other value as it is."""
    if not isinstance(value, str):
        return value
    text = value.strip()
    if text[:1] not in ("{", "[") or len(text) > MAX_WHOLE:
        return None
    try:
        return orjson.loads(text)
    except ValueError:
        return _literal(text) if len(text) <= MAX_REPR else None


def written(value: Any) -> str:
    """Return an object or a list as JSON, "" for anything else and for what has none."""
    if not isinstance(value, dict | list):
        return ""
    try:
        return orjson.dumps(value, default=str).decode()
    except (TypeError, ValueError):
        return ""


def holds(text: str, marks: tuple[str, ...]) -> bool:
    """Return whether a text holds one of `marks`: without a loop, for most texts hold none."""
    return any(map(text.__contains__, marks))


def usages(text: str) -> Iterator[Mapping[str, Any]]:
    """Yield the objects behind keys for usage anywhere in a text; nothing around them is parsed."""
    if len(text) > MAX_SEARCHED:
        return
    number = 0
    for match in matches(_USAGE, text, _NAMED_SO):
        start = match.start()
        if not text[max(start - _LONGEST_BEFORE, 0) : start].endswith(_BEFORE):
            continue
        number += 1
        if number > _MOST_FOUND:
            return
        value = _object(text, match.end() - 1) if text[match.end() - 1] == "{" else _repr(text, match.start("object"))
        if isinstance(value, dict):
            yield value


def matches(pattern: re.Pattern[str], text: str, beginnings: tuple[str, ...]) -> Iterator[re.Match[str]]:
    """Yield what `finditer` does, for a pattern whose matches begin with one of `beginnings`: many times as fast.

    None of these begins another one.
    """
    next_at = {at: beginning for beginning in beginnings if (at := text.find(beginning)) >= 0}
    while next_at:
        at = min(next_at)
        match = pattern.match(text, at)
        after = at + 1 if match is None else match.end()
        if match is not None:
            yield match
        for passed in [place for place in next_at if place < after]:
            beginning = next_at.pop(passed)
            if (place := text.find(beginning, after)) >= 0:
                next_at[place] = beginning


def _object(text: str, start: int) -> Any:
    piece = text[start : start + MAX_REPR]
    try:
        return _DECODER.raw_decode(piece)[0]
    except (ValueError, RecursionError):
        end = _end(piece)
        return _literal(piece[:end]) if end else None


def _repr(text: str, start: int) -> Any:
    return read_object(text[start : start + MAX_REPR], 0)


def _end(piece: str) -> int:
    depth = 0
    for match in _BRACES.finditer(piece):
        depth += {"{": 1, "}": -1}.get(match[0], 0)
        if depth == 0:
            return match.end()
    return 0


_WORDS = (("None", "null"), ("True", "true"), ("False", "false"))
_OF_JSON = ("null", "true", "false", "NaN", "Infinity")
"""Words that are no literals of Python's."""


def _literal(text: str) -> Any:
    """Return the value of a Python literal; None if it is none."""
    if '"' not in text and "\\" not in text:
        try:
            return _as_json(text)
        except (ValueError, RecursionError):
            pass
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None


def _as_json(text: str) -> Any:
    """Return the value of a literal that says the same in JSON, which is read ten times as fast: as most do, with
    apostrophes around texts that hold none and no escapes.

    Raises:
        ValueError: it does not.
    """
    pieces = text.split("'")
    around = "'".join(pieces[::2])
    if holds(around, _OF_JSON):
        raise ValueError("no literal")
    for word, spelled in _WORDS:
        around = around.replace(word, spelled)
    pieces[::2] = around.split("'")
    return json.loads('"'.join(pieces))


_TOKEN = re.compile(
    r"""(?P<open>\w[\w.]*\(|\[|\{)|(?P<close>[\])}])|(?P<name>\w+)=|(?P<number>-?\d+(?:\.\d+)?)(?!\w)
    |(?P<constant>None|True|False)\b|<[\w.]+:\s(?P<member>'[^'\\]*')>|(?P<text>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")
    |(?P<other>[\w.]+)|[\s,:]+|(?P<end>.)""",
    re.VERBOSE | re.DOTALL,
)
_MAX_DEPTH = 8
_CONSTANTS = {"None": None, "True": True, "False": False}


class _NoReprError(Exception):
    """A text is not the repr of an object, or is cut."""


def read_object(text: str, start: int) -> dict[str, Any] | None:
    """Return the values by name of the object whose repr begins at `start`, None if it cannot be read.

    They are numbers, truth values, texts, members of enumerations by their values, and objects, dictionaries and lists
    of these; what is none of them is None.
    """
    tokens = _TOKEN.finditer(text, start)
    first = next(tokens, None)
    try:
        value = _value(first, tokens, _MAX_DEPTH) if first is not None and first["open"] else None
    except _NoReprError:
        return None
    return value if isinstance(value, dict) else None


def _value(token: re.Match[str], tokens: Iterator[re.Match[str]], depth: int) -> Any:
    if token["open"]:
        if not depth:
            raise _NoReprError
        return _members(token["open"], tokens, depth - 1)
    if token["number"]:
        return float(token["number"]) if "." in token["number"] else int(token["number"])
    quoted = token["text"] or token["member"]
    return _literal(quoted) if quoted else _CONSTANTS.get(token["constant"])


def _members(opened: str, tokens: Iterator[re.Match[str]], depth: int) -> dict[str, Any] | list[Any]:
    """Return the members between brackets: by name in an object, by key in a dictionary."""
    fields: dict[str, Any] = {}
    items: list[Any] = []
    name: Any = None
    for token in tokens:
        if token["close"]:
            return items if opened == "[" else fields
        if token["end"]:
            raise _NoReprError
        if token["name"]:
            name = token["name"]
        elif token.lastgroup:
            value = _value(token, tokens, depth)
            if opened == "[":
                items.append(value)
            elif opened == "{" and name is None:
                name = value
            elif isinstance(name, str):
                fields[name], name = value, None
            else:
                name = None
    raise _NoReprError
