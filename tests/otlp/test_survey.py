"""What is known of a request before it is read: whether it is large, and how many items it holds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

from otlp_bytes import Node, attribute, encode, files, message, name_of, rewritten_requests, varint
from spanledger_processor.otlp import envelope as envelope_module
from spanledger_processor.otlp import schema
from spanledger_processor.otlp.envelope import (
    LOGS,
    METRICS,
    SLICE_CUT,
    SLICE_PARTS,
    TRACES,
    Envelope,
    Survey,
    counting_items,
    survey,
)
from spanledger_processor.otlp.request import counting_traces
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


def counted(body: bytes, envelope: Envelope = TRACES) -> int | None:
    """How many items reading counts, None if it refuses the request."""
    try:
        return finished(counting_items(body, envelope))
    except MalformedError:
        return None


@pytest.mark.parametrize("path", [path for signal in ENVELOPES for path in files(signal)], ids=name_of)
def test_a_recorded_request_is_counted_as_reading_counts_it(path: Path) -> None:
    body, envelope = path.read_bytes(), ENVELOPES[path.name.split(".")[1]]
    assert survey(MANY, body, envelope) == Survey(False, counted(body, envelope))


@pytest.mark.parametrize("path", [path for signal in ENVELOPES for path in files(signal)], ids=name_of)
def test_a_request_of_another_signal_is_not_counted(path: Path) -> None:
    body, recorded = path.read_bytes(), path.name.split(".")[1]
    for signal, envelope in ENVELOPES.items():
        assert signal == recorded or survey(MANY, body, envelope).items is None


@settings(max_examples=60, deadline=None)
@given(rewritten_requests())
def test_however_a_request_is_encoded_no_other_number_is_told(nodes: list[Node]) -> None:
    body = encode(nodes)
    assert survey(MANY, body, TRACES).items in (None, counted(body))


def test_what_is_refused_when_it_is_read_is_not_counted() -> None:
    """Something is left out, or other than it was, at every place."""
    assert survey(MANY, WHOLE, TRACES) == Survey(False, 3)
    for at in range(len(WHOLE)):
        flipped = [WHOLE[:at] + bytes((WHOLE[at] ^ 1 << bit,)) + WHOLE[at + 1 :] for bit in range(8)]
        for body in (*flipped, WHOLE[:at], WHOLE[:at] + WHOLE[at + 1 :]):
            assert survey(MANY, body, TRACES).items in (None, counted(body))


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
    assert survey(MANY, body, TRACES).items in (None, counted(body))


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
    assert not survey(fields, body, TRACES).large
    assert survey(fields - 1, body, TRACES) == Survey(True, None)


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
    read = [0]

    def reading(*span: Any) -> Any:
        for field in fields(*span):
            read[0] += 1
            yield field

    monkeypatch.setattr(envelope_module, "fields", reading)
    monkeypatch.setattr(schema, "Request", None)
    assert survey(20, body, TRACES) == Survey(large, None)
    assert read[0] < 50


def test_what_protobuf_cannot_read_is_worked_on_in_slices() -> None:
    """A tag of more bytes than it takes is one to us."""
    body = message(1, message(2, varint(2 << 3 | 2, padding=6) + SPAN[1:]))
    assert counted(body) == 1
    assert survey(MANY, body, TRACES) == Survey(True, None)


def test_spans_that_were_counted_are_not_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(envelope_module, "_finding", lambda *_: 1 // 0)
    assert finished(counting_traces(WHOLE, survey(MANY, WHOLE, TRACES).items)).span_count == 3


@pytest.mark.parametrize(
    ("body", "pauses"),
    [
        (WHOLE + b"\x20\x00" * 8 * SLICE_PARTS, 8),
        (message(1, message(2, SPAN), b"\x20\x00" * 8 * SLICE_PARTS), 8),
        (message(1, message(2, SPAN, b"\x20\x00" * 4 * SLICE_CUT)), 4),
    ],
    ids=["request", "resource", "scope"],
)
def test_fields_that_no_schema_knows_are_passed_over_in_slices(body: bytes, pauses: int) -> None:
    """Nobody counts them before, so others have their turn also where the request is not large."""
    assert not survey(SLICE_PARTS, body, TRACES).large
    assert sum(step is pause for step in counting_traces(body)) == pauses
