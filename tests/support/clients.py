"""What a client of the enricher leaves out of a request, by enrich.proto: the Collector component does it in Go."""

from __future__ import annotations

import re
from collections.abc import Collection
from functools import cache

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from spanledger_processor.dialects.content import ReadValue, UnreadValue, read_values, unread_values

UNREAD, READ = unread_values(), read_values(3)
"""What `serve` says by its defaults, where three calls in a row are a loop."""
_LEFT_OUT = ("string_value", "bytes_value", "array_value", "kvlist_value")


def without_content(body: bytes, unread: tuple[UnreadValue, ...] = UNREAD, read: tuple[ReadValue, ...] = READ) -> bytes:
    """An encoded trace request with "-" in place of every value, however short, that the enricher does not read."""
    request = ExportTraceServiceRequest.FromString(body)
    for resource_spans in request.resource_spans:
        for scope_spans in resource_spans.scope_spans:
            for span in scope_spans.spans:
                if any(span.trace_id) and any(span.span_id):
                    for attribute in left_out(span, scope_spans.scope.name, unread, read):
                        attribute.value.string_value = "-"
    return request.SerializeToString()


def left_out(span: Span, scope: str, unread: Collection[UnreadValue], read: Collection[ReadValue]) -> list[KeyValue]:
    """The attributes of a span that are sent without their values."""
    return [
        attribute
        for attribute in span.attributes
        if attribute.value.WhichOneof("value") in _LEFT_OUT
        and attribute.value != AnyValue(string_value="")
        and any(_is_left_out(attribute, value, span, scope, read) for value in unread)
    ]


def _is_left_out(attribute: KeyValue, unread: UnreadValue, span: Span, scope: str, read: Collection[ReadValue]) -> bool:
    if (match := _pattern(unread.key).fullmatch(attribute.key)) is None or not _is_unread(unread, span, scope):
        return False
    place = match[1] if match.groups() else ""
    return not any(one.key == unread.key and _is_read(attribute.value, place, one, span) for one in read)


@cache
def _pattern(key: str) -> re.Pattern[str]:
    return re.compile("([0-9]+)".join(map(re.escape, key.split("*"))))


def _is_unread(value: UnreadValue, span: Span, scope: str) -> bool:
    held = {attribute.key: attribute.value.string_value for attribute in span.attributes}
    spoken = not held.keys().isdisjoint(value.unless_keys) or any(
        text.startswith(beginnings)
        for text, beginnings in ((scope, value.unless_scopes), (span.name, value.unless_names))
    )
    return not spoken or held.get(value.where, "").strip(" \t\r\n\"'").lower() in value.values


def _is_read(value: AnyValue, place: str, read: ReadValue, span: Span) -> bool:
    if read.longest and len(value.string_value) > read.longest:
        return False
    if read.markers and sum(text.count(marker) for text in _texts(value) for marker in read.markers) < read.fewest:
        return False
    if not read.beside:
        return True
    beside = [match[1] for one in span.attributes if (match := _pattern(read.beside).fullmatch(one.key))]
    return len(beside) >= read.fewest and (not read.same_place or place in beside)


def _texts(value: AnyValue) -> list[str]:
    """Every text and key of a value."""
    below = [*value.array_value.values, *(one.value for one in value.kvlist_value.values)]
    keys = [one.key for one in value.kvlist_value.values]
    return [value.string_value, *keys, *(text for one in below for text in _texts(one))]
