"""Large requests beside others: worked on in slices, accounted for in parts, one at a time, senders in rotation."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import threading
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from types import FrameType
from typing import Any, ClassVar, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from chats import COST, chat, request, set_attributes
from in_parts import InParts
from ledger_in_memory import NOW, TENANT, MemoryLedger, make_fact
from replays import attributes, spans_of
from spanledger_exporters.delivery import Delivery as RealDelivery
from spanledger_exporters.interface import ACCEPTED, Result, Signal, Verdict
from spanledger_processor.accounting.account import enter
from spanledger_processor.accounting.facts import Batch, Fact, Ruling
from spanledger_processor.config import load
from spanledger_processor.enrichment import Reading
from spanledger_processor.enrichment import logs as logs_module
from spanledger_processor.enrichment import stage as stage_module
from spanledger_processor.enrichment import writer as writer_module
from spanledger_processor.enrichment.earlier_spans import EarlierSpans
from spanledger_processor.enrichment.stage import SLICE
from spanledger_processor.ledger import queries
from spanledger_processor.ledger.queries import total
from spanledger_processor.ledger.store import StateError, Table, Unit, tenant_hash
from spanledger_processor.ledger.writer import LedgerWriter
from spanledger_processor.model import Decision
from spanledger_processor.otlp import encoding as encoding_module
from spanledger_processor.otlp import envelope as envelope_module
from spanledger_processor.otlp import request as request_module
from spanledger_processor.otlp import schema as schema_module
from spanledger_processor.otlp import splice as splice_module
from spanledger_processor.otlp.envelope import SLICE_CUT, SLICE_PARTS
from spanledger_processor.otlp.request import TraceRequest, counting_traces, parsing_traces
from spanledger_processor.otlp.values import GIANT
from spanledger_processor.otlp.wire import Steps, finished, write_varint
from spanledger_processor.server import handler as handler_module
from spanledger_processor.server import slices
from spanledger_processor.server.handler import Handler
from spanledger_processor.server.ledger_link import LedgerServer, LocalLedger, RemoteLedger
from spanledger_processor.server.slices import FairLock
from spanledger_processor.server.wiring import make_log_stage, make_stage
from spanledger_processor.signing.signer import Signer
from stores import WriterInMemory, open_store

T = TypeVar("T")


class Ledger(WriterInMemory):
    """Gives others their turn before each unit, as the writer's thread does."""

    async def submit(self, work: Callable[[Unit], T], *, takes_long: bool = False) -> T:
        await asyncio.sleep(0)
        return await super().submit(work, takes_long=takes_long)


@dataclass
class Delivery:
    """Keeps the bodies, in the order they were delivered; answers once `gate` is open."""

    bodies: list[bytes] = field(default_factory=list)
    left: list[float] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    result: Result = ACCEPTED

    def __post_init__(self) -> None:
        self.gate.set()

    async def deliver(self, signal: Signal, request_id: bytes, body: bytes, deadline: float, items: int = 0) -> Result:
        self.bodies.append(body)
        self.left.append(deadline - asyncio.get_running_loop().time())
        await self.gate.wait()
        return self.result

    def in_parts(self, signal: Signal, request_id: bytes) -> InParts:
        return InParts(self.deliver, signal, request_id)

    async def has(self, count: int) -> None:
        """Wait until so many were given."""
        while len(self.bodies) < count:  # noqa: ASYNC110 - nothing else runs than what is waited for
            await asyncio.sleep(0)


class Observer:
    """Looks away."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_: None


@dataclass
class Stage:
    """A handler, and what it is connected to."""

    ledger: Ledger = field(default_factory=Ledger)
    delivery: Delivery = field(default_factory=Delivery)
    sets: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        config, signer = load(None, self.sets, {"HOME": "/nowhere"}), Signer(b"a key for tests, long enough")
        stages = make_stage(config, signer), make_log_stage(config, signer)
        self.handler = Handler(*stages, LocalLedger(self.ledger), self.delivery, Observer())  # type: ignore[arg-type]

    async def take(self, body: bytes, sender: str = "a", left: float = 60.0, signal: Signal = "traces") -> Result:
        deadline = asyncio.get_running_loop().time() + left
        return await self.handler.handle(signal, body, {}, deadline, sender)

    def spans(self, body: bytes) -> list[dict[str, Any]]:
        return [attributes(span) for span in spans_of(ExportTraceServiceRequest.FromString(body))]

    def cost(self) -> float:
        with self.ledger.store.snapshot() as reader:
            return float(total(reader, tenant_hash(""))["cost_usd"])


def large(count: int) -> bytes:
    return request(*(chat() for _ in range(count)))


@pytest.fixture(autouse=True)
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is large here begins at 20 spans."""
    monkeypatch.setattr(slices, "_LARGE_SPANS", 20)
    monkeypatch.setattr(slices, "LARGE_BYTES", 10**9)


async def test_others_have_their_turn_after_every_slice() -> None:
    """Counted: passes of the event loop while one request is read and written."""
    stage, passes, ended = Stage(), 0, False

    async def count() -> None:
        nonlocal passes
        while not ended:
            passes += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    slices = 8
    assert await stage.take(large(slices * SLICE)) == ACCEPTED
    ended = True
    await counting
    assert passes >= 2 * (slices - 1)
    assert stage.cost() == pytest.approx(slices * SLICE * COST)


def naming(call: Span, session: str) -> Span:
    """A plain span of the trace of a call, which names its session."""
    named = chat(trace_id=call.trace_id, name="web")
    del named.attributes[:]
    set_attributes(named, {"session.id": session} if session else {})
    return named


