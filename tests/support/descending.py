"""Messages as the Collector encodes them: fields in descending order, the value of an attribute before its key."""

from __future__ import annotations

from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from spanledger_processor.otlp.encoding import delimited


def descending(message: Message) -> bytes:
    """A message with its fields, and those of all messages in it, in descending order; what repeats keeps its own."""
    parts: list[bytes] = []
    for field, value in sorted(message.ListFields(), key=lambda row: -row[0].number):
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            parts += (delimited(field.number, descending(one)) for one in _each(value))
        else:
            parts.append(_alone(message, field.name, value))
    return b"".join(parts)


def _each(value: Any) -> list[Message]:
    return [value] if isinstance(value, Message) else [*value]


def _alone(message: Message, name: str, value: Any) -> bytes:
    """A field with nothing beside it."""
    alone: Any = type(message)()
    if hasattr(value, "extend"):
        getattr(alone, name).extend(value)
    else:
        setattr(alone, name, value)
    encoded: bytes = alone.SerializeToString()
    return encoded
