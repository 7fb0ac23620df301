"""The Collector component's side of `serve`: what it is answered equals what the pipeline appends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from captures import Capture, captures
from chats import COST, chat, request, set_attributes
from clients import without_content
from configurations import loaded
from in_parts import InParts
from replays import spans_of
from spanledger_exporters.interface import ACCEPTED, Result, Signal
from spanledger_processor.accounting.facts import Batch
from spanledger_processor.config import Config
from spanledger_processor.model import Decision
from spanledger_processor.otlp.encoding import delimited, flag
from spanledger_processor.otlp.wire import fields, read_varint
from spanledger_processor.receivers.enricher import SERVICE
from spanledger_processor.server.app import running
from spanledger_processor.server.enricher import Enricher, SpanAnswers
from spanledger_processor.server.handler import Handler
from spanledger_processor.server.ledger_link import LocalLedger
from spanledger_processor.server.wiring import make_log_stage, make_stage
from spanledger_processor.signing.signer import Signer
from stores import WriterInMemory

Call = Callable[[str, bytes], Awaitable[bytes]]
NOW = 1_795_000_000 * 10**9


@dataclass
class Sent:
    """A destination that keeps trace requests."""

    traces: list[bytes] = field(default_factory=list)

    async def deliver(self, signal: Signal, request_id: bytes, body: bytes, deadline: float, items: int = 0) -> Result:
        if signal == "traces":
            self.traces.append(body)
        return ACCEPTED

    def in_parts(self, signal: Signal, request_id: bytes) -> InParts:
        return InParts(self.deliver, signal, request_id)


class Uncounted:
    """An observer that counts nothing."""

    def __getattr__(self, _: str) -> Callable[..., None]:
        return lambda *_: None


UNCOUNTED: Any = Uncounted()


@dataclass
class Answer:
    """An EnrichTracesResponse as plain values."""

    seen: int = 0
    decided: int = 0
    failed: int = 0
    stale: int = 0
    attributes: dict[int, bytes] = field(default_factory=dict)
    failures: dict[int, str] = field(default_factory=dict)
    forged: dict[int, bytes] = field(default_factory=dict)


def parts(message: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Number, value and content of each field."""
    for part in fields(message, 0, len(message)):
        content = message[part.start : part.end]
        value = read_varint(message, part.tag_end, part.end)[0] if part.wire_type == 0 else 0
        yield part.number, value, content


def answer_of(message: bytes) -> Answer:
    answer = Answer()
    for number, value, content in parts(message):
        if number < 5:
            setattr(answer, ("seen", "decided", "failed", "stale")[number - 1], value)
            continue
        entry = {place: (number_, piece) for place, number_, piece in parts(content)}
        span = entry[1][0]
        if 2 in entry:
            answer.attributes[span] = entry[2][1]
        if 3 in entry:
            answer.failures[span] = entry[3][1].decode()
        if 4 in entry:
            answer.forged[span] = entry[4][1]
    return answer


def asked(body: bytes, revision: str) -> bytes:
    return delimited(1, revision.encode()) + delimited(2, body)


async def _revision(call: Call) -> str:
    return next(content for number, _, content in parts(await call("Describe", b"\x08\x01")) if number == 2).decode()


def _value(attributes: bytes, key: str) -> Any:
    span = Span.FromString(attributes)
    return next(getattr(one.value, one.value.WhichOneof("value") or "") for one in span.attributes if one.key == key)


@asynccontextmanager
async def enricher(folder: Path, more: str = "") -> AsyncIterator[Call]:
    """`serve` with nothing but an enricher."""
    config = loaded(
        f"{{receivers: {{enricher: {{endpoint: '127.0.0.1:0'}}}}, api: {{endpoint: '127.0.0.1:0'}}, "
        f"state: {{path: '{folder}'}}{more}}}"
    )
    async with connected(config) as call:
        yield call


@asynccontextmanager
async def connected(config: Config, headers: Mapping[str, str] | None = None) -> AsyncIterator[Call]:
    async with running(config) as run, grpc.aio.insecure_channel(run.addresses["enricher"]) as channel:

        async def call(method: str, message: bytes) -> bytes:
            rpc = channel.unary_unary(f"/{SERVICE}/{method}", lambda body: body, lambda body: body)
            answer: bytes = await rpc(message, metadata=tuple((headers or {}).items()))
            return answer

        yield call


