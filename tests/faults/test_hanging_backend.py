"""A destination that takes everything in and never answers, and a sender that does not care."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import grpc
import pytest

from backend import Backend
from chats import COST, chat, request, set_attributes
from served import TRACES, RefusedError, Served
from tools.programs import PATIENCE, eventually

BUDGET_MIB = 16
BODY_MIB = 2
SENDERS = 48
"""Six times what the budget has room for."""
ROOM = BUDGET_MIB // BODY_MIB
"""Requests that the budget has room for."""


def _large() -> bytes:
    span = chat()
    set_attributes(span, {"gen_ai.input.messages": "x" * (BODY_MIB * 2**20)})
    return request(span)


class _Senders:
    """Send each body by a connection of its own, all at once; who is not answered waits until the end of the block."""

    def __init__(self, served: Served, bodies: Sequence[bytes]) -> None:
        self._open = ExitStack()
        channels = [self._open.enter_context(served.channel()) for _ in bodies]
        self._calls: list[Any] = [
            channel.unary_unary(TRACES, bytes, bytes).future(body, timeout=PATIENCE, wait_for_ready=True)
            for channel, body in zip(channels, bodies, strict=True)
        ]

    def refusals(self) -> list[RefusedError]:
        """Return what senders were told so far; it is an error if one was answered OK."""
        return [RefusedError(call.exception()) for call in self._calls if call.done()]

    def close(self) -> None:
        """Leave."""
        self._open.close()


def test_memory_is_bounded_and_senders_are_told_to_wait(tmp_path: Path) -> None:
    """Beyond the budget: UNAVAILABLE with RetryInfo, and RSS within a few times the budget. Afterwards all goes on."""
    protocols = {"grpc": {"max_recv_msg_size_mib": 8}, "http": {"max_request_body_size": 8 * 2**20}}
    more = {"receivers": {"otlp": {"max_in_flight_mib": BUDGET_MIB, "protocols": protocols}}}
    bodies = [_large() for _ in range(SENDERS)]
    with Backend() as backend, Served(tmp_path, backend.port, more) as served:
        served.export(request(chat()))
        before = served.program.memory_mib()
        backend.hang()
        with ExitStack() as stack:
            for _ in range(2):
                senders = stack.enter_context(closing(_Senders(served, bodies)))

                def told(senders: _Senders = senders) -> None:
                    assert served.program.memory_mib() < before + 6 * BUDGET_MIB + SENDERS * BODY_MIB
                    assert len(senders.refusals()) >= SENDERS - ROOM

                eventually(told)
                assert {refusal.code for refusal in senders.refusals()} == {grpc.StatusCode.UNAVAILABLE}
                assert all(refusal.retry_after for refusal in senders.refusals())
            assert served.metric("spanledger_refused_requests_total", reason="budget") > SENDERS
        backend.go_on()

        def idle() -> None:
            assert served.metric("spanledger_in_flight_bytes") == 0

        eventually(idle)
        served.export(bodies[0])


def test_trouble_behind_us_is_not_passed_on(tmp_path: Path) -> None:
    """A sender drops its data on UNKNOWN and INTERNAL: it is told to come again instead, and then counted once."""
    codes = (grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL, grpc.StatusCode.RESOURCE_EXHAUSTED)
    at_once = {"exporters": {"otlp_grpc": {"retry_on_failure": {"enabled": False}}}}
    with Backend() as backend, Served(tmp_path, backend.port, at_once) as served:
        for number, code in enumerate(codes, start=1):
            backend.refuse(code)
            body = request(chat())
            with pytest.raises(RefusedError) as caught:
                served.export(body)
            refusal = caught.value
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
