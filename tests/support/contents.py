"""Pieces of content in the recordings: what their clients were told to ask and what the model server answered.

Taken from the requests by what reads like words, not by keys: a key that nobody knows hides nothing from it. Shorter
ones, which may be names as well, are taken from the model server's own log (what tools were called with, who asked) and
from under the members of JSON objects that hold nothing else.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from captures import Capture
from spanledger_processor.receivers.driver import detect_signal

NO_CONTENT = (
    "No `storage` configured on Mastra",  # a log record of the application's
    "Chat Completion with {",
    "Message with {",
    "Chat Completion with '",
    "Message with '",
    "streaming response from {",
    "running tool: {",
    "OpenAI Chat Completions",
    "handoff to weather_specialist",
    "flushing OTEL metrics",
    "(main, ",
    "FinishReason.",
    "chat claude-sonnet-4-5 #",  # a span's name
)
"""What reads like words and is a library's own, or no GenAI telemetry."""
NAMES = ("general-purpose",)
"""What a tool was called with and is a name as well: Claude Code's agent for a sub-agent."""
_MEMBERS = frozenset(
    word
    for line in (
        "answer arguments city cmd command content description input instructions location output prompt query",
        "question result task text thinking",
    )
    for word in line.split()
)
_LEAST_WORDS = 3
_LONGEST = 200
LEAST = 4
"""Characters of a piece: of shorter ones a few are in any request by chance."""


def pieces(capture: Capture) -> set[str]:
    """Return pieces of content that a recording holds: texts of three words and more, and short ones."""
    return _long(capture) | short_pieces(capture)


def short_pieces(capture: Capture) -> set[str]:
    """Return what tools were called with, who asked, and texts of messages, whatever their length."""
    found = set(_users(capture.truth))
    for execution in capture.truth["tool_executions"]:
        found.update(text for text, _ in _leaves(execution["arguments"]))
    for text in _texts(capture):
        if not isinstance(text, str) or text[:1] in ("{", "["):
            found.update(leaf.strip() for leaf, member in _leaves(text) if member in _MEMBERS)
    tools = {execution["name"] for execution in capture.truth["tool_executions"]}
    return {
        piece
        for piece in found - tools - {*NAMES}
        if len(piece) >= LEAST and "\n" not in piece and not _is_structure(piece)
    }


def _users(truth: dict[str, Any]) -> Iterator[str]:
    if user := truth.get("user_id"):
        yield user
    yield from truth.get("user_ids") or ()


def _long(capture: Capture) -> set[str]:
    """Return texts of three words and more that the client's requests hold anywhere, whole lines of them."""
    found: set[str] = set()
    for text in _texts(capture):
        for leaf, _ in _leaves(text):
            found.update(line.strip() for line in leaf.splitlines())
    return {
        piece[:_LONGEST]
        for piece in found
        if len(piece.split()) >= _LEAST_WORDS
        and piece[0].isalpha()
        and not any(part in piece for part in NO_CONTENT)
        and not _is_structure(piece)
    }


def _is_structure(piece: str) -> bool:
    """Return whether a line is part of code, of an object or of a repr, which JSON may hold escaped elsewhere."""
    return any(character in piece for character in "{}[]\"\\'<>=")


def _leaves(value: Any, member: str = "") -> Iterator[tuple[str, str]]:
    """Yield texts, also those in JSON that is a text, each with the member of an object that it stands under."""
    if isinstance(value, str):
        parsed = _parsed(value)
        if parsed is None:
            yield value, member
        else:
            yield from _leaves(parsed, member)
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, key)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _leaves(inner, member)


def _parsed(text: str) -> Any:
    if text[:1] not in ("{", "["):
        return None
    for parse in (json.loads, ast.literal_eval):
        try:
            return parse(text)
        except (ValueError, SyntaxError):
            continue
    return None


def _texts(capture: Capture) -> Iterator[Any]:
    for signal, body in capture.requests:
        if detect_signal(signal, body) == "traces":
            for group in ExportTraceServiceRequest.FromString(body).resource_spans:
                for scope in group.scope_spans:
                    for span in scope.spans:
                        yield span.name
                        yield from _values(span.attributes)
                        for event in span.events:
                            yield from _values(event.attributes)
        else:
            for logs in ExportLogsServiceRequest.FromString(body).resource_logs:
                for records in logs.scope_logs:
                    for record in records.log_records:
                        yield _plain(record.body)
                        yield from _values(record.attributes)


def _values(attributes: Any) -> Iterator[Any]:
    for attribute in attributes:
        if attribute.key not in ("logfire.json_schema", "logfire.scrubbed"):
            yield _plain(attribute.value)


def _plain(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_plain(element) for element in value.array_value.values]
    if kind == "kvlist_value":
        return {entry.key: _plain(entry.value) for entry in value.kvlist_value.values}
    return value.string_value if kind == "string_value" else None