async def test_the_handshake_names_what_spans_are_selected_by(tmp_path: Path) -> None:
    async with enricher(tmp_path) as call:
        described = list(parts(await call("Describe", b"\x08\x01")))
    by_number = {number: [content for n, _, content in described if n == number] for number in range(1, 7)}
    assert next(value for number, value, _ in described if number == 1) == 1
    assert by_number[2][0]
    assert {b"gen_ai.", b"openinference.span.kind"} <= set(by_number[3])
    assert b"claude_code." in by_number[4]
    assert {b"session.id", b"gen_ai.conversation.id"} <= set(by_number[5])


async def test_older_clients_know_all_of_an_unread_value(tmp_path: Path) -> None:
    """The first ones refuse a handshake with an unknown field there; of read values they know nothing."""
    async with enricher(tmp_path) as call:
        described = list(parts(await call("Describe", b"\x08\x01")))
    by_number = {number: [content for n, _, content in described if n == number] for number in (7, 9)}
    assert by_number[7]
    assert {number for entry in by_number[7] for number, _, _ in parts(entry)} <= set(range(1, 7))
    messages = next(entry for entry in by_number[9] if b"gen_ai.input.messages" in entry)
    texts = [(number, content) for number, value, content in parts(messages) if not value]
    assert texts == [
        (1, b"gen_ai.input.messages"),
        (2, b"tool_call_response"),
        (2, b"tool-result"),
        (2, b"functionResponse"),
    ]
    assert [(number, value) for number, value, _ in parts(messages) if value] == [(3, 3), (4, 262144)]


async def test_a_request_of_another_revision_is_called_stale_and_nothing_is_done(tmp_path: Path) -> None:
    """It was selected by other lists: what it lacks could be what its spans' session stands on."""
    spans = [chat(), chat()]
    for span in spans:
        set_attributes(span, {"session.id": "one"})
    logs = next(body for capture in captures() for signal, body in capture.requests if signal == "logs")
    async with enricher(tmp_path) as call:
        assert answer_of(await call("EnrichTraces", asked(request(spans[0]), "another"))) == Answer(stale=1)
        assert list(parts(await call("MakeSpans", asked(logs, "another")))) == [(3, 1, b"\x01")]
        current = answer_of(await call("EnrichTraces", asked(request(spans[1]), await _revision(call))))
    assert (current.stale, current.decided) == (0, 1)
    assert _value(current.attributes[0], "spanledger.session.cost_usd") == COST  # the first is not in the ledger


async def test_counts_tell_seen_from_decided(tmp_path: Path) -> None:
    body = request(chat()) + _plain()
    async with enricher(tmp_path) as call:
        answer = answer_of(await call("EnrichTraces", asked(body, await _revision(call))))
    assert (answer.seen, answer.decided, answer.failed) == (2, 1, 0)
    assert list(answer.attributes) == [0]


async def test_what_is_no_request_is_refused(tmp_path: Path) -> None:
    async with enricher(tmp_path) as call:
        for message in (asked(b"\xff\xff", await _revision(call)), b"\xff"):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await call("EnrichTraces", message)
            assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_token_is_asked_for(tmp_path: Path) -> None:
    text = (
        "{receivers: {enricher: {endpoint: '127.0.0.1:0', auth: {bearer_token: secret}}}, "
        f"api: {{endpoint: '127.0.0.1:0'}}, state: {{path: '{tmp_path}'}}}}"
    )
    async with connected(loaded(text)) as call:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call("Describe", b"\x08\x01")
        assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
    async with connected(loaded(text), {"authorization": "Bearer secret"}) as call:
        assert await call("Describe", b"\x08\x01")


async def test_a_socket_in_the_file_system(tmp_path: Path) -> None:
    text = (
        f"{{receivers: {{enricher: {{endpoint: 'unix://{tmp_path}/s'}}}}, "
        f"api: {{endpoint: '127.0.0.1:0'}}, state: {{path: '{tmp_path}/state'}}}}"
    )
    async with connected(loaded(text)) as call:
        assert await call("Describe", b"\x08\x01")


@pytest.mark.parametrize("capture", captures(), ids=lambda capture: capture.name)
async def test_every_recording_gets_what_the_pipeline_appends(capture: Capture) -> None:
    """All ways over a ledger of their own: spans with the answer put behind them, and spans as delivered.

    The answer is the same to a client that leaves out what it may.
    """
    await _compare(capture.requests, loaded())


