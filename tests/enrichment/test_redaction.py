"""Content taken out of what is sent on (docs/redaction.md)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from captures import Capture, captures
from chats import chat, request, set_attributes
from configurations import loaded
from contents import LEAST, pieces, short_pieces
from replays import attributes, spans_of
from spanledger_processor.config import ConfigError, load
from spanledger_processor.dialects.content import UNKNOWN, verdict
from spanledger_processor.dialects.registry import DIALECTS
from spanledger_processor.enrichment.redaction import Redactor
from spanledger_processor.otlp.encoding import encode_traces
from spanledger_processor.otlp.json_form import to_json, to_protobuf
from spanledger_processor.otlp.request import parse_traces
from spanledger_processor.otlp.wire import MalformedError, fields
from spanledger_processor.server.wiring import make_log_stage, make_redactor, make_stage
from spanledger_processor.signing import Signer

KEY = b"the key of the tests, 32 bytes.."
MODES = ("drop", "hash", "truncate")
CUT = 12


def redactor(*sets: str) -> Redactor:
    made = make_redactor(load(None, [f"processor.redaction.{one}" for one in sets]), Signer(KEY))
    assert made is not None
    return made


def of_mode(mode: str) -> Redactor:
    return redactor(f"mode={mode}", f"truncate_to={CUT}")


MADE = {mode: redactor(f"mode={mode}", f"truncate_to={LEAST - 1}") for mode in MODES}
LOGS = make_log_stage(load(None), Signer(KEY))


def one(made: Redactor, span: Span, scope: str = "") -> Span:
    """What becomes of one span."""
    message = ExportTraceServiceRequest.FromString(request(span))
    message.resource_spans[0].scope_spans[0].scope.name = scope
    result = made.redact("traces", message.SerializeToString())
    (out,) = spans_of(ExportTraceServiceRequest.FromString(result.body))
    return out


@pytest.mark.parametrize("form", ["protobuf", "json"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("capture", captures(), ids=lambda capture: capture.name)
def test_no_piece_of_content_is_left_of_any_recording(capture: Capture, mode: str, form: str) -> None:
    """Through all that a request goes through, spans made from logs among it, and metrics."""
    known = pieces(capture)
    out = b"\0".join(_through(capture, MADE[mode], form))
    assert not [piece for piece in known if piece.encode() in out]


def _through(capture: Capture, made: Redactor, form: str) -> Iterator[bytes]:
    for signal, body in capture.sent:
        came = to_protobuf(signal, to_json(signal, body)) if form == "json" else body
        if signal == "logs" and (spans := LOGS.read(came, {}).spans):
            yield made.redact("traces", encode_traces(spans)).body
        yield made.redact(signal, came).body


def test_the_recordings_hold_content_to_look_for() -> None:
    """Long and short, and all of it is in what was recorded: nothing is looked for in vain."""
    found = {piece for capture in captures() for piece in pieces(capture)}
    assert len(found) > 150
    assert any("What is the weather" in piece for piece in found)
    assert {"All done: the final answer is 42.", "alpha", "echo hi", "user-7", "user-42", "Print hi"} <= found
    searched = 0
    for capture in captures():
        everything = b"\0".join(body for _, body in capture.sent)
        searched += sum(piece.encode() in everything for piece in short_pieces(capture))
    assert searched > 250


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("capture", captures(), ids=lambda capture: capture.name)
def test_what_is_no_content_keeps_its_bytes(capture: Capture, mode: str) -> None:
    """Field by field, in order: a field is as it came, or a value, text or name that holds content stands in it."""
    for signal, body in capture.sent:
        _compare(_ITEMS[signal], body, MADE[mode].redact(signal, body).body, mode)


@dataclasses.dataclass(frozen=True)
class _Message:
    """Numbers of fields: messages in it, attributes, and texts or values that may be content."""

    inside: dict[int, _Message] = dataclasses.field(default_factory=dict)
    attributes: tuple[int, ...] = ()
    content: tuple[int, ...] = ()


_SPAN = _Message(
    {11: _Message({}, (3,), (2,)), 13: _Message({}, (4,)), 15: _Message({}, (), (2,))}, (9,), (5,)
)  # opentelemetry/proto/trace/v1/trace.proto
_RECORD = _Message({}, (6,), (5, 12))  # logs/v1/logs.proto
_POINTS = _Message({1: _Message({}, (1, 7, 9))})
_METRIC = _Message(dict.fromkeys((5, 7, 9, 10, 11), _POINTS))  # metrics/v1/metrics.proto
_ITEMS = {
    signal: _Message({1: _Message({1: _Message({}, (1,)), 2: _Message({2: item})})})
    for signal, item in (("traces", _SPAN), ("logs", _RECORD), ("metrics", _METRIC))
}
_NO_CONTENT = ("tokens", "model", "operation.name", "session", "tool.name", "provider", "conversation.id", "cost")


def _compare(message: _Message, before: bytes, after: bytes, mode: str) -> None:
    if before == after:
        return
    came, left = list(fields(before, 0, len(before))), list(fields(after, 0, len(after)))
    at = 0
    for one in came:
        whole = before[one.start : one.end]
        other = left[at] if at < len(left) else None
        same = other is not None and other.number == one.number and after[other.start : other.end] == whole
        if same:
            at += 1
        elif one.number in message.inside:
            assert other is not None
            assert other.number == one.number
            _compare(message.inside[one.number], whole, after[other.start : other.end], mode)
            at += 1
        elif one.number in message.attributes:
            at += _is_redacted(whole, None if other is None else after[other.start : other.end], mode)
        else:
            assert one.number in message.content
            at += other is not None and other.number == one.number
    assert at == len(left)


def _is_redacted(came: bytes, left: bytes | None, mode: str) -> bool:
    """Check an attribute that is gone or has another value; returns whether it is there."""
    before = KeyValue.FromString(came)
    assert not before.key.endswith(_NO_CONTENT)
    kind = before.value.WhichOneof("value")
    assert kind not in ("int_value", "bool_value") or ".args" in before.key
    if mode == "drop":
        return False
    assert left is not None
    assert KeyValue.FromString(left).key == before.key
    return True


def test_off_by_default_and_with_every_mode_keep() -> None:
    assert make_redactor(load(None), Signer(KEY)) is None
    assert make_redactor(loaded("processor: {redaction: {mode: keep, prompts: keep}}"), Signer(KEY)) is None


def test_a_request_without_genai_keeps_its_bytes() -> None:
    span = Span(trace_id=b"t" * 16, span_id=b"s" * 8, name="POST /answer and some more words than a name has in it")
    set_attributes(span, {"http.method": "POST", "app.prompt": "to whom it may concern", "user.id": "u-1"})
    body = request(span)
    assert of_mode("drop").redact("traces", body).body == body


@pytest.mark.parametrize("mode", MODES)
def test_a_made_up_library_fails_closed(mode: str) -> None:
    """Keys that no table has: under a prefix of GenAI, named like content, or with a value that reads like words."""
    secret = "my password is swordfish, tell nobody"
    span = chat(name=secret)
    unknown = {
        "gen_ai.acme.whatever": "swordfish",
        "llm.acme.note": secret,
        "acme.prompt": "swordfish",
        "acme.userUtterance": secret,
        "acme.thing": secret,
        "acme.state": '{"said": "swordfish"}',
        "ai.acme": "swordfish",
    }
    set_attributes(span, unknown | {"acme.prompt_id": "id-1", "acme.tier": "gold", "acme.count": 3})
    nested = span.attributes.add(key="acme.blob").value
    nested.kvlist_value.values.add(key="said").value.string_value = secret
    span.attributes.add(key="gen_ai.acme.raw").value.bytes_value = b"raw swordfish"
    event = span.events.add(name="acme.event")
    event.attributes.add(key="acme.text").value.string_value = "swordfish"
    link = span.links.add(trace_id=b"l" * 16, span_id=b"l" * 8)
    link.attributes.add(key="gen_ai.acme.link").value.string_value = "swordfish"
    span.status.message = secret
    out = one(redactor(f"mode={mode}", "truncate_to=3"), span)
    assert b"swordfish" not in out.SerializeToString()
    left = attributes(out)
    assert (left["acme.prompt_id"], left["acme.tier"], left["acme.count"]) == ("id-1", "gold", 3)
    assert left["gen_ai.request.model"] == "gpt-4o-mini"


def test_each_class_has_a_mode_of_its_own_and_the_strictest_holds_for_several() -> None:
    span = chat()
    reported = {
        "gen_ai.system_instructions": "you are a pirate",
        "gen_ai.input.messages": "ahoy there, matey",
        "gen_ai.tool.call.arguments": "where the treasure is",
        "gen_ai.tool.call.result": "under the palm tree",
        "user.id": "long john",
    }
    set_attributes(span, reported)
    left = attributes(one(redactor("tool_arguments=hash", "tool_results=truncate", "truncate_to=5"), span))
    assert left["gen_ai.system_instructions"] == reported["gen_ai.system_instructions"]
    assert left["gen_ai.tool.call.result"] == "under"
    assert left["user.id"] == "long john"
    assert left["gen_ai.tool.call.arguments"].startswith("redacted:")
    assert left["gen_ai.input.messages"].startswith("redacted:")  # a history may hold arguments
    only_users = attributes(one(redactor("user_ids=drop"), span))
    assert only_users == {key: value for key, value in attributes(span).items() if key != "user.id"}


def test_a_hash_is_the_same_for_the_same_content_and_stays_when_it_comes_again() -> None:
    made = of_mode("hash")
    first, second = chat(), chat()
    for span in (first, second):
        set_attributes(span, {"gen_ai.input.messages": "the same words for both", "user.id": "u"})
    assert attributes(one(made, first))["user.id"] == attributes(one(made, second))["user.id"]
    once = made.redact("traces", request(first)).body
    assert made.redact("traces", once).body == once
    other = make_redactor(loaded("processor: {redaction: {mode: hash}}"), Signer(b"another key of 32 bytes........."))
    assert other is not None
    assert attributes(one(other, first))["user.id"] != attributes(one(made, first))["user.id"]


@pytest.mark.parametrize(
    ("mode", "name"), [("drop", "_execute_core"), ("hash", "redacted:"), ("truncate", "Answer as a "[:CUT])]
)
def test_a_span_that_is_named_by_content(mode: str, name: str) -> None:
    """CrewAI's instrumentation names a span by the role of its agent, which is a part of the prompt."""
    span = chat(name="Answer as a lawyer. Be brief._execute_core")
    scope = "openinference.instrumentation.crewai"
    assert one(of_mode(mode), span, scope).name.startswith(name)
    assert "lawyer" not in one(of_mode(mode), span, scope).name


