"""OTLP's JSON form, both ways."""

from __future__ import annotations

import base64
import json
import math
from contextlib import suppress
from typing import Any

import pytest
from google.protobuf import json_format
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from captures import FOLDER
from otlp_bytes import Node, attribute, encode, files, message, name_of, rewritten_requests, span
from spanledger_processor.otlp import json_text
from spanledger_processor.otlp.json_form import Signal, to_json, to_protobuf
from spanledger_processor.otlp.request import parse_traces
from spanledger_processor.otlp.wire import MalformedError

REQUESTS: dict[Signal, Any] = {
    "traces": ExportTraceServiceRequest,
    "logs": ExportLogsServiceRequest,
    "metrics": ExportMetricsServiceRequest,
}


def request_with(**fields: Any) -> bytes:
    """A trace request in JSON with one span."""
    return json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [fields]}]}]}).encode()


def the_span(text: bytes) -> Span:
    return ExportTraceServiceRequest.FromString(to_protobuf("traces", text)).resource_spans[0].scope_spans[0].spans[0]


def value_from(value: Any) -> AnyValue:
    """An attribute's value as protobuf, from its JSON form."""
    return the_span(request_with(attributes=[{"key": "k", "value": value}])).attributes[0].value


def as_json(body: bytes) -> Any:
    return json.loads(to_json("traces", body))["resourceSpans"][0]["scopeSpans"][0]["spans"]


@pytest.mark.parametrize("signal", REQUESTS)
def test_recorded_requests_keep_their_meaning_there_and_back(signal: Signal) -> None:
    for path in files(signal):
        body = path.read_bytes()
        text = to_json(signal, body)
        back = REQUESTS[signal].FromString(to_protobuf(signal, text))
        assert back == REQUESTS[signal].FromString(body), name_of(path)
        assert b"\n" not in text


@pytest.mark.parametrize("signal", REQUESTS)
def test_json_is_protobuf_s_own_but_for_ids_and_enums(signal: Signal) -> None:
    """Apart from OTLP's deviations, what protobuf's own reader makes of our JSON is the request."""
    for path in files(signal):
        body = path.read_bytes()
        content = ids_in_base64(json.loads(to_json(signal, body)))
        assert json_format.ParseDict(content, REQUESTS[signal]()) == REQUESTS[signal].FromString(body), name_of(path)


def ids_in_base64(content: Any) -> Any:
    if isinstance(content, list):
        return [ids_in_base64(item) for item in content]
    if not isinstance(content, dict):
        return content
    ids = {"traceId", "spanId", "parentSpanId"}
    return {
        key: base64.b64encode(bytes.fromhex(value)).decode() if key in ids else ids_in_base64(value)
        for key, value in content.items()
    }


def test_a_recorded_json_request_reads() -> None:
    """The JavaScript SDK's exporter wrote it."""
    text = (FOLDER / "langfuse-js-v5/openai-chat/001.traces.json").read_bytes()
    request = parse_traces(to_protobuf("traces", text))
    spans = [
        s for outer in json.loads(text)["resourceSpans"] for scoped in outer["scopeSpans"] for s in scoped["spans"]
    ]
    assert request.span_count == len(spans)
    read = as_json(to_protobuf("traces", text))
    assert [s["traceId"] for s in read] == [s["traceId"] for s in spans]
    assert [len(s["attributes"]) for s in read] == [len(s["attributes"]) for s in spans]


@settings(max_examples=40, deadline=None)
@given(rewritten_requests())
def test_any_encoding_keeps_its_meaning(nodes: list[Node]) -> None:
    published = ExportTraceServiceRequest.FromString(encode(nodes))
    published.DiscardUnknownFields()
    assert ExportTraceServiceRequest.FromString(to_protobuf("traces", to_json("traces", encode(nodes)))) == published


