"""What a client of the enricher leaves out of a request, by enrich.proto: the Collector component does it in Go."""

from __future__ import annotations

import re
from functools import cache

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from spanledger_processor.dialects.content import UnreadValue, unread_values

UNREAD = [(re.compile("[0-9]+".join(map(re.escape, value.key.split("*")))), value) for value in unread_values()]


def without_content(body: bytes) -> bytes:
    """An encoded trace request with "-" in place of every text, however short, that the enricher does not read."""
    request = ExportTraceServiceRequest.FromString(body)
    for resource_spans in request.resource_spans:
        for scope_spans in resource_spans.scope_spans:
            for span in scope_spans.spans:
                if any(span.trace_id) and any(span.span_id):
                    _leave_out(span, scope_spans.scope.name)
    return request.SerializeToString()


def _leave_out(span: Span, scope: str) -> None:
    for attribute in [one for one in span.attributes if _left_out(one.key, span, scope)]:
        if attribute.value.string_value or attribute.value.HasField("array_value"):
            attribute.value.string_value = "-"


def _left_out(key: str, span: Span, scope: str) -> bool:
    return any(_of(value, span, scope) for value in _values_of(key))


@cache
def _values_of(key: str) -> list[UnreadValue]:
    return [value for pattern, value in UNREAD if pattern.fullmatch(key)]


def _of(value: UnreadValue, span: Span, scope: str) -> bool:
    held = {attribute.key: attribute.value.string_value for attribute in span.attributes}
    spoken = not held.keys().isdisjoint(value.unless_keys) or any(
        text.startswith(beginnings)
        for text, beginnings in ((scope, value.unless_scopes), (span.name, value.unless_names))
    )
    return not spoken or held.get(value.where, "").strip(" \t\r\n\"'").lower() in value.values
