"""`spanledger forget`: names go, sums stay."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from chats import chat, request, set_attributes
from commands import answer, run
from replays import attributes, spans_of
from spanledger_processor.accounting import totals
from spanledger_processor.accounting.account import enter
from spanledger_processor.config import Config, load
from spanledger_processor.enrichment import write
from spanledger_processor.ledger.budgets import LargeRun, due_runs
from spanledger_processor.ledger.store import tenant_hash
from spanledger_processor.server.wiring import make_stage, open_store
from spanledger_processor.signing import Signer

NOW = time.time_ns()
BUDGET_OF_RUNS = {"name": "runs", "amount": 1, "period": "run"}
SESSION, USER, OTHER = "the-session-of-jane-doe", "jane.doe@example.com", "another-session"


def of(session: str, user: str, **more: Any) -> Span:
    span = chat()
    span.start_time_unix_nano, span.end_time_unix_nano = NOW - 10**9, NOW
    set_attributes(span, {"session.id": session, "user.id": user, "gen_ai.agent.id": "writer", **more})
    return span


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "c.yaml"
    state = tmp_path / "state"
    path.write_text(json.dumps({"state": {"path": str(state)}, "processor": {"tenant": {"keys": ["team"]}}}))
    return path


@pytest.fixture
def body() -> bytes:
    child = of("child-of-it", "somebody", **{"spanledger.session.parent_id": SESSION, "spanledger.task.id": "t"})
    tool = of(SESSION, USER, **{"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "f"})
    return request(of(SESSION, USER), of(SESSION, USER), of(OTHER, "somebody"), child, tool)


def account(config: Path, body: bytes) -> list[dict[str, Any]]:
    """Take a request through the stage into the ledger on disk; attributes of what comes out."""
    settings: Config = load((config,), ())
    stage = make_stage(settings, Signer(b"k" * 32))
    reading = stage.read(body, {}, NOW)
    store = open_store(settings)
    try:
        decisions = []
        for batch in reading.batches:
            with store.unit() as unit:
                decisions.append(enter(batch, unit).decisions)
    finally:
        store.close()
    return [
        dict(attributes(span)) for span in spans_of(ExportTraceServiceRequest.FromString(write(reading, decisions)))
    ]


def reported(config: Path, *command: str) -> Any:
    return answer(*command, "--config", str(config))


def stored(config: Path) -> bytes:
    return b"\0".join(path.read_bytes() for path in sorted((config.parent / "state").rglob("*")) if path.is_file())


def spent(rows: list[dict[str, Any]]) -> list[tuple[str, int]]:
    return sorted((row["cost_usd_exact"], row["calls"]) for row in rows)


@pytest.mark.parametrize(("what", "name"), [("session", SESSION), ("user", USER), ("tenant", "")])
def test_the_name_is_nowhere_and_every_sum_is_as_before(config: Path, body: bytes, what: str, name: str) -> None:
    account(config, body)
    before = {page: reported(config, page) for page in ("summary", "sessions", "runs")}
    forgotten = [SESSION, USER, OTHER, "somebody", "child-of-it"] if what == "tenant" else [name]
    assert all(one.encode() in stored(config) for one in forgotten)
    assert run("forget", what, name, "--config", str(config)).exit_code == 0
    assert not [one for one in forgotten if one.encode() in stored(config)]
    after = {page: reported(config, page) for page in ("summary", "sessions", "runs")}
    assert after["summary"]["total"] == before["summary"]["total"]
    for page in ("sessions", "runs"):
        assert spent(after[page]) == spent(before[page])
    assert not [one for one in forgotten if one in json.dumps(after)]


def test_a_repeat_is_known_and_carries_the_new_name(config: Path, body: bytes) -> None:
    first = account(config, body)
    calls = reported(config, "summary")["total"]["calls"]
    assert run("forget", "session", SESSION, "--config", str(config)).exit_code == 0
    again = account(config, body)
    assert reported(config, "summary")["total"]["calls"] == calls
    assert [one.get("spanledger.cost.usd") for one in again] == [one.get("spanledger.cost.usd") for one in first]
    assert {one["spanledger.session.id"][:10] for one in again} == {"forgotten-", OTHER[:10], "child-of-i"}


def test_what_comes_later_under_the_name_is_a_session_of_its_own(config: Path, body: bytes) -> None:
    account(config, body)
    calls = reported(config, "summary")["total"]["calls"]
    run("forget", "session", SESSION, "--config", str(config))
    account(config, request(of(SESSION, USER)))
    assert reported(config, "session", SESSION)["calls"] == 1
    assert reported(config, "summary")["total"]["calls"] == calls + 1


def test_a_large_run_with_a_budget_goes_under_its_new_name(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is noted to be added up: nothing of the old name stays, and it is found by the new one."""
    monkeypatch.setattr(totals, "MOST_SESSIONS", 1)
    settings = {**json.loads(config.read_text()), "processor": {"budgets": [BUDGET_OF_RUNS]}}
    config.write_text(json.dumps(settings))
    account(
        config, request(*(of(f"session-{number}", "somebody", **{"spanledger.run.id": SESSION}) for number in "123"))
    )
    assert SESSION.encode() in stored(config)
    assert run("forget", "tenant", "", "--config", str(config)).exit_code == 0
    assert SESSION.encode() not in stored(config)
    (new,) = [row["id"] for row in reported(config, "runs")]
    store = open_store(load((config,), ()))
    with store.snapshot() as reader:
        (due,) = due_runs(reader)
        assert due == LargeRun.read(reader, tenant_hash(""), new)
    store.close()


def test_a_name_that_is_not_there_is_said_so(config: Path, body: bytes) -> None:
    account(config, body)
    missing = run("forget", "session", "nobody", "--config", str(config))
    assert missing.exit_code == 1
    assert "no session 'nobody'" in missing.output + (missing.stderr or "")
