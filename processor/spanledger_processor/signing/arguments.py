"""The text of tool arguments back to the value it stands for."""

from __future__ import annotations

import ast
import json
import re
from typing import Any

from spanledger_processor.signing.canonical import Spelled

MAX_REPR = 64 * 1024
"""Characters of a Python dictionary's text that are still read."""

PLACEHOLDERS = frozenset({"__REDACTED__", "<REDACTED>", "[REDACTED]"})
"""What instrumentations put where content was: OpenInference, coding agents, Collector rules. It says nothing."""

_REPR = re.compile(
    r"""(?:[\s{}\[\](),:]++
    | (?:True|False|None)(?!\w)
    | -?\d++(?:\.\d++)?+(?:e[+-]?\d++)?+(?![\w.])
    | '(?:[^'\\\n]++|\\(?:[\\'"nrt]|x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8}))*+'
    | "(?:[^"\\\n]++|\\(?:[\\'"nrt]|x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8}))*+"
    )*+""",
    re.VERBOSE | re.ASCII,
)
"""What `repr` writes of plain values, token by token: nothing else is handed to Python's parser."""

_STARTS = frozenset('{["-0123456789tfnNI')
"""First characters of JSON, and of the NaN and Infinity that some libraries write into it."""

_QUOTED = re.compile(r""" "(?:[^"\\]++|\\.)*+"? | '(?:[^'\\]++|\\.)*+'? """, re.VERBOSE | re.DOTALL)


def read(text: str) -> Any:
    """The value of a text without white space around it: of JSON, of Python's `repr` of a dictionary, else itself.

    Raises:
        RecursionError: it is nested too deep to be read.
    """
    if text[:1] not in _STARTS:
        return text
    try:
        return _DECODER.decode(text)
    except json.JSONDecodeError:
        return _read_repr(text)
    except ValueError:  # an integer of more digits than Python reads at once
        return _EXACT.decode(text)


def is_cut(text: str) -> bool:
    """Whether the text of an object or a list ends before that does."""
    if not text.startswith(("{", "[")):
        return False
    bare = _QUOTED.sub("", text)
    return bare.count("{") + bare.count("[") > bare.count("}") + bare.count("]")


def _read_repr(text: str) -> Any:
    if text[:1] not in ("{", "[") or len(text) > MAX_REPR or not _REPR.fullmatch(text):
        return text
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text


def _float(spelling: str) -> float | Spelled:
    number = float(spelling)
    beyond = number in (float("inf"), float("-inf")) or (
        number == 0 and spelling.strip("-0.")[:1] not in ("", "e", "E")
    )
    return Spelled(spelling) if beyond else number


# Raw line breaks inside strings are common where a model wrote the JSON, and leave no doubt.
_DECODER = json.JSONDecoder(parse_float=_float, strict=False)
_EXACT = json.JSONDecoder(parse_float=_float, parse_int=Spelled, strict=False)
