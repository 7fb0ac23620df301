"""Requests sent twice, servers stopped and killed: the ledger is what the calls cost, and repeats read the same."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from itertools import cycle
from pathlib import Path

import grpc
import pytest

from backend import Backend
from chats import COST, chat, request, set_attributes
from served import TRACES, Served

CALLS = 20


def test_requests_sent_again_over_restarts(tmp_path: Path) -> None:
    """Each request four times, shuffled, with a stop or a kill after every twentieth: all its copies read the same."""
    bodies = [request(chat(), chat()) for _ in range(CALLS)]
    order = bodies * 4
    random.Random("restarts").shuffle(order)
    with Backend() as backend, Served(tmp_path, backend.port) as served:
        ends = cycle((served.program.stop, served.program.kill))
        for position, body in enumerate(order):
            served.export(body)
            if position % 20 == 19:
                next(ends)()
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
        assert served.query("summary")["total"]["cost_usd"] == pytest.approx(COST, rel=1e-12)
        backend.go_on()
        served.program.start()
        served.export(body)
        assert served.total_usd() == pytest.approx(COST, rel=1e-12)


def test_killed_again_and_again_under_load(tmp_path: Path) -> None:
    """Killed three times while requests stream in: what was answered is in the ledger once. It adds up every way:
    total = sum over sessions + unattributed = sum over runs + unattributed = sum over models.
    """
    bodies = [_of_session(number % 4) for number in range(300)]
    with Backend() as backend, Served(tmp_path, backend.port) as served:
        with ThreadPoolExecutor(4) as senders:
            sending = [senders.submit(served.export_until_taken, body) for body in bodies]
            for number in range(3):
                sending[(number + 1) * len(bodies) // 4].result(timeout=100)
                served.program.kill()
                served.program.start()
            for one in sending:
                one.result(timeout=100)
        assert served.total_usd() == pytest.approx(3 * len(bodies) * COST, rel=1e-9)
        assert len(set(backend.received)) == len(bodies)
        whole = served.query("summary")
        sessions, runs = served.query("sessions"), served.query("runs", "--all")
    for parts in (sessions, runs, whole["models"]):
        assert sum(Decimal(part["cost_usd_exact"]) for part in parts) == Decimal(whole["total"]["cost_usd_exact"])
    assert {session["id"]: session["calls"] for session in sessions} == {
        "": 225,
        "session-1": 225,
        "session-2": 225,
        "session-3": 225,
    }


def _of_session(number: int) -> bytes:
    """Return a request of three calls of one session; of none for 0."""
    spans = [chat() for _ in range(3)]
    for span in spans if number else ():
        set_attributes(span, {"gen_ai.conversation.id": f"session-{number}"})
    return request(*spans)
