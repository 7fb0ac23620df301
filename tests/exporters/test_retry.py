"""Retries against real servers: how often, how long, and what the sender is told in the end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc
import pytest

from destinations import GrpcAnswer, GrpcBackend, HttpAnswer, HttpBackend
from requests_out import exporting, settings, soon, spans
from spanledger_exporters import Exporter, Result, Signal, Verdict, build
from spanledger_exporters.wrappers import Retrying

FAST = {"initial_interval": "1ms", "max_interval": "2ms"}

BUSY = GrpcAnswer(grpc.StatusCode.UNAVAILABLE, "busy")
BAD = GrpcAnswer(grpc.StatusCode.INVALID_ARGUMENT, "bad")


@contextlib.asynccontextmanager
async def grpc_exporter(answers: Sequence[GrpcAnswer], **retry: Any) -> AsyncIterator[tuple[Exporter, GrpcBackend]]:
    async with (
        GrpcBackend(answers).serving() as backend,
        exporting("otlp_grpc", endpoint=f"http://127.0.0.1:{backend.port}", retry_on_failure=FAST | retry) as exporter,
    ):
        yield exporter, backend


async def test_it_tries_until_the_request_is_taken() -> None:
    async with grpc_exporter([BUSY, BUSY, GrpcAnswer()]) as (exporter, backend):
        result = await exporter.send("traces", spans("a"), soon())
    assert result == Result(Verdict.ACCEPTED, attempts=3)
    assert [request.body for request in backend.received] == [spans("a")] * 3


async def test_it_stops_at_a_permanent_refusal() -> None:
    async with grpc_exporter([BUSY, BAD, GrpcAnswer()]) as (exporter, backend):
        result = await exporter.send("traces", spans("a"), soon())
    assert result == Result(Verdict.PERMANENT, "INVALID_ARGUMENT: bad", attempts=2)
    assert len(backend.received) == 2


async def test_a_partial_success_is_not_retried() -> None:
    message = b"\x0a\x02\x08\x01"  # partial_success { rejected_spans: 1 }
    async with grpc_exporter([GrpcAnswer(message=message)]) as (exporter, backend):
        result = await exporter.send("traces", spans("a"), soon())
    assert result == Result(Verdict.ACCEPTED, rejected=1)
    assert len(backend.received) == 1


async def test_it_gives_up_in_the_end_and_tells_the_last_answer() -> None:
    async with grpc_exporter([BUSY], max_elapsed_time="100ms") as (exporter, backend):
        result = await exporter.send("traces", spans("a"), soon())
    assert result.attempts == len(backend.received)
    assert result == Result(Verdict.RETRYABLE, "UNAVAILABLE: busy", attempts=result.attempts)


async def test_it_gives_up_when_the_sender_does() -> None:
    async with grpc_exporter([BUSY], max_elapsed_time="0s") as (exporter, _):
        assert (await exporter.send("traces", spans("a"), soon(0.2))).verdict is Verdict.RETRYABLE


async def test_who_slept_until_the_deadline_tries_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a busy machine: nobody waits for what comes after the deadline."""
    exporter, now, sent = build("otlp_grpc", settings("otlp_grpc", endpoint="http://127.0.0.1:1")), [0.0], list[bytes]()
    assert isinstance(exporter, Retrying)

    async def busy(_signal: Signal, body: bytes, _deadline: float) -> Result:
        sent.append(body)
        return Result(Verdict.RETRYABLE, "busy")

    async def until_the_deadline(_: float) -> None:
        now[0] = 100.0

    monkeypatch.setattr(exporter.exporter, "send", busy)
    with monkeypatch.context() as patched:
        patched.setattr(asyncio.get_running_loop(), "time", lambda: now[0])
        patched.setattr(asyncio, "sleep", until_the_deadline)
        result = await exporter.send("traces", spans("a"), 100.0)
    assert (result.verdict, result.attempts, len(sent)) == (Verdict.RETRYABLE, 1, 1)


async def test_no_retry_when_the_destination_asks_for_more_time_than_the_sender_has() -> None:
    """The wait is passed on to the sender instead."""
    async with grpc_exporter([GrpcAnswer(grpc.StatusCode.UNAVAILABLE, "busy", retry_delay=600)]) as (exporter, backend):
        result = await exporter.send("traces", spans("a"), soon())
    assert result == Result(Verdict.RETRYABLE, "UNAVAILABLE: busy", 600.0)
    assert len(backend.received) == 1


async def test_it_waits_as_long_as_it_is_asked_to() -> None:
    clock = asyncio.get_running_loop().time
    answers = [GrpcAnswer(grpc.StatusCode.UNAVAILABLE, retry_delay=0.2), GrpcAnswer()]
    async with grpc_exporter(answers) as (exporter, _):
        began = clock()
        assert (await exporter.send("traces", spans("a"), soon())).attempts == 2
        assert clock() - began >= 0.2


async def test_retries_can_be_switched_off() -> None:
    async with grpc_exporter([BUSY, GrpcAnswer()], enabled=False) as (exporter, backend):
        result = await exporter.send("traces", spans("a"), soon())
    assert result == Result(Verdict.RETRYABLE, "UNAVAILABLE: busy")
    assert len(backend.received) == 1


async def test_http_is_retried_too() -> None:
    async with HttpBackend([HttpAnswer(503), HttpAnswer(429, {"retry-after": "0"}), HttpAnswer()]).serving() as backend:
        given = {"endpoint": f"http://127.0.0.1:{backend.port}", "retry_on_failure": FAST}
        exporter = build("otlp_http", settings("otlp_http", **given))
        await exporter.start()
        assert await exporter.send("traces", spans("a"), soon()) == Result(Verdict.ACCEPTED, attempts=3)
        await exporter.close()


async def test_a_timeout_is_retried_while_the_sender_waits() -> None:
    hold = asyncio.Event()
    async with GrpcBackend([GrpcAnswer(hold=hold), GrpcAnswer()]).serving() as backend:
        given = {"endpoint": f"http://127.0.0.1:{backend.port}", "retry_on_failure": FAST, "timeout": "100ms"}
        exporter = build("otlp_grpc", settings("otlp_grpc", **given))
        await exporter.start()
        assert (await exporter.send("traces", spans("a"), soon())).attempts == 2
        hold.set()
        await exporter.close()
