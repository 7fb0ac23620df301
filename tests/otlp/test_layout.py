"""Values that are cut out of spans by layout are those that a parser reads, and nothing else differs unnoticed."""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate
from typing import Any, TypeAlias

from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from chats import set_attributes
from descending import descending
from spanledger_processor.otlp.layout import Layouts
from spanledger_processor.otlp.views import SpanView
from spanledger_processor.otlp.wire import MalformedError, read_varint, write_varint

Encoder: TypeAlias = Callable[[Span], bytes]
WANTED = ("session", "count")
COMPARED = ("model", "compared")
FREE = ("note", "free")


ENCODERS = (Span.SerializeToString, descending)
"""Libraries write fields in ascending order, the Collector in descending order."""


def encoded(
    name: str = "chat", status: int = 0, parent: bytes = b"parent-1", encoder: Encoder = ENCODERS[0], **attributes: Any
) -> bytes:
    span = Span(trace_id=b"0123456789abcdef", span_id=b"span-id1", parent_span_id=parent, name=name, kind=3)  # type: ignore[arg-type]
    span.start_time_unix_nano, span.end_time_unix_nano = 1_795_500_000 * 10**9, 1_795_500_001 * 10**9
    if status:
        span.status.code = status  # type: ignore[assignment]
    said = {"model": "m", "session": "s-1", "note": "n", "count": 300, "compared": 7, "free": "f"} | attributes
    set_attributes(span, said)
    return encoder(span)


def known(encoder: Encoder = ENCODERS[0]) -> Layouts[str]:
    """Layouts of spans that differ in lengths and in what is compared: the second time it is known in which lengths."""
    layouts = Layouts[str]()
    for model in ("m", "another") * 2:
        for session in ("s-1", "s-22"):
            for count in (5, 300, 70_000):
                span = encoded(model=model, session=session, count=count, encoder=encoder)
                layouts.learn(span, WANTED, COMPARED, model)
    return layouts


def said(span: bytes) -> Any:
    """What a parser reads of the span."""
    view = SpanView.parse(span)
    get = view.attributes.get
    same = view.name, view.kind, view.status_code, view.has_events, view.attributes.shape(), *map(get, COMPARED)
    return same, (*view.head(), *map(get, WANTED))


def check(layouts: Layouts[str], span: bytes) -> bool:
    """See that what is found of a span is what a parser reads; return whether anything is."""
    found = layouts.find(span)
    if found is None:
        return False
    model, (*head, session), numbers = found
    same, values = said(span)
    assert same == said(encoded(model=model, parent=head[2]))[0]
    assert values == (*head, session.decode("utf-8", "replace"), *numbers)
    return True


ids = st.binary(min_size=8, max_size=8)


@settings(max_examples=150)
@given(
    st.sampled_from(["m", "another", "third"]),
    st.text(max_size=6),
    st.integers(0, 1 << 40),
    st.text(max_size=3),
    st.sampled_from([7, 8]),
    st.sampled_from(["chat", "chit"]),
    st.sampled_from([0, 2]),
    st.sampled_from(ENCODERS),
)
def test_spans_are_read_as_a_parser_reads_them(
    model: str, session: str, count: int, note: str, compared: int, name: str, status: int, encoder: Encoder
) -> None:
    layouts = known(encoder)
    said: dict[str, Any] = {"model": model, "session": session, "count": count, "note": note, "compared": compared}
    span = encoded(name, status, encoder=encoder, **said)
    is_like = (model != "third", compared, name, status) == (True, 7, "chat", 0)
    is_long = (len(session.encode()), len(write_varint(count)), len(note.encode())) in LENGTHS
    assert check(layouts, span) == (is_like and is_long)
    layouts.learn(span, WANTED, COMPARED, model)
    if is_like:
        check(layouts, span)


LENGTHS = {(session, count, 1) for session in (3, 4) for count in (1, 2, 3)}

SPANS = [
    (encoder, encoded(model=model, count=count, encoder=encoder))
    for encoder in ENCODERS
    for model in ("m", "another")
    for count in (5, 300, 70_000)
]