THRICE = (
    "agno-openinference/S3-anthropic",
    "crewai-openinference/S3",
    "langchain-openinference/S3",
    "langchain-traceloop/S3",
    "langchain-openinference/S3-plus-openai",
    "llamaindex-openinference/S3",
    "logfire/S3-anthropic+double",
    "openai-agents-openinference/S3",
    "openinference-js/openai-chat",
    "otel-genai/S7-openai-chat",
    "pydantic-ai/S3",
    "pydantic-ai/S3-anthropic",
    "pydantic-ai/S7",
    "vercel-ai-sdk-v4/openai-tools",
    "vercel-ai-sdk-v5/anthropic-tools",
    "vercel-ai-sdk-v5/openai-stream",
    "vercel-ai-sdk-v5/openai-tools",
    "vercel-ai-sdk-v6/anthropic-stream",
    "vercel-ai-sdk-v7/anthropic-tools",
    "vercel-ai-sdk-v7/openai-tools",
)
"""Recordings of an agent that asked for one thing three times in a row, and was told the same each time."""


@pytest.mark.parametrize("name", THRICE)
async def test_a_recorded_loop_that_only_messages_tell_of_is_seen(name: str) -> None:
    """Without the spans of tools, through all ways.

    A client from before `read_values` leaves out more: through it all else is the same.
    """
    capture = next(capture for capture in captures() if capture.name == name)
    traces = [_without_tools(body) for signal, body in capture.requests if signal == "traces"]
    config, signer = loaded(), Signer(b"k" * 32)
    way, older = (_enricher(config, signer) for _ in range(2))
    loops = 0
    for body in traces:
        answers = await way.enrich(body, {})
        without_loops = _without_asked_loops(answers)
        assert await older.enrich(without_content(body, read=()), {}) == without_loops
        loops += sum(one != without_loops.attributes[place] for place, one in answers.attributes.items())
    assert loops
    await _compare([("traces", body) for body in traces], config)


def _without_tools(body: bytes) -> bytes:
    reading = make_stage(loaded(), Signer(b"k" * 32)).read(body, {}, NOW)
    facts = [fact for batch in reading.batches for fact in batch.facts]
    tools = {fact.span_id for fact in facts if fact.call is not None and fact.call.kind == "tool"}
    request = ExportTraceServiceRequest.FromString(body)
    for scope_spans in (scope for resource in request.resource_spans for scope in resource.scope_spans):
        for span in [span for span in scope_spans.spans if span.span_id in tools]:
            scope_spans.spans.remove(span)
    return request.SerializeToString()


async def _compare(requests: Iterable[tuple[Signal, bytes]], config: Config) -> None:
    sent, signer = Sent(), Signer(b"k" * 32)
    stages = make_stage(config, signer), make_log_stage(config, signer)
    pipeline = Handler(*stages, LocalLedger(WriterInMemory()), sent, UNCOUNTED, lambda: NOW)  # type: ignore[arg-type]
    enricher, sparing = (_enricher(config, signer) for _ in range(2))
    for signal, body in requests:
        sent.traces.clear()
        await pipeline.handle(signal, body, {}, 0.0)
        answered = []
        if signal == "traces":
            answers = await enricher.enrich(body, {})
            assert not answers.failures
            assert await sparing.enrich(without_content(body), {}) == answers
            answered.append(_appended(body, answers))
        elif signal == "logs" and (made := (await enricher.synthesize(body, {})).traces):
            await sparing.synthesize(body, {})
            answered.append(ExportTraceServiceRequest.FromString(made))
        assert answered == [ExportTraceServiceRequest.FromString(traces) for traces in sent.traces]


def _enricher(config: Config, signer: Signer) -> Enricher:
    """An enricher over a ledger of its own."""
    stages = make_stage(config, signer), make_log_stage(config, signer)
    handler = Handler(*stages, LocalLedger(WriterInMemory()), Sent(), UNCOUNTED, lambda: NOW)  # type: ignore[arg-type]
    return Enricher(*stages, handler.account, handler.entered, UNCOUNTED, (), lambda: NOW)


