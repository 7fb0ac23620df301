"""How many items and fields a request has: they are counted, and not kept."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate, repeat
from typing import Any

from google.protobuf.message import DecodeError

from spanledger_processor.otlp import schema
from spanledger_processor.otlp.envelope import (
    SLICE_CUT,
    SLICE_PARTS,
    ScopeGroup,
    count_first,
    resource_attributes,
    visiting_groups,
)
from spanledger_processor.otlp.signals import GROUPS, SCOPES, Envelope, contradiction
from spanledger_processor.otlp.values import GIANT, other_fields
from spanledger_processor.otlp.wire import LENGTH, MalformedError, Steps, fields, pause

_COUNTED_BYTES = 2**20
"""Bytes of the longest request whose fields protobuf counts."""


def counting_items(body: bytes, envelope: Envelope) -> Steps[int]:
    """Count the items of an export request, in slices.

    Raises:
        MalformedError: it is no such request; says what is wrong and where.
    """
    usual = _usual_count(body, envelope) if len(body) <= _COUNTED_BYTES else None
    if usual is not None:
        return usual
    count = 0

    def add(group: ScopeGroup) -> None:
        nonlocal count
        count += len(group.items)

    yield from visiting_groups(body, envelope, add)
    return count


def _usual_count(body: bytes, envelope: Envelope) -> int | None:
    """Return how many items a request holds, None where it is not as requests usually are, and may be refused."""
    try:
        request = schema.Request.FromString(body)
        resources = request.resources
        if len(resources) > SLICE_PARTS or len(resources) + sum(map(_part_count, resources)) > SLICE_PARTS:
            return None
        for encoded in [b"".join(resource.resource) for resource in resources]:
            if len(encoded) > GIANT:
                return None
            resource_attributes(encoded)
        items = []
        for scope in [scope for resource in resources for scope in resource.scopes]:
            if len(scope.scope) > SLICE_PARTS:
                return None
            schema.Scope.FromString(b"".join(scope.scope))
            items.append(scope.items)
    except DecodeError:
        return None
    if not items or not all(items) or contradiction(items[0][0], 0, len(items[0][0]), envelope)[0] is not None:
        return None
    count = sum(map(len, items))
    return None if any(map(other_fields, (*resources, request))) else count


def _part_count(resource: Any) -> int:
    return len(resource.resource) + len(resource.scopes)


def counting_fields(body: bytes, start: int, end: int, number: int) -> Steps[int]:
    """Count the fields `number`, below 16, of the message at [start, end), in slices. They are not kept.

    Raises:
        MalformedError: a field that cannot be read.
    """
    count, at, last, tag = 0, start, end - 2, number << 3 | LENGTH
    while at < end:
        for _ in repeat(None, SLICE_CUT):
            if at > last or body[at] != tag or body[at + 1] > 0x7F:
                break
            at += 2 + body[at + 1]
            count += 1
        for read, field in enumerate(fields(body, at, end), 1):
            at = field.end
            if field.is_message(number):
                count += 1
                break
            if read % SLICE_PARTS == 0:
                yield pause
        yield pause
    if at > end:
        raise MalformedError(f"byte {end}: {at - end} bytes more are needed than there are")
    return count


def may_have_more_fields(most: int, body: bytes) -> bool:
    """Return whether an export request of any signal may have more than `most` fields in its envelope, with its items.

    protobuf counts them: to find the items of 512 plain spans here takes six times as long. But it counts to the end,
    in up to 25 ms and 23 MiB for each MiB, and so a longer request is gone through until it is known.
    """
    try:
        counts = _field_counts(schema.Request.FromString(body)) if len(body) <= _COUNTED_BYTES else _walked_counts(body)
        return any(count > most for count in accumulate(counts))
    except (DecodeError, MalformedError):
        return True  # what protobuf cannot read may be a request all the same


def _field_counts(request: Any) -> Iterator[int]:
    """Yield how many fields of its schema each message of a request's envelope has."""
    yield len(request.resources)
    for resource in request.resources:
        yield len(resource.resource) + len(resource.scopes) + len(resource.schema_url)
        for scope in resource.scopes:
            yield len(scope.scope) + len(scope.items) + len(scope.schema_url)


def _walked_counts(body: bytes) -> Iterator[int]:
    """Do as `_field_counts`; of a scope at most as many items count as are found between two pauses."""
    for group in fields(body, 0, len(body)):
        yield 1
        for scope in fields(body, group.start, group.end) if group.is_message(GROUPS) else ():
            yield 1
            if scope.is_message(SCOPES):
                yield count_first(body, scope.start, scope.end)
