"""Attributes, read one value at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias

from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet

from spanledger_processor.otlp import schema
from spanledger_processor.otlp.wire import LENGTH, MalformedError, WireField, fields, write_varint

Value: TypeAlias = str | bool | int | float | bytes | list["Value"] | dict[str, "Value"] | None

Derivation: TypeAlias = tuple[str, tuple[bytes, ...], Callable[[Any], Hashable]]
"""What `Attributes.derived` takes."""

_STRING_TAG, _INT_TAG = 0x0A, 0x18
_LONGEST_INTEGER = 6
"""Bytes of a tag and a varint that are more than `Attributes.integers` reads."""
_VALUE = 2
"""Field number: the value of an attribute."""
_LEAST_PAIR = 2
"""Bytes of a key and an encoded value."""
_CLEARED = 4096
"""Keys of a giant message that are let go of in one go."""
_SHOWN = 100
"""Characters of a key in an error."""
MOST_COMPARED = 8192
"""Bytes of attributes that are worth keeping, to compare others with them."""
GIANT = 2**18
"""Bytes of a resource, span, event or log record from which on it is read on a thread, its attributes one by one: a
schema reads a million of them in one go, and blocks everything for a second meanwhile.
"""
MAX_FIELDS = 2**18
"""Fields that a resource, scope, span, event or log record may have, or values an attribute: of one that has more
nothing is read, as of one that is malformed. Real ones have a few hundred at most; to read a million takes seconds.
"""
TOO_MANY_FIELDS = f"more than {MAX_FIELDS} fields"
MANY_FIELDS = 2**12
"""Bytes from which on unknown fields are not looked at one by one: `UnknownFieldSet` makes an object of each, for which
it takes 40 times the memory and 15 times the time in which a schema passes over them.
"""
SEARCHED = 2**20
"""Bytes searched at once: less than a millisecond."""


class Attributes:
    """Attributes by key: of a repeated key the last value holds, text that is not UTF-8 holds U+FFFD instead."""

    __slots__ = ("_contents", "_encoded", "_keys")

    def __init__(self, encoded: Mapping[str, bytes]) -> None:
        self._encoded = encoded
        self._keys: list[str] | None = None
        """To go over a C map makes a text of every key: done once."""
        self._contents: frozenset[tuple[str, bytes]] | None = None

    def get(self, key: str) -> Any:
        """Return the value of `key` as a plain Python value (see `Value`); None if it is absent or empty.

        Raises:
            MalformedError: the value is no AnyValue, or is nested deeper than protobuf's parsers go (100 messages).
        """
        encoded = self._encoded.get(key)
        if encoded is None:
            return None
        # Text and small numbers, nearly all that is asked for, are cut out: two to three times as fast as a message.
        size = len(encoded)
        if 1 < size < 0x82:
            tag = encoded[0]
            if tag == _STRING_TAG and encoded[1] == size - 2:
                return encoded[2:].decode("utf-8", "replace")
            if tag == _INT_TAG and size < 10 and (number := _number(encoded, size)) is not None:
                return number
        elif start := _text_start(encoded):
            return str(memoryview(encoded)[start:], "utf-8", "replace")
        try:
            return plain(schema.AnyValue.FromString(encoded)) if size <= GIANT else _GiantValue(encoded).plain(0, size)
        except (DecodeError, MalformedError):
            raise MalformedError(f"attribute {key[:_SHOWN]!r}: its value cannot be read") from None

    def integers(self, keys: tuple[str, ...]) -> list[int] | None:
        """Return the values of `keys` where each is an integer from 0 to 268,435,455, as nearly all counts are; None
        where one is anything else.
        """
        numbers: list[int] = []
        for encoded in map(self._encoded.get, keys):
            if encoded is None or not 1 < (size := len(encoded)) < _LONGEST_INTEGER or encoded[0] != _INT_TAG:
                return None
            number = _number(encoded, size)
            if number is None:
                return None
            numbers.append(number)
        return numbers

    def keys(self) -> list[str]:
        """Return every key there is, in no order."""
        if self._keys is None:
            self._keys = list(self._encoded)
        try:
            "".join(self._keys)
        except TypeError:  # one that is no UTF-8 is bytes
            return [schema.text(key) for key in self._keys]
        return self._keys

    def among(self, keys: frozenset[str]) -> frozenset[str]:
        """Return those of `keys` that are there: one pass, however many are asked for."""
        if self._keys is None:
            self._keys = list(self._encoded)
        return keys.intersection(self._keys)

    def fingerprint(self, keys: tuple[str, ...]) -> tuple[bytes | None, ...]:
        """Return the encoded values of `keys`, to compare spans by."""
        return tuple(map(self._encoded.get, keys))

    def without(self, keys: frozenset[str]) -> Attributes:
        """Return the same attributes without those of `keys`."""
        return Attributes({key: value for key, value in _entries_of(self._encoded) if key not in keys})

    def changed(self, values: Mapping[str, str | int]) -> Attributes:
        """Return the same attributes with other values under some keys."""
        changed = dict(_entries_of(self._encoded))
        for key, value in values.items():
            field = "string_value" if isinstance(value, str) else "int_value"
            changed[key] = schema.AnyValue(**{field: value}).SerializeToString()
        return Attributes(changed)

    def shape(self) -> tuple[str, ...]:
        """Return every key there is, in the order in which the map has them: often the same for the same keys."""
        return tuple(self.keys())

    def contents(self) -> frozenset[tuple[str, bytes]] | None:
        """Return every key that is UTF-8 with its encoded value, None if that is more than `MOST_COMPARED` bytes."""
        if self._contents is None:
            if len(self._encoded) * _LEAST_PAIR > MOST_COMPARED:
                return None
            contents = frozenset(_entries_of(self._encoded))
            if sum(len(key) + len(value) for key, value in contents) > MOST_COMPARED:
                return None
            self._contents = contents
        return self._contents

    def marked(self, key: str, marks: tuple[bytes, ...]) -> Any:
        """Return what `get` returns, but "" for a text that holds none of `marks` (UTF-8).

        Raises:
            MalformedError: as `get`.
        """
        return "" if self.is_unmarked(key, marks) else self.get(key)

    def derived(self, key: str, marks: tuple[bytes, ...], read: Callable[[Any], Hashable]) -> Any:
        """Return what `read` makes of the value of `key`; None for a text that holds none of `marks` (UTF-8).

        Raises:
            MalformedError: as `get`.
        """
        return None if self.is_unmarked(key, marks) else read(self.get(key))

    def is_unmarked(self, key: str, marks: tuple[bytes, ...]) -> bool:
        """Return whether the value of `key` is a text that holds none of `marks`."""
        encoded = self._encoded.get(key)
        if encoded is None or not _text_start(encoded):
            return False
        return not holds(encoded, marks)

    def is_filled(self, key: str) -> bool:
        """Return whether `key` has a value other than the empty text.

        Raises:
            MalformedError: as `get`.
        """
        encoded = self._encoded.get(key)
        if encoded is not None and len(encoded) > 2 and _text_start(encoded):
            return True
        return self.get(key) not in (None, "")

    def clear(self) -> None:
        """Let go of what was `walked`, one by one: of a million at once it takes a tenth of a second."""
        encoded, keys = self._encoded, self._keys
        while keys:
            del keys[-_CLEARED:]
        while isinstance(encoded, dict) and encoded:
            encoded.popitem()

    def recorded(self) -> RecordedAttributes:
        """Return the same attributes, which note whose values are asked for."""
        return RecordedAttributes(self._encoded)

    def holds(self, key: str, encoded: bytes) -> bool:
        """Return whether the value of `key` is the AnyValue `encoded`, byte for byte."""
        return self._encoded.get(key) == encoded

    def __contains__(self, key: object) -> bool:
        return key in self._encoded


def _entries_of(encoded: Mapping[str, bytes]) -> Iterable[tuple[str, bytes]]:
    """Return the entries of a map whose keys are UTF-8: it has any other key as bytes, and gives no value for that."""
    try:
        return [*encoded.items()]
    except UnicodeDecodeError:
        return [(key, encoded[key]) for key in encoded if isinstance(key, str)]


class RecordedAttributes(Attributes):
    """Attributes that count how often the value of each key was asked for, under `read`.

    `unmarked` has the texts with the marks that were looked for in them, where none was found; `filled` the keys of
    which it was asked whether they hold something; `derivations` what was derived of texts. `has_read_events` is set
    once more was read of an event than its name.
    """

    __slots__ = ("derivations", "filled", "has_read_events", "read", "unmarked")

    def __init__(self, encoded: Mapping[str, bytes]) -> None:
        super().__init__(encoded)
        self.read: Counter[str] = Counter()
        self.unmarked: Counter[tuple[str, tuple[bytes, ...]]] = Counter()
        self.filled: Counter[str] = Counter()
        self.derivations: Counter[Derivation] = Counter()
        self.has_read_events = False

    def derived(self, key: str, marks: tuple[bytes, ...], read: Callable[[Any], Hashable]) -> Any:
        """See `Attributes.derived`."""
        self.derivations[key, marks, read] += 1
        return Attributes(self._encoded).derived(key, marks, read)

    def is_unmarked(self, key: str, marks: tuple[bytes, ...]) -> bool:
        """See `Attributes.is_unmarked`."""
        if super().is_unmarked(key, marks):
            self.unmarked[key, marks] += 1
            return True
        if key in self._encoded:
            self.read[key] += 1
        return False

    def is_filled(self, key: str) -> bool:
        """See `Attributes.is_filled`."""
        self.filled[key] += 1
        return Attributes(self._encoded).is_filled(key)

    def get(self, key: str) -> Any:
        """See `Attributes.get`."""
        self.read[key] += 1
        return super().get(key)

    def integers(self, keys: tuple[str, ...]) -> list[int] | None:
        """See `Attributes.integers`: nothing is noted where they are asked for one by one after that."""
        numbers = super().integers(keys)
        if numbers is not None:
            self.read.update(keys)
        return numbers

    def fingerprint(self, keys: tuple[str, ...]) -> tuple[bytes | None, ...]:
        """See `Attributes.fingerprint`."""
        self.read.update(keys)
        return super().fingerprint(keys)

    def holds(self, key: str, encoded: bytes) -> bool:
        """See `Attributes.holds`."""
        self.read[key] += 1
        return super().holds(key, encoded)


def attributes_of(message: Any, encoded: bytes, number: int) -> Attributes:
    """Return the attributes of `message`, whose bytes are `encoded` and whose attributes are field `number`: also those
    that its map left out, as it does an entry that has fields of a later OTLP version.
    """
    if len(encoded) <= MANY_FIELDS:
        unknown: Any = UnknownFieldSet(message)
        if number not in [left.field_number for left in unknown]:
            return Attributes(message.attributes)
    elif not schema.ENTRIES[number].FromString(other_fields(type(message).FromString(encoded))).attributes:
        return Attributes(message.attributes)
    entries = schema.ENTRIES[number].FromString(encoded).attributes
    return Attributes({schema.text(entry.key): entry.value for entry in entries})


def other_fields(message: Any) -> bytes:
    """Return the fields of a message that its schema has not, or not of their wire type; takes out the others."""
    for field, _ in message.ListFields():
        message.ClearField(field.name)
    return message.SerializeToString()  # type: ignore[no-any-return]


def plain(value: Any) -> Any:
    """Return an AnyValue message as a plain Python value."""
    which = value.WhichOneof("value")
    if which is None:
        return None
    content = getattr(value, which)
    if which == "string_value":
        return schema.text(content)
    if which == "array_value":
        return [plain(element) for element in content.values]
    if which == "kvlist_value":
        return {schema.text(entry.key): plain(entry.value) for entry in content.values}
    return content


def holds(body: bytes, marks: tuple[bytes, ...]) -> bool:
    """Return whether bytes hold one of `marks`. Many are searched a piece at a time: nobody else runs while Python
    searches.
    """
    if len(body) > SEARCHED:
        step = SEARCHED - max(map(len, marks), default=1) + 1
        return any(holds(body[at : at + SEARCHED], marks) for at in range(0, len(body), step))
    for place in map(body.find, marks):  # noqa: SIM110 - it runs for every GenAI span; `in` raises for each mark
        if place >= 0:
            return True
    return False


def _text_start(encoded: bytes) -> int:
    """Return where the text begins in an AnyValue that is one string and nothing else; 0 in any other."""
    size = len(encoded)
    if size < 2 or encoded[0] != _STRING_TAG:
        return 0
    if size < 0x82:
        return 2 if encoded[1] == size - 2 else 0
    if encoded[1] < 0x80:
        return 0
    if encoded[2] < 0x80:
        return 3 if encoded[1] & 0x7F | encoded[2] << 7 == size - 3 else 0
    if encoded[3] < 0x80:
        return 4 if encoded[1] & 0x7F | (encoded[2] & 0x7F) << 7 | encoded[3] << 14 == size - 4 else 0
    length = write_varint(size - 5)  # of 2 MiB and more
    return 5 if len(length) == 4 and encoded[1:5] == length else 0


def _number(encoded: bytes, size: int) -> int | None:
    """Return the varint behind the tag if it ends where `encoded` does. Counts take three bytes at most, mostly."""
    if size == 4:
        _, one, two, three = encoded
        return one & 0x7F | (two & 0x7F) << 7 | three << 14 if one > 0x7F and two > 0x7F and three < 0x80 else None
    if size == 3:
        _, one, two = encoded
        return one & 0x7F | two << 7 if one > 0x7F and two < 0x80 else None
    number = shift = 0
    for byte in encoded[1:]:
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
        shift += 7
    return number if shift == 7 * (size - 2) else None


def _entry(encoded: bytes, start: int, end: int) -> tuple[str, int, int]:
    """Return the key of the KeyValue at [start, end), and where its value stands: nothing of that is copied.

    Raises:
        MalformedError: it cannot be read.
    """
    rest = bytearray()
    value = value_end = at = start
    for read, field in enumerate(fields(encoded, start, end)):
        if read == MAX_FIELDS:
            raise MalformedError(TOO_MANY_FIELDS)
        if field.number == _VALUE and field.wire_type == LENGTH:
            value, value_end = field.start, field.end
        else:
            rest += encoded[at : field.end]
        at = field.end
    return schema.text(schema.Entry.FromString(bytes(rest)).key), value, value_end


class _GiantValue:
    """An AnyValue that is read element by element, `MAX_FIELDS` at most: in one go they would take 20 times its bytes,
    and a second in which nobody else runs.
    """

    def __init__(self, encoded: bytes) -> None:
        self._encoded = encoded
        self._left = MAX_FIELDS

    def plain(self, start: int, end: int, depth: int = 1) -> Value:
        """Return the AnyValue at [start, end) as `plain` does, inside of so many messages.

        Raises:
            MalformedError: it cannot be read.
            DecodeError: likewise.
        """
        if end - start <= _SHORT_VALUE:
            value: Value = plain(schema.AnyValue.FromString(self._encoded[start:end]))
            self._take(_number_of(value))
            return value
        if depth > _MOST_NESTED:
            raise MalformedError("nested too deep")
        value, at = None, start
        for part in self._fields(start, end):  # the last one holds, or adds to one of its kind
            kind = part.number if part.wire_type == LENGTH else 0
            if kind == _ARRAY:
                value = value if isinstance(value, list) else []
                for one in self._elements(part):
                    value.append(self.plain(one.start, one.end, depth + 2))
            elif kind == _KVLIST:
                value = value if isinstance(value, dict) else {}
                for one in self._elements(part):
                    key, first, last = _entry(self._encoded, one.start, one.end)
                    value[key] = self.plain(first, last, depth + 3)
            else:
                message = schema.AnyValue.FromString(self._encoded[at : part.end])
                value = plain(message) if message.WhichOneof("value") else value
            at = part.end
        return value

    def _elements(self, part: WireField) -> Iterator[WireField]:
        return (one for one in self._fields(part.start, part.end) if one.number == 1 and one.wire_type == LENGTH)

    def _fields(self, start: int, end: int) -> Iterator[WireField]:
        for field in fields(self._encoded, start, end):
            self._take(1)
            yield field

    def _take(self, number: int) -> None:
        self._left -= number
        if self._left < 0:
            raise MalformedError(TOO_MANY_FIELDS)


_ARRAY, _KVLIST = 5, 6
"""Field numbers of AnyValue."""
_SHORT_VALUE = 2**10
"""Bytes of a value inside of a giant one that a schema reads in one go."""
_MOST_NESTED = 100
"""Messages inside each other at which protobuf's own parsers stop."""


