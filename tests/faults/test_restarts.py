"""Requests sent twice, servers stopped and killed: the ledger is what the calls cost, and repeats read the same."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path

import grpc
import pytest

from backend import Backend
from chats import COST, chat, request
from served import TRACES, RefusedError, Served, told

CALLS = 40


def _sent_until_answered(served: Served, body: bytes) -> None:
    """As a sender does: again until the answer is OK."""
    while True:
        try:
            served.export(body)
        except RefusedError as refusal:
            if refusal.code not in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}:
                raise
        else:
            return


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_requests_sent_again_over_restarts(end: str, tmp_path: Path) -> None:
    """Each request four times in a shuffled order, with a restart after every tenth: all copies of it read the same."""
    bodies = [request(chat(), chat()) for _ in range(CALLS)]
    order = bodies * 4
    random.Random(end).shuffle(order)
    with Backend() as backend, Served(tmp_path, backend.port) as served:
        for position, body in enumerate(order):
            served.export(body)
            if position % 10 == 9:
                getattr(served.program, end)()
                served.program.start()
        assert served.total_usd() == pytest.approx(2 * CALLS * COST, rel=1e-9)
        assert len(set(backend.received)) == CALLS


def test_killed_between_commit_and_answer(tmp_path: Path) -> None:
    """The destination hangs, so the entry stands and the answer does not: killed there, the retry adds nothing."""
    body = request(chat())
    with Backend() as backend, Served(tmp_path, backend.port) as served:
        backend.hang()
        with grpc.insecure_channel(f"127.0.0.1:{served.grpc}") as channel:
            call = channel.unary_unary(TRACES, bytes, bytes).future(body, timeout=60)
            assert backend.arrived.acquire(timeout=60)
            served.program.kill()
            assert isinstance(call.exception(), grpc.RpcError)
        assert told(served.config, "summary")["total"]["cost_usd"] == pytest.approx(COST, rel=1e-12)
        backend.go_on()
        served.program.start()
        served.export(body)
        assert served.total_usd() == pytest.approx(COST, rel=1e-12)


def test_killed_again_and_again_under_load(tmp_path: Path) -> None:
    """Killed ten times while requests stream in: whatever was answered is in the ledger, once."""
    bodies = [request(chat(), chat(), chat()) for _ in range(300)]
    with Backend() as backend, Served(tmp_path, backend.port) as served:
        with ThreadPoolExecutor(4) as senders:
            sending = [senders.submit(_sent_until_answered, served, body) for body in bodies]
            for number in range(10):
                sending[(number + 1) * len(bodies) // 12].result(timeout=100)
                served.program.kill()
                served.program.start()
            for one in sending:
                one.result(timeout=100)
        assert served.total_usd() == pytest.approx(3 * len(bodies) * COST, rel=1e-9)
        assert len(set(backend.received)) == len(bodies)


def test_the_ledger_adds_up_every_way(tmp_path: Path) -> None:
    """After kills: total = sum over sessions + unattributed = sum over models."""
    with Backend() as backend, Served(tmp_path, backend.port) as served:
        for number in range(6):
            span = chat()
            if number % 2:
                span.attributes.add(key="gen_ai.conversation.id").value.string_value = f"session-{number}"
            served.export(request(span))
            served.program.kill()
            served.program.start()
        assert served.total_usd() == pytest.approx(6 * COST, rel=1e-12)
        whole = told(served.config, "summary")
        sessions, runs = told(served.config, "sessions"), told(served.config, "runs", "--all")
    for parts in (sessions, runs, whole["models"]):
        assert sum(Decimal(part["cost_usd_exact"]) for part in parts) == Decimal(whole["total"]["cost_usd_exact"])
    assert {session["id"]: session["calls"] for session in sessions} == {
        "session-1": 1,
        "session-3": 1,
        "session-5": 1,
        "": 3,
    }
