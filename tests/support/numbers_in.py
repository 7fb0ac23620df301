"""All numbers that a recording shows anywhere, to tell what is missing from what was not found."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from google.protobuf.message import Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue

from captures import Capture

_NUMBER = re.compile(r"(?<![\w.-])\d+(?![\w.-])")


def numbers_in(capture: Capture) -> set[int]:
    """Numbers that stand as values, or as words of their own in texts (JSON, Python's repr, prose)."""
    found: set[int] = set()
    for signal, body in capture.requests:
        request = ExportLogsServiceRequest if signal == "logs" else ExportTraceServiceRequest
        for value in _values(request.FromString(body)):
            found |= _numbers(value)
    return found


def _values(message: Message) -> Iterator[Any]:
    if isinstance(message, AnyValue):
        kind = message.WhichOneof("value")
        if kind in ("string_value", "int_value", "double_value"):
            yield getattr(message, kind)
            return
    for field, content in message.ListFields():
        if field.message_type is None:
            continue
        for inner in content if field.is_repeated else (content,):
            yield from _values(inner)


def _numbers(value: Any) -> set[int]:
    if isinstance(value, str):
        return {int(number) for number in _NUMBER.findall(value)[:10_000]}
    return {int(value)} if value == int(value) else set()