def _number_of(value: Value) -> int:
    """Return how many values are inside of one."""
    if isinstance(value, list):
        return len(value) + sum(map(_number_of, value))
    if isinstance(value, dict):
        return len(value) + sum(map(_number_of, value.values()))
    return 0


class Walked(NamedTuple):
    """A giant message whose fields were read one by one: its attributes by key, where its events stand, and the bytes
    of all other fields.
    """

    attributes: dict[str, bytes]
    events: list[bytes]
    rest: bytes


def walked(encoded: bytes, number: int, events: int = 0) -> Walked:
    """Return a giant message whose attributes are field `number`, and whose events are field `events`.

    Raises:
        DecodeError: it cannot be read, or has more than `MAX_FIELDS`.
    """
    attributes: dict[str, bytes] = {}
    found: list[bytes] = []
    rest = bytearray()
    at = copied = 0
    try:
        for read, field in enumerate(fields(encoded, 0, len(encoded))):
            if read == MAX_FIELDS:
                raise DecodeError(TOO_MANY_FIELDS)
            start, end = field.start, field.end
            if field.wire_type == LENGTH and field.number in (number, events):
                rest += memoryview(encoded)[copied:at]
                copied = end
                if field.number == events:
                    found.append(encoded[start:end])
                elif end - start <= GIANT:
                    entry = schema.Entry.FromString(encoded[start:end])
                    attributes[schema.text(entry.key)] = entry.value
                else:
                    key, value, value_end = _entry(encoded, start, end)
                    attributes[key] = encoded[value:value_end]
            at = end
        rest += memoryview(encoded)[copied:]
    except MalformedError as error:
        raise DecodeError(str(error)) from None
    return Walked(attributes, found, bytes(rest))
