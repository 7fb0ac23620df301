"""`spanledger close`: a session is marked as ended, whoever holds the ledger."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from backend import Backend
from chats import chat, request, set_attributes
from commands import answer, ledger, output, run
from served import Served
from tools.programs import http_get, http_post

JAN_30 = 1_769_774_400 * 10**9
"""2026-01-30 12:00 UTC."""


def _of(session: str) -> bytes:
    return request(_span_of(session))


def _span_of(session: str) -> Span:
    span = chat()
    set_attributes(span, {"gen_ai.conversation.id": session})
    return span


def test_on_disk(tmp_path: Path) -> None:
    state = ledger(tmp_path, _of("a"), _of("b"))
    before = answer("session", "a", *state)
    assert "session a is marked as ended" in output("close", "a", *state)
    assert answer("session", "a", *state) == {**before, "closed": True, "state": "closed"}
    assert "closed" not in answer("session", "b", *state)
    assert ", ended" in output("session", "a", *state)
    assert answer("close", "a", *state) == {"id": "a", "closed": True}


@pytest.mark.parametrize("session", ["nope", ""])
def test_a_session_that_is_not_there(session: str, tmp_path: Path) -> None:
    state = ledger(tmp_path, _of("a"), request(chat()))
    result = run("close", session, *state)
    assert result.exit_code == 1
    assert f"no session {session!r}" in result.stderr


@pytest.mark.parametrize("named", [(), ("a", "--instance", "i")])
def test_what_is_to_be_closed_has_one_name(named: tuple[str, ...]) -> None:
    result = run("close", *named)
    assert (result.exit_code, "give one of them" in result.stderr) == (2, True)


def test_no_ledger_is_made(tmp_path: Path) -> None:
    result = run("close", "a", "--set", f"state.path={tmp_path / 'state'}")
    assert result.exit_code == 1
    assert not (tmp_path / "state").exists()


def test_while_serve_runs(tmp_path: Path) -> None:
    """The server holds the ledger, so it is asked; ids may hold anything. Spans that come later still count."""
    odd = "ä/b?c d/close"
    with Backend() as backend, Served(tmp_path, backend.port) as served:
        served.export(_of(odd))
        config = ("--config", str(served.config))
        output("close", odd, *config)
        assert answer("session", odd, *config)["closed"] is True
        served.export(_of(odd))
        assert answer("session", odd, *config)["calls"] == 2
        assert run("close", "nope", *config).exit_code == 1

        elsewhere = run("close", odd, *config, "--set", "api.endpoint=127.0.0.1:1")
        assert elsewhere.exit_code == 1
        assert "http://127.0.0.1:1" in elsewhere.stderr


def test_no_other_site_can_close(tmp_path: Path) -> None:
    """What a browser sends for another site without asking (a form) is not taken."""
    with Backend() as backend, Served(tmp_path, backend.port) as served:
        served.export(_of("a"))
        url = f"http://127.0.0.1:{served.api}/api/v1/sessions/a/close"
        assert http_post(url, data={"tenant": ""}).status_code == 415
        assert http_post(url, content=b'{"tenant": ""}', headers={"content-type": "text/plain"}).status_code == 415
        assert http_post(url, content=b"[]", headers={"content-type": "application/json"}).status_code == 400
        assert http_get(url).status_code == 404
        assert "closed" not in answer("session", "a", "--config", str(served.config))


def test_a_session_that_goes_on_is_open_again(tmp_path: Path) -> None:
    """What was done before it was ended leaves it so, whenever it arrives; what is done after it re-opens it."""
    state = ledger(tmp_path, _of("a"), now_ns=time.time_ns())
    first = answer("session", "a", *state)["last"]
    run("close", "a", *state)
    ledger(tmp_path, _of("a"), now_ns=time.time_ns())
    assert answer("session", "a", *state)["state"] == "active"
    run("close", "a", *state)
    ended = answer("session", "a", *state)
    assert (ended["state"], ended["calls"]) == ("closed", 2)
    run("close", "a", *state)
    assert answer("session", "a", *state) == ended
    early = chat(start_time_unix_nano=JAN_30, end_time_unix_nano=JAN_30 + 1)
    set_attributes(early, {"gen_ai.conversation.id": "a"})
    ledger(tmp_path, request(early))
    assert answer("session", "a", *state)["state"] == "closed"
    assert answer("session", "a", *state)["last"] > first


def _by(instance: str, session: str) -> bytes:
    return request(_span_of(session), resource={"service.name": "agent", "service.instance.id": instance})


def test_all_sessions_of_an_instance(tmp_path: Path) -> None:
    """On disk and while `serve` runs; a session of another process stays open."""
    bodies = (_by("one", "a"), _by("one", "b"), _by("two", "c"))
    state = ledger(tmp_path / "disk", *bodies)
    assert "2 sessions of instance one" in output("close", "--instance", "one", *state)
    assert answer("close", "--instance", "one", *state) == {"id": "one", "closed": 2}
    assert {row["id"]: row["state"] == "closed" for row in answer("sessions", *state)} == {
        "a": True,
        "b": True,
        "c": False,
    }
    with Backend() as backend, Served(tmp_path / "served", backend.port) as served:
        for body in bodies:
            served.export(body)
        config = ("--config", str(served.config))
        assert answer("close", "--instance", "two", *config) == {"id": "two", "closed": 1}
        assert answer("session", "c", *config)["closed"] is True
        assert "closed" not in answer("session", "a", *config)
    missing = run("close", "--instance", "nope", *state)
    assert missing.exit_code == 1
    assert "no instance 'nope'" in missing.stderr


@pytest.mark.parametrize("given", [(), ("a", "--instance", "one")])
def test_one_thing_to_close_is_named(given: tuple[str, ...], tmp_path: Path) -> None:
    assert run("close", *given, *ledger(tmp_path, _of("a"))).exit_code == 2
