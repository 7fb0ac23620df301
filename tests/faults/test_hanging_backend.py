"""A destination that takes everything in and never answers, and a sender that does not care."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

from backend import Backend
from chats import COST, chat, request, set_attributes
from served import TRACES, RefusedError, Served
from tools.programs import eventually

BUDGET_MIB = 16
BODY_MIB = 2
SENDERS = 48
"""Six times what the budget has room for."""


def _large() -> bytes:
    span = chat()
    set_attributes(span, {"gen_ai.input.messages": "x" * (BODY_MIB * 2**20)})
    return request(span)


def _outcome(served: Served, body: bytes) -> RefusedError | None:
    try:
        served.export(body, timeout=8)
    except RefusedError as refusal:
        return refusal
    return None


def test_memory_is_bounded_and_senders_are_told_to_wait(tmp_path: Path) -> None:
    """Beyond the budget: UNAVAILABLE with RetryInfo, and RSS within a few times the budget. Afterwards all goes on."""
    protocols = {"grpc": {"max_recv_msg_size_mib": 8}, "http": {"max_request_body_size": 8 * 2**20}}
    more = {"receivers": {"otlp": {"max_in_flight_mib": BUDGET_MIB, "protocols": protocols}}}
    bodies = [_large() for _ in range(SENDERS)]
    with Backend() as backend, Served(tmp_path, backend.port, more) as served:
        served.export(request(chat()))
        before = highest = served.program.memory_mib()
        backend.hang()
        refusals: list[RefusedError] = []
        with ThreadPoolExecutor(SENDERS) as pool:
            for _ in range(2):
                results = [pool.submit(_outcome, served, body) for body in bodies]
                refusals += [refusal for result in results if (refusal := result.result()) is not None]
                highest = max(highest, served.program.memory_mib())
        assert highest < before + 6 * BUDGET_MIB + SENDERS * BODY_MIB
        assert len([refusal for refusal in refusals if refusal.retry_after]) > SENDERS
        assert {refusal.code for refusal in refusals} <= {
            grpc.StatusCode.UNAVAILABLE,
            grpc.StatusCode.DEADLINE_EXCEEDED,
        }
        assert served.metric("spanledger_refused_requests_total", reason="budget") > SENDERS
        backend.go_on()

        def idle() -> None:
            assert served.metric("spanledger_in_flight_bytes") == 0

        eventually(idle)
        served.export(bodies[0])


def test_trouble_behind_us_is_not_passed_on(tmp_path: Path) -> None:
    """A sender drops its data on UNKNOWN and INTERNAL: it is told to come again instead, and then counted once."""
    codes = (grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL, grpc.StatusCode.RESOURCE_EXHAUSTED)
    with Backend() as backend, Served(tmp_path, backend.port) as served:
        for number, code in enumerate(codes, start=1):
            backend.refuse(code)
            body = request(chat())
            refusal = _outcome(served, body)
            assert refusal is not None, code
            if code is grpc.StatusCode.RESOURCE_EXHAUSTED:  # without RetryInfo the destination means: for good
                assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT
            else:
                assert refusal.code is grpc.StatusCode.UNAVAILABLE, code
                assert refusal.retry_after
            backend.go_on()
            served.export(body)
            assert served.total_usd() == pytest.approx(number * COST, rel=1e-12)


def test_a_sender_that_leaves_does_not_undo_the_delivery(tmp_path: Path) -> None:
    """It went away while the destination hung: the spans arrive all the same, and its retry counts nothing."""
    with Backend() as backend, Served(tmp_path, backend.port) as served:
        backend.hang()
        body = request(chat())
        with grpc.insecure_channel(f"127.0.0.1:{served.grpc}") as channel:
            call = channel.unary_unary(TRACES, bytes, bytes).future(body, timeout=60)
            assert backend.arrived.acquire(timeout=60)
            call.cancel()  # type: ignore[no-untyped-call]
        backend.go_on()

        def delivered() -> None:
            assert len(backend.received) == 1

        eventually(delivered)
        served.export(body)
        assert served.total_usd() == pytest.approx(COST, rel=1e-12)


def test_stopping_waits_for_what_is_under_way(tmp_path: Path) -> None:
    """SIGTERM while a request is being delivered: it is answered OK, and the process ends with 0."""
    with Backend() as backend, Served(tmp_path, backend.port) as served:
        backend.hang()
        with grpc.insecure_channel(f"127.0.0.1:{served.grpc}") as channel:
            call = channel.unary_unary(TRACES, bytes, bytes).future(request(chat()), timeout=60)
            assert backend.arrived.acquire(timeout=60)
            ended = threading.Thread(target=served.program.stop)
            ended.start()
            backend.go_on()
            call.result(timeout=60)
            ended.join(timeout=60)
        assert served.program.ended_with == 0