async def test_plain_spans_that_come_while_a_large_request_has_the_calls_of_their_traces_name_sessions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also of a trace of which plain spans came before it. By themselves they are of no use to the ledger."""
    monkeypatch.setattr(slices, "ACCOUNTED_AT_ONCE", 2 * SLICE)
    stage, calls = Stage(), [chat() for _ in range(8 * SLICE)]
    await stage.take(request(*(naming(call, "") for call in calls[::2])))
    taking, sent = asyncio.create_task(stage.take(request(*calls))), list[str]()
    for number, call in enumerate(reversed(calls)):
        await asyncio.sleep(0)
        if taking.done():
            break
        sent.append(f"session {number}")
        await stage.take(request(naming(call, sent[-1])))
    assert await taking == ACCEPTED
    await asyncio.gather(*stage.handler._knowing)
    with stage.ledger.store.snapshot() as reader:
        rows = queries.sessions(reader, TENANT)
    assert len(sent) > 4
    assert {row["id"]: row["calls"] for row in rows if row["id"]} == dict.fromkeys(sent, 1)


async def test_plain_spans_that_come_while_the_calls_of_another_tenant_are_accounted_for_name_the_session() -> None:
    """The tenants of a request are accounted for one after the other."""
    stage, call = Stage(sets=("processor.tenant.keys=[who]",)), chat()
    both = request(chat(), resource={"who": "first"}) + request(call, resource={"who": "then"})
    plain = request(naming(call, "s"), resource={"who": "then"})
    assert [*await asyncio.gather(stage.take(both), stage.take(plain))] == [ACCEPTED, ACCEPTED]
    await asyncio.gather(*stage.handler._knowing)
    with stage.ledger.store.snapshot() as reader:
        rows = queries.sessions(reader, tenant_hash("then"))
    assert [(row["id"], row["calls"]) for row in rows if row["spans"]] == [("s", 1)]


def of_resources(count: int) -> bytes:
    return b"".join(request(chat()) for _ in range(count))


def of_scopes(count: int) -> bytes:
    groups = [ExportTraceServiceRequest.FromString(request(chat())).resource_spans[0] for _ in range(count)]
    groups[0].scope_spans.extend(group.scope_spans[0] for group in groups[1:])
    return ExportTraceServiceRequest(resource_spans=groups[:1]).SerializeToString()


def events(count: int) -> bytes:
    """Log events of which calls are made."""
    logs = ExportLogsServiceRequest()
    scope = logs.resource_logs.add().scope_logs.add()
    for number in range(count):
        record = scope.log_records.add(time_unix_nano=10**18 + number)
        record.body.string_value = "claude_code.api_request"
        reported = {
            "event.name": "api_request",
            "session.id": "s",
            "model": "claude-sonnet-4-5",
            "input_tokens": str(number),
        }
        for key, value in {**reported, "output_tokens": "1", "request_id": f"req_{number}"}.items():
            record.attributes.add(key=key).value.string_value = value
    return logs.SerializeToString()


async def lines_by_pass(taking: Coroutine[Any, Any, Result], note: Callable[[], None] = lambda: None) -> list[int]:
    """Lines of code run between two passes of the event loop, but for the ledger's, while a request is accepted."""
    lines, ended = [0], False
    in_ledger: list[FrameType] = []

    def trace(frame: FrameType, event: str, _arg: Any) -> Any:
        if frame.f_code is enter.__code__:  # on a thread of its own, and bounded: tests/accounting/test_bounds.py
            in_ledger[:] = [frame] if event != "return" else []
        lines[-1] += event == "line" and not in_ledger
        return trace

    async def count() -> None:
        while not ended:
            lines.append(0)
            note()
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    before = sys.gettrace()
    sys.settrace(trace)
    try:
        assert await taking == ACCEPTED
    finally:
        sys.settrace(before)
        ended = True
    await counting
    return lines


@pytest.mark.parametrize(
    ("signal", "made"),
    [("traces", large), ("traces", of_resources), ("traces", of_scopes), ("logs", events)],
    ids=["spans", "resources", "scopes", "log events"],
)
async def test_no_step_is_more_than_a_small_part_of_a_large_request(
    monkeypatch: pytest.MonkeyPatch, signal: Signal, made: Callable[[int], bytes]
) -> None:
    """Counted: lines of code run between two passes of the event loop, and facts let go of."""
    slice_, slices = 8, 128
    for module in (stage_module, writer_module):
        monkeypatch.setattr(module, "SLICE", slice_)
        monkeypatch.setattr(module, "RELEASED", slice_)
    monkeypatch.setattr(logs_module, "SLICE", slice_)
    monkeypatch.setattr(splice_module, "SLICE_ITEMS", slice_)
    for module in (request_module, envelope_module, splice_module):
        monkeypatch.setattr(module, "SLICE_PARTS", slice_)
    monkeypatch.setattr(envelope_module, "SLICE_CUT", slice_)
    monkeypatch.setattr(encoding_module, "SLICE_SPANS", slice_)
    monkeypatch.setattr(encoding_module, "SLICE_FRAMED", slice_)
    stage = Stage()
    readings: list[Reading] = []
    facts_left: list[int] = []

    def watched(reading: Reading, decisions: list[dict[int, Decision]]) -> Iterator[None]:
        readings.append(reading)
        return writer_module.releasing(reading, decisions)

    monkeypatch.setattr(handler_module, "releasing", watched)

    def note() -> None:
        facts_left.extend(len(batch.facts) for reading in readings for batch in reading.batches)

    body = made(slices * slice_)
    await stage.take(made(10 * slice_), signal=signal)  # fills what is cached
    readings.clear()
    lines = await lines_by_pass(stage.take(body, signal=signal), note)
    assert max(lines) < 1.5 * sum(lines) / slices
    assert all(before - after <= slice_ for before, after in pairwise(facts_left))
    assert facts_left[-1] == 0


@pytest.mark.parametrize("unread", [False, True], ids=["read", "unread"])
async def test_no_step_over_plain_spans_that_came_before_is_long(
    monkeypatch: pytest.MonkeyPatch, *, unread: bool
) -> None:
    """Counted, as above: of a request with one call, whose trace had 1,024 plain spans before, in many requests."""
    slice_, count = 8, 128
    for module in (stage_module, writer_module):
        monkeypatch.setattr(module, "SLICE", slice_)
        monkeypatch.setattr(module, "RELEASED", slice_)
    monkeypatch.setattr(stage_module, "_UNREAD_SLICE", 1)
    monkeypatch.setattr(slices, "_GROUPED", slice_)
    stage, trace_id = Stage(), b"the one trace..."
    if not unread:
        await stage.take(request(chat()))
    ids = [(number + 1).to_bytes(8, "big") for number in range(count * slice_)]
    plain = [Span(name="GET", trace_id=trace_id, span_id=span_id) for span_id in ids]
    for first in range(0, len(plain), slice_):
        await stage.take(request(*plain[first : first + slice_]))
    lines = await lines_by_pass(stage.take(request(chat(trace_id=trace_id))))
    alone = sum(await lines_by_pass(Stage().take(request(chat()))))
    assert max(lines) < alone + 3 * sum(lines) / count
    assert sum(lines) > 10 * alone
    assert not [*stage.handler._stage._earlier.facts(trace_id)]
    with stage.ledger.store.snapshot() as reader:
        assert total(reader, tenant_hash(""))["spans"] == (1 if unread else 2)


