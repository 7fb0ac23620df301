"""Sign tool calls: `h1:<key id>:<hash>`, the same for calls whose arguments have the same values."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from functools import lru_cache
from hashlib import sha256
from typing import Any

from spanledger_processor.model import Signature, ToolCall
from spanledger_processor.signing.canonical import Spelled, UnreadableError, canonical

MAX_REPR = 64 * 1024
"""Characters of a Python dictionary's text that are still read."""

MAX_TEXT = 512 * 1024
"""Characters of a text that are read for the values in it: a tenth of a second. A longer one is signed as it is."""

PLACEHOLDERS = frozenset({"__REDACTED__", "<REDACTED>", "[REDACTED]"})
"""Placeholders that instrumentations write for removed content: OpenInference, coding agents, Collector rules."""

_REPR = re.compile(
    r"""(?:[\s{}\[\](),:]++
    | (?:True|False|None)(?!\w)
    | -?\d++(?:\.\d++)?+(?:e[+-]?\d++)?+(?![\w.])
    | '(?:[^'\\\n]++|\\(?:[\\'"nrt]|x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8}))*+'
    | "(?:[^"\\\n]++|\\(?:[\\'"nrt]|x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8}))*+"
    )*+""",
    re.VERBOSE | re.ASCII,
)
"""The tokens that `repr` writes for plain values: only text made of these is given to Python's parser."""

_STARTS = frozenset('{["-0123456789tfnNI')
"""First characters of JSON, and of the NaN and Infinity that some libraries write into it."""

_QUOTED = re.compile(r""" "(?:[^"\\]++|\\.)*+"? | '(?:[^'\\]++|\\.)*+'? """, re.VERBOSE | re.DOTALL)


def read(text: str) -> Any:
    """Return the value of a text without white space around it: JSON, Python's `repr` of a dictionary, else itself.

    Raises:
        RecursionError: it is nested too deep to be read.
    """
    if text[:1] not in _STARTS or len(text) > MAX_TEXT:
        return text
    try:
        return _DECODER.decode(text)
    except json.JSONDecodeError:
        return _read_repr(text)
    except ValueError:  # an integer of more digits than Python reads at once
        return _EXACT.decode(text)


def is_cut(text: str) -> bool:
    """Return whether the text of an object or a list ends before that does."""
    if not text.startswith(("{", "[")):
        return False
    if len(text) > MAX_TEXT:
        return text[-1] != {"{": "}", "[": "]"}[text[0]]
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


VERSION = "h1"
_NAMES_KEPT = 1024
_LONGEST_NAME = 256
_NOTHING_IGNORED: frozenset[str] = frozenset()


_CALL_ID = re.compile(r"""["']?(?:tool_call_id|toolCallId)["']?\s*[:=]\s*["'][^"']*["']""")
"""The id of a call inside its result, in JSON or in Python's repr."""


_BLOCK = 64
"""Bytes of a block of SHA-256."""


class _Key:
    """HMAC-SHA256 (RFC 2104) under one key, of which the hash of the padded key is kept: half the time of `hmac`."""

    __slots__ = ("_inner", "_outer", "prefix")

    def __init__(self, key: bytes) -> None:
        padded = (sha256(key).digest() if len(key) > _BLOCK else key).ljust(_BLOCK, b"\0")
        self._inner = sha256(bytes(byte ^ 0x36 for byte in padded))
        self._outer = sha256(bytes(byte ^ 0x5C for byte in padded))
        self.prefix = f"{VERSION}:{self.digest(b'spanledger key id')[:4].hex()}:"
        """What every signature under the key begins with."""

    def digest(self, message: bytes) -> bytes:
        """Return the HMAC of a message."""
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(message)
        outer.update(inner.digest())
        return outer.digest()


