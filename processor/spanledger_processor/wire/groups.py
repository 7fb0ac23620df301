"""A request's items with the resource and scope around them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from google.protobuf.message import DecodeError

from spanledger_processor.wire import schema
from spanledger_processor.wire.envelope import Shape, read_envelope
from spanledger_processor.wire.errors import MalformedError
from spanledger_processor.wire.values import Attributes, attributes_of


class Group(NamedTuple):
    """The items of one instrumentation scope of one resource, encoded, in the order they came."""

    resource_attributes: Attributes
    scope_name: str
    scope_version: str
    items: list[bytes]


def read_groups(body: bytes, shape: Shape) -> Iterator[Group]:
    """The groups of an export request, in the order of their scopes on the wire.

    Raises:
        MalformedError: it is no such request; says what is wrong and where.
    """
    for number, group in enumerate(read_envelope(body, shape).groups):
        place = f"{shape.group}[{number}]"
        resource = _resource(group, place)
        for index, scoped in enumerate(group.scoped):
            yield Group(resource, *_scope(scoped, f"{place}.{shape.scoped}[{index}]"), list(scoped.items))


def count_items(body: bytes, shape: Shape) -> int:
    """How many items an export request holds.

    Raises:
        MalformedError: it is no such request; says what is wrong and where.
    """
    return sum(len(scoped.items) for group in read_envelope(body, shape).groups for scoped in group.scoped)


def _resource(group: Any, place: str) -> Attributes:
    encoded = b"".join(group.resource)
    try:
        return attributes_of(schema.Resource.FromString(encoded), encoded, 1)
    except DecodeError:
        raise MalformedError(f"{place}.resource: cannot be read") from None


def _scope(scoped: Any, place: str) -> tuple[str, str]:
    try:
        scope = schema.Scope.FromString(b"".join(scoped.scope))
    except DecodeError:
        raise MalformedError(f"{place}.scope: cannot be read") from None
    return schema.text(scope.name), schema.text(scope.version)
