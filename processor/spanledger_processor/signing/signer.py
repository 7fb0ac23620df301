"""The signature of a tool call: `h1:<key id>:<hash>`, by which calls with the same arguments are told."""

from __future__ import annotations

import hmac
import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any

from spanledger_processor.model import Signature, ToolCall
from spanledger_processor.signing.arguments import PLACEHOLDERS, is_cut, read
from spanledger_processor.signing.canonical import UnreadableError, canonical

VERSION = "h1"
_NAMES_KEPT = 1024
_LONGEST_NAME = 256


_CALL_ID = re.compile(r"""["']?(?:tool_call_id|toolCallId)["']?\s*[:=]\s*["'][^"']*["']""")
"""The id of a call inside its result, in JSON or in Python's repr."""


def _keyed(key: bytes) -> tuple[str, bytes]:
    """Return what every signature under a key begins with, and the key."""
    return f"{VERSION}:{hmac.digest(key, b'spanledger key id', 'sha256')[:4].hex()}:", key


class Signer:
    """Signs with one key; signatures compare only under one key.

    `ignore` names fields that do not count, by tool (a glob, as in file names; all that match apply): keys from the
    top, joined by dots, through lists as if they were not there.
    """

    def __init__(self, key: bytes, ignore: Sequence[tuple[str, frozenset[str]]] = ()) -> None:
        self._keyed = _keyed(key)
        self._ignore = tuple(ignore)
        self._ignored = lru_cache(maxsize=_NAMES_KEPT)(self._look_up)

    def rekey(self, key: bytes) -> None:
        """Sign with another key from now on; its signatures compare with none of the old key."""
        self._keyed = _keyed(key)

    def sign(self, tool: ToolCall) -> Signature | None:
        """The signature of a call, None if it has neither name nor arguments. The same call id or not is no matter.

        Scope `full`: all arguments are in it. `truncated`: their text was cut, so calls that differ behind the cut
        share it. `name_only`: the arguments are not known. An empty or blank text, `null` and what stands for removed
        content count as not known; an empty object is a call that needed none.
        """
        name = tool.name or ""
        scope, form = self._form(name, tool.arguments)
        if scope == "name_only" and not name:
            return None
        encoded = name.encode("utf-8", "surrogatepass")
        message = b"%b %d:%b%b" % (VERSION.encode(), len(encoded), encoded, form)
        prefix, key = self._keyed
        return Signature(prefix + hmac.digest(key, message, "sha256")[:16].hex(), scope)

    def digest(self, value: Any) -> bytes:
        """Return eight bytes that stand for a value, keyed as signatures are; none for one that says nothing.

        What it stands for are texts as they are, less the ids of the call itself (LangChain's messages hold them), and
        other values by their canonical form.
        """
        if isinstance(value, bytes):
            value = value.decode("utf-8", "surrogateescape")
        if isinstance(value, str):
            value = _CALL_ID.sub("", value)
        if value is None or (isinstance(value, str) and (not value.strip() or value.strip() in PLACEHOLDERS)):
            return b""
        try:
            form = b"r" + canonical(value)
        except (UnreadableError, RecursionError):
            return b""
        return hmac.digest(self._keyed[1], form, "sha256")[:8]

    def pseudonym(self, content: bytes) -> str:
        """Return `redacted:<key id>:<hash>`, which is the same for the same content under one key."""
        prefix, key = self._keyed
        return f"redacted:{prefix.split(':')[1]}:{hmac.digest(key, b'redacted ' + content, 'sha256')[:16].hex()}"

    def _form(self, name: str, arguments: Any) -> tuple[str, bytes]:
        """The scope, and the arguments as they are hashed: V and a canonical value, T and a text that was cut, or -."""
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
            ignored = self._ignored(name) if self._ignore and len(name) <= _LONGEST_NAME else self._look_up(name)
            return "full", b"V" + canonical(value, ignored)
        except (UnreadableError, RecursionError):
            return ("name_only", b"-") if text is None else _as_text(text)

    def _look_up(self, name: str) -> frozenset[str]:
        return frozenset[str]().union(*(fields for glob, fields in self._ignore if fnmatchcase(name, glob)))


def _as_text(text: str) -> tuple[str, bytes]:
    """What holds no value that could be read: plain text, JSON that was cut, JSON that is nested too deep."""
    return ("truncated", b"T" + canonical(text)) if is_cut(text) else ("full", b"V" + canonical(text))
