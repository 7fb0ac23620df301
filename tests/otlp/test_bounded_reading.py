"""Whatever bytes a request has: no step over them is long, and what is read of them takes little memory."""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import FrameType
from typing import Any

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from otlp_bytes import attribute, message
from spanledger_processor.otlp import counting as counting_module
from spanledger_processor.otlp import envelope as envelope_module
from spanledger_processor.otlp import layout as layout_module
from spanledger_processor.otlp import schema
from spanledger_processor.otlp import signals as signals_module
from spanledger_processor.otlp import values as values_module
from spanledger_processor.otlp import views as views_module
from spanledger_processor.otlp.counting import counting_items
from spanledger_processor.otlp.envelope import reading_groups
from spanledger_processor.otlp.layout import Layouts
from spanledger_processor.otlp.request import count_data_points, counting_data_points
from spanledger_processor.otlp.signals import LOGS, METRICS, TRACES, Envelope
from spanledger_processor.otlp.values import MANY_FIELDS, Attributes, plain
from spanledger_processor.otlp.views import SpanView
from spanledger_processor.otlp.wire import START_GROUP, MalformedError, Steps, fields, finished

SPAN = message(1, bytes(16)) + message(2, bytes(8)) + message(5, b"GET")
GROUP, END = b"\xa3\x01", b"\xa4\x01"
"""The tags of a group with the number 20."""
UNKNOWN = b"\xa0\x01\x00"
"""A field with the number 20."""
SIZE = 2**13

