"""JSON text that is read piece by piece: in one go never more than a window, whatever the text holds."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from typing import Any, NoReturn

WINDOW = 2**17
"""Characters of JSON that are read in one go."""
_LEAST = 512
"""Characters that are looked at where nothing was read since a value was found to be longer."""
_GOING_ON = 3
"""Characters of a number, `e+1`, by which it may go on behind what is a number, too."""
LONG: Any = object()
"""Stands for a value that is longer, or is none."""


class JsonText:
    """JSON of which members and elements are read one after the other; raises ValueError where it is none.

    Python's decoder reads a value in one go, in which no other thread runs: an array of 64 MiB takes two seconds, and
    as objects 20 times its bytes. So it is given a window, and what does not end in that is gone into. How long the
    next window is goes by what was read since then: else a value inside many others would be looked at in each of them.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._decode = json.JSONDecoder(parse_constant=_refuse).raw_decode
        self._begin, self._window = 0, text[:WINDOW]
        """Of what is read next a copy, so that nothing that is read in one go is longer."""
        self._gone_into = -WINDOW
        """Where the latest value stands that did not end in its window."""

    def peek(self) -> str:
        """Return the first character of what comes next, and leave it there; empty at the end."""
        found = _SPACE.match(self._text, self._at)
        assert found is not None, "no space is space, too"
        self._at = found.end()
        return self._text[self._at : self._at + 1]

    def value(self) -> Any:
        """Read the value that comes next; `LONG`, and nothing is read, where it is longer than its window, or none."""
        self.peek()
        value = self._value_in_window()
        if value is LONG and self._begin < self._at:
            size = min(WINDOW, max(_LEAST, 2 * (self._at - self._gone_into)))
            self._begin, self._window = self._at, self._text[self._at : self._at + size]
            value = self._value_in_window()
        if value is LONG:
            self._begin, self._window, self._gone_into = -1, "", self._at
        return value

    def _value_in_window(self) -> Any:
        is_last = self._begin + len(self._window) == len(self._text)
        try:
            value, end = self._decode(self._window, self._at - self._begin)
        except json.JSONDecodeError:
            return LONG
        if end > len(self._window) - _GOING_ON and not is_last:
            return LONG  # a number may
        self._at = self._begin + end
        return value

    def scalar(self) -> Any:
        """Read a text, number or word of any length."""
        if self.peek() == '"':
            return "".join(self.pieces())
        value, self._at = self._decode(self._text, self._at)
        return value

    def pieces(self) -> Iterator[str]:
        """Read a text of any length, in pieces; two halves of a character stand in one of them."""
        begin, at = self._at, self._at + 1
        while (found := _CHARACTERS.match(self._text, at, at + WINDOW)) is not None:
            end = found.end()
            if _HALF.fullmatch(self._text, max(at, end - 6), end) and _OTHER_HALF.match(self._text, end):
                end += 6
            yield self._decode(f'"{self._text[at:end]}"')[0]
            at = end
        if self._text[at : at + 1] != '"':
            self._decode(self._text, begin)  # raises
        self._at = at + 1

    def skip(self) -> None:
        """Pass over the value that comes next, however long."""
        if self.value() is not LONG:
            return
        start = self.peek()
        if start not in ("{", "["):
            self.scalar()
            return
        for _ in self.members() if start == "{" else self.elements():
            self.skip()

    def members(self) -> Iterator[str]:
        """Yield the names of the object that comes next; whoever takes one reads its value before the next one."""
        for _ in self._parts("}"):
            if self.peek() != '"':
                raise self._error("Expecting property name enclosed in double quotes")
            name = self.value()
            if name is LONG:
                name = self.scalar()
            if self.peek() != ":":
                raise self._error("Expecting ':' delimiter")
            self._at += 1
            yield name

    def elements(self) -> Iterator[int]:
        """Yield the index of each element of the array that comes next; it is to be read before the next one."""
        return self._parts("]")

    def end(self) -> None:
        """Raise an error if anything follows."""
        if self.peek():
            raise self._error("Extra data")

    def _parts(self, closing: str) -> Iterator[int]:
        self._at += 1
        if self.peek() != closing:
            for index in itertools.count():
                yield index
                if self.peek() != ",":
                    break
                self._at += 1
        if self.peek() != closing:
            raise self._error("Expecting ',' delimiter")
        self._at += 1

    def _error(self, problem: str) -> json.JSONDecodeError:
        return json.JSONDecodeError(problem, self._text, self._at)


_SPACE = re.compile("[ \t\n\r]*")
_CHARACTERS = re.compile(r'(?:[^"\\\x00-\x1f]+|\\u[0-9a-fA-F]{4}|\\["\\/bfnrt])+')
"""What stands between the quotes of a text."""
_HALF = re.compile(r"\\u[dD][89abAB][0-9a-fA-F]{2}")
_OTHER_HALF = re.compile(r"\\u[dD][c-fC-F][0-9a-fA-F]{2}")
"""The halves of a character that is written as two."""


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON number")
