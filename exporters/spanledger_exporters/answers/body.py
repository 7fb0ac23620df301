"""Messages in answers, in either encoding. One that cannot be read is left aside: none is needed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from google.protobuf import json_format
from google.protobuf.message import DecodeError, Message

from spanledger_exporters.text import one_line

Parsed = TypeVar("Parsed", bound=Message)

PROTOBUF, JSON = "application/x-protobuf", "application/json"

LONGEST_WAIT = 3600.0
"""Seconds: a destination that asks for more is asked again after this long."""


@dataclass(frozen=True, slots=True)
class Body:
    """The body of an answer, as far as it was read."""

    content: bytes
    media_type: str

    def parse(self, message: Parsed) -> Parsed | None:
        """`message`, filled from the body; None where the body is none such."""
        try:
            if self.media_type == PROTOBUF:
                message.ParseFromString(self.content)
            elif self.media_type == JSON:
                json_format.Parse(self.content, message, ignore_unknown_fields=True)
            else:
                return None
        except (DecodeError, json_format.ParseError, UnicodeDecodeError, RecursionError):
            return None
        return message


def reason(status: str, message: str) -> str:
    """What people are told of a failure."""
    return f"{status}: {one_line(message)}" if message else status