def test_a_name_that_stands_in_the_content_goes_with_it() -> None:
    span = chat(name="book a flight")
    set_attributes(span, {"gen_ai.input.messages": '[{"content": "please book a flight for me"}]'})
    assert one(of_mode("drop"), span).name == "redacted"
    assert one(of_mode("drop"), chat(name="chat gpt-4o-mini now")).name == "chat gpt-4o-mini now"


def test_the_body_and_the_attributes_of_a_log_record() -> None:
    message = ExportLogsServiceRequest()
    group = message.resource_logs.add()
    group.resource.attributes.add(key="process.command_args").value.string_value = "agent -p 'drop the tables'"
    group.resource.attributes.add(key="service.name").value.string_value = "an agent of mine"
    records = group.scope_logs.add().log_records
    genai, other = records.add(event_name="gen_ai.user.message"), records.add()
    genai.body.kvlist_value.values.add(key="content").value.string_value = "drop the tables"
    genai.attributes.add(key="gen_ai.system").value.string_value = "openai"
    other.body.string_value = "listening on port 80, all is well"
    out = ExportLogsServiceRequest.FromString(of_mode("drop").redact("logs", message.SerializeToString()).body)
    first, second = out.resource_logs[0].scope_logs[0].log_records
    assert b"drop the tables" not in out.SerializeToString()
    assert (first.event_name, first.attributes[0].key, first.HasField("body")) == (
        "gen_ai.user.message",
        "gen_ai.system",
        False,
    )
    assert second == other
    assert [attribute.key for attribute in out.resource_logs[0].resource.attributes] == ["service.name"]


