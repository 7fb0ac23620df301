"""Log requests: read only, their bytes pass untouched."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from google.protobuf.message import DecodeError

from spanledger_processor.otlp import schema
from spanledger_processor.otlp.envelope import LOGS
from spanledger_processor.otlp.errors import MalformedError
from spanledger_processor.otlp.groups import read_groups
from spanledger_processor.otlp.values import Attributes, attributes_of, plain


@dataclass(slots=True)
class LogGroup:
    """The records of one instrumentation scope of one resource. `records` are encoded, in the order they came."""

    resource_attributes: Attributes
    scope_name: str
    scope_version: str
    records: list[bytes]


@dataclass(slots=True)
class LogRequest:
    """A log request that was read."""

    groups: list[LogGroup]


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
            message = schema.LogRecord.FromString(record)
        except DecodeError:
            raise MalformedError("log record: cannot be read") from None
        return cls(message, attributes_of(message, record, 6), record)

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
        """The body as a plain Python value (see `values.Value`), None if absent or empty."""
        return plain(self._message.body)

    @property
    def trace_id(self) -> bytes:
        return self._message.trace_id  # type: ignore[no-any-return]

    @property
    def span_id(self) -> bytes:
        return self._message.span_id  # type: ignore[no-any-return]


def parse_logs(body: bytes) -> LogRequest:
    """Read an ExportLogsServiceRequest; its records stay encoded.

    Raises:
        MalformedError: it is none; says what is wrong and where.
    """
    return LogRequest([LogGroup(*group) for group in read_groups(body, LOGS)])