@pytest.mark.parametrize("text", ["00ff10", "00FF10", ""])
def test_ids_are_hex_in_either_case(text: str) -> None:
    read = the_span(request_with(traceId=text, spanId=text, parentSpanId=text, links=[{"traceId": text}]))
    assert {read.trace_id, read.span_id, read.parent_span_id, read.links[0].trace_id} == {bytes.fromhex(text)}


@pytest.mark.parametrize("number", [5, "5", 5.0])
def test_numbers_of_64_bits_are_text_or_numbers(number: Any) -> None:
    read = the_span(request_with(startTimeUnixNano=number, droppedEventsCount=number))
    assert (read.start_time_unix_nano, read.dropped_events_count) == (5, 5)
    assert value_from({"intValue": number}).int_value == 5


@pytest.mark.parametrize("number", [-(2**63), 2**63 - 1])
@pytest.mark.parametrize("form", [int, str])
def test_int64_keeps_every_digit(number: Any, form: type) -> None:
    assert value_from({"intValue": form(number)}).int_value == number
    assert as_json(to_protobuf("traces", request_with(attributes=[{"key": "k", "value": {"intValue": number}}])))[0][
        "attributes"
    ] == [{"key": "k", "value": {"intValue": str(number)}}]


@pytest.mark.parametrize("kind", [3, "SPAN_KIND_CLIENT", "3"])
def test_enums_are_numbers_and_names_are_taken(kind: Any) -> None:
    read = to_protobuf("traces", request_with(kind=kind, status={"code": "STATUS_CODE_ERROR"}))
    assert as_json(read) == [{"kind": 3, "status": {"code": 2}}]


def test_an_enum_of_a_later_version_keeps_its_number() -> None:
    assert as_json(to_protobuf("traces", request_with(kind=77))) == [{"kind": 77}]


@pytest.mark.parametrize("text", ["/+8=", "/+8", "_-8=", "_-8"])
def test_other_bytes_are_base64_of_either_alphabet_padded_or_not(text: str) -> None:
    assert value_from({"bytesValue": text}).bytes_value == b"\xff\xef"


@pytest.mark.parametrize(
    ("number", "value"), [(1, 1.0), ("1e3", 1e3), ("Infinity", math.inf), ("-Infinity", -math.inf), (-0.5, -0.5)]
)
def test_doubles_are_numbers_or_text(number: Any, value: Any) -> None:
    assert value_from({"doubleValue": number}).double_value == value


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 0.1, 5e-324])
def test_doubles_come_back(value: Any) -> None:
    body = request_with(attributes=[{"key": "k", "value": {"doubleValue": 1}}])
    request = ExportTraceServiceRequest.FromString(to_protobuf("traces", body))
    request.resource_spans[0].scope_spans[0].spans[0].attributes[0].value.double_value = value
    text = to_json("traces", request.SerializeToString())
    read = the_span(text).attributes[0].value.double_value
    assert repr(read) == repr(value)
    json.loads(text, parse_constant=pytest.fail)


def test_unknown_members_are_passed_over_and_null_is_absent() -> None:
    text = request_with(
        name="n", later={"traceId": 5}, kind=None, attributes=None, status=None, events=[{"name": None, "later": []}]
    )
    assert as_json(to_protobuf("traces", text)) == [{"name": "n", "events": [{}]}]


