"""Routing by resource: the part of a request whose resources an exporter takes, in the bytes in which they came."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from google.protobuf.message import DecodeError

from spanledger_exporters.interface import Signal
from spanledger_exporters.settings import Scalar
from spanledger_processor.otlp import schema
from spanledger_processor.otlp.request import count_data_points, count_log_records, count_traces
from spanledger_processor.otlp.values import Attributes, attributes_of
from spanledger_processor.otlp.wire import LENGTH, MalformedError, fields

Match: TypeAlias = Mapping[str, Sequence[Scalar]]
"""By resource attribute: the values of which it has one; None: it has none, or an empty one."""

_COUNT: Mapping[Signal, Callable[[bytes], int]] = {
    "traces": lambda body: count_traces(body).span_count,
    "logs": count_log_records,
    "metrics": count_data_points,
}
_RESOURCES = _RESOURCE = _ATTRIBUTES = 1
"""Field numbers: resources of a request, of all signals; what a resource is; its attributes."""


class Parts:
    """A request that goes to several exporters, each of which takes some of its resources."""

    def __init__(self, signal: Signal, body: bytes, items: int) -> None:
        self._signal: Signal = signal
        self._body = body
        self._items = items
        self._fields: list[tuple[int, int, Attributes | None]] | None = None

    def of(self, match: Match | None) -> tuple[bytes, int]:
        """Return what matches, as a request, and its items; no bytes where nothing does.

        Raises:
            MalformedError: the request cannot be taken apart.
        """
        if match is None:
            return self._body, self._items
        if self._fields is None:
            self._fields = _taken_apart(self._body)
        kept = [each for each in self._fields if each[2] is None or matches(each[2], match)]
        if len(kept) == len(self._fields):
            return self._body, self._items
        if all(attributes is None for _, _, attributes in kept):
            return b"", 0
        part = b"".join(self._body[start:end] for start, end, _ in kept)
        return part, _COUNT[self._signal](part)

    def unmatched(self, matchers: Sequence[Match]) -> int:
        """Return how many items stand in resources that none of these takes."""
        if self._fields is None:
            self._fields = _taken_apart(self._body)
        left = [
            self._body[start:end]
            for start, end, attributes in self._fields
            if attributes is not None and not any(matches(attributes, match) for match in matchers)
        ]
        return _COUNT[self._signal](b"".join(left)) if left else 0


def matches(attributes: Attributes, match: Match) -> bool:
    """Return whether a resource has one of the values under every key."""
    return all(_text(attributes.get(key)) in {_text(value) for value in values} for key, values in match.items())


def _text(value: object) -> str:
    """Return a value as YAML writes it: a number and the text of it are equal, as in an environment variable."""
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _taken_apart(body: bytes) -> list[tuple[int, int, Attributes | None]]:
    """Return start and end of each field of a request, and the attributes of those that are resources."""
    parts: list[tuple[int, int, Attributes | None]] = []
    start = 0
    for field in fields(body, 0, len(body)):
        is_resource = field.number == _RESOURCES and field.wire_type == LENGTH
        parts.append((start, field.end, _attributes(body, field.start, field.end) if is_resource else None))
        start = field.end
    return parts


def _attributes(body: bytes, start: int, end: int) -> Attributes:
    inside = fields(body, start, end)
    resource = b"".join(body[each.start : each.end] for each in inside if each.number == _RESOURCE)
    try:
        return attributes_of(schema.Resource.FromString(resource), resource, _ATTRIBUTES)
    except DecodeError:
        raise MalformedError("a resource that cannot be read") from None
