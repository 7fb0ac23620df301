"""One span, read as far as it is asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from google.protobuf.message import DecodeError

from spanledger_processor.otlp import schema
from spanledger_processor.otlp.errors import MalformedError
from spanledger_processor.otlp.values import Attributes, attributes_of

__all__ = ["Attributes", "Event", "SpanView"]


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
            message = schema.Event.FromString(event)
        except DecodeError:
            raise MalformedError("event: cannot be read") from None
        return cls(message, attributes_of(message, event, 3))

    @property
    def name(self) -> str:
        return schema.text(self._message.name)

    @property
    def time_ns(self) -> int:
        return int(self._message.time_unix_nano)


class SpanView:
    """A span. Ids are as on the wire, empty if absent; times are nanoseconds since 1970, 0 if absent."""

    __slots__ = ("_message", "attributes")

    def __init__(self, message: Any, attributes: Attributes) -> None:
        self._message = message
        self.attributes = attributes

    @classmethod
    def parse(cls, span: bytes) -> SpanView:
        """Read an encoded Span. Attribute values and events are decoded when they are asked for.

        Raises:
            MalformedError: it cannot be read.
        """
        try:
            message = schema.Span.FromString(span)
        except DecodeError:
            raise MalformedError("span: cannot be read") from None
        return cls(message, attributes_of(message, span, 9))

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
        """The events in order.

        Raises:
            MalformedError: one of them cannot be read.
        """
        return [Event.parse(event) for event in self._message.events]
