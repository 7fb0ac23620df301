"""Spans odd in every way that may arrive: each goes on with all its bytes, and money stays what is known for sure."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from backend import Backend
from chats import CHAT, COST, PRICE, USAGE, chat, request, set_attributes, without
from served import Served

INPUT, OUTPUT = USAGE
MIB = 2**20


def _through(served: Served, backend: Backend, body: bytes, span: bytes) -> bytes:
    """Send `body`; what the destination got, which holds the bytes of `span` untouched."""
    served.export(body)
    received = backend.received[-1]
    assert span in received
    return received


def _enriched(served: Served, backend: Backend, span: Span) -> dict[str, Any]:
    """The attributes that `span` has after it went through."""
    _through(served, backend, request(span), span.SerializeToString())
    from_backend = Backend.spans(backend)
    return list(from_backend)[-1]


@pytest.fixture
def untouched(served: Served) -> Any:
    """Nothing fails inside while the test runs."""
    before = served.metric("spanledger_enrichment_failures_total")
    yield
    assert served.metric("spanledger_enrichment_failures_total") == before


def test_a_span_as_it_should_be(served: Served, backend: Backend, untouched: None) -> None:
    """What the others are compared with."""
    values = _enriched(served, backend, chat())
    assert values["spanledger.cost.usd"] == pytest.approx(COST, rel=1e-12)


def test_invalid_utf8_in_keys_and_values(served: Served, backend: Backend) -> None:
    """Go senders do send it. The span is priced, and the bytes go on as they are."""
    span = chat()
    set_attributes(span, {"app.bad-key": "bad-value", "gen_ai.output.messages": "bad-value"})
    broken = (
        span.SerializeToString()
        .replace(b"app.bad-key", b"app.\xff\xfe\xfd-key")
        .replace(b"bad-value", b"bad\xc3\x28\xed\xa0ue")
    )
    body = request(span).replace(span.SerializeToString(), broken)
    received = _through(served, backend, body, broken)
    assert b"spanledger.cost.usd" in received
    backend.received.pop()  # the real protobuf cannot read it


def test_invalid_utf8_in_a_key_of_the_resource(served: Served, backend: Backend, untouched: None) -> None:
    """All spans of the resource are priced, and those beside it."""
    broken = request(chat(), resource={"app.bad-key": "one"}).replace(b"app.bad-key", b"app.bad\xffkey")
    beside = chat()
    received = _through(served, backend, broken + request(beside), beside.SerializeToString())
    assert received.count(b"spanledger.cost.usd") == 2
    backend.received.pop()  # the real protobuf cannot read it


def test_ten_thousand_attributes(served: Served, backend: Backend, untouched: None) -> None:
    span = chat()
    for number in range(10_000):
        span.attributes.add(key=f"app.attribute.{number}").value.int_value = number
    assert _enriched(served, backend, span)["spanledger.cost.usd"] == pytest.approx(COST, rel=1e-12)


def test_a_key_that_stands_twice(served: Served, backend: Backend, untouched: None) -> None:
    """Both stay on the span; one of the two is what counts, and never their sum."""
    span = chat()
    span.attributes.add(key=INPUT).value.int_value = 2000
    values = _enriched(served, backend, span)
    assert values["spanledger.usage.input_tokens"] in {1000, 2000}


@pytest.mark.parametrize(
    ("given", "tokens"),
    [
        pytest.param({INPUT: "1000", OUTPUT: "100"}, 1000, id="as strings"),
        pytest.param({INPUT: 1000.0, OUTPUT: 100.0}, 1000, id="as doubles"),
    ],
)
def test_counts_of_another_type_are_read(
    given: dict[str, Any], tokens: int, served: Served, backend: Backend, untouched: None
) -> None:
    span = chat()
    set_attributes(span, given)
    values = _enriched(served, backend, span)
    assert values["spanledger.usage.input_tokens"] == tokens
    assert values["spanledger.cost.usd"] == pytest.approx(COST, rel=1e-12)


@pytest.mark.parametrize(
    "given",
    [
        pytest.param({INPUT: -1000}, id="negative"),
        pytest.param({INPUT: str(2**63)}, id="2^63 as a string"),
        pytest.param({INPUT: 1e300}, id="a huge double"),
        pytest.param({INPUT: math.nan}, id="not a number"),
        pytest.param({INPUT: math.inf}, id="infinite"),
        pytest.param({INPUT: "many"}, id="a word"),
    ],
)
def test_counts_that_cannot_be_are_no_money(
    given: dict[str, Any], served: Served, backend: Backend, untouched: None
) -> None:
    """Never a negative cost, never a guessed one: either the other counts stand, or the reason for no price."""
    before = served.total_usd()
    span = chat()
    set_attributes(span, given)
    values = _enriched(served, backend, span)
    assert ("spanledger.cost.usd" in values) != ("spanledger.cost.unpriced" in values)
    assert 0 <= values.get("spanledger.cost.usd", 0) <= 2 * COST
    assert before <= served.total_usd() <= before + 2 * COST


def test_more_cached_than_there_was(served: Served, backend: Backend, untouched: None) -> None:
    """5000 of 1000 input tokens cannot be: either input is meant without the cached ones, or there is no price."""
    exclusive = COST + float(5000 * PRICE["cache_read"] / 10**6)
    span = chat()
    set_attributes(span, {"gen_ai.usage.cache_read.input_tokens": 5000})
    values = _enriched(served, backend, span)
    assert "spanledger.cost.unpriced" not in values
    assert values["spanledger.usage.input_tokens"] == 6000
    assert values["spanledger.cost.usd"] == pytest.approx(exclusive, rel=1e-12)


def test_the_largest_int64(served: Served, backend: Backend, untouched: None) -> None:
    """2^63 - 1 tokens fit the wire; the ledger's sums outgrow 64 bits without harm."""
    before = served.total_usd()
    for _ in range(2):
        span = chat()
        set_attributes(span, {INPUT: 2**63 - 1, OUTPUT: 0})
        values = _enriched(served, backend, span)
        assert ("spanledger.cost.usd" in values) != ("spanledger.cost.unpriced" in values)
        assert values.get("spanledger.cost.usd", 0) >= 0
    assert served.total_usd() >= before


