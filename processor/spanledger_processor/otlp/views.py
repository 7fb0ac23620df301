"""One span, span event or log record, read as far as it is asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from typing import Any, TypeAlias

from google.protobuf.message import DecodeError

from spanledger_processor.otlp import schema
from spanledger_processor.otlp.values import GIANT, Attributes, RecordedAttributes, attributes_of, plain, walked
from spanledger_processor.otlp.wire import MalformedError

__all__ = ["Attributes", "Event", "LogView", "SpanHead", "SpanView", "head_of"]


def _parsed(kind: Any, encoded: bytes, number: int, events: int = 0) -> tuple[Any, Attributes, Sequence[bytes] | None]:
    """Return a message, its attributes, field `number`, and its events, field `events`, where they are not in it: those
    of a giant one are read one by one.

    Raises:
        DecodeError: it cannot be read.
    """
    if len(encoded) <= GIANT:
        message = kind.FromString(encoded)
        return message, attributes_of(message, encoded, number), None
    read = walked(encoded, number, events)
    return kind.FromString(read.rest), Attributes(read.attributes), read.events


class Event:
    """A span event. Times are nanoseconds since 1970."""

    __slots__ = ("_message", "attributes")

    def __init__(self, message: Any, attributes: Attributes) -> None:
        self._message = message
        self.attributes = attributes

    @classmethod
    def parse(cls, event: bytes) -> Event:
        """Read an encoded Span.Event.

        Raises:
            MalformedError: it cannot be read.
        """
        try:
            message, attributes, _ = _parsed(schema.Event, event, 3)
            return cls(message, attributes)
        except DecodeError:
            raise MalformedError("event: cannot be read") from None

    @property
    def name(self) -> str:
        return schema.text(self._message.name)

    @property
    def time_ns(self) -> int:
        return int(self._message.time_unix_nano)


class _RecordedEvent(Event):
    """A span event whose span notes that more was read of it than its name."""

    __slots__ = ("_span",)

    def __init__(self, event: Event, span: RecordedAttributes) -> None:
        super().__init__(event._message, event.attributes)
        self._span = span

    def __getattribute__(self, name: str) -> Any:
        if name in {"attributes", "time_ns"}:
            object.__getattribute__(self, "_span").has_read_events = True
        return object.__getattribute__(self, name)


SpanHead: TypeAlias = tuple[bytes, bytes, bytes, int, int]
"""The ids of trace, span and parent, and start and end in ns."""


def head_of(span: bytes) -> SpanHead:
    """Return what `SpanView.head` does of an encoded Span, of which nothing else is read: in half the time.

    Raises:
        MalformedError: it cannot be read.
    """
    try:
        return _head_in(schema.SpanHead.FromString(span))
    except DecodeError:
        raise MalformedError("span: cannot be read") from None


_head_in: Callable[[Any], SpanHead] = attrgetter(
    "trace_id", "span_id", "parent_span_id", "start_time_unix_nano", "end_time_unix_nano"
)


class SpanView:
    """A span. Ids are as on the wire, empty if absent; times are nanoseconds since 1970, 0 if absent."""

    __slots__ = ("_encoded_events", "_events", "_message", "attributes")

    def __init__(self, message: Any, attributes: Attributes, events: Sequence[bytes] | None = None) -> None:
        self._message = message
        self.attributes = attributes
        self._encoded_events = events
        """Those of a giant span; None: they are in the message."""
        self._events: Sequence[Event] | None = None

    @classmethod
    def parse(cls, span: bytes) -> SpanView:
        """Read an encoded Span. Attribute values and events are decoded when they are asked for.

        Raises:
            MalformedError: it cannot be read, or has more than `MAX_EVENTS`.
        """
        try:
            view = cls(*_parsed(schema.Span, span, 9, 11))
        except DecodeError:
            raise MalformedError("span: cannot be read") from None
        if len(span) > MAX_EVENTS and view.event_count > MAX_EVENTS:
            raise MalformedError(f"span: more than {MAX_EVENTS} events")
        return view

    def recorded(self) -> tuple[SpanView, RecordedAttributes]:
        """Return the same span with attributes that note what is asked for, and those."""
        attributes = self.attributes.recorded()
        return SpanView(self._message, attributes, self._encoded_events), attributes

    def changed(self, values: Mapping[str, str | int]) -> SpanView:
        """Return the same span with other values under some keys."""
        return SpanView(self._message, self.attributes.changed(values), self._encoded_events)

    def head(self) -> SpanHead:
        """Return the ids of trace, span and parent, and start and end in ns: all of them in one go."""
        return _head_in(self._message)

    @property
    def has_events(self) -> bool:
        return self.event_count > 0

    @property
    def event_count(self) -> int:
        return len(self._message.events if self._encoded_events is None else self._encoded_events)

    @property
    def trace_id(self) -> bytes:
        return self._message.trace_id  # type: ignore[no-any-return]

    @property
    def span_id(self) -> bytes:
        return self._message.span_id  # type: ignore[no-any-return]

    @property
    def parent_span_id(self) -> bytes:
        return self._message.parent_span_id  # type: ignore[no-any-return]

    @property
    def name(self) -> str:
        return schema.text(self._message.name)

    @property
    def kind(self) -> int:
        return self._message.kind  # type: ignore[no-any-return]

    @property
    def start_ns(self) -> int:
        return self._message.start_time_unix_nano  # type: ignore[no-any-return]

    @property
    def end_ns(self) -> int:
        return self._message.end_time_unix_nano  # type: ignore[no-any-return]

    @property
    def status_code(self) -> int:
        return self._message.status.code  # type: ignore[no-any-return]

    @property
    def events(self) -> Sequence[Event]:
        """Return the events in order.

        Raises:
            MalformedError: one of them cannot be read.
        """
        if self._events is None:
            encoded, attributes = self._encoded_events, self.attributes
            if encoded is None:
                encoded = self._message.events
            events = [*map(Event.parse, encoded)] if len(encoded) <= _MOST_KEPT else _Events(encoded)
            if type(attributes) is RecordedAttributes:
                events = [_RecordedEvent(event, attributes) for event in events]
            self._events = events
        return self._events

    def event_names(self) -> tuple[str, ...] | None:
        """Return the names of the events in order; None where there are too many to compare.

        Raises:
            MalformedError: one of them cannot be read.
        """
        if not self.has_events:
            return ()
        number = self.event_count
        return tuple([event.name for event in self.events]) if number <= _MOST_COMPARED else None


MAX_EVENTS = 2**15
"""Events that a span may have: every rule goes over all of them, and real spans have a hundred at most."""
_MOST_COMPARED = 16
_MOST_KEPT = 4096
"""Events of a span that are kept as they were read; those of one with more are read each time."""


class _Events(Sequence[Event]):
    """Events that are read when they are asked for."""

    def __init__(self, encoded: Sequence[bytes]) -> None:
        self._encoded = encoded

    def __len__(self) -> int:
        return len(self._encoded)

    def __getitem__(self, place: Any) -> Any:
        encoded = self._encoded[place]
        return [*map(Event.parse, encoded)] if isinstance(place, slice) else Event.parse(encoded)


class LogView:
    """A log record. Ids are as on the wire, empty if absent; times are nanoseconds since 1970, 0 if absent.

    `raw` is the encoded record.
    """

    __slots__ = ("_message", "attributes", "raw")

    def __init__(self, message: Any, attributes: Attributes, raw: bytes) -> None:
        self._message = message
        self.attributes = attributes
        self.raw = raw

    @classmethod
    def parse(cls, record: bytes) -> LogView:
        """Read an encoded LogRecord. Attribute values are decoded when they are asked for.

        Raises:
            MalformedError: it cannot be read.
        """
        try:
            message, attributes, _ = _parsed(schema.LogRecord, record, 6)
            return cls(message, attributes, record)
        except DecodeError:
            raise MalformedError("log record: cannot be read") from None

    @property
    def time_ns(self) -> int:
        return self._message.time_unix_nano  # type: ignore[no-any-return]

    @property
    def observed_ns(self) -> int:
        return self._message.observed_time_unix_nano  # type: ignore[no-any-return]

    @property
    def severity_number(self) -> int:
        return self._message.severity_number  # type: ignore[no-any-return]

    @property
    def event_name(self) -> str:
        return schema.text(self._message.event_name)

    @property
    def body(self) -> Any:
        """Return the body as a plain Python value (see `values.Value`), None if absent or empty."""
        return plain(self._message.body)

    @property
    def trace_id(self) -> bytes:
        return self._message.trace_id  # type: ignore[no-any-return]

    @property
    def span_id(self) -> bytes:
        return self._message.span_id  # type: ignore[no-any-return]