@pytest.mark.parametrize("earlier", [10, 100], ids=["few", "many"])
async def test_plain_spans_that_came_before_are_read_by_one_of_the_requests_that_come_together(
    monkeypatch: pytest.MonkeyPatch, earlier: int
) -> None:
    """Counted: spans read. The others wait for its commit, so that each finds the session that one of them names."""
    stage, trace_id, read = Stage(), b"the one trace...", list[bytes]()
    await stage.take(request(chat()))
    plain = [Span(name="GET", trace_id=trace_id, span_id=bytes([number + 1] * 8)) for number in range(earlier)]
    plain[0].attributes.add(key="session.id").value.string_value = "s"
    for span in plain:
        await stage.take(request(span))
    stage.delivery.bodies.clear()
    facts = EarlierSpans.facts

    def watched(self: EarlierSpans, trace_id: bytes, *more: Any) -> Iterator[tuple[str, Fact]]:
        for tenant, fact in facts(self, trace_id, *more):
            read.append(fact.span_id)
            yield tenant, fact

    monkeypatch.setattr(EarlierSpans, "facts", watched)
    takes = [stage.take(request(chat(trace_id=trace_id)), sender=str(number)) for number in range(20)]
    assert await asyncio.gather(*takes) == [ACCEPTED] * 20
    assert sorted(read) == [span.span_id for span in plain]
    sessions = [span["spanledger.session.id"] for body in stage.delivery.bodies for span in stage.spans(body)]
    assert sessions == ["s"] * 20


async def test_plain_spans_that_came_before_are_read_again_where_they_were_not_accounted_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stage, trace_id = Stage(), b"the one trace..."
    await stage.take(request(chat()))
    plain = Span(name="GET", trace_id=trace_id, span_id=b"plain...")
    plain.attributes.add(key="session.id").value.string_value = "s"
    await stage.take(request(plain))
    stage.delivery.bodies.clear()
    submit, failing = Ledger.submit, [True]

    async def fails_once(self: Ledger, work: Callable[[Unit], T], *, takes_long: bool = False) -> T:
        if failing:
            failing.clear()
            self.problem = "the disk is full"
            raise StateError("the disk is full")
        self.problem = None
        return await submit(self, work, takes_long=takes_long)

    monkeypatch.setattr(Ledger, "submit", fails_once)
    takes = [stage.take(request(chat(trace_id=trace_id)), sender=str(number)) for number in range(3)]
    assert await asyncio.gather(*takes) == [ACCEPTED] * 3
    spans = [span for body in stage.delivery.bodies for span in stage.spans(body)]
    assert [span["spanledger.session.id"] for span in spans] == ["s"] * 3
    with stage.ledger.store.snapshot() as reader:
        calls = {row["id"]: row["calls"] for row in queries.sessions(reader, tenant_hash(""))}
    assert calls["s"] == 2, "less the one that was not accounted for"


