"""Python's repr of objects, as some libraries write a provider's answer into a string: `Usage(input_tokens=3, ...)`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

_TOKEN = re.compile(
    r"""(?P<open>\w*\()|(?P<close>\))|(?P<name>\w+)=|(?P<number>-?\d+(?:\.\d+)?)(?!\w)|(?P<none>None)\b
    |(?P<text>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")|(?P<other>[\w.]+)|[\s,]+|(?P<end>.)""",
    re.VERBOSE | re.DOTALL,
)
_MAX_DEPTH = 8


def read_object(text: str, start: int) -> dict[str, Any] | None:
    """The numbers by name of the object whose repr begins at `start`, with those inside it; None if it cannot be read.

    What is neither a number nor such an object (texts, lists) makes its name None.
    """
    tokens = _TOKEN.finditer(text, start)
    first = next(tokens, None)
    return _fields(tokens, 1) if first is not None and first["open"] else None


def _fields(tokens: Iterator[re.Match[str]], depth: int) -> dict[str, Any] | None:
    fields: dict[str, Any] = {}
    name = ""
    for token in tokens:
        if token["close"]:
            return fields
        if token["end"]:
            return None
        if token["name"]:
            name = token["name"]
        elif token["open"]:
            inner = _fields(tokens, depth + 1) if depth < _MAX_DEPTH else None
            if inner is None:
                return None
            fields[name] = inner
        elif token["number"] and name:
            fields[name] = float(token["number"]) if "." in token["number"] else int(token["number"])
    return None