IN_ENVELOPE: dict[str, Callable[[int], bytes]] = {
    "unknown fields": lambda size: UNKNOWN * (size // 3),
    "groups": lambda size: (GROUP + END) * (size // 4),
    "nested groups": lambda size: (GROUP * 90 + END * 90) * (size // 360),
    "a group": lambda size: GROUP + UNKNOWN * (size // 3) + END,
    "pieces": lambda size: message(1) * (size // 2),
    "urls": lambda size: message(3) * (size // 2),
}
PLACES: dict[str, Callable[[bytes], bytes]] = {
    "request": lambda odd: message(1, message(2, message(2, SPAN))) + odd,
    "resource": lambda odd: message(1, message(2, message(2, SPAN)), odd),
    "scope": lambda odd: message(1, message(2, message(2, SPAN), odd)),
}


def _in_place(odd: Callable[[int], bytes], around: Callable[[bytes], bytes]) -> Callable[[int], bytes]:
    return lambda size: around(odd(size))


SHAPES: dict[str, Callable[[int], bytes]] = {
    **{
        f"{name} in the {place}": _in_place(odd, around)
        for name, odd in IN_ENVELOPE.items()
        for place, around in PLACES.items()
        if not (place == "request" and name in ("pieces", "urls"))
    },
    "empty resources": lambda size: message(1) * (size // 2),
    "empty scopes": lambda size: message(1, message(2) * (size // 2)),
    "empty items": lambda size: message(1, message(2, message(2) * (size // 2))),
    "items of another signal": lambda size: message(1, message(2, message(2, b"\x28\x00" * 512) * (size // 1027))),
}
READERS: dict[str, Callable[[bytes], Steps[Any]]] = {
    "read": lambda body: reading_groups(body, TRACES),
    "counted": lambda body: counting_items(body, LOGS),
    "points counted": counting_data_points,
}


def lines_of_steps(steps: Steps[Any]) -> Iterator[int]:
    """Lines of code of each step."""
    lines = 0

    def trace(_frame: FrameType, event: str, _arg: Any) -> Any:
        nonlocal lines
        lines += event == "line"
        return trace

    before = sys.gettrace()
    ended = False
    while not ended:
        lines = 0
        sys.settrace(trace)
        try:
            next(steps)
        except (StopIteration, MalformedError):
            ended = True
        finally:
            sys.settrace(before)
        yield lines


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("shape", SHAPES)
def test_no_step_over_an_envelope_grows_with_it(monkeypatch: pytest.MonkeyPatch, shape: str, reader: str) -> None:
    """Counted: lines of code. One group of 64 MiB was passed over in one step."""
    for module in (envelope_module, counting_module):
        monkeypatch.setattr(module, "SLICE_PARTS", 32)
        monkeypatch.setattr(module, "SLICE_CUT", 32)
    monkeypatch.setattr(signals_module, "_MOST_LOOKED_AT", 64)
    monkeypatch.setattr(counting_module, "_usual_count", lambda *_: None)
    few, many = (max(lines_of_steps(READERS[reader](SHAPES[shape](size)))) for size in (SIZE // 4, SIZE))
    assert many < 1.5 * few + 500


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("shape", SHAPES)
def test_what_is_read_of_an_envelope_takes_little_memory(shape: str, reader: str) -> None:
    """Counted: bytes. 131,072 empty scopes took 52 MiB, 200 times what they came in."""
    body = SHAPES[shape](16 * SIZE)
    tracemalloc.start()
    try:
        with suppress(MalformedError):
            finished(READERS[reader](body))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 16 * len(body) + 2**16


LONG = {
    "unknown fields": UNKNOWN * MANY_FIELDS,
    "links": message(13) * MANY_FIELDS,
    "groups": (GROUP + END) * MANY_FIELDS,
    "kinds": b"\x30\x03" * MANY_FIELDS,
    "events": message(11) * MANY_FIELDS,
    "attributes of one key": attribute(b"k", message(1, b"v")) * MANY_FIELDS,
}


@pytest.mark.parametrize("fill", LONG)
@pytest.mark.parametrize("envelope", [TRACES, LOGS, METRICS], ids=["spans", "log records", "metrics"])
def test_no_object_is_made_of_each_field_that_nobody_knows(
    monkeypatch: pytest.MonkeyPatch, envelope: Envelope, fill: str
) -> None:
    """Counted: messages whose unknown fields are listed. Those of one item of 256 KiB took 0.07 s and 12 MiB."""
    listed: list[int] = []

    def noted(read: Any) -> list[Any]:
        listed.append(read.ByteSize())
        return []

    monkeypatch.setattr(signals_module, "UnknownFieldSet", noted)
    monkeypatch.setattr(values_module, "UnknownFieldSet", noted)
    with suppress(MalformedError):  # what is evidently an item of another signal
        finished(reading_groups(message(1, message(2, message(2, LONG[fill]))), envelope))
    span = SpanView.parse(message(2, bytes(8)) + attribute(b"a", message(1, b"b")) + LONG[fill])
    assert span.attributes.get("a") == "b"
    assert not listed


@pytest.mark.parametrize("more", [0, MANY_FIELDS], ids=["short", "long"])
def test_an_attribute_with_fields_of_a_later_version_is_read(more: int) -> None:
    later = message(9, message(1, b"k"), message(2, message(1, b"v")), b"\x18\x01")
    span = attribute(b"a", message(1, b"b")) + later + UNKNOWN * more
    assert {key: SpanView.parse(span).attributes.get(key) for key in ("a", "k")} == {"a": "b", "k": "v"}


def test_of_a_span_of_many_fields_few_are_looked_at_to_learn_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted: fields. Plain spans are learned one by one, on the event loop."""
    looked_at = [0]

    def reading(*span: Any) -> Any:
        for field in fields(*span):
            looked_at[0] += 1
            yield field

    monkeypatch.setattr(layout_module, "fields", reading)
    for span in (SPAN + b"\x50\x01" * 10_000, SPAN + message(9, message(1) * 10_000)):
        Layouts[None]().learn(span, (), (), None)
    assert looked_at[0] < 300


@pytest.mark.parametrize("number", [1, 16, 17, 100, 1000])
def test_a_group_is_passed_over_in_pieces(number: int) -> None:
    group = GROUP + (UNKNOWN + GROUP + END) * number + END
    pieces = list(fields(SPAN + group + SPAN, 0, 2 * len(SPAN) + len(group)))[3:-3]
    assert (pieces[0].number, pieces[0].wire_type) == (20, START_GROUP)
    assert {(piece.number, piece.wire_type) for piece in pieces[1:]} <= {(0, START_GROUP)}
    assert len(pieces) == -(-(3 * number + 1) // 16)
    ends = [len(SPAN) + len(GROUP), *(piece.end for piece in pieces)]
    assert [piece.start for piece in pieces] == ends[:-1]
    assert ends[-1] == len(SPAN) + len(group)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(max_size=9) | st.binary(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=20,
)


def encoded(value: Any) -> bytes:
    """The AnyValue of a plain value."""
    read = schema.AnyValue()
    _fill(read, value)
    return bytes(read.SerializeToString())


def _fill(read: Any, value: Any) -> None:
    if isinstance(value, bool):
        read.bool_value = value
    elif isinstance(value, int):
        read.int_value = value
    elif isinstance(value, str):
        read.string_value = value
    elif isinstance(value, bytes):
        read.bytes_value = value
    elif isinstance(value, list):
        read.array_value.SetInParent()
        for element in value:
            _fill(read.array_value.values.add(), element)
    elif isinstance(value, dict):
        read.kvlist_value.SetInParent()
        for key, element in value.items():
            entry = read.kvlist_value.values.add(key=key)
            _fill(entry.value, element)


@given(st.lists(VALUES, min_size=1, max_size=3), st.sampled_from([0, 8, 1024]))
def test_a_giant_value_reads_as_any_other(values: list[Any], short: int) -> None:
    """Also one that comes in pieces, of which the last holds or adds to the one before."""
    joined = b"".join(map(encoded, values))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(values_module, "GIANT", 0)
        patch.setattr(values_module, "_SHORT_VALUE", short)
        read = Attributes({"k": joined}).get("k")
    assert read == plain(schema.AnyValue.FromString(joined))


@pytest.mark.parametrize(
    "value",
    [
        message(5, message(1) * 101),
        message(6, *(attribute(str(number).encode(), b"", 1) for number in range(101))),
        message(5, message(1, encoded([0] * 101))),
    ],
)
def test_a_giant_value_of_too_many_elements_is_not_read(monkeypatch: pytest.MonkeyPatch, value: bytes) -> None:
    """64 MiB of empty elements took 1.5 GiB."""
    monkeypatch.setattr(values_module, "GIANT", 0)
    monkeypatch.setattr(values_module, "MAX_FIELDS", 100)
    with pytest.raises(MalformedError, match="cannot be read"):
        Attributes({"k": value}).get("k")


@pytest.mark.parametrize("fill", [UNKNOWN, message(9), message(11), message(15), b"\x30\x03", GROUP + END])
def test_a_giant_span_of_too_many_fields_is_not_read(monkeypatch: pytest.MonkeyPatch, fill: bytes) -> None:
    monkeypatch.setattr(views_module, "GIANT", 0)
    monkeypatch.setattr(values_module, "MAX_FIELDS", 100)
    assert SpanView.parse(SPAN + fill * 90).name == "GET"
    with pytest.raises(MalformedError, match="cannot be read"):
        SpanView.parse(SPAN + fill * 100)


def test_a_giant_scope_of_too_many_fields_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(envelope_module, "GIANT", 0)
    monkeypatch.setattr(values_module, "MAX_FIELDS", 100)
    scope = message(1, b"name") + message(2, b"1.0") + message(3) * 98
    (group,) = finished(reading_groups(message(1, message(2, message(1, scope), message(2, SPAN))), TRACES))
    assert (group.scope_name, group.scope_version) == ("name", "1.0")
    with pytest.raises(MalformedError, match="scope: cannot be read"):
        finished(reading_groups(message(1, message(2, message(1, scope, b"\x20\x01"))), TRACES))


def test_events_of_a_giant_span_are_those_that_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    span = SPAN + message(11, message(2, b"a")) + attribute(b"k", b"\x18\x01") + message(11, message(2, b"b"))
    monkeypatch.setattr(views_module, "GIANT", 0)
    view = SpanView.parse(span)
    assert ([event.name for event in view.events], view.event_names(), view.name) == (["a", "b"], ("a", "b"), "GET")
    assert view.attributes.get("k") == 1


def test_a_span_of_too_many_events_is_not_read() -> None:
    """Every rule goes over all of them: 131,072 took a quarter of a second, in which nobody else was served."""
    many = views_module.MAX_EVENTS
    assert SpanView.parse(SPAN + message(11) * many).event_count == many
    with pytest.raises(MalformedError, match="events"):
        SpanView.parse(SPAN + message(11) * (many + 1))


POINTS = [
    message(number, message(1, bytes(9)), UNKNOWN, message(1), message(1, bytes(200))) for number in (5, 7, 9, 10, 11)
]


def test_points_of_a_long_metric_are_counted_as_those_of_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each byte of it left out, or another."""
    metric = message(1, b"m") + b"".join(POINTS) + GROUP + UNKNOWN + END
    bodies = [metric[:at] + metric[at + 1 :] for at in range(len(metric))]
    bodies += [metric[:at] + bytes((metric[at] ^ 1 << bit,)) + metric[at + 1 :] for at in range(12) for bit in range(8)]
    monkeypatch.setattr("spanledger_processor.otlp.request.MANY_FIELDS", 0)
    compared = 0
    for body in (metric, *bodies):
        with suppress(MalformedError):  # what is evidently an item of another signal
            assert count_data_points(message(1, message(2, message(2, body)))) == _points(body)
            compared += 1
    assert (_points(metric), compared > 400) == (15, True)


def _points(metric: bytes) -> int:
    try:
        read = schema.Metric.FromString(metric)
    except DecodeError:
        return 0
    return sum(len(points.data_points) for _, points in read.ListFields())
