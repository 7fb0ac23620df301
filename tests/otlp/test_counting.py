"""What is told of a request without reading it: whether it is large, and how many items it holds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

from otlp_bytes import Node, attribute, encode, files, message, name_of, rewritten_requests, varint
from spanledger_processor.otlp import counting as counting_module
from spanledger_processor.otlp import envelope as envelope_module
from spanledger_processor.otlp import schema
from spanledger_processor.otlp.counting import counting_items, may_have_more_fields
from spanledger_processor.otlp.envelope import SLICE_PARTS, reading_groups
from spanledger_processor.otlp.request import parsing_traces
from spanledger_processor.otlp.signals import LOGS, METRICS, TRACES, Envelope
from spanledger_processor.otlp.wire import MalformedError, fields, finished, pause

ENVELOPES = {"traces": TRACES, "logs": LOGS, "metrics": METRICS}
MANY = 10**6

SPAN = message(2, message(1, bytes(16)), message(2, bytes(8)), message(5, b"GET"), b"\x39" + bytes(8))
SCOPE = message(1, message(1, b"scope"), message(2, b"1.0"))
WHOLE = message(
    1,
    message(1, attribute(b"service.name", message(1, b"a"), 1)),
    message(2, SCOPE, SPAN, SPAN, message(3, b"url")),
    message(2, SPAN),
    message(3, b"url"),
)


def counted(body: bytes, envelope: Envelope = TRACES) -> int | str:
    """How many items are counted; why the request is refused."""
    try:
        return finished(counting_items(body, envelope))
    except MalformedError as error:
        return str(error)


def read(body: bytes, envelope: Envelope = TRACES) -> int | str:
    """How many items are found where all of them are read; why the request is refused."""
    try:
        return sum(len(group.items) for group in finished(reading_groups(body, envelope)))
    except MalformedError as error:
        return str(error)


@pytest.mark.parametrize("path", [path for signal in ENVELOPES for path in files(signal)], ids=name_of)
def test_the_items_of_a_recorded_request_are_counted_and_not_looked_for(
    monkeypatch: pytest.MonkeyPatch, path: Path
) -> None:
    body, envelope = path.read_bytes(), ENVELOPES[path.name.split(".")[1]]
    number = read(body, envelope)
    assert not may_have_more_fields(MANY, body)
    monkeypatch.setattr(envelope_module, "_finding", lambda *_: 1 // 0)
    assert counted(body, envelope) == number


@pytest.mark.parametrize("path", [path for signal in ENVELOPES for path in files(signal)], ids=name_of)
def test_a_request_of_another_signal_is_not_counted(path: Path) -> None:
    body = path.read_bytes()
    for envelope in ENVELOPES.values():
        assert counted(body, envelope) == read(body, envelope)


@settings(max_examples=60, deadline=None)
@given(rewritten_requests())
def test_however_a_request_is_encoded_no_other_number_is_told(nodes: list[Node]) -> None:
    body = encode(nodes)
    assert counted(body) == read(body)


def test_what_is_refused_when_it_is_read_is_refused_when_it_is_counted() -> None:
    """Something is left out, or other than it was, at every place."""
    assert counted(WHOLE) == 3
    for at in range(len(WHOLE)):
        flipped = [WHOLE[:at] + bytes((WHOLE[at] ^ 1 << bit,)) + WHOLE[at + 1 :] for bit in range(8)]
        for body in (*flipped, WHOLE[:at], WHOLE[:at] + WHOLE[at + 1 :]):
            assert counted(body) == read(body)


ODD = [b"\x08\x01", b"\x10\x01", b"\x18\x01", b"\x20\x01", message(1, b"\x0a\x09"), message(4), b"\x0b\x0c", b"\x0d"]
"""Fields of other wire types, of no schema, that cannot be read, or do not end."""


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize(
    "place",
    [
        lambda odd: WHOLE + odd,
        lambda odd: odd,
        lambda odd: message(1, message(2, SPAN), odd),
        lambda odd: message(1, message(2, SPAN, odd)),
        lambda odd: message(1, message(2, odd), message(2, SPAN)),
        lambda odd: message(1, message(2, message(2, odd))),
    ],
    ids=["request", "request alone", "resource", "scope", "scope without items", "item"],
)
def test_an_odd_field_changes_nothing(odd: bytes, place: Callable[[bytes], bytes]) -> None:
    body = place(odd)
    assert counted(body) == read(body)


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        (WHOLE, 1 + 4 + 4 + 1),
        (message(1) * 4, 4),
        (message(1, message(2) * 4), 5),
        (message(1, message(2, message(2) * 4)), 6),
        (message(1, message(1) * 4), 5),
        (message(1, message(3) * 4), 5),
        (message(1, message(2, message(1) * 4)), 6),
        (message(1, message(2, message(3) * 4)), 6),
    ],
    ids=["whole", "resources", "scopes", "spans", "pieces of a resource", "urls", "pieces of a scope", "urls of it"],
)
def test_every_field_of_the_envelope_counts(body: bytes, fields: int) -> None:
    assert not may_have_more_fields(fields, body)
    assert may_have_more_fields(fields - 1, body)


@pytest.mark.parametrize(
    ("body", "large"),
    [
        (WHOLE + message(1, message(2, *[message(2, message(5, b"n" * 2**18))] * 4)), False),
        (message(1, message(2, *[message(2, message(5, b"n" * 2**18))] * 4)) + message(1) * 20, True),
        (message(1, message(2, *[message(2, message(5, b"n" * 2**18))] * 4), message(2) * 20), True),
        (message(1, message(2, message(2) * 2**20)), True),
        (message(1, message(2) * 2**20), True),
        (message(1) * 2**20, True),
        (message(1, message(2, *[message(2, message(5, b"n" * 2**18))] * 4)) + b"\x0a", True),
    ],
    ids=["few", "and resources", "and scopes", "spans", "scopes", "resources", "cut"],
)
def test_of_a_longer_request_few_fields_are_looked_at(
    monkeypatch: pytest.MonkeyPatch,
    body: bytes,
    large: bool,  # noqa: FBT001 - a parameter of pytest
) -> None:
    """Counted: fields. protobuf would read two million of 4 MiB, in a tenth of a second and into 90 MiB."""
    looked_at = [0]

    def reading(*span: Any) -> Any:
        for field in fields(*span):
            looked_at[0] += 1
            yield field

    for module in (counting_module, envelope_module):
        monkeypatch.setattr(module, "fields", reading)
    monkeypatch.setattr(schema, "Request", None)
    assert may_have_more_fields(20, body) == large
    assert looked_at[0] < 50


def test_what_protobuf_cannot_read_is_worked_on_in_slices() -> None:
    """A tag of more bytes than it takes is one to us."""
    body = message(1, message(2, varint(2 << 3 | 2, padding=6) + SPAN[1:]))
    assert counted(body) == 1
    assert may_have_more_fields(MANY, body)


@pytest.mark.parametrize(
    ("body", "pauses"),
    [
        (WHOLE + b"\x20\x00" * 8 * SLICE_PARTS, 8),
        (message(1, message(2, SPAN), b"\x20\x00" * 8 * SLICE_PARTS), 8),
        (message(1, message(2, SPAN, b"\x20\x00" * 8 * SLICE_PARTS)), 8),
    ],
    ids=["request", "resource", "scope"],
)
def test_fields_that_no_schema_knows_are_passed_over_in_slices(body: bytes, pauses: int) -> None:
    """Nobody counts them before, so others have their turn also where the request is not large."""
    assert not may_have_more_fields(SLICE_PARTS, body)
    assert sum(step is pause for step in parsing_traces(body)) == pauses