@pytest.mark.parametrize(("spans", "most"), [(512, 0), (2048, 2048)])
async def test_only_a_large_request_is_worked_on_in_slices(
    spans: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A turn of the event loop after each slice lets others go on, and takes as long as to read some spans."""
    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: 0.0)  # a slow machine gives others turns as well
    body = request(*[chat()] * spans)
    enriching = _enricher(loaded(), Signer(b"k" * 32)).enrich(body, {}).__await__()
    assert bool(most) <= sum(1 for _ in enriching) <= most


def _without_asked_loops(answers: SpanAnswers) -> SpanAnswers:
    loop = flag("spanledger.tool.loop", value=True)
    attributes = {
        place: one if b"spanledger.tool.signature" in one else one.replace(loop, b"")
        for place, one in answers.attributes.items()
    }
    return replace(answers, attributes=attributes)


async def test_a_log_record_that_comes_twice_in_one_request_makes_one_span() -> None:
    """A queue between may have merged a request with its first try: encoded requests concatenate."""
    enricher = _enricher(loaded(), Signer(b"k" * 32))
    logs = next(capture for capture in captures() if capture.name == "claude-code/logs-only").requests
    body = b"".join(body for signal, body in logs if signal == "logs")
    once = (await enricher.synthesize(body, {})).traces
    twice = (await enricher.synthesize(body + body, {})).traces
    assert once == twice
    assert len(list(spans_of(ExportTraceServiceRequest.FromString(once)))) > 3


async def test_plain_spans_that_came_before_are_accounted_for_once() -> None:
    config, signer = loaded(), Signer(b"k" * 32)
    stages = make_stage(config, signer), make_log_stage(config, signer)
    handler = Handler(*stages, LocalLedger(WriterInMemory()), Sent(), UNCOUNTED, lambda: NOW)  # type: ignore[arg-type]
    accounted: list[int] = []

    async def account(batch: Batch) -> dict[int, Decision]:
        accounted.append(len(batch.facts))
        return await handler.account(batch)

    enricher, call = Enricher(*stages, account, handler.entered, UNCOUNTED, (), lambda: NOW), chat()
    plain = Span(trace_id=call.trace_id, span_id=b"plain 01", name="GET /")
    set_attributes(plain, {"session.id": "s"})
    for body in (request(plain), request(call), request(call)):
        await enricher.enrich(body, {})
    assert accounted == [2, 1]


async def test_a_bug_of_ours_fails_every_span_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    config, signer = loaded(), Signer(b"k" * 32)
    stage, log_stage = make_stage(config, signer), make_log_stage(config, signer)
    handler = Handler(stage, log_stage, LocalLedger(WriterInMemory()), Sent(), UNCOUNTED, lambda: NOW)  # type: ignore[arg-type]
    enricher = Enricher(stage, log_stage, handler.account, handler.entered, UNCOUNTED, (), lambda: NOW)
    monkeypatch.setattr(stage, "reading", lambda *_, **__: 1 // 0)
    answers = await enricher.enrich(request(chat()) + _plain(), {})
    assert (answers.seen, answers.attributes, set(answers.failures.values())) == (2, {}, {"ZeroDivisionError"})
    forged = chat()
    set_attributes(forged, {"spanledger.cost.usd": 999.0})
    answers = await enricher.enrich(request(chat(), forged), {})
    assert set(answers.failures) == {0, 1}
    assert (answers.attributes, answers.forged) == ({1: b""}, {1: [len(forged.attributes) - 1]})


async def test_forged_attributes_are_named_by_their_places(tmp_path: Path) -> None:
    """The component moves them; of a span that is no GenAI span as well."""
    forged = chat()
    for value in (b"spanledger.note", b"spanledger.cost.usd", b"spanledger.session.id"):
        forged.attributes.add(key=value.decode()).value.string_value = "said"
    plain = ExportTraceServiceRequest.FromString(_plain())
    next(iter(spans_of(plain))).attributes.add(key="spanledger.cost.usd").value.double_value = 999.0
    async with enricher(tmp_path) as call:
        answer = answer_of(
            await call("EnrichTraces", asked(request(forged) + plain.SerializeToString(), await _revision(call)))
        )
    first = len(forged.attributes) - 3
    assert answer.forged == {0: bytes((first, first + 1)), 1: b"\0"}
    assert (answer.seen, answer.decided, answer.failed) == (2, 2, 0)


def _appended(body: bytes, answers: SpanAnswers) -> ExportTraceServiceRequest:
    result = ExportTraceServiceRequest.FromString(body)
    spans = list(spans_of(result))
    assert (answers.seen, answers.forged) == (len(spans), {})
    for place, attributes in answers.attributes.items():
        spans[place].MergeFromString(attributes)
    return result


def _plain() -> bytes:
    plain = ExportTraceServiceRequest()
    span = plain.resource_spans.add().scope_spans.add().spans.add()
    span.trace_id, span.span_id, span.name = b"p" * 16, b"p" * 8, "GET /"
    return plain.SerializeToString()
