"""Spans with the same fields in the same order: what stands where in them, so that values are cut out without parsing.

Spans of one instrumentation differ in few places. In one of them these places are found once. In others like it the
lengths of those fields that differ in length are read, each behind the one before, and for every set of lengths one
`struct` cuts out all values at once, and everything else to be compared. Nothing is taken for granted: each byte that
is no wanted value, and no value of a key that does not matter, has to be that of a span that was learned.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import islice
from operator import itemgetter
from struct import Struct
from typing import Any, Generic, NamedTuple, TypeAlias, TypeVar

from spanledger_processor.otlp.values import GIANT
from spanledger_processor.otlp.wire import FIXED64, LENGTH, MalformedError, fields, write_varint

_TRACE_ID, _SPAN_ID, _PARENT_ID, _START, _END, _ATTRIBUTES, _EVENTS = 1, 2, 4, 7, 8, 9, 11
_HEAD = {
    _TRACE_ID: (LENGTH, 16, "16s"),
    _SPAN_ID: (LENGTH, 8, "8s"),
    _PARENT_ID: (LENGTH, 8, "8s"),
    _START: (FIXED64, 8, "Q"),
    _END: (FIXED64, 8, "Q"),
}
"""Wire type, size and format of what is cut out of every span."""
_KEY, _VALUE = 1, 2
_STRING_TAG, _INT_TAG = 0x0A, 0x18
_SHORT = 1 << 14
"""Lengths below this one take two bytes at most."""
_VARINTS = ("B", "H", "HB")
"""Formats of varints of one byte, two and three. Counts take three at most; a span with a longer one is not read so."""
_MOST_FIELDS, _MOST_EXACT, _MOST_ALIKE, _MOST_LAYOUTS = 128, 256, 16, 8
"""Fields of a span, sets of lengths of a layout, spans of one set that differ in what is compared, layouts."""
_READERS_OF_NUMBERS = 1024
_FIRST_LAYOUTS, _LEAST_USE = 256, 4
"""Spans that are learned in any case; and that each has to be of use for where others are to be learned."""

T = TypeVar("T")
CutValues: TypeAlias = tuple[Any, ...]
"""Ids of trace, span and parent (empty if there is none), start and end in ns, then the wanted texts as bytes."""
Found: TypeAlias = tuple[T, CutValues, list[int]]
"""What is known of spans like one, its values, and the wanted numbers."""
_Cut: TypeAlias = tuple[int, int, str]
"""Start, end and format of a value."""


class _Piece(NamedTuple):
    """Offsets of a field that is length-delimited: its content is [start, end), behind a byte or two of its length.

    Of an attribute `key` and the offsets of its encoded value are known; of a field longer than that, its `size`.
    """

    number: int
    start: int
    end: int
    size: int = 0
    key: bytes = b""
    value: int = 0
    value_end: int = 0


class _Parts(NamedTuple):
    """A span that was taken apart: what is cut out of every one by field number, and all pieces in order."""

    head: dict[int, _Cut]
    pieces: list[_Piece]

    def form(self) -> tuple[Any, ...]:
        """Return what spans of one layout have in common."""
        return (*self.head, *[(piece.number, piece.size, piece.key) for piece in self.pieces])


@lru_cache(_READERS_OF_NUMBERS)
def _reader_of(varints: tuple[tuple[int, str], ...]) -> Callable[[tuple[Any, ...]], list[int] | None]:
    """Return what reads numbers out of the unpacked fields of a span, None where one does not end with its bytes.

    Each is given by its first field and its format. It is one expression, made of these, since a loop over them takes
    twice as long.
    """
    values, checks = list[str](), ["True"]
    for at, form in varints:
        low, high = f"row[{at}]", f"row[{at + 1}]"
        if form == "B":
            values.append(low)
            checks.append(f"{low} < 0x80")
            continue
        value = f"{low} & 0x7F | {low} >> 1 & 0x3F80"
        values.append(value if form == "H" else f"{value} | {high} << 14")
        checks.append(f"{low} & 0x8080 == 0x80" if form == "H" else f"{low} & 0x8080 == 0x8080 and {high} < 0x80")
    expression = f"lambda row: [{', '.join(values)}] if {' and '.join(checks)} else None"
    return eval(expression)  # type: ignore[no-any-return]  # noqa: S307 - of numbers and formats made here alone


class Layouts(Generic[T]):
    """Layouts of the spans of one group, and what is known of spans that are like one another. Bounded."""

    def __init__(self) -> None:
        self._layouts: list[_Layout[T]] = []
        self.learned = self.used = 0
        """Spans that were learned; and those that were read by them, which whoever asks counts."""

    def __len__(self) -> int:
        return len(self._layouts)

    def learns(self) -> bool:
        """Return whether a span is worth learning: none is where spans are too seldom laid out like others."""
        return self.learned < _FIRST_LAYOUTS or self.used > _LEAST_USE * self.learned

    def find(self, span: bytes) -> Found[T] | None:
        """Return what is known of spans like this one, and its values; None where nothing is known."""
        for layout in self._layouts:
            exact = layout.likely.get(len(span))
            found = None if exact is None else exact.find(span, 0)
            if found is not None:
                return found
            exact = layout.exact_of(span)
            found = None if exact is None else exact.find(span, 0)
            if found is not None:
                layout.likely[len(span)] = exact  # type: ignore[assignment]  # it found something
                return found
        return None

    def read(self, body: bytes, starts: Sequence[int], ends: Sequence[int]) -> list[Found[T]]:
        """Return what `find` does of spans side by side in `body`, up to the first of which nothing is known."""
        read: list[Found[T]] = []
        likely = self._layouts[0].likely if self._layouts else {}
        for start, end in zip(starts, ends, strict=True):
            exact = likely.get(end - start)
            found = None if exact is None else exact.find(body, start)
            if found is None:
                found = self.find(body[start:end]) if end - start <= GIANT else None
                if found is None:
                    break
            read.append(found)
        return read

    def learn(self, span: bytes, wanted: Sequence[str], compared: Sequence[str], known: T) -> None:
        """Know spans like this one: they may differ in the values under the `wanted` keys, texts or numbers, which are
        cut out in this order, and in those of keys that are not `compared`.
        """
        self.learned += 1
        parts = _parts_of(span)
        if parts is None:
            return
        form = parts.form()
        layout = next((layout for layout in self._layouts if layout.form == form), None)
        if layout is None:
            if len(self._layouts) >= _MOST_LAYOUTS:
                self._layouts.clear()
            layout = _Layout[T](form, parts)
            self._layouts.append(layout)
        layout.learn(span, parts, wanted, compared, known)

    def forget(self) -> None:
        """Know nothing any more."""
        self._layouts.clear()


class _Exact(Generic[T]):
    """Spans of one layout whose fields have the same lengths."""

    __slots__ = ("known", "numbers", "same", "unpack", "values")

    def __init__(self, length: int, cuts: Sequence[_Cut], skipped: Sequence[tuple[int, int]]) -> None:
        form, at = ["<"], 0
        same, places = list[int](), [0] * len(cuts)
        pieces = [(*cut, place) for place, cut in enumerate(cuts)] + [(*skip, "x", -1) for skip in skipped]
        number = 0
        for start, end, kind, place in sorted(pieces):
            if start > at:
                form.append(f"{start - at}s")
                same.append(number)
                number += 1
            form.append(kind if place >= 0 else f"{end - start}x")
            if place >= 0:
                places[place] = number
                number += len(kind) if kind in _VARINTS else 1
            at = end
        form.append(f"{length - at}s")
        same.append(number)
        self.unpack = Struct("".join(form)).unpack_from
        fields = [(at, kind) for at, (_, _, kind) in zip(places, cuts, strict=True)]
        self.values, self.same = itemgetter(*[at for at, kind in fields if kind not in _VARINTS]), itemgetter(*same)
        self.numbers = _reader_of(tuple([field for field in fields if field[1] in _VARINTS]))
        self.known: list[tuple[CutValues, T]] = []

    def find(self, body: bytes, start: int) -> Found[T] | None:
        """Return what is known of the span of this length at `start`, with its values; None if it has other content."""
        row = self.unpack(body, start)
        same = self.same(row)
        for other, known in self.known:
            if same == other:
                numbers = self.numbers(row)
                return None if numbers is None else (known, self.values(row), numbers)
        return None


class _Layout(Generic[T]):
    """Spans with the same fields, and the same keys, in the same order."""

    def __init__(self, form: tuple[Any, ...], parts: _Parts) -> None:
        self.form = form
        self.gaps: tuple[int, ...] = ()
        """From the last byte of a field that differs in length to the length of the next such field."""
        self.exact: dict[tuple[int, ...], _Exact[T]] = {}
        """By the length of a span, and those of the fields that differ in it."""
        self.likely: dict[int, _Exact[T]] = {}
        """What the last span of a length was found by: to look there first saves reading the lengths of its fields."""
        self._lengths = _lengths(parts)
        self._differ = set[int]()
        self._keys: tuple[Sequence[str], Sequence[str]] = ((), ())
        """Those wanted, and compared."""

    def exact_of(self, span: bytes) -> _Exact[T] | None:
        """Return what is known of spans with the lengths of this one."""
        at, lengths = 0, [len(span)]
        note = lengths.append
        try:
            for gap in self.gaps:
                at += gap
                length = span[at]
                if length > 0x7F:
                    at += 1
                    length = length & 0x7F | span[at] << 7
                note(length)
                at += length
        except IndexError:
            return None
        return self.exact.get(tuple(lengths))

    def learn(self, span: bytes, parts: _Parts, wanted: Sequence[str], compared: Sequence[str], known: T) -> None:
        """See `Layouts.learn`."""
        cuts = _cuts(span, parts, wanted)
        if cuts is None:
            return
        differ = {place for place, one in enumerate(_lengths(parts)) if one != self._lengths[place]}
        if not differ <= self._differ or self._keys != (wanted, compared):
            self._differ |= differ
            self._keys = (wanted, compared)
            self._forget()
        at, of_fields, gaps = 0, [len(span)], list[int]()
        for place in sorted(self._differ):
            piece = parts.pieces[place]
            length = piece.end - piece.start
            gaps.append(piece.start - (1 if length <= 0x7F else 2) - at)
            of_fields.append(length)
            at = piece.end - 1
        self.gaps, lengths = tuple(gaps), tuple(of_fields)
        if len(self.exact) >= _MOST_EXACT:
            self._forget()
        exact = self.exact.get(lengths)
        if exact is None:
            needed = {key.encode() for key in (*wanted, *compared)}
            skipped = [
                (piece.value, piece.value_end) for piece in parts.pieces if piece.key and piece.key not in needed
            ]
            exact = self.exact[lengths] = _Exact[T](len(span), cuts, skipped)
        if len(exact.known) >= _MOST_ALIKE:
            exact.known.clear()
        exact.known.insert(0, (exact.same(exact.unpack(span, 0)), known))

    def _forget(self) -> None:
        self.exact.clear()
        self.likely.clear()


def _lengths(parts: _Parts) -> list[int]:
    return [piece.end - piece.start for piece in parts.pieces]


def _cuts(span: bytes, parts: _Parts, wanted: Sequence[str]) -> list[_Cut] | None:
    """Return where the values of a span stand, in their order; None if one of them cannot be cut out."""
    if not {_TRACE_ID, _SPAN_ID, _START, _END} <= parts.head.keys():
        return None
    cuts = [parts.head.get(number, (0, 0, "0s")) for number in _HEAD]
    pieces = {piece.key: piece for piece in parts.pieces}
    for key in wanted:
        piece = pieces.get(key.encode())
        if piece is None or piece.value_end - piece.value < 2:
            return None
        start, end = piece.value + 1, piece.value_end
        if span[piece.value] == _STRING_TAG and span[start] == end - start - 1 < 0x80:
            start += 1
        elif span[piece.value] != _INT_TAG or end - start > len(_VARINTS):
            return None
        is_text = span[piece.value] == _STRING_TAG
        cuts.append((start, end, f"{end - start}s" if is_text else _VARINTS[end - start - 1]))
    return cuts


def _parts_of(span: bytes) -> _Parts | None:
    """Return a span taken apart; None if it has events, or anything in it is not as it nearly always is."""
    head: dict[int, _Cut] = {}
    pieces: list[_Piece] = []
    keys = set[bytes]()
    try:
        for read, (number, wire_type, tag_end, start, end) in enumerate(fields(span, 0, len(span))):
            if read >= _MOST_FIELDS:
                return None
            size = end - start
            if number in _HEAD:
                if number in head or (wire_type, size) != _HEAD[number][:2]:
                    return None
                head[number] = (start, end, _HEAD[number][2])
            elif number == _EVENTS or (number == _ATTRIBUTES and wire_type != LENGTH):
                return None
            elif wire_type == LENGTH:
                if start - tag_end != len(write_varint(size)):
                    return None
                piece = _piece(span, number, start, end)
                if piece is None or piece.key in keys:
                    return None
                if number == _ATTRIBUTES:
                    keys.add(piece.key)
                pieces.append(piece)
    except MalformedError:
        return None
    return _Parts(head, pieces)


def _piece(span: bytes, number: int, start: int, end: int) -> _Piece | None:
    size = end - start if end - start >= _SHORT else 0
    if number != _ATTRIBUTES:
        return _Piece(number, start, end, size)
    parts = list(islice(fields(span, start, end), 3))
    if len(parts) != 2:
        return None
    key, value = parts
    if key.number != _KEY:  # the Collector writes fields in descending order
        key, value = value, key
    if (key.number, value.number) != (_KEY, _VALUE) or key.wire_type != LENGTH or value.wire_type != LENGTH:
        return None
    if key.start == key.end:
        return None
    return _Piece(number, start, end, size, span[key.start : key.end], value.start, value.end)