@pytest.fixture(params=[16, 25, 40], ids=lambda size: f"{size} characters at once")
def window(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """So few characters of JSON are read in one go."""
    monkeypatch.setattr(json_text, "WINDOW", request.param)
    size: int = request.param
    return size


def outcome_of(text: bytes, signal: Signal = "traces") -> Any:
    """What a request in JSON is read as, or why it is refused."""
    try:
        return REQUESTS[signal].FromString(to_protobuf(signal, text))
    except MalformedError as error:
        return str(error)


@pytest.mark.parametrize("signal", REQUESTS)
def test_no_more_is_read_in_one_go_than_a_window(monkeypatch: pytest.MonkeyPatch, signal: Signal) -> None:
    """Counted: characters. An array of 64 MiB took two seconds, in which nothing else went on, and 1.5 GiB."""
    decode, given, read = json.JSONDecoder.raw_decode, list[int](), list[int]()

    def noted(decoder: json.JSONDecoder, text: str, at: int = 0) -> Any:
        given.append(len(text))
        end = len(text)
        try:
            value, end = decode(decoder, text, at)
        finally:
            read.append(end - at)
        return value, end

    texts = {
        "traces": request_with(
            name="n" * 9000,
            attributes=[{"key": "k", "value": {"arrayValue": {"values": [{"intValue": n} for n in range(900)]}}}],
            x=[[1] * 9000, {"y": "z" * 9000}],
        ),
        "metrics": json.dumps(
            {
                "resourceMetrics": [
                    {"scopeMetrics": [{"metrics": [{"histogram": {"dataPoints": [{"bucketCounts": [7] * 9000}]}}]}]}
                ]
            }
        ).encode(),
        "logs": json.dumps(
            {"resourceLogs": [{"scopeLogs": [{"logRecords": [{"timeUnixNano": n} for n in range(900)]}]}]}
        ).encode(),
    }
    usual = outcome_of(texts[signal], signal)
    monkeypatch.setattr(json_text, "WINDOW", 300)
    monkeypatch.setattr(json.JSONDecoder, "raw_decode", noted)
    assert outcome_of(texts[signal], signal) == usual
    assert max(given) <= 302
    assert sum(read) < 3 * len(texts[signal])


@pytest.mark.parametrize("signal", REQUESTS)
def test_a_recorded_request_reads_alike_however_little_is_read_at_once(signal: Signal, window: int) -> None:
    for path in sorted(files(signal), key=lambda path: path.stat().st_size)[:5]:
        body = path.read_bytes()
        assert outcome_of(to_json(signal, body), signal) == REQUESTS[signal].FromString(body), name_of(path)


_NAMES: list[Any] = [5, [], {}, None, "\ud800", "\ud83d" * 9, "\U0001f600" * 9, "\ud83d\ud83d\ude00" * 9]
_WRONG: list[Any] = [5, {}, [5], ["abc"], [{"key": "k", "value": {"intValue": "x" * 50}}]]
SPANS: list[dict[str, Any]] = [
    {"name": '"\\/\b\f\n\r\t\u1234 \U0001f600', "kind": "SPAN_KIND_CLIENT", "startTimeUnixNano": 5},
    *[{"name": value} for value in _NAMES],
    *[{"attributes": value} for value in _WRONG],
    {"attributes": [{"key": "k", "value": {"bytesValue": "AAAA" * 9, "x": 1}}]},
    {"attributes": [{"key": "k", "value": {"stringValue": "n" * 50, "intValue": 7, "x": 1}}]},
    {"events": [{"name": 7}], "links": [{}]},
    {"events": [{"name": "n" * 50, "droppedAttributesCount": 7}], "kind": 1.5},
    {"traceId": "ab" * 16, "spanId": "xy" * 16},
    {"x": {"y": [1, [2.5, "z" * 50, None, True, {}], -1e300]}},
]
TEXTS = [
    b'{"resourceSpans": [{"resource": {"entityRefs": [{"idKeys": ["a", "b", "c", "d", "e", 5, "g"]}]}}]}',
    b'{"resourceSpans": [{"scopeSpans": [{"spans": [{"name": "a\\x"}]}]}]}',
    *(b'{"resourceSpans": [' + end for end in (b'{"resource": "abc', b"NaN]}", b"1" * 5000 + b"]}", b"] ", b"{}]")),
    *(
        b'{"x": ' + end
        for end in (b"tru}", b'"\\', b"1." + b"1" * 50 + b', "resourceSpans": []}', b"[[], {]}", b'"\n"}')
    ),
    *(b'["a", {}]', b'"a"', b"17", b"nul", b'{"a\\u12": 1}', b"{}", b"[", b"[" * 50, b'{"a": 1}' * 9),
]
ODD = [*(request_with(**span) for span in SPANS), *TEXTS]


@pytest.mark.parametrize("text", ODD, ids=range(len(ODD)))
def test_odd_json_reads_alike_however_little_is_read_at_once(
    monkeypatch: pytest.MonkeyPatch, text: bytes, window: int
) -> None:
    less = outcome_of(text)
    monkeypatch.undo()
    assert less == outcome_of(text)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ('{"resourceSpans": [%(a)s], "resourceSpans": [%(b)s]}', ["b"]),
        ('{"resourceSpans": [%(a)s], "resource_spans": [%(b)s]}', ["a", "b"]),
        ('{"resourceSpans": [%(a)s], "resourceSpans": null}', []),
        ('{"resourceSpans": null, "resourceSpans": [%(a)s]}', ["a"]),
        (' {\n"resourceSpans" :\t[ %(a)s , %(b)s\r] , "x": {"resourceSpans": [5]} } ', ["a", "b"]),
        ('{"resourceSpans": [], "x": [[]]}', []),
    ],
)
def test_members_that_stand_twice_and_space_anywhere(text: str, names: list[str]) -> None:
    """As in any JSON object, the last of equal names stands."""
    parts = {name: json.dumps({"scopeSpans": [{"spans": [{"name": name}]}]}) for name in "ab"}
    request = ExportTraceServiceRequest.FromString(to_protobuf("traces", (text % parts).encode()))
    assert [span.name for group in request.resource_spans for span in group.scope_spans[0].spans] == names


