"""OTLP's JSON form, both ways. It stays equal in meaning, not in bytes.

Rules: https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding. `google.protobuf.json_format` is not used: it
has no hex ids, puts values into its errors, and is too slow for a file exporter.
"""

from __future__ import annotations

import json
from typing import Any, Literal, NoReturn, TypeAlias

import orjson
from google.protobuf.message import DecodeError

from spanledger_processor.otlp.envelope import read_envelope
from spanledger_processor.otlp.errors import MalformedError
from spanledger_processor.otlp.json_read import fill
from spanledger_processor.otlp.json_schema import SIGNALS, fields_by_name
from spanledger_processor.otlp.json_write import as_object, salvage

SignalName: TypeAlias = Literal["traces", "logs", "metrics"]


def to_protobuf(signal: SignalName, text: bytes) -> bytes:
    """An export request in JSON as protobuf. Text that is not valid Unicode becomes U+FFFD where it is not.

    Raises:
        MalformedError: it is no such request; names the path and what is wrong there, never a value.
    """
    kind = SIGNALS[signal]
    content = _load(text, kind.shape.request)
    message = kind.published()
    fill(message, content)
    if content and not content.keys() & fields_by_name(message.DESCRIPTOR).keys():
        raise MalformedError(f"{kind.shape.request}: holds no {message.DESCRIPTOR.fields[0].json_name}")
    return message.SerializeToString()  # type: ignore[no-any-return]


def to_json(signal: SignalName, body: bytes) -> bytes:
    """An export request in protobuf as JSON, in one line. Everything that `body` says and that can be read is there.

    Text that is not UTF-8 holds U+FFFD instead. Of a span, record or metric that cannot be read to its end, the rest
    is left out: whatever passes through can be written to a file.

    Raises:
        MalformedError: `body` is no such request.
    """
    kind = SIGNALS[signal]
    read_envelope(body, kind.shape)
    try:
        message = kind.lenient.FromString(body)
    except DecodeError:
        message = salvage(kind.lenient(), body)
    return orjson.dumps(as_object(message))


def _load(text: bytes, request: str) -> Any:
    try:
        return json.loads(text.decode("utf-8-sig", "replace"), parse_constant=_refuse)
    except RecursionError:
        raise MalformedError(f"{request}: nested too deep") from None
    except ValueError as error:
        raise MalformedError(f"{request}: not JSON: {error}") from None


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON number")