def test_users_in_metrics() -> None:
    message = ExportMetricsServiceRequest()
    metric = message.resource_metrics.add().scope_metrics.add().metrics.add(name="claude_code.token.usage")
    point = metric.sum.data_points.add(as_int=3)
    for key in ("user.email", "model"):
        point.attributes.add(key=key).value.string_value = "someone@example.com"
    out = ExportMetricsServiceRequest.FromString(of_mode("drop").redact("metrics", message.SerializeToString()).body)
    (left,) = out.resource_metrics[0].scope_metrics[0].metrics[0].sum.data_points
    assert ([attribute.key for attribute in left.attributes], left.as_int) == (["model"], 3)


def test_an_item_that_cannot_be_read_is_left_out_and_counted() -> None:
    whole = chat().SerializeToString()
    torn = b"\n\x10" + bytes(16) + b"J\x7fgen_ai.input.messages"
    scope = b"".join(b"\x12" + _varint(len(span)) + span for span in (torn, whole))
    group = b"\x12" + _varint(len(scope)) + scope
    result = of_mode("drop").redact("traces", b"\n" + _varint(len(group)) + group)
    assert result.unreadable == 1
    assert [len(group.items) for group in parse_traces(result.body).groups] == [1]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("key", [b"gen_ai.input.messages", b"something.else"])
