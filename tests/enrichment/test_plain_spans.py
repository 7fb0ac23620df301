"""Plain spans: read by one like them they link and name what they do when they are read whole."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from chats import set_attributes
from descending import descending
from spanledger_processor.accounting.facts import Fact
from spanledger_processor.config import load
from spanledger_processor.dialects import MARKERS
from spanledger_processor.enrichment import plain_spans
from spanledger_processor.enrichment.names import IdResolver, Names, pick
from spanledger_processor.enrichment.plain_spans import PlainSpans, naming_marks
from spanledger_processor.otlp.layout import Layouts
from spanledger_processor.otlp.values import GIANT
from spanledger_processor.otlp.views import SpanView
from spanledger_processor.otlp.wire import MalformedError
from spanledger_processor.server.wiring import make_id_resolver

NOW = 1_795_500_000_000_000_000
RESOURCE = Names({"run": (0, "of the resource")})
TEXTS = st.sampled_from(["", "s", " s ", '"s"', "s\ud7ff", "s1", "s2", "x" * 127, "x" * 128, "resp_" + "a" * 40, "7"])
VALUES = st.one_of(TEXTS, st.integers(0, 2**21), st.booleans(), st.none())


@pytest.fixture(scope="module")
def resolver() -> IdResolver:
    return make_id_resolver(load(None, ()).processor)


@pytest.fixture(name="reader")
def a_reader(resolver: IdResolver) -> PlainSpans:
    return new_reader(resolver)


def new_reader(resolver: IdResolver) -> PlainSpans:
    return PlainSpans(resolver, (*MARKERS, *naming_marks(resolver, MARKERS)))


def http(number: int, attributes: Mapping[str, Any], *, name: str = "GET", parent: bool = True) -> Span:
    span = Span(
        name=name, trace_id=number.to_bytes(16, "big"), span_id=number.to_bytes(8, "big"), kind=Span.SPAN_KIND_CLIENT
    )
    span.parent_span_id = b"parent.." if parent else b""
    span.start_time_unix_nano, span.end_time_unix_nano = NOW + number, NOW + 2 * number
    set_attributes(span, {key: value for key, value in attributes.items() if value is not None})
    return span


ATTRIBUTES = st.fixed_dictionaries(
    {"url.full": st.sampled_from(["/a", "/b", "/long", "of gen_ai."])},
    optional={
        "session.id": VALUES,
        "gen_ai.conversation.id": VALUES,
        "workflow.run_id": VALUES,
        "user.id": TEXTS,
        "http.response.status_code": st.integers(0, 600),
    },
)


@given(st.lists(st.tuples(ATTRIBUTES, st.sampled_from(["GET", "POST"]), st.booleans(), st.booleans()), max_size=12))
def test_a_span_that_is_read_by_one_like_it_comes_to_what_it_is_read_whole(
    drawn: list[tuple[dict[str, Any], str, bool, bool]],
) -> None:
    resolver = make_id_resolver(load(None, ()).processor)
    reader = new_reader(resolver)
    for number, (attributes, name, parent, reverse) in enumerate(drawn, 1):
        made = http(number, attributes, name=name, parent=parent)
        encoded = descending(made) if reverse else made.SerializeToString()
        view = SpanView.parse(encoded)
        whole = Fact(*view.head(), "scope")
        named = resolver.names(view.attributes)
        whole.session, whole.run = pick("session", named, RESOURCE), pick("run", named, RESOURCE)
        for _ in range(2):
            assert reader.fact(encoded, RESOURCE, "scope") == whole


@pytest.fixture
def whole(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The spans of which more is read than what stands where it stood in others."""
    read: list[bytes] = []
    for name in ("head_of", "SpanView"):
        of_name: Any = getattr(plain_spans, name)
        parse: Callable[[bytes], Any] = getattr(of_name, "parse", of_name)

        def noted(span: bytes, parse: Callable[[bytes], Any] = parse) -> Any:
            read.append(span)
            return parse(span)

        noted.parse = noted  # type: ignore[attr-defined]
        monkeypatch.setattr(plain_spans, name, noted)
    return read


def test_of_spans_with_the_same_keys_one_is_read_whole(reader: PlainSpans, whole: list[bytes]) -> None:
    for attributes in ({"session.id": "s1", "url.full": "/"}, {"url.full": "/"}):
        spans = [http(number, attributes).SerializeToString() for number in range(1, 30)]
        facts = [reader.fact(one, RESOURCE) for one in spans]
        assert whole == spans[:1]
        assert [fact.start_ns for fact in facts] == [NOW + number for number in range(1, 30)]
        assert {fact.session.id for fact in facts} == {attributes.get("session.id", "")}
        whole.clear()


def test_spans_that_are_never_like_one_before_are_soon_not_looked_for(
    reader: PlainSpans, whole: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    learned: list[bytes] = []
    learn = Layouts.learn

    def noted(layouts: Any, span: bytes, *rest: Any) -> None:
        learned.append(span)
        learn(layouts, span, *rest)

    monkeypatch.setattr(Layouts, "learn", noted)
    for number in range(1, 600):
        reader.fact(http(number, {f"key {number}": "v"}).SerializeToString(), RESOURCE)
    assert len(whole) == 599
    assert len(learned) == 256


def test_what_is_kept_is_bounded(reader: PlainSpans, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain_spans, "_MOST_SCOPES", 4)
    monkeypatch.setattr(plain_spans, "_MOST_NAMES", 4)
    for number in range(1, 50):
        span = http(number, {"session.id": f"s{number:02}"}).SerializeToString()
        for _ in range(2):
            assert reader.fact(span, RESOURCE, f"scope {number // 2}").session.id == f"s{number:02}"
    assert len(reader._layouts) <= 4
    assert len(reader._names) <= 4


def test_a_giant_span_is_read_whole_each_time(reader: PlainSpans, whole: list[bytes]) -> None:
    """On a thread, beside which others are read."""
    giant = http(1, {"session.id": "s", "text": "x" * GIANT}).SerializeToString()
    assert [reader.fact(giant, RESOURCE).session.id for _ in range(2)] == ["s", "s"]
    assert whole == [giant] * 2
    assert not reader._layouts


def test_what_is_no_span_is_refused_each_time(reader: PlainSpans) -> None:
    for _ in range(2):
        with pytest.raises(MalformedError):
            reader.fact(b"\n\x10" + bytes(16) + b"J\x7fsession.id", RESOURCE)