@pytest.mark.parametrize(
    "text",
    [
        *(
            '{"resourceSpans": [}',
            '{"resourceSpans": [{} {}]}',
            '{"resourceSpans": [{},]}',
            '{"resourceSpans": []',
            "{}x",
        ),
        *(
            '{"resourceSpans" []}',
            "{resourceSpans: []}",
            '{"resourceSpans": [],}',
            '{"a": 1 "b": 2}',
            "{,}",
            "{",
            "[",
            "{}{}",
        ),
        *('{"resourceSpans": [{"scopeSpans": [{"spans": [{]}]}]}', '{"x": nul}', "{'x': 1}", '{"x\n": 1}', '{"x": 01}'),
    ],
)
def test_what_is_no_json_is_refused_as_such(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        json.loads(text)
    with pytest.raises(MalformedError, match="not JSON"):
        to_protobuf("traces", text.encode())


def test_protobuf_s_own_names_are_taken() -> None:
    body = b'{"resource_spans": [{"scope_spans": [{"spans": [{"trace_id": "ab", "start_time_unix_nano": 1}]}]}]}'
    assert as_json(to_protobuf("traces", body)) == [{"traceId": "ab", "startTimeUnixNano": "1"}]


@pytest.mark.parametrize(
    "value", [{}, {"arrayValue": {}}, {"kvlistValue": {}}, {"stringValue": ""}, {"boolValue": False}]
)
def test_empty_values_stay_what_they_are(value: Any) -> None:
    assert as_json(to_protobuf("traces", request_with(attributes=[{"key": "k", "value": value}]))) == [
        {"attributes": [{"key": "k", "value": value}]}
    ]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (rb"\ud800", "�"),
        (rb"a\udfffb", "a�b"),
        (rb"\ud83d\ude00", "😀"),
        (rb"\ude00\ud83d", "��"),
        (b"a\xffb", "a�b"),
        (b"\xef\xbf\xbd", "�"),
        (rb"\u0000", "\0"),
    ],
)
def test_text_that_is_no_unicode_shows_replacement_characters(text: bytes, value: Any) -> None:
    body = request_with(name="NAME").replace(b"NAME", text)
    assert the_span(body).name == value