def test_a_value_that_cannot_be_read_is_left_out_whatever_its_key(mode: str, key: bytes) -> None:
    """It may be content, and neither a length nor a hash of it can be told."""
    torn = b"\n\x7fsecret"  # a text that ends before it does
    pair = b"\n" + _varint(len(key)) + key + b"\x12" + _varint(len(torn)) + torn
    whole = chat().SerializeToString()
    span = whole + b"J" + _varint(len(pair)) + pair
    scope = b"\x12" + _varint(len(span)) + span
    group = b"\x12" + _varint(len(scope)) + scope
    result = of_mode(mode).redact("traces", b"\n" + _varint(len(group)) + group)
    (left,) = spans_of(ExportTraceServiceRequest.FromString(result.body))
    assert left.SerializeToString() == whole


def _varint(number: int) -> bytes:
    return bytes((number,)) if number < 0x80 else bytes((number & 0x7F | 0x80, number >> 7))


def test_every_key_that_a_dialect_reads_arguments_or_results_from_holds_content() -> None:
    keys = {key for dialect in DIALECTS for key in (*dialect.tool.arguments, *dialect.tool.result)}
    assert len(keys) > 10
    assert not [key for key in keys if not isinstance(verdict(key), frozenset)]
    assert verdict("gen_ai.something.new") == UNKNOWN


def test_every_key_that_names_or_counts_passes() -> None:
    def keys() -> Iterator[Any]:
        for dialect in DIALECTS:
            for item in dataclasses.fields(dialect.groups):
                yield from getattr(dialect.groups, item.name)
            yield from (*dialect.request_model, *dialect.response_model, *dialect.response_id)
            yield from (*dialect.tokens.input, *dialect.tokens.output, *dialect.tokens.cache_read)

    assert len({*keys()}) > 50
    assert not [key for key in keys() if isinstance(verdict(key), frozenset)]


def test_the_collector_component_is_refused_for_content_would_pass() -> None:
    with pytest.raises(ConfigError, match=r"processor\.redaction: the Collector component"):
        loaded("{receivers: {enricher: {}}, processor: {redaction: {prompts: drop}}}")


@pytest.mark.parametrize(("mode", "kept"), [("keep", "u-1"), ("drop", None), ("truncate", "u"), ("hash", "redacted:")])
def test_a_user_whose_id_is_not_sent_on_is_not_stored_either(mode: str, kept: str | None) -> None:
    """The ledger's users are those that a backend sees."""
    config = load(None, [f"processor.redaction.user_ids={mode}", "processor.redaction.truncate_to=1"])
    signer = Signer(KEY)
    span = chat()
    set_attributes(span, {"user.id": "u-1"})
    (batch,) = make_stage(config, signer).read(request(span), {}, 1_795_500_000_000_000_000).batches
    stored = dict(zip(batch.facts[0].dimensions[::2], batch.facts[0].dimensions[1::2], strict=True)).get("user")
    assert (stored is None) if kept is None else str(stored).startswith(kept)
    made = make_redactor(config, signer)
    sent = span if made is None else one(made, span)
    assert attributes(sent).get("user.id") == stored


