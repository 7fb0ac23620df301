"""A client seen in the field posts trace requests to the logs path (one version of it, found in recordings).

The three export requests have the same shape down to the lists of spans and log records, so protobuf reads the one
as the other, with the spans' fields unknown. What tells them apart: a span begins with a trace id of 16 bytes in
field 1, and field 1 of a log record is a fixed64. Such a request is treated as what it is, so that nothing is lost.
"""

from __future__ import annotations

from spanledger_exporters.interface import Signal
from spanledger_processor.otlp.request import parse_traces

_TRACE_ID = b"\x0a\x10"
"""Tag of field 1, length-delimited, and the length of a trace id."""


def meant(signal: Signal, body: bytes) -> Signal:
    """The signal that `body` holds, where it came in as `signal`."""
    if signal == "logs" and _TRACE_ID in body and _all_spans(body):
        return "traces"
    return signal


def _all_spans(body: bytes) -> bool:
    try:
        request = parse_traces(body)
    except Exception:  # noqa: BLE001 - a guess that fails must not hold logs up
        return False
    return request.span_count > 0 and all(
        span.startswith(_TRACE_ID) for group in request.groups for span in group.items
    )