@pytest.mark.parametrize(
    ("begin", "end"), [(2 * 10**18, 10**18), (0, 0), (2**64 - 1, 2**64 - 1), (2**64 - 1, 0)], ids=str
)
def test_times_that_cannot_be(begin: int, end: int, served: Served, backend: Backend, untouched: None) -> None:
    """End before start, none at all, the far future: priced as of now, which is an estimate."""
    values = _enriched(served, backend, chat(start_time_unix_nano=begin, end_time_unix_nano=end))
    assert values["spanledger.cost.usd"] == pytest.approx(COST, rel=1e-12)


@pytest.mark.parametrize(("trace_id", "span_id"), [(b"", b""), (bytes(16), bytes(8)), (b"short", b"x" * 100)], ids=str)
def test_ids_that_are_none(trace_id: bytes, span_id: bytes, served: Served, backend: Backend, untouched: None) -> None:
    """The span is its own key: sent twice it counts once, and another span without ids counts too."""
    before = served.total_usd()
    one = chat(trace_id=trace_id, span_id=span_id)
    _enriched(served, backend, one)
    _enriched(served, backend, one)
    _enriched(served, backend, chat(trace_id=trace_id, span_id=span_id))
    assert served.total_usd() == pytest.approx(before + 2 * COST, rel=1e-9)


def _inside(field: int, content: bytes) -> bytes:
    """`content` as a length-delimited field."""
    length, rest = bytearray(), len(content)
    while rest > 0x7F:
        length.append(rest & 0x7F | 0x80)
        rest >>= 7
    return bytes((field << 3 | 2,)) + bytes(length) + bytes((rest,)) + content