def test_a_byte_order_mark_is_passed_over() -> None:
    assert the_span(b"\xef\xbb\xbf" + request_with(name="n")).name == "n"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (b"", "not JSON: Expecting value: line 1 column 1"),
        (b"[]", r"\(root\): must be an object, not an array"),
        (b'"x"', r"\(root\): must be an object, not text"),
        (b'{"resourceSpans": [', "not JSON"),
        (b'{"resourceLogs": []}', "holds no resourceSpans"),
        (b'{"resourceSpans": {}}', "resourceSpans: must be an array, not an object"),
        (b'{"resourceSpans": [null]}', r"resourceSpans\[0\]: must be an object, not null"),
        (
            b'{"resourceSpans": [{}, {"scopeSpans": [{"spans": [5]}]}]}',
            r"resourceSpans\[1\].scopeSpans\[0\].spans\[0\]: mus",
        ),
        (request_with(traceId="0g"), r"resourceSpans\[0\].scopeSpans\[0\].spans\[0\].traceId: must be in hex"),
        (request_with(traceId="abc"), "traceId: must be in hex"),
        (request_with(traceId="ab cd"), "traceId: must be in hex"),
        (request_with(traceId=5), "traceId: must be text, not a number"),
        (request_with(name=5), "name: must be text, not a number"),
        (request_with(kind=1.5), "kind: must be a whole number, not a fraction"),
        (request_with(kind="SPAN_KIND_NONE"), "kind: must be a whole number, not text"),
        (request_with(kind=2**31), "kind: must be from"),
        (request_with(startTimeUnixNano=-1), "startTimeUnixNano: must be from 0 to"),
        (request_with(startTimeUnixNano="1_0"), "startTimeUnixNano: must be a whole number"),
        (request_with(startTimeUnixNano=True), "startTimeUnixNano: must be a whole number, not a boolean"),
        (request_with(events=[{"timeUnixNano": {}}]), r"spans\[0\].events\[0\].timeUnixNano: must be a whole"),
        (
            request_with(attributes=[{"key": "k", "value": {"boolValue": "true"}}]),
            r"attributes\[0\].value.boolValue: must be",
        ),
        (request_with(attributes=[{"key": "k", "value": {"bytesValue": "!"}}]), "bytesValue: must be in base64"),
        (request_with(attributes=[{"key": "k", "value": {"doubleValue": "x"}}]), "doubleValue: must be a number"),
        (request_with(attributes=[{"key": "k", "value": {"doubleValue": 10**400}}]), "doubleValue: is too large"),
        (request_with(attributes=[{"key": "k", "value": {"doubleValue": math.nan}}]), "NaN is no JSON number"),
        (b"[" * 200_000, "nested too deep"),
        (b'{"resourceSpans": ' + b"1" * 5000 + b"}", "not JSON"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_path(text: bytes, complaint: str) -> None:
    with pytest.raises(MalformedError, match=complaint):
        to_protobuf("traces", text)


def test_errors_hold_nothing_of_what_was_sent() -> None:
    for value in (
        {"intValue": "secret"},
        {"bytesValue": "secret!"},
        {"doubleValue": "secret"},
        {"kvlistValue": "secret"},
    ):
        with pytest.raises(MalformedError) as caught:
            to_protobuf("traces", request_with(attributes=[{"key": "secret", "value": value}]))
        assert "secret" not in str(caught.value)


def nested(levels: int) -> bytes:
    value: Any = {"stringValue": "x"}
    for _ in range(levels):
        value = {"arrayValue": {"values": [value]}}
    return request_with(attributes=[{"key": "k", "value": value}])


def test_nesting_ends_where_protobuf_s_parsers_stop() -> None:
    """47 arrays inside each other are 100 messages with those around them."""
    ExportTraceServiceRequest.FromString(to_protobuf("traces", nested(47)))
    with pytest.raises(MalformedError, match="more than 100 messages inside each other"):
        to_protobuf("traces", nested(48))


NAMES = st.sampled_from(
    [
        *("resourceSpans", "resource", "scopeSpans", "scope", "spans", "attributes", "key", "value", "status", "x"),
        *("traceId", "name", "kind", "startTimeUnixNano", "stringValue", "intValue", "doubleValue", "bytesValue"),
        *("arrayValue", "values"),
    ]
)
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just("\ud800"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=20,
)


@given(ANY_JSON | st.fixed_dictionaries({"resourceSpans": st.lists(ANY_JSON, max_size=2)}))
def test_no_json_gets_past_malformed_error(content: Any) -> None:
    with suppress(MalformedError):
        parse_traces(to_protobuf("traces", json.dumps(content).encode()))


@given(st.binary(max_size=50))
def test_no_bytes_get_past_malformed_error(text: bytes) -> None:
    for signal in REQUESTS:
        with suppress(MalformedError):
            to_protobuf(signal, text)
        with suppress(MalformedError):
            to_json(signal, text)


def test_text_that_is_not_utf_8_is_written_with_replacement_characters() -> None:
    body = message(
        1, message(1, attribute(b"\xff", message(1, b"\xfe"), 1)), message(2, message(2, message(5, b"a\xff")))
    )
    assert json.loads(to_json("traces", body)) == {
        "resourceSpans": [
            {
                "resource": {"attributes": [{"key": "�", "value": {"stringValue": "�"}}]},
                "scopeSpans": [{"spans": [{"name": "a�"}]}],
            }
        ]
    }


def test_of_a_span_that_cannot_be_read_to_its_end_the_rest_is_written() -> None:
    whole, broken = message(5, b"whole"), message(5, b"broken") + attribute(b"k", message(1, b"v")) + b"\x4a\x50cut"
    body = message(1, message(2, message(2, whole), message(2, broken), message(2, whole)))
    assert as_json(body) == [
        {"name": "whole"},
        {"name": "broken", "attributes": [{"key": "k", "value": {"stringValue": "v"}}]},
        {"name": "whole"},
    ]


def test_of_a_span_with_one_field_that_cannot_be_read_all_others_are_written() -> None:
    body = span(attribute(b"k", b"\x0a\x09"), message(5, b"after"))
    assert as_json(body) == [{"attributes": [{"key": "k", "value": {}}], "name": "after"}]


@pytest.mark.parametrize("levels", [60, 5000])
def test_a_value_nested_too_deep_is_written_as_far_as_it_goes(levels: int) -> None:
    value = message(1, b"x")
    for _ in range(levels):
        value = message(5, message(1, value))
    (written,) = as_json(span(attribute(b"deep", value), attribute(b"flat", b"\x10\x01"), message(5, b"after")))
    assert written["name"] == "after"
    assert written["attributes"][1] == {"key": "flat", "value": {"boolValue": True}}
    assert set(written["attributes"][0]["value"]) == {"arrayValue"}


def test_what_is_no_request_of_its_signal_is_refused() -> None:
    body = files("logs")[0].read_bytes()
    with pytest.raises(MalformedError, match="ExportTraceServiceRequest"):
        to_json("traces", body)


def test_an_empty_request_is_an_empty_object() -> None:
    assert to_json("traces", b"") == b"{}"
    assert to_protobuf("traces", b"{}") == b""


@pytest.mark.parametrize("opening", ['{"x":', "[", "[1,"])
def test_a_long_value_inside_many_others_is_not_looked_at_in_each_of_them(
    monkeypatch: pytest.MonkeyPatch, opening: str
) -> None:
    """200 objects or arrays around one of 180 KB took 200 times as long as that one."""
    depth, closing, looked_at = 200, "}" if opening[0] == "{" else "]", list[int]()
    text = opening * depth + "[" + "1," * 90_000 + "1]" + closing * depth
    reader = json_text.JsonText(text)
    decode = reader._decode

    def counting(window: str, start: int) -> tuple[Any, int]:
        end = len(window)
        try:
            value, end = decode(window, start)
        finally:
            looked_at.append(max(0, end - start))
        return value, end

    monkeypatch.setattr(reader, "_decode", counting)
    reader.skip()
    reader.end()
    assert sum(looked_at) < 4 * len(text)