def check_any(encoder: Encoder, span: bytes) -> None:
    """As `check`, for bytes that a parser may refuse."""
    layouts = known(encoder)
    try:
        said(span)
    except MalformedError:
        assert layouts.find(span) is None
    else:
        check(layouts, span)


@settings(max_examples=600)
@given(st.sampled_from(SPANS), st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), min_size=1, max_size=3))
def test_a_span_with_other_bytes_is_found_only_if_it_says_the_same(
    learned: tuple[Encoder, bytes], edits: list[tuple[int, int]]
) -> None:
    encoder, span = learned
    changed = bytearray(span)
    for at, byte in edits:
        changed[at % len(changed)] = byte
    check_any(encoder, bytes(changed))


@settings(max_examples=200)
@given(st.sampled_from(SPANS), st.integers(0, 400), st.integers(0, 400), st.binary(max_size=20))
def test_a_span_that_was_cut_is_found_only_if_it_says_the_same(
    learned: tuple[Encoder, bytes], start: int, end: int, new: bytes
) -> None:
    encoder, span = learned
    check_any(encoder, span[: start % len(span)] + new + span[end % len(span) :])


def test_spans_of_one_length_with_other_lengths_inside_are_told_apart() -> None:
    layouts = known()
    spans = [encoded(session="s-22", count=5), encoded(session="s-1", count=300)]
    assert len(spans[0]) == len(spans[1])
    assert all(check(layouts, span) for span in spans * 2)


def test_fields_that_are_not_as_usual_are_not_learned() -> None:
    layouts = Layouts[str]()
    event, twice = Span.FromString(encoded()), Span.FromString(encoded())
    event.events.add(name="event")
    twice.attributes.add(key="session").value.string_value = "s-2"
    two_ids = encoded() + encoded()[:18]
    for span in (event.SerializeToString(), twice.SerializeToString(), two_ids, encoded(session=5.5), b""):
        layouts.learn(span, WANTED, COMPARED, "m")
        assert layouts.find(span) is None


def test_what_is_kept_is_bounded() -> None:
    layouts = Layouts[str]()
    for number in range(3000):
        other: Any = {f"key-{number % 20}": "v"}
        span = encoded(note="n" * (number % 1500), compared=number, **other)
        layouts.learn(span, WANTED, COMPARED, "m")
        assert layouts.find(span) is not None
    kept = [exact.known for layout in layouts._layouts for exact in layout.exact.values()]
    assert len(layouts._layouts) <= 8
    assert sum(map(len, kept)) <= 8 * 256 * 16


@settings(max_examples=150)
@given(st.binary(min_size=1, max_size=3))
def test_numbers_are_those_of_varints_that_end_with_their_bytes(content: bytes) -> None:
    count = (5, 300, 70_000)[len(content) - 1]
    own = b"\x18" + write_varint(count)
    span = encoded(count=count)
    assert span.count(own) == 1
    found = known().find(span.replace(own, b"\x18" + content))
    is_varint = content[-1] < 0x80 and all(byte > 0x7F for byte in content[:-1])
    assert (found is not None) == is_varint
    assert found is None or found[2] == [read_varint(content, 0, len(content))[0]]


@settings(max_examples=50)
@given(st.integers(0, 1 << 40), st.integers(0, 1 << 40))
def test_several_numbers_are_read_in_the_order_in_which_they_are_wanted(one: int, other: int) -> None:
    layouts, span = Layouts[str](), encoded(count=one, compared=other)
    layouts.learn(span, ("session", "compared", "count"), ("model",), "m")
    found = layouts.find(span)
    assert (found is not None) == (max(one, other) < 1 << 21)
    assert found is None or found[2] == [other, one]


@settings(max_examples=50)
@given(st.lists(st.sampled_from(SPANS), max_size=5), st.integers(0, 5))
def test_spans_side_by_side_are_found_up_to_the_first_unknown_one(spans: list[tuple[Encoder, bytes]], at: int) -> None:
    layouts = known()
    bodies = [span for _, span in spans]
    bodies[at:at] = [encoded(note="another length")]
    ends = [*accumulate(map(len, bodies))]
    starts = [0, *ends[:-1]]
    found = [layouts.find(span) for span in bodies]
    assert layouts.read(b"".join(bodies), starts, ends) == found[: found.index(None)]