@pytest.mark.parametrize("depth", [50, 500, 20_000])
def test_values_nested_deep(depth: int, served: Served, backend: Backend) -> None:
    """Lists in lists in an attribute, deeper than protobuf reads: the span goes on, priced or counted as a failure."""
    value = b""
    for _ in range(depth):
        value = _inside(5, _inside(1, value))  # AnyValue.array_value, ArrayValue.values
    span = chat().SerializeToString() + _inside(9, _inside(1, b"gen_ai.input.messages") + _inside(2, value))
    before = served.metric("spanledger_priced_spans_total") + served.metric("spanledger_enrichment_failures_total")
    _through(served, backend, _inside(1, _inside(2, _inside(2, span))), span)
    backend.received.pop()
    after = served.metric("spanledger_priced_spans_total") + served.metric("spanledger_enrichment_failures_total")
    assert after == before + 1


def test_unknown_fields_stay(served: Served, backend: Backend, untouched: None) -> None:
    """Fields of a later OTLP, in the span and in every message around it."""
    extra = b"\xfa\x7f\x03new"  # field 2047, length-delimited
    span = chat().SerializeToString() + extra
    body = _inside(1, _inside(2, _inside(2, span) + extra) + extra) + extra
    received = _through(served, backend, body, span)
    assert received.count(extra) == 4
    assert b"spanledger.cost.usd" in received


TOOL = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "write_file"}
ARGUMENTS = "gen_ai.tool.call.arguments"


def _tool(arguments: str) -> Span:
    span = without(chat(), *CHAT, *USAGE)
    set_attributes(span, TOOL | {ARGUMENTS: arguments, "gen_ai.conversation.id": "odd"})
    return span


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(json.dumps({"content": "x" * MIB}), id="1 MiB"),
        pytest.param(json.dumps({"path": "a", "content": "x" * 1000})[:500], id="JSON cut off"),
        pytest.param("[" * 100_000, id="nested, cut off"),
        pytest.param("[" * 100_000 + "]" * 100_000, id="nested"),
        pytest.param('{"a":' * 10_000 + "1" + "}" * 10_000, id="nested objects"),
        pytest.param('{"n": 1' + "0" * 100_000 + "}", id="a number of 100,000 digits"),
        pytest.param('{"a": "\\ud800"}', id="half a surrogate pair"),
        pytest.param("\x00\x01", id="control characters"),
    ],
)
def test_arguments_of_any_kind_are_signed(arguments: str, served: Served, backend: Backend, untouched: None) -> None:
    """The same arguments give the same signature and count as repeats, however odd they are."""
    first = _enriched(served, backend, _tool(arguments))
    second = _enriched(served, backend, _tool(arguments))
    assert first["spanledger.tool.signature"] == second["spanledger.tool.signature"]
    assert second["spanledger.tool.repeats"] == first["spanledger.tool.repeats"] + 1


def test_a_span_that_cannot_be_read_goes_on_alone(served: Served, backend: Backend) -> None:
    """Its neighbours are enriched; it passes as it came, and is counted."""
    before = served.metric("spanledger_enrichment_failures_total")
    good = chat()
    bad = chat().SerializeToString()
    bad += b"\x4a\x7f"  # an attribute said to be longer than what is left
    placeholder = Span(name="p" * (len(bad) - 3))
    body = request(good, placeholder).replace(placeholder.SerializeToString(), bad)
    received = _through(served, backend, body, bad)
    assert received.count(b"spanledger.cost.usd") == 1
    assert good.SerializeToString() in received
    assert served.metric("spanledger_enrichment_failures_total") == before + 1
    backend.received.pop()


def test_own_attributes_mark_a_span_as_done(served: Served, backend: Backend) -> None:
    """What went through once passes untouched when it comes again, enriched: a loop does not grow or count."""
    assert "spanledger.kind" in _enriched(served, backend, chat())
    enriched = backend.received[-1]
    before = served.total_usd()
    served.export(enriched)
    assert backend.received[-1] == enriched
    assert served.total_usd() == before