DROPPING = of_mode("drop")


@given(st.binary(max_size=300), st.sampled_from(["traces", "logs", "metrics"]))
def test_no_bytes_get_past_malformed_error(body: bytes, signal: Any) -> None:
    try:
        DROPPING.redact(signal, body)
    except MalformedError:
        return


USERS = (
    "metadata.mlflow.trace.user",  # MLflow's metrics
    "acme.user_id",
    "acme.userId",
    "acme.user.email",
    "billing.endUser.displayName",
    "gen_ai.acme.user",
    "langfuse.trace.metadata.user",
    "contact.email",
)


@pytest.mark.parametrize("key", USERS)
def test_a_key_that_names_a_user_is_one_whoever_made_it_up(key: str) -> None:
    span = chat()
    set_attributes(
        span, {key: "user-7", "acme.user_count": "7", "metadata.user_agent": "x/1", "acme.blocked_on": "user"}
    )
    left = attributes(one(redactor("user_ids=drop"), span))
    assert left == {name: value for name, value in attributes(span).items() if name != key}


@pytest.mark.parametrize("where", ["event", "link"])
def test_a_span_is_of_genai_by_what_is_inside_it(where: str) -> None:
    """A client may say it in an event or a link alone."""
    span = Span(trace_id=b"t" * 16, span_id=b"s" * 8, name="step")
    inside = span.events.add(name="gen_ai.user.message") if where == "event" else span.links.add()
    inside.attributes.add(key="gen_ai.prompt").value.string_value = "swordfish"
    assert b"swordfish" in request(span)
    assert b"swordfish" not in of_mode("drop").redact("traces", request(span)).body


def test_a_metric_is_of_genai_by_its_points() -> None:
    message = ExportMetricsServiceRequest()
    metric = message.resource_metrics.add().scope_metrics.add().metrics.add(name="duration")
    metric.sum.data_points.add().attributes.add(key="gen_ai.prompt").value.string_value = "swordfish"
    body = message.SerializeToString()
    assert b"swordfish" not in of_mode("drop").redact("metrics", body).body


@pytest.mark.parametrize("mode", MODES)
def test_keys_and_numbers_of_an_object_are_content_as_its_texts_are(mode: str) -> None:
    span = chat()
    value = span.attributes.add(key="gen_ai.acme.raw").value.kvlist_value
    value.values.add(key="swordfish of the deep").value.int_value = 4111_1111_1111_1111
    body = of_mode(mode).redact("traces", request(span)).body
    assert b"swordfish of the deep" not in body
    (left,) = spans_of(ExportTraceServiceRequest.FromString(body))
    assert 4111_1111_1111_1111 not in _integers(left)


def _integers(span: Span) -> list[int]:
    return [inner.value.int_value for one in span.attributes for inner in one.value.kvlist_value.values]


def test_a_body_of_one_key_is_no_name_of_an_event() -> None:
    message = ExportLogsServiceRequest()
    record = message.resource_logs.add().scope_logs.add().log_records.add(event_name="gen_ai.choice")
    record.body.kvlist_value.values.add(key="gen_ai.choice").value.string_value = "swordfish"
    assert b"swordfish" not in of_mode("drop").redact("logs", message.SerializeToString()).body


def test_known_keys_go_from_what_stands_beside_genai_too() -> None:
    """A span of the application's own may name the user, or a client's spans around a call its folder."""
    own = Span(trace_id=b"t" * 16, span_id=b"s" * 8, name="handle_request and three more words")
    set_attributes(own, {"user.id": "user-7", "http.route": "/answer", "app.text": "left as it is, in three words"})
    out = of_mode("drop").redact("traces", request(chat(), own)).body
    assert b"user-7" not in out
    assert all(kept in out for kept in (b"handle_request and three more words", b"/answer", b"left as it is"))
