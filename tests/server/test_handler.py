"""What is delivered of a request, what the sender is told, and what happens when a part of the handling fails."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from chats import COST, chat, request, set_attributes
from in_parts import InParts
from replays import attributes, spans_of
from spanledger_exporters.interface import ACCEPTED, Result, Signal, Verdict
from spanledger_processor.accounting.facts import Batch, Ruling
from spanledger_processor.config import load
from spanledger_processor.enrichment.reading import Reading
from spanledger_processor.model import Decision
from spanledger_processor.otlp import envelope
from spanledger_processor.otlp.encoding import delimited
from spanledger_processor.otlp.wire import MalformedError
from spanledger_processor.server.handler import Handler
from spanledger_processor.server.ledger_link import LocalLedger, UnansweredError
from spanledger_processor.server.wiring import make_log_stage, make_stage
from spanledger_processor.signing.signer import Signer
from stores import WriterInMemory

DATA = Path(__file__).parents[1] / "data" / "otlp"
LOGS = (DATA / "claude-code" / "logs-only" / "001.logs.binpb").read_bytes()
METRICS = (DATA / "pydantic-ai" / "S3" / "002.metrics.binpb").read_bytes()
BUSY = Result(Verdict.RETRYABLE, "busy", 7.0)
NEVER = Result(Verdict.PERMANENT, "too large")


@dataclass
class Delivery:
    """Keeps what it is given; answers by signal."""

    results: dict[Signal, Result] = field(default_factory=dict)
    sent: list[tuple[Signal, bytes, bytes, int]] = field(default_factory=list)

    async def deliver(self, signal: Signal, request_id: bytes, body: bytes, deadline: float, items: int = 0) -> Result:
        self.sent.append((signal, request_id, body, items))
        await asyncio.sleep(0)
        return self.results.get(signal, ACCEPTED)

    def in_parts(self, signal: Signal, request_id: bytes) -> InParts:
        return InParts(self.deliver, signal, request_id)


@dataclass
class Observer:
    """Writes down what it is told."""

    reported: list[tuple[Any, ...]] = field(default_factory=list)

    def received(self, signal: Signal, items: int) -> None:
        self.reported.append(("received", signal, items))

    def enriched(self, reading: Reading) -> None: ...

    def ruled(self, batch: Batch, ruling: Ruling) -> None:
        self.reported.append(("ruled", len(ruling.fresh)))

    def unaccounted(self, decisions: Mapping[int, Decision]) -> None:
        self.reported.append(("unaccounted", len(decisions)))

    def enrichment_failed(self, reason: str) -> None:
        self.reported.append(("enrichment_failed", reason))

    def accepted(self, signal: Signal, items: int) -> None:
        self.reported.append(("accepted", signal, items))

    def refused(self, signal: Signal, items: int, verdict: str) -> None:
        self.reported.append(("refused", signal, items, verdict))


@dataclass
class HandlerSetup:
    """A handler and all that it is connected to."""

    ledger: WriterInMemory = field(default_factory=WriterInMemory)
    delivery: Delivery = field(default_factory=Delivery)
    observer: Observer = field(default_factory=Observer)

    def __post_init__(self) -> None:
        config = load(None, [], {"HOME": "/nowhere"})
        signer = Signer(b"a key for tests, long enough")
        self.stage, self.log_stage = make_stage(config, signer), make_log_stage(config, signer)
        self.handler = Handler(self.stage, self.log_stage, LocalLedger(self.ledger), self.delivery, self.observer)  # type: ignore[arg-type]

    async def take(self, signal: Signal, body: bytes) -> Result:
        return await self.handler.handle(signal, body, {}, asyncio.get_running_loop().time() + 10)

    def spans(self) -> list[dict[str, Any]]:
        """The attributes of all spans that were delivered."""
        bodies = [body for signal, _, body, _ in self.delivery.sent if signal == "traces"]
        return [attributes(span) for body in bodies for span in spans_of(ExportTraceServiceRequest.FromString(body))]


async def test_traces_are_priced_delivered_and_answered() -> None:
    setup = HandlerSetup()
    assert await setup.take("traces", request(chat(), chat())) == ACCEPTED
    assert [span["spanledger.cost.usd"] for span in setup.spans()] == [COST, COST]
    assert setup.observer.reported == [("ruled", 2), ("received", "traces", 2), ("accepted", "traces", 2)]


@pytest.mark.parametrize(("result", "status"), [(BUSY, Verdict.RETRYABLE), (NEVER, Verdict.PERMANENT)])
async def test_what_the_destination_says_the_sender_is_told(result: Result, status: Verdict) -> None:
    setup = HandlerSetup(delivery=Delivery({"traces": result}))
    answer = await setup.take("traces", request(chat()))
    assert (answer.verdict, answer.reason) == (status, result.reason)
    assert answer.retry_after == result.retry_after
    assert setup.observer.reported[-1] == ("refused", "traces", 1, result.verdict.value)


async def test_the_spans_of_a_request_that_passes_are_counted_without_looking_for_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(envelope, "_finding", lambda *_: 1 // 0)
    setup, plain = HandlerSetup(), ExportTraceServiceRequest()
    for _ in range(200):
        plain.resource_spans.add().scope_spans.add().spans.add(name="GET", trace_id=bytes(16), span_id=bytes(8))
    body = plain.SerializeToString()
    assert await setup.take("traces", body) == ACCEPTED
    assert [sent for _, _, sent, _ in setup.delivery.sent] == [body]
    assert setup.observer.reported == [("received", "traces", 200), ("accepted", "traces", 200)]


async def test_a_request_sent_again_counts_once_and_bears_the_same_id() -> None:
    """So that delivery sends it only to those who lack it; the bytes are the same as well."""
    setup, body = HandlerSetup(), request(chat())
    await setup.take("traces", body)
    await setup.take("traces", bytes(bytearray(body)))
    first, second = setup.delivery.sent
    assert first == second
    await setup.take("traces", request(chat()))
    assert setup.delivery.sent[2][1] != first[1]


async def test_metrics_and_plain_logs_pass_as_they_are() -> None:
    setup = HandlerSetup()
    await setup.take("metrics", METRICS)
    await setup.take("logs", b"")
    assert [(signal, body) for signal, _, body, _ in setup.delivery.sent] == [("metrics", METRICS), ("logs", b"")]
    assert setup.observer.reported[0][:2] == ("received", "metrics")
    assert setup.observer.reported[0][2] > 0


async def test_a_log_that_reports_calls_gives_spans_as_well() -> None:
    """The log's own bytes are delivered, and the synthesized spans as a trace request, priced like any other."""
    setup = HandlerSetup()
    assert (await setup.take("logs", LOGS)) == ACCEPTED
    (traces, trace_id, _, spans), (logs, log_id, body, records) = setup.delivery.sent
    assert (logs, body, traces) == ("logs", LOGS, "traces")
    assert log_id == trace_id
    assert records > spans > 0
    made = setup.spans()
    assert len(made) == spans
    assert {span["spanledger.source"] for span in made} == {"log:claude_code"}
    assert any(span.get("spanledger.cost.usd", 0) > 0 for span in made)
    assert ("accepted", "logs", records) in setup.observer.reported