@pytest.mark.parametrize("groups", [1, 8, 256])
@pytest.mark.parametrize("steps", [counting_traces, parsing_traces])
def test_spans_are_found_in_slices(steps: Callable[[bytes], Steps[TraceRequest]], groups: int) -> None:
    """Also those of many resources."""
    number, span = 16 * SLICE_CUT, b"\x2a" + write_varint(300) + b"n" * 300
    scope = (b"\x12" + write_varint(len(span)) + span) * (number // groups)
    resource = b"\x12" + write_varint(len(scope)) + scope
    body = (b"\x0a" + write_varint(len(resource)) + resource) * groups
    passes = sum(1 for _ in steps(body))
    assert passes >= number // SLICE_CUT - 1


def test_no_slice_copies_more_than_a_megabyte_and_one_span() -> None:
    """Counted: pauses. 2,000 spans with prompts of 22 KB were written in two."""
    text, number = "n" * 100_000, 200
    span = b"\x2a" + write_varint(len(text)) + text.encode()
    scope = (b"\x12" + write_varint(len(span)) + span) * number
    resource = b"\x12" + write_varint(len(scope)) + scope
    body = b"\x0a" + write_varint(len(resource)) + resource
    read = finished(parsing_traces(body))
    for place in range(number):
        read.append(0, place, b"\x4a\x00")
    written = sum(1 for _ in read.serializing())
    assert written >= 2 * (len(body) // (2**20 + len(span)) - 1), "edited, and joined"


def test_a_large_request_is_written_into_its_result_alone() -> None:
    """Counted: bytes. What was cut, what was appended, and the result stood side by side."""
    number, extra = 20_000, b"\x4a" + write_varint(300) + b"e" * 300
    read = finished(parsing_traces(large(1)))
    span = read.groups[0].items[0]
    scope = (b"\x12" + write_varint(len(span)) + span) * number
    resource = b"\x12" + write_varint(len(scope)) + scope
    read = finished(parsing_traces(b"\x0a" + write_varint(len(resource)) + resource))
    tracemalloc.start()
    try:
        for place in range(number):
            read.append(0, place, bytes(bytearray(extra)))
        appended, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        written = read.serialize()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(written) > number * (len(span) + len(extra))
    assert peak - appended < 1.5 * len(written)


async def test_little_is_looked_at_by_a_collection_while_a_large_request_is_worked_on() -> None:
    """One of 200,000 objects stops everybody for a tenth of a second."""
    before, stage, seen = gc.get_threshold(), Stage(), set[int]()

    async def look() -> None:
        while True:
            seen.add(gc.get_threshold()[0])
            await asyncio.sleep(0)

    gc.set_threshold(50_000, 3, 2**31 - 1)  # as `serve` does
    looking = asyncio.create_task(look())
    try:
        assert await stage.take(large(8 * SLICE)) == ACCEPTED
        assert gc.get_threshold() == (50_000, 3, 2**31 - 1)
    finally:
        looking.cancel()
        gc.set_threshold(*before)
    assert min(seen) <= 5_000


MANY = 30_000


def _with_many(signal: Signal, where: str) -> bytes:
    """Return a request of one call, with many attributes or events at one place of it."""
    if signal == "logs":
        logs = ExportLogsServiceRequest.FromString(events(1))
        attributes_ = logs.resource_logs[0].scope_logs[0].log_records[0].attributes
        attributes_.extend(KeyValue(key=f"key {number}") for number in range(MANY))
        return logs.SerializeToString()
    sent = ExportTraceServiceRequest.FromString(request(chat()))
    span = sent.resource_spans[0].scope_spans[0].spans[0]
    many = [KeyValue(key=f"key {number}") for number in range(MANY)]
    if where == "span":
        span.attributes.extend(many)
    elif where == "event":
        span.events.add(name="gen_ai.choice").attributes.extend(many)
    elif where == "resource":
        sent.resource_spans[0].resource.attributes.extend(many)
    else:
        for _ in range(MANY):
            span.events.add(name="exception")
    return sent.SerializeToString()


class _Counted:
    """A schema that notes how many bytes it is given at once, and on which thread."""

    def __init__(self, name: str, schema: Any, given: list[tuple[str, int, bool]]) -> None:
        self._name = name
        self._schema = schema
        self._given = given

    def FromString(self, encoded: bytes) -> Any:  # noqa: N802 - as protobuf names it
        self._given.append((self._name, len(encoded), threading.current_thread() is threading.main_thread()))
        return self._schema.FromString(encoded)


@pytest.mark.parametrize(
    ("signal", "where"),
    [("traces", "span"), ("traces", "event"), ("traces", "resource"), ("traces", "events"), ("logs", "record")],
)
async def test_many_attributes_or_events_of_one_thing_are_read_beside_the_event_loop(
    monkeypatch: pytest.MonkeyPatch, signal: Signal, where: str
) -> None:
    """Counted: bytes that a schema reads in one go, which nothing interrupts, and where. A million took six seconds."""
    body, given, stage = _with_many(signal, where), list[tuple[str, int, bool]](), Stage()
    for name in ("Resource", "Span", "Event", "LogRecord"):
        monkeypatch.setattr(schema_module, name, _Counted(name, getattr(schema_module, name), given))
    assert await stage.take(body, signal=signal) == ACCEPTED
    assert stage.cost() > 0
    assert len(body) > GIANT
    assert all(size < GIANT / 16 for _, size, on_loop in given if on_loop)
    flat = "Span" if where in ("event", "events") else ""  # its events are a list of bytes to it
    assert all(size < GIANT / 16 for name, size, _ in given if name != flat)


class _Cut(bytes):
    """A request that notes how long the pieces are that are cut out of it on the thread of the event loop."""

    cut: ClassVar[list[int]] = []

    def __getitem__(self, part: Any) -> Any:
        piece = super().__getitem__(part)
        if isinstance(part, slice) and threading.current_thread() is threading.main_thread():
            self.cut.append(len(piece))
        return piece


async def test_a_giant_span_is_not_copied_on_the_event_loop() -> None:
    """A prompt of 60 MiB was, three times, and nobody else was served for 0.3 s."""
    stage, span = Stage(), chat()
    await stage.take(request(chat()))  # its trace is one that plain spans are looked for of
    set_attributes(span, {"gen_ai.input.messages": "p" * 8 * GIANT})
    _Cut.cut.clear()
    assert await stage.take(_Cut(request(span))) == ACCEPTED
    assert _Cut.cut
    assert max(_Cut.cut) <= GIANT
    (sent,) = stage.spans(stage.delivery.bodies[-1])
    assert sent["spanledger.cost.usd"] == COST
    assert sent["gen_ai.input.messages"] == "p" * 8 * GIANT


@pytest.mark.parametrize("part", [b"\x0a\x00", b"\x0a\x02\x12\x00"], ids=["resources", "scopes"])
@pytest.mark.parametrize("signal", ["traces", "logs", "metrics"])
async def test_a_request_of_many_empty_parts_is_worked_on_in_slices(part: bytes, signal: Signal) -> None:
    """Half a MiB of them took two seconds, in which nobody else was served."""
    stage, passes, ended = Stage(), 0, False

    async def count() -> None:
        nonlocal passes
        while not ended:
            passes += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    parts = 8 * SLICE_PARTS
    assert await stage.take(part * parts, signal=signal) == ACCEPTED
    ended = True
    await counting
    assert passes >= parts // SLICE_PARTS


@pytest.mark.parametrize(("seconds", "passes"), [(0.001, 1), (0.02, 5), (1.0, 10)])
async def test_a_small_request_whose_steps_take_long_is_worked_on_in_slices(
    monkeypatch: pytest.MonkeyPatch, seconds: float, passes: int
) -> None:
    """1,024 spans of 4 KiB of fields that OTLP does not know took a second, in which nobody else was served."""
    loop, passed, turns, ended = asyncio.get_running_loop(), 0.0, 0, False
    monkeypatch.setattr(loop, "time", lambda: passed)

    def steps() -> Steps[None]:
        nonlocal passed
        for _ in range(10):
            passed += seconds
            yield None

    async def count() -> None:
        nonlocal turns
        while not ended:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    await asyncio.sleep(0)
    turns = 1
    await slices.work(steps(), large=False)
    ended = True
    await counting
    assert turns == passes + (passes > 1)


async def test_a_small_request_does_not_wait_for_a_large_one() -> None:
    stage = Stage()
    first = asyncio.create_task(stage.take(large(10 * SLICE)))
    await asyncio.sleep(0)
    assert await stage.take(request(chat()), "b") == ACCEPTED
    assert not first.done()
    assert await first == ACCEPTED
    assert [len(stage.spans(body)) for body in stage.delivery.bodies] == [1, 10 * SLICE]


async def test_a_large_request_is_accounted_for_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slices, "ACCOUNTED_AT_ONCE", 400)
    stage = Stage()
    assert await stage.take(large(420)) == ACCEPTED
    assert stage.ledger.units == 9
    (body,) = stage.delivery.bodies
    assert [span["spanledger.cost.usd"] for span in stage.spans(body)] == [COST] * 420
    assert stage.cost() == pytest.approx(420 * COST)


@pytest.mark.parametrize(
    ("traces", "kind", "most"), [(80, "usual", 512), (1, "usual", 256), (80, "full", 128), (1, "full", 128)]
)
async def test_a_part_holds_fewer_spans_where_each_takes_longer(traces: int, kind: str, most: int) -> None:
    """Counted: what others wait for behind a part. 512 calls of 60,000 sessions took the ledger 0.2 s."""
    stage, sizes = Stage(), list[int]()
    local, account = stage.handler._ledger, LocalLedger.account
    assert isinstance(local, LocalLedger)

    async def counted(batch: Batch) -> Ruling:
        sizes.append(len(batch.facts))
        return await account(local, batch)

    local.account = counted  # type: ignore[method-assign]
    ids = [bytes([number]) * 16 for number in range(1, traces + 1)]
    calls = [chat(trace_id=ids[place % traces]) for place in range(16 * 80)]
    for place, call in enumerate(calls if kind == "usual" else ()):
        set_attributes(call, {"gen_ai.response.id": f"response-{place}", "gen_ai.conversation.id": "one"})
    assert await stage.take(request(*calls)) == ACCEPTED
    assert sum(sizes) == len(calls)
    assert most // 2 < max(sizes) <= most


async def test_facts_and_decisions_of_a_large_request_are_let_go_of_part_by_part(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Those of 110,000 calls took as much memory as the request that they made."""
    monkeypatch.setattr(slices, "ACCOUNTED_AT_ONCE", 400)
    stage, kept = Stage(), list[int]()
    appending = writer_module.appending

    def watched(reading: Reading, *rest: Any) -> Steps[dict[int, Decision]]:
        left = yield from appending(reading, *rest)
        kept.append(sum(fact.call is not None for fact in reading.batches[0].facts) + len(left))
        return left

    monkeypatch.setattr(handler_module, "appending", watched)
    assert await stage.take(large(200)) == ACCEPTED
    assert kept == [150, 100, 50, 0]
    (body,) = stage.delivery.bodies
    assert [span["spanledger.cost.usd"] for span in stage.spans(body)] == [COST] * 200


async def test_where_the_ledger_fails_on_the_way_every_span_says_what_became_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The sum over spans stays the ledger's; the sender's retry of a part that failed counts it then."""
    monkeypatch.setattr(slices, "ACCOUNTED_AT_ONCE", 400)
    stage = Stage(Ledger(full_after=2))
    await stage.take(large(200))
    spans = stage.spans(stage.delivery.bodies[0])
    assert Counter(span.get("spanledger.cost.unpriced", "") for span in spans) == {"": 100, "not_accounted": 100}
    assert stage.cost() == pytest.approx(sum(span.get("spanledger.cost.usd", 0.0) for span in spans))


@pytest.mark.parametrize("spans", [1, 100])
async def test_what_a_request_takes_is_told_with_copies_and_what_was_read_of_it(spans: int) -> None:
    """Spans grow to several times their size, and a large request's are all read before the first is written."""
    stage, reported, body = Stage(), list[int](), large(spans)
    deadline = asyncio.get_running_loop().time() + 60
    assert await stage.handler.handle("traces", body, {}, deadline, hold=reported.append) == ACCEPTED
    read = [3 * len(body) + spans * 4096] if spans > 20 else []
    assert reported == [*read, 2 * len(stage.delivery.bodies[0])]


async def test_a_large_request_that_was_not_accounted_for_is_when_it_comes_again() -> None:
    """Although it was accepted, and goes to no destination twice."""
    stage, body = Stage(Ledger(full_after=0)), large(30)
    assert await stage.take(body) == ACCEPTED
    assert stage.cost() == 0.0
    stage.ledger.full_after = 10**9
    assert await stage.take(body) == ACCEPTED
    assert stage.cost() == pytest.approx(30 * COST)


async def test_large_requests_wait_for_each_other_and_their_senders_take_turns() -> None:
    stage = Stage()
    sizes = [30, 31, 32, 33]
    senders = ["a", "a", "a", "b"]
    await asyncio.gather(*(stage.take(large(size), sender) for size, sender in zip(sizes, senders, strict=True)))
    assert [len(stage.spans(body)) for body in stage.delivery.bodies] == [30, 31, 33, 32]


async def test_a_turn_is_not_held_while_a_backend_is_waited_for() -> None:
    stage = Stage()
    stage.delivery.gate.clear()
    tasks = [asyncio.create_task(stage.take(large(30))) for _ in range(3)]
    await stage.delivery.has(3)
    stage.delivery.gate.set()
    assert await asyncio.gather(*tasks) == [ACCEPTED] * 3


async def test_who_leaves_while_it_waits_for_its_turn_takes_none() -> None:
    lock = FairLock()
    order: list[str] = []

    async def work(name: str) -> None:
        async with lock.held(name, large=True):
            order.append(name)
            await asyncio.sleep(0)

    async with lock.held("first", large=True):
        tasks = [asyncio.create_task(work(name)) for name in ("a", "b", "c")]
        await asyncio.sleep(0)
        tasks[1].cancel()
    await asyncio.wait(tasks)
    await work("last")
    assert order == ["a", "c", "last"]


async def test_a_large_request_that_takes_longer_than_its_sender_waits_is_accepted_when_it_comes_again() -> None:
    """The work goes on, and the repeat neither begins it anew nor is sent on twice."""
    stage, body = Stage(), large(30)
    stage.delivery.gate.clear()
    first = asyncio.create_task(stage.take(body))
    await stage.delivery.has(1)
    assert (await stage.take(body, left=0.0)).verdict is Verdict.RETRYABLE
    again = asyncio.create_task(stage.take(body))
    stage.delivery.gate.set()
    assert (await first, await again) == (ACCEPTED, ACCEPTED)
    assert await stage.take(body) == ACCEPTED
    assert (len(stage.delivery.bodies), stage.ledger.units) == (1, 1)


async def test_a_large_request_of_another_tenant_is_its_own() -> None:
    """The tenant may stand in a header."""
    stage, body = Stage(), large(30)
    for tenant in ("a", "b"):
        deadline = asyncio.get_running_loop().time() + 60
        assert await stage.handler.handle("traces", body, {"x-tenant": tenant}, deadline) == ACCEPTED
    assert (len(stage.delivery.bodies), stage.ledger.units) == (2, 2)


@pytest.mark.parametrize(
    ("waits", "worked_on", "left"),
    [(60.0, 0.0, [60.0, 54.0, 48.0]), (60.0, 100.0, [20.0, 14.0, 8.0]), (15.0, 100.0, [15.0, 9.0, 3.0])],
)
async def test_exporters_have_one_deadline_for_all_parts_of_a_request(
    monkeypatch: pytest.MonkeyPatch, waits: float, worked_on: float, left: list[float]
) -> None:
    """Its sender's; where it is worked on for longer, as long as its sender waits, and 20 s at most."""
    stage, loop, passed = Stage(), asyncio.get_running_loop(), 0.0
    began, units, deliver = loop.time(), stage.ledger.submit, stage.delivery.deliver
    monkeypatch.setattr(loop, "time", lambda: began + passed)
    monkeypatch.setattr(handler_module, "_DELIVERED_BYTES", 1 << 14)

    async def submit(work: Callable[[Unit], T], *, takes_long: bool = False) -> T:
        nonlocal passed
        passed = max(passed, worked_on)
        return await units(work, takes_long=takes_long)

    async def delivered(*given: Any, **named: Any) -> Result:
        nonlocal passed
        result = await deliver(*given, **named)
        passed += 6.0
        return result

    monkeypatch.setattr(stage.ledger, "submit", submit)
    monkeypatch.setattr(stage.delivery, "deliver", delivered)
    assert await stage.take(large(30), left=waits) == ACCEPTED
    assert stage.delivery.left[:3] == pytest.approx(left)


class _Body(bytes):
    """Bytes of which one can tell whether they are kept."""

    freed: ClassVar[list[int]] = []

    def __del__(self) -> None:
        self.freed.append(len(self))


async def test_what_comes_again_is_not_kept_while_the_first_is_worked_on() -> None:
    """A sender that gives up every 10 s sent 41 MiB each time, which were kept for as long as it waited."""
    stage, body, reported = Stage(), large(30), list[int]()
    stage.delivery.gate.clear()
    first = asyncio.create_task(stage.take(body))
    await stage.delivery.has(1)
    repeated = [_Body(body)]
    deadline = asyncio.get_running_loop().time() + 60
    again = asyncio.create_task(stage.handler.handle("traces", repeated.pop(), {}, deadline, hold=reported.append))
    while not reported:  # noqa: ASYNC110 - nothing else runs than what is waited for
        await asyncio.sleep(0)
    assert (_Body.freed, reported) == ([len(body)], [0])
    stage.delivery.gate.set()
    assert (await first, await again) == (ACCEPTED, ACCEPTED)


@pytest.mark.parametrize("number", [1, 30], ids=["small", "large"])
async def test_nothing_holds_the_bytes_of_a_request_that_has_ended(number: int) -> None:
    """The last one of 60 MiB was held until the next came, as that of the group that was read."""
    stage = Stage()
    for _ in range(3):
        _Body.freed.clear()
        given = [_Body(large(number))]
        assert await stage.handler.handle("traces", given.pop(), {}, asyncio.get_running_loop().time() + 60) == ACCEPTED
        await asyncio.sleep(0)
        assert _Body.freed


async def test_memory_is_returned_before_a_large_request_is_delivered(monkeypatch: pytest.MonkeyPatch) -> None:
    stage, delivered = Stage(), list[int]()
    monkeypatch.setattr(slices, "_trim", lambda _: delivered.append(len(stage.delivery.bodies)))
    for count in (1, 30):
        assert await stage.take(large(count)) == ACCEPTED
    assert delivered[0] == 1


async def test_a_large_request_that_was_not_accepted_begins_anew_when_it_comes_again() -> None:
    stage, body = Stage(), large(30)
    stage.delivery.result = Result(Verdict.RETRYABLE, "busy")
    assert (await stage.take(body)).verdict is Verdict.RETRYABLE
    stage.delivery.result = ACCEPTED
    assert await stage.take(body) == ACCEPTED
    assert len(stage.delivery.bodies) == 2
    assert stage.delivery.bodies[0] == stage.delivery.bodies[1]


async def test_a_large_log_request_that_takes_longer_than_its_sender_waits_is_accepted_when_it_comes_again() -> None:
    """120,000 log events take longer than senders wait: begun anew each time, they were never accepted."""
    stage, body = Stage(), events(30)
    stage.delivery.gate.clear()
    first = asyncio.create_task(stage.take(body, left=0.0, signal="logs"))
    await stage.delivery.has(1)
    assert (await stage.take(body, left=0.0, signal="logs")).verdict is Verdict.RETRYABLE
    again = asyncio.create_task(stage.take(body, signal="logs"))
    stage.delivery.gate.set()
    assert (await first).verdict is Verdict.RETRYABLE, "its sender was told so already"
    assert await again == ACCEPTED
    assert (len(stage.delivery.bodies), stage.ledger.units) == (2, 1)
    assert await stage.take(body, signal="logs") == ACCEPTED
    assert len(stage.delivery.bodies) == 4, "log records have no ids: what comes after an answer is another request"


async def test_equal_large_log_requests_whose_senders_both_wait_are_two() -> None:
    stage, body = Stage(), events(30)
    stage.delivery.gate.clear()
    both = [asyncio.create_task(stage.take(body, signal="logs")) for _ in range(2)]
    await stage.delivery.has(2)
    stage.delivery.gate.set()
    assert [await one for one in both] == [ACCEPTED, ACCEPTED]
    assert len(stage.delivery.bodies) == 4
    assert stage.handler._large == {}


async def test_the_spans_of_a_large_log_request_are_delivered_in_parts_and_then_the_log(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A span is several times as long as its record: those of 64 MiB of records are more than any backend takes."""
    monkeypatch.setattr(handler_module, "_SYNTHESIZED_AT_ONCE", 100)
    stage, body = Stage(), events(250)
    assert await stage.take(body, signal="logs") == ACCEPTED
    *parts, last = stage.delivery.bodies
    spans = [stage.spans(part) for part in parts]
    assert [len(part) for part in spans] == [100, 100, 50]
    assert last == body
    reported = sum(span["spanledger.cost.usd"] for part in spans for span in part)
    assert stage.cost() == pytest.approx(reported)


@pytest.mark.parametrize("refused", [Verdict.RETRYABLE, Verdict.PERMANENT])
async def test_a_part_that_is_refused_decides_for_the_log_request(
    monkeypatch: pytest.MonkeyPatch, refused: Verdict
) -> None:
    """Where a backend is busy the rest waits for the sender; where it refuses for good the rest goes on."""
    monkeypatch.setattr(handler_module, "_SYNTHESIZED_AT_ONCE", 100)
    stage, body = Stage(), events(250)
    stage.delivery.result = Result(refused, "no")
    result = await stage.take(body, signal="logs")
    assert result.verdict is refused
    assert len(stage.delivery.bodies) == (1 if refused is Verdict.RETRYABLE else 4)


class Backend:
    """An exporter that keeps what it takes, and refuses what it is told to."""

    signals: ClassVar[frozenset[Signal]] = frozenset({"traces", "logs"})
    required = True

    def __init__(self, name: str, *said: Verdict) -> None:
        self.name = name
        self.said = [*said]
        self.taken: list[tuple[Signal, bytes]] = []

    def address(self, _: Signal) -> str:
        return self.name

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    async def send(self, signal: Signal, body: bytes, _: float) -> Result:
        verdict = self.said.pop(0) if self.said else Verdict.ACCEPTED
        if verdict is Verdict.ACCEPTED:
            self.taken.append((signal, body))
        return Result(verdict)

    @property
    def spans(self) -> list[bytes]:
        bodies = [body for signal, body in self.taken if signal == "traces"]
        return [span.span_id for body in bodies for span in spans_of(ExportTraceServiceRequest.FromString(body))]


def stage_with(*backends: Backend) -> Stage:
    """A stage that delivers as `serve` does."""
    return Stage(delivery=RealDelivery(backends, Observer()))  # type: ignore[arg-type]


A, R, P = Verdict.ACCEPTED, Verdict.RETRYABLE, Verdict.PERMANENT


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A part has about ten spans here."""
    monkeypatch.setattr(handler_module, "_DELIVERED_BYTES", 20_000)


@pytest.mark.usefixtures("small_parts")
async def test_a_large_request_is_delivered_in_parts_that_a_backend_takes() -> None:
    """One of 110,000 calls became 136 MB, and gRPC takes 4 MiB unless told otherwise."""
    backend = Backend("a")
    stage, body = stage_with(backend), large(100)
    assert await stage.take(body) == ACCEPTED
    sizes = [len(part) for _, part in backend.taken]
    assert len(sizes) > 5
    assert max(sizes) <= 20_000
    sent = ExportTraceServiceRequest.FromString(body)
    assert backend.spans == [span.span_id for span in spans_of(sent)]
    costs = [span["spanledger.cost.usd"] for _, part in backend.taken for span in stage.spans(part)]
    assert costs == [COST] * 100
    assert stage.cost() == pytest.approx(100 * COST)
    for _, part in backend.taken:
        (group,) = ExportTraceServiceRequest.FromString(part).resource_spans
        assert group.resource == sent.resource_spans[0].resource
        assert [scoped.scope for scoped in group.scope_spans] == [sent.resource_spans[0].scope_spans[0].scope]


@pytest.mark.usefixtures("small_parts")
async def test_plain_spans_that_name_a_session_gain_nothing_and_leave_as_one() -> None:
    """A request without GenAI spans is cut only where its own bytes are too many (docs/delivery.md#long-requests)."""
    backend = Backend("a")
    span = Span(name="GET /")
    set_attributes(span, {"session.id": "s"})
    body = request(*[span] * 100)
    assert len(body) < 20_000
    assert await stage_with(backend).take(body) == ACCEPTED
    assert backend.taken == [("traces", body)]


@pytest.mark.usefixtures("small_parts")
async def test_a_repeat_sends_each_backend_the_parts_that_it_lacks() -> None:
    """Acknowledged when all have all; one that is busy is asked no more, and keeps the others from nothing."""
    one, other = Backend("one"), Backend("other", A, R)
    stage, body = stage_with(one, other), large(100)
    assert (await stage.take(body)).verdict is R
    taken = [*one.taken]
    assert one.spans == [span.span_id for span in spans_of(ExportTraceServiceRequest.FromString(body))]
    assert (len(other.taken), other.said) == (1, [])
    assert await stage.take(body) == ACCEPTED
    assert one.taken == other.taken == taken
    assert stage.cost() == pytest.approx(100 * COST)


@pytest.mark.usefixtures("small_parts")
async def test_a_request_is_cut_at_the_same_places_where_a_failure_of_ours_lets_it_through(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A backend that has the first part would lose what another first part holds besides."""
    backend = Backend("a", A, R)
    stage, body = stage_with(backend), large(100)
    assert (await stage.take(body)).verdict is R
    monkeypatch.setattr(stage.handler._stage, "reading", lambda *_, **__: 1 // 0)
    assert await stage.take(body) == ACCEPTED
    assert backend.spans == [span.span_id for span in spans_of(ExportTraceServiceRequest.FromString(body))]


@pytest.mark.usefixtures("small_parts")
async def test_a_part_that_is_refused_for_good_keeps_no_other_back() -> None:
    backend = Backend("a", A, P)
    stage, body = stage_with(backend), large(100)
    assert (await stage.take(body)).verdict is P
    sent = [span.span_id for span in spans_of(ExportTraceServiceRequest.FromString(body))]
    first = len(stage.spans(backend.taken[0][1]))
    assert backend.spans[:first] == sent[:first]
    assert 0 < len(sent) - len(backend.spans) <= first + 1
    assert await stage.take(body) == ACCEPTED, "mended, it takes what it lacks"
    assert sorted(backend.spans) == sorted(sent)


@pytest.mark.usefixtures("small_parts")
async def test_a_log_is_sent_once_its_spans_are_taken() -> None:
    """It has no ids: sent beside spans that have to come again, it would be there twice."""
    backend = Backend("a", A, R)
    stage, body = stage_with(backend), events(60)
    assert (await stage.take(body, signal="logs")).verdict is R
    assert await stage.take(body, signal="logs") == ACCEPTED
    assert [part for signal, part in backend.taken if signal == "logs"] == [body]
    assert (len(backend.spans), len(set(backend.spans))) == (60, 60)


async def test_a_large_request_is_written_part_by_part_and_let_go_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted: bytes held while a part is delivered, the first and the last. All of it was held until the end."""
    monkeypatch.setattr(handler_module, "_DELIVERED_BYTES", 200_000)
    stage, held, sizes = Stage(), list[int](), list[int]()

    async def deliver(_: Signal, __: bytes, body: bytes, *___: object) -> Result:
        held.append(tracemalloc.get_traced_memory()[0])
        sizes.append(len(body))
        return ACCEPTED

    stage.delivery.deliver = deliver  # type: ignore[method-assign, assignment]
    await stage.take(large(100))  # fills what is cached
    body = large(2000)
    held.clear()
    sizes.clear()
    tracemalloc.start()
    try:
        assert await stage.take(body) == ACCEPTED
    finally:
        tracemalloc.stop()
    gained = sum(sizes) - len(body)
    assert len(sizes) > 10
    assert held[0] - held[-1] > 0.9 * gained * (len(sizes) - 1) / len(sizes)


@given(st.lists(st.integers(0, 6), max_size=60), st.integers(1, 10))
def test_every_span_is_in_one_part_and_a_trace_is_cut_only_where_it_must_be(traces: list[int], most: int) -> None:
    facts = [Fact(bytes([trace]), bytes([place]), end_ns=place * 7 % 11) for place, trace in enumerate(traces)]
    parts = finished(slices.splitting(facts, most, lambda _: 1))
    assert sorted(place for part in parts for place in part) == list(range(len(facts)))
    assert all(len(part) <= most for part in parts)
    for trace in set(traces):
        holding = [[place for place in part if traces[place] == trace] for part in parts]
        holding = [part for part in holding if part]
        if traces.count(trace) <= most:
            assert len(holding) == 1
        else:
            ends = [facts[place].end_ns for part in holding for place in part]
            assert ends == sorted(ends)


@pytest.mark.parametrize("plain", [1, 150, 400])
def test_plain_spans_that_end_before_all_calls_of_a_long_trace_name_its_session(plain: int) -> None:
    """Parts of plain spans alone, of a trace with no GenAI span by then, would not be stored."""
    names = [make_fact(f"plain {number}", session="" if number else "s", length=1 + number) for number in range(plain)]
    calls = [make_fact(f"call {number}", kind="llm", cost=7, length=1000 + number) for number in range(200)]
    ledger = MemoryLedger()
    batch = Batch(TENANT, [*names, *calls], NOW)
    parts = finished(slices.parts_of(batch))
    assert len(parts) > 1
    for part in parts:
        ledger.take([batch.facts[place] for place in part])
    assert ledger.table(Table.SESSION)["s"].calls == len(calls)


def test_facts_and_traces_are_put_into_parts_in_slices() -> None:
    """Counted: pauses. Of 110,000 traces none was made while they were gone through."""
    facts = [Fact(number.to_bytes(16, "big"), b"") for number in range(20_000)]
    assert sum(1 for _ in slices.splitting(facts, 512, lambda _: 1)) >= 2 * (20_000 // 1024)


async def test_spans_made_from_a_log_are_put_into_parts_in_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted: passes of the event loop. Of 120,000 log events it took 0.2 s."""
    passes, seen, ended = 0, list[int](), False

    def splitting(*given: Any) -> Steps[Any]:
        for _ in range(50):
            seen.append(passes)
            yield None
        return (yield from slices.splitting(*given))

    async def count() -> None:
        nonlocal passes
        while not ended:
            passes += 1
            await asyncio.sleep(0)

    monkeypatch.setattr(handler_module, "splitting", splitting)
    counting = asyncio.create_task(count())
    stage = Stage()
    assert await stage.take(events(300), signal="logs") == ACCEPTED
    ended = True
    await counting
    assert seen[49] - seen[0] >= 40


@pytest.mark.parametrize(("durability", "remote"), [("sync", False), ("async", True)])
async def test_what_does_not_fit_into_a_small_ledger_at_once_is_accounted_for_in_parts(
    tmp_path: Path, durability: str, *, remote: bool
) -> None:
    """The records of a session stand on pages of their own each, in a ledger that has many already."""
    stage, requests, sessions = Stage(), 4, 500
    writer = LedgerWriter(lambda: open_store(tmp_path, clock=time.time_ns, size_mib=4, durability=durability))
    local, link = LocalLedger(writer), str(tmp_path / "link")
    server, worker = LedgerServer(link, local, lambda _: None), RemoteLedger(link, dict)
    if remote:
        await server.start()
        await worker.start()
    stage.handler._ledger = worker if remote else local
    for number in range(requests):
        calls = [chat() for _ in range(sessions)]
        for place, call in enumerate(calls):
            set_attributes(call, {"gen_ai.conversation.id": f"session {number} {place}"})
        assert await stage.take(request(*calls)) == ACCEPTED
    if remote:
        await worker.close()
        await server.close()
    writer.close()
    reported = [span for body in stage.delivery.bodies for span in stage.spans(body)]
    assert [span.get("spanledger.cost.usd") for span in reported] == [pytest.approx(COST)] * (requests * sessions)
    store = open_store(tmp_path, read_only=True)
    with store.snapshot() as reader:
        assert float(total(reader, tenant_hash(""))["cost_usd"]) == pytest.approx(requests * sessions * COST)
    store.close()


_FAULTS = """
import resource, sys
from spanledger_processor.server.slices import keep_freed_memory
if sys.argv[1] == "kept":
    keep_freed_memory()

def requests():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(50):
        held = [b"x" * 500_000 for _ in range(8)]
        held.clear()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

requests()
print(requests())
"""


@pytest.mark.skipif(slices._set is None, reason="another C library allocates")
def test_memory_of_usual_requests_is_kept_for_the_next_ones() -> None:
    """Eight requests under way of half a MiB each are a thousand pages of memory, which were taken anew each time."""
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    faults = {
        how: int(
            subprocess.run([sys.executable, "-c", _FAULTS, how], env=environ, check=True, capture_output=True).stdout
        )
        for how in ("kept", "returned")
    }
    assert faults["kept"] < 1_000 < 10_000 < faults["returned"]
