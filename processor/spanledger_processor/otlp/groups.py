"""A request's items with the resource and scope around them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from google.protobuf.message import DecodeError

from spanledger_processor.otlp import schema
from spanledger_processor.otlp.envelope import ResourceItems, ScopeItems, Shape, read_envelope
from spanledger_processor.otlp.errors import MalformedError
from spanledger_processor.otlp.values import Attributes, attributes_of


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
    for group in read_envelope(body, shape):
        resource = _resource(group)
        for scoped in group.scopes:
            yield Group(resource, *_scope(scoped), list(scoped.items))


def count_items(body: bytes, shape: Shape) -> int:
    """How many items an export request holds.

    Raises:
        MalformedError: it is no such request; says what is wrong and where.
    """
    count = 0
    for group in read_envelope(body, shape):
        _resource(group)
        for scoped in group.scopes:
            _scope(scoped)
            count += len(scoped.items)
    return count


def _resource(group: ResourceItems) -> Attributes:
    try:
        return attributes_of(schema.Resource.FromString(group.resource), group.resource, 1)
    except DecodeError:
        raise MalformedError(f"{group.place}.resource: cannot be read") from None


def _scope(scoped: ScopeItems) -> tuple[str, str]:
    try:
        scope = schema.Scope.FromString(scoped.scope)
    except DecodeError:
        raise MalformedError(f"{scoped.place}.scope: cannot be read") from None
    return schema.text(scope.name), schema.text(scope.version)