@pytest.mark.parametrize(
    ("logs", "traces", "status"),
    [
        (ACCEPTED, BUSY, Verdict.RETRYABLE),
        (BUSY, ACCEPTED, Verdict.RETRYABLE),
        (NEVER, BUSY, Verdict.RETRYABLE),
        (ACCEPTED, NEVER, Verdict.PERMANENT),
    ],
)
async def test_a_log_request_has_arrived_when_both_have(logs: Result, traces: Result, status: Verdict) -> None:
    setup = HandlerSetup(delivery=Delivery({"logs": logs, "traces": traces}))
    assert (await setup.take("logs", LOGS)).verdict is status


@pytest.mark.parametrize("signal", ["traces", "logs", "metrics"])
async def test_bytes_that_are_no_request_are_not_delivered(signal: Signal) -> None:
    setup = HandlerSetup()
    with pytest.raises(MalformedError):
        await setup.take(signal, b"\x0a\xff\xff")
    assert setup.delivery.sent == []


async def test_without_a_state_spans_go_on_as_not_accounted() -> None:
    setup = HandlerSetup(WriterInMemory(problem="no space left"))
    assert (await setup.take("traces", request(chat()))) == ACCEPTED
    (span,) = setup.spans()
    assert span["spanledger.cost.unpriced"] == "not_accounted"
    assert span["spanledger.cost.computed_usd"] == COST
    assert "spanledger.cost.usd" not in span
    assert ("unaccounted", 1) in setup.observer.reported


