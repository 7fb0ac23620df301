"""Removal of content from telemetry before it is sent on, after it was read and signed (docs/redaction.md).

It works on encoded requests: what is not content keeps its bytes. An item that cannot be read is left out, and an error
goes to the caller: nothing passes that was not looked at.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeAlias

from google.protobuf.message import DecodeError

from spanledger_processor.dialects.content import UNKNOWN, is_prose, kept_of_name, names_genai, says_content, verdict
from spanledger_processor.dialects.schema import ContentClass, RedactionMode
from spanledger_processor.otlp import schema
from spanledger_processor.otlp.encoding import any_value, delimited
from spanledger_processor.otlp.json_form import Signal
from spanledger_processor.otlp.values import plain
from spanledger_processor.otlp.wire import LENGTH, MalformedError, WireField, fields

STRICTEST: tuple[RedactionMode, ...] = ("drop", "hash", "truncate", "keep")
"""Of several modes for one value the first holds."""

_PSEUDONYM = re.compile(r"redacted:[0-9a-f]{8}:[0-9a-f]{32}( [\w.]+)?\Z")
"""The replacement of content in mode `hash`, with the rest of a name."""
REPLACED = "redacted"
"""Stands for a name of which nothing stays."""


@dataclass(frozen=True, slots=True)
class _Item:
    """Field numbers of an item of a signal: attributes, texts that are names or messages, and messages inside it."""

    attributes: int = 0
    names: tuple[int, ...] = ()
    value: int = 0
    """An AnyValue: the body of a log record."""
    inside: Mapping[int, _Item] = field(default_factory=dict)
    texts: tuple[int, ...] = ()


_EVENT, _LINK, _STATUS = _Item(attributes=3, names=(2,)), _Item(attributes=4), _Item(texts=(2,))
_SPAN = _Item(attributes=9, names=(5,), inside={11: _EVENT, 13: _LINK, 15: _STATUS})
_RECORD = _Item(attributes=6, names=(12,), value=5)
_EXEMPLAR = _Item(attributes=7)
_NUMBERS = _Item(inside={1: _Item(attributes=7, inside={5: _EXEMPLAR})})
_HISTOGRAM = _Item(inside={1: _Item(attributes=9, inside={8: _EXEMPLAR})})
_EXPONENTIAL = _Item(inside={1: _Item(attributes=1, inside={11: _EXEMPLAR})})
_METRIC = _Item(names=(1,), inside={5: _NUMBERS, 7: _NUMBERS, 9: _HISTOGRAM, 10: _EXPONENTIAL, 11: _NUMBERS})
_ITEMS: Mapping[Signal, _Item] = {"traces": _SPAN, "logs": _RECORD, "metrics": _METRIC}

Replace: TypeAlias = Callable[[WireField], bytes | None]
"""Returns the whole new field, b"" to leave it out, None to keep it as it is."""


@dataclass(slots=True)
class Redacted:
    """A request without content. `values` counts by mode what was taken out, `unreadable` the items left out."""

    body: bytes
    values: Counter[str] = field(default_factory=Counter)
    unreadable: int = 0


class Redactor:
    """Takes content out by class. `pseudonym` gives the keyed hash of bytes as text."""

    def __init__(
        self, modes: Mapping[ContentClass, RedactionMode], pseudonym: Callable[[bytes], str], truncate_to: int
    ) -> None:
        self._modes = modes
        self.strictest: RedactionMode = _strictest(mode for one, mode in modes.items() if one != "user_ids")
        """The mode for content of a class that is not known."""
        self._pseudonym = pseudonym
        self._truncate_to = truncate_to

    def redact(self, signal: Signal, body: bytes) -> Redacted:
        """Return an encoded export request of `signal` without content.

        Raises:
            MalformedError: it is none.
        """
        result = Redacted(body)
        work = _Work(self, _ITEMS[signal], result)
        result.body = _edited(body, lambda part: work.group(body, part) if _is(part, 1) else None)
        return result

    def mode_of(self, key: str, value: Any, *, beside: bool = False) -> RedactionMode:
        """Return what is done to the value of an attribute (an AnyValue message) of a GenAI item, or of what stands
        beside one: its resource, and other items of that.
        """
        classes = verdict(key)
        if isinstance(classes, frozenset):
            if classes != UNKNOWN:
                return _strictest(self._modes[one] for one in classes)
            return self.strictest if any(_texts(value)) else "keep"
        if classes == "plain" or beside:
            return "keep"
        texts = [*filter(None, _texts(value))]
        is_content = any(map(is_prose, texts)) or (bool(texts) and says_content(key))
        return self.strictest if is_content else "keep"

    def user(self, text: str) -> str:
        """Return an id of a user as its attribute is sent on; empty where that is left out."""
        mode = self._modes["user_ids"]
        new = encoded = any_value(text).SerializeToString()
        if mode != "keep":
            new = self.changed(mode, encoded) or b""
        return text if new == encoded else schema.text(schema.AnyValue.FromString(new).string_value)

    def changed(self, mode: RedactionMode, encoded: bytes) -> bytes | None:
        """Return an encoded AnyValue as `mode` leaves it, None if it is to be left out."""
        if mode == "drop":
            return None
        try:
            value = plain(schema.AnyValue.FromString(encoded))
        except DecodeError:
            return None
        if mode == "hash":
            done = isinstance(value, str) and _PSEUDONYM.match(value)  # it has been here before
            return encoded if done else any_value(self._pseudonym(encoded)).SerializeToString()
        cut = self._cut(value)
        return encoded if cut == value else any_value(cut).SerializeToString()

    def text(self, mode: RedactionMode, text: str, kept: str = "") -> str:
        """Return a name or message as `mode` leaves it; `kept` is what stays of it in any case."""
        if mode == "drop":
            return kept or REPLACED
        if mode == "hash":
            done = _PSEUDONYM.match(text)
            return text if done else " ".join(filter(None, (self._pseudonym(text.encode("utf-8", "replace")), kept)))
        return text[: self._truncate_to]

    def _cut(self, value: Any) -> Any:
        if isinstance(value, str | bytes):
            return value[: self._truncate_to]
        if isinstance(value, list):
            return [self._cut(element) for element in value[: self._truncate_to]]
        if isinstance(value, dict):
            return {self._cut(key): self._cut(element) for key, element in value.items()}
        if isinstance(value, int | float) and len(str(value)) > self._truncate_to:
            return str(value)[: self._truncate_to]
        return value


@dataclass(slots=True)
class _Work:
    redactor: Redactor
    item: _Item
    result: Redacted
    scope: str = ""

    def group(self, body: bytes, part: WireField) -> bytes | None:
        """Return a resource with its scopes; attributes of the resource are looked at where it holds GenAI items."""
        content = body[part.start : part.end]
        scopes = [content[one.start : one.end] for one in fields(content, 0, len(content)) if _is(one, 2)]
        is_genai = any(self._holds_genai(scope) for scope in scopes)

        def of_resource(resource: bytes, one: WireField) -> bytes | None:
            return self._attribute(resource, one, beside=True) if _is(one, 1) else None

        def replace(one: WireField) -> bytes | None:
            inner = content[one.start : one.end]
            if _is(one, 1):
                return _changed(1, inner, _edited(inner, partial(of_resource, inner)))
            return _changed(2, inner, self._scope(inner)) if _is(one, 2) else None

        return _changed(1, content, _edited(content, replace)) if is_genai else None

    def _holds_genai(self, scope: bytes) -> bool:
        for part in fields(scope, 0, len(scope)):
            try:
                if _is(part, 2) and self._is_genai(scope[part.start : part.end], self.item):
                    return True
            except (MalformedError, DecodeError):
                return True
        return False

    def _scope(self, content: bytes) -> bytes:
        encoded = b"".join(content[one.start : one.end] for one in fields(content, 0, len(content)) if _is(one, 1))
        try:
            self.scope = schema.text(schema.Scope.FromString(encoded).name)
        except DecodeError:
            raise MalformedError("scope: cannot be read") from None

        def replace(one: WireField) -> bytes | None:
            if not _is(one, 2):
                return None
            inner = content[one.start : one.end]
            try:
                whole = self._is_genai(inner, self.item)
                return _changed(2, inner, self._edit(inner, self.item) if whole else self._beside(inner, self.item))
            except (MalformedError, DecodeError):
                self.result.unreadable += 1
                return b""

        return _edited(content, replace)

    def _is_genai(self, content: bytes, item: _Item) -> bool:
        """Return whether an item says so itself, or one inside it: an event, a link, a point of a metric."""
        for part in fields(content, 0, len(content)):
            if part.wire_type != LENGTH:
                continue
            inner = content[part.start : part.end]
            if part.number == item.attributes:
                entry = schema.Entry.FromString(inner)
                key = schema.text(entry.key)
                if names_genai(key) or (key == "event.name" and names_genai(_string(entry.value))):
                    return True
            elif part.number in item.names:
                if names_genai(inner.decode("utf-8", "replace")):
                    return True
            elif part.number == item.value:
                if names_genai(_string(inner)):
                    return True
            elif part.number in item.inside and self._is_genai(inner, item.inside[part.number]):
                return True
        return False

    def _beside(self, content: bytes, item: _Item) -> bytes:
        """Return an item of a GenAI resource that is none of GenAI itself: keys that are known to hold content go."""

        def replace(part: WireField) -> bytes | None:
            if part.wire_type != LENGTH:
                return None
            if part.number == item.attributes:
                return self._attribute(content, part, beside=True)
            if (inner := item.inside.get(part.number)) is None:
                return None
            message = content[part.start : part.end]
            return _changed(part.number, message, self._beside(message, inner))

        return _edited(content, replace)

    def _edit(self, content: bytes, item: _Item) -> bytes:
        taken: list[bytes] = []

        def replace(part: WireField) -> bytes | None:
            if part.wire_type != LENGTH:
                return None
            if part.number == item.attributes:
                return self._attribute(content, part, taken)
            if part.number == item.value:
                return self._body(content, part)
            if part.number in item.texts:
                return self._message(content, part)
            if (inner := item.inside.get(part.number)) is None:
                return None
            message = content[part.start : part.end]
            return _changed(part.number, message, self._edit(message, inner))

        edited = _edited(content, replace)

        def rename(part: WireField) -> bytes | None:
            is_name = part.number in item.names and part.wire_type == LENGTH
            return self._name(edited, part, taken) if is_name else None

        return _edited(edited, rename)

    def _attribute(
        self, content: bytes, part: WireField, taken: list[bytes] | None = None, *, beside: bool = False
    ) -> bytes | None:
        attribute = content[part.start : part.end]
        entry = schema.Entry.FromString(attribute)
        try:
            value = schema.AnyValue.FromString(entry.value)
            mode = self.redactor.mode_of(schema.text(entry.key), value, beside=beside)
        except DecodeError:
            mode = "drop"
        if mode == "keep":
            return None
        if taken is not None:
            taken.append(entry.value)
        new = self.redactor.changed(mode, entry.value)
        if new == entry.value:
            return None
        self.result.values[mode] += 1
        if new is None:
            return b""
        return delimited(part.number, _edited(attribute, lambda one: delimited(2, new) if _is(one, 2) else None))

    def _body(self, content: bytes, part: WireField) -> bytes | None:
        encoded = content[part.start : part.end]
        mode, text = self.redactor.strictest, _string(encoded)
        is_name = not is_prose(text) and names_genai(text)  # the event's name, by habit
        if mode == "keep" or not any(_texts(schema.AnyValue.FromString(encoded))) or is_name:
            return None
        new = self.redactor.changed(mode, encoded)
        if new == encoded:
            return None
        self.result.values[mode] += 1
        return b"" if new is None else delimited(part.number, new)

    def _message(self, content: bytes, part: WireField) -> bytes | None:
        text = content[part.start : part.end].decode("utf-8", "replace")
        mode = self.redactor.strictest
        new = self.redactor.text(mode, text) if text and mode != "keep" else text
        return self._renamed(mode, text, new, part)

    def _name(self, content: bytes, part: WireField, taken: Sequence[bytes]) -> bytes | None:
        encoded = content[part.start : part.end]
        text = encoded.decode("utf-8", "replace")
        kept = kept_of_name(text, self.scope)
        if kept is None and text.count(" ") > 1 and any(encoded in value for value in taken):
            kept = ""
        mode = self.redactor.strictest
        new = text if kept is None or mode == "keep" else self.redactor.text(mode, text, kept)
        return self._renamed(mode, text, new, part)

    def _renamed(self, mode: RedactionMode, text: str, new: str, part: WireField) -> bytes | None:
        if new == text:
            return None
        self.result.values[mode] += 1
        return delimited(part.number, new.encode("utf-8", "replace"))


def _strictest(modes: Iterable[RedactionMode]) -> RedactionMode:
    given = frozenset(modes)
    for mode in STRICTEST:
        if mode in given:
            return mode
    return "keep"


def _changed(number: int, before: bytes, after: bytes) -> bytes | None:
    """Return a field with its new content, None where that is as before: it then keeps all its bytes."""
    return None if after == before else delimited(number, after)


def _is(part: WireField, number: int) -> bool:
    return part.number == number and part.wire_type == LENGTH


def _edited(content: bytes, replace: Replace) -> bytes:
    """Return a message with fields replaced or left out; all others keep their bytes."""
    pieces: list[bytes] = []
    at = 0
    for part in fields(content, 0, len(content)):
        new = replace(part)
        pieces.append(content[at : part.end] if new is None else new)
        at = part.end
    return b"".join(pieces)


def _texts(value: Any) -> list[str]:
    """Return the texts in an AnyValue message, keys of objects among them; bytes count as one."""
    which = value.WhichOneof("value")
    if which == "string_value":
        return [schema.text(value.string_value)]
    if which == "bytes_value":
        return ["{bytes}"]
    if which == "array_value":
        return [text for element in value.array_value.values for text in _texts(element)]
    if which == "kvlist_value":
        entries = value.kvlist_value.values
        return [text for entry in entries for text in (schema.text(entry.key), *_texts(entry.value))]
    return []


def _string(encoded: bytes) -> str:
    value = schema.AnyValue.FromString(encoded)
    return schema.text(value.string_value) if value.WhichOneof("value") == "string_value" else ""