class Signer:
    """Signs with one key; signatures compare only under one key.

    `ignore` names fields that do not count, by tool (a glob, as in file names; all that match apply): keys from the
    top, joined by dots, through lists as if they were not there.
    """

    def __init__(self, key: bytes, ignore: Sequence[tuple[str, frozenset[str]]] = ()) -> None:
        self._key = _Key(key)
        self._ignore = tuple(ignore)
        self._ignored = lru_cache(maxsize=_NAMES_KEPT)(self._look_up)

    def rekey(self, key: bytes) -> None:
        """Sign with another key from now on; its signatures compare with none of the old key."""
        self._key = _Key(key)

    def sign(self, tool: ToolCall) -> Signature | None:
        """Return the signature of a call, None if it has neither name nor arguments. Its call id makes no difference.

        Scope `full`: all arguments are in it. `truncated`: their text was cut, so calls that differ behind the cut
        share it. `name_only`: the arguments are not known. An empty or blank text, `null` and what stands for removed
        content count as not known; an empty object is a call that needed none. Of a text of more than `MAX_TEXT`
        characters each way to write the same values has a signature of its own.
        """
        name = tool.name or ""
        scope, form = self._form(name, tool.arguments)
        if scope == "name_only" and not name:
            return None
        encoded = name.encode("utf-8", "surrogatepass")
        message = b"%b %d:%b%b" % (VERSION.encode(), len(encoded), encoded, form)
        key = self._key
        return Signature(key.prefix + key.digest(message)[:16].hex(), scope)

    def digest(self, value: Any) -> bytes:
        """Return a keyed hash of a value, of eight bytes; b"" for an empty value.

        What it stands for are texts as they are, less the ids of the call itself (LangChain's messages hold them), and
        other values by their canonical form.
        """
        if isinstance(value, bytes):
            value = value.decode("utf-8", "surrogateescape")
        if isinstance(value, str) and ("tool_call_id" in value or "toolCallId" in value):
            value = _CALL_ID.sub("", value)
        if value is None or (isinstance(value, str) and (not value.strip() or value.strip() in PLACEHOLDERS)):
            return b""
        try:
            form = b"r" + canonical(value)
        except (UnreadableError, RecursionError):
            return b""
        return self._key.digest(form)[:8]

    def pseudonym(self, content: bytes) -> str:
        """Return `redacted:<key id>:<hash>`, which is the same for the same content under one key."""
        key = self._key
        return f"redacted:{key.prefix.split(':')[1]}:{key.digest(b'redacted ' + content)[:16].hex()}"

    def ids(self, identity: bytes) -> tuple[bytes, bytes]:
        """Return a trace id and a span id for `identity`, keyed, so that they cannot be forged."""
        digest = self._key.digest(b"ids of " + identity)
        return digest[:16], digest[16:24]

    def _form(self, name: str, arguments: Any) -> tuple[str, bytes]:
        """Return the scope, and the arguments to hash: V and a canonical value, T and a text that was cut, or -."""
        if isinstance(arguments, bytes):
            arguments = arguments.decode("utf-8", "surrogateescape")
        text = arguments.strip() if isinstance(arguments, str) else None
        if text == "" or text in PLACEHOLDERS:
            return "name_only", b"-"
        try:
            value = arguments if text is None else read(text)
            if value is None:
                return "name_only", b"-"
            if text is not None and value is text:
                return _as_text(text)
            ignored = self._ignored_of(name) if self._ignore else _NOTHING_IGNORED
            return "full", b"V" + canonical(value, ignored)
        except (UnreadableError, RecursionError):
            return ("name_only", b"-") if text is None else _as_text(text)

    def _ignored_of(self, name: str) -> frozenset[str]:
        return self._ignored(name) if len(name) <= _LONGEST_NAME else self._look_up(name)

    def _look_up(self, name: str) -> frozenset[str]:
        return frozenset[str]().union(*(fields for glob, fields in self._ignore if fnmatchcase(name, glob)))


def _as_text(text: str) -> tuple[str, bytes]:
    """Return what no value was read from: plain text, JSON that was cut, is too long, or is nested too deep."""
    return ("truncated", b"T" + canonical(text)) if is_cut(text) else ("full", b"V" + canonical(text))