@pytest.mark.parametrize("where", ["read", "account"])
async def test_a_bug_of_ours_lets_the_bytes_through(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    setup, body = HandlerSetup(), request(chat())
    if where == "read":
        monkeypatch.setattr(setup.stage, "reading", broken)
    else:
        monkeypatch.setattr("spanledger_processor.accounting.account.account", broken)
    assert (await setup.take("traces", body)) == ACCEPTED
    assert setup.delivery.sent[0][2] == body
    assert ("enrichment_failed", "ZeroDivisionError") in setup.observer.reported


@pytest.mark.parametrize("where", ["read", "account", "write", "all"])
async def test_a_bug_of_ours_lets_no_forged_attribute_through(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What only Spanledger writes is moved aside also where nothing could be written; names of sessions stay."""

    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    setup, honest, span = HandlerSetup(), chat(), chat()
    session = {"spanledger.session.id": "s"}
    set_attributes(span, session | {"spanledger.kind": "llm", "spanledger.cost.usd": 999.0})
    if where == "account":
        monkeypatch.setattr("spanledger_processor.accounting.account.account", broken)
    elif where == "write":
        monkeypatch.setattr("spanledger_processor.enrichment.writer.encode", broken)
    else:
        monkeypatch.setattr(setup.stage, "reading", broken)
    if where == "all":
        monkeypatch.setattr(setup.stage, "unenriched", broken)
    body = request(honest, span)
    assert (await setup.take("traces", body)) == ACCEPTED
    first, second = setup.spans()
    assert first == attributes(honest)
    assert ("enrichment_failed", "ZeroDivisionError") in setup.observer.reported
    if where == "all":
        assert setup.delivery.sent[0][2] == body.replace(b"spanledger.", b"spanledger_")
    else:
        forged = {"spanledger.forged.kind": "llm", "spanledger.forged.cost.usd": 999.0}
        assert second == attributes(chat()) | session | forged


async def test_what_a_trusted_hop_has_marked_passes_a_bug_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    setup, span, other = HandlerSetup(), chat(), chat()
    set_attributes(span, {"spanledger.kind": "llm", "spanledger.cost.usd": 1.5})
    set_attributes(other, {"spanledger.cost.usd": 1.5})
    monkeypatch.setattr(setup.stage, "reading", lambda *_, **__: 1 // 0)
    await setup.handler.handle("traces", request(span, other), {}, asyncio.get_running_loop().time() + 10, trusted=True)
    first, second = setup.spans()
    assert first == attributes(span)
    assert "spanledger.cost.usd" not in second


async def test_bytes_that_only_others_can_read_carry_none_of_our_names() -> None:
    """Unknown groups deeper than protobuf goes here; others pass over them, and would read the attributes."""
    setup, span = HandlerSetup(), chat()
    set_attributes(span, {"spanledger.cost.usd": 999.0})
    deep = span.SerializeToString() + b"\xa3\x06" * 200 + b"\xa4\x06" * 200
    body = delimited(1, delimited(2, delimited(2, deep)))
    assert (await setup.take("traces", body)) == ACCEPTED
    assert setup.delivery.sent[0][2] == body.replace(b"spanledger.", b"spanledger_")
    assert setup.observer.reported[-1] == ("accepted", "traces", 1)


async def test_a_bug_in_reading_logs_lets_the_bytes_through(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    setup = HandlerSetup()
    monkeypatch.setattr(setup.log_stage, "reading", broken)
    assert (await setup.take("logs", LOGS)) == ACCEPTED
    ((signal, _, body, records),) = setup.delivery.sent
    assert (signal, body) == ("logs", LOGS)
    assert records > 0
    assert ("enrichment_failed", "ZeroDivisionError") in setup.observer.reported


async def test_a_request_leaves_nothing_to_the_garbage_collector() -> None:
    """What a request makes is freed as it ends; rings of objects would stay until the collector comes by."""
    setup = HandlerSetup()
    bodies = [request(*(chat() for _ in range(50))) for _ in range(4)]
    await setup.take("traces", bodies[0])
    gc.collect()
    gc.disable()
    try:
        for body in bodies[1:]:
            await setup.take("traces", body)
        await setup.take("logs", LOGS)
        assert gc.collect() < 100
    finally:
        gc.enable()


async def test_where_nobody_knows_what_the_ledger_did_the_sender_keeps_the_data() -> None:
    """It was asked and has not answered: the spans may be in the ledger, so they do not go on without it."""

    class Unanswered:
        problem = None

        async def account(self, batch: Batch) -> Ruling:
            raise UnansweredError

    setup = HandlerSetup()
    setup.handler = Handler(setup.stage, setup.log_stage, Unanswered(), setup.delivery, setup.observer)  # type: ignore[arg-type]
    for signal, body in (("traces", request(chat())), ("logs", LOGS)):
        result = await setup.take(cast(Signal, signal), body)
        assert result.verdict is Verdict.RETRYABLE
    assert setup.delivery.sent == []
