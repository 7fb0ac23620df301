"""What sessions are called and which project they belong to, by configuration, by spans and by default."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from chats import chat, request, set_attributes
from commands import answer, ledger
from spanledger_processor.accounting.account import enter
from spanledger_processor.accounting.usual import UsualDecision, UsualFact
from spanledger_processor.config import ConfigError, load
from spanledger_processor.ledger import queries
from spanledger_processor.ledger.memory_store import MemoryStore
from spanledger_processor.ledger.store import tenant_hash
from spanledger_processor.server.wiring import make_stage
from spanledger_processor.signing.signer import Signer

LABELS = """processor.sessions.labels=[
  {agent: "review*", project: quality, label: Reviews},
  {service: "agent-*", instance: "*-7", label: Seven},
  {service: "agent-*", project: agents}]"""


def _of(session: str, resource: dict[str, Any], **attributes: Any) -> bytes:
    span = chat()
    set_attributes(span, {"gen_ai.conversation.id": session, **attributes})
    return request(span, resource=resource)


def test_a_project_is_the_namespace_else_the_configured_one(tmp_path: Path) -> None:
    """The same in the session and in the sums by project, which are the ledger's."""
    state = ledger(
        tmp_path,
        _of("named", {"service.namespace": "web", "service.name": "agent-a"}),
        _of("configured", {"service.name": "agent-a"}),
        _of("by-agent", {"service.name": "agent-a"}, **{"gen_ai.agent.name": "reviewer"}),
        _of("neither", {"service.name": "other"}),
        sets=(LABELS,),
    )
    rows = {row["id"]: row.get("project") for row in answer("sessions", *state)}
    assert rows == {"named": "web", "configured": "agents", "by-agent": "quality", "neither": None}
    found = answer("summary", "--by", "project", *state)
    assert {row["value"]: row["calls"] for row in found["values"]} == {"web": 1, "agents": 1, "quality": 1, "": 1}
    assert sum(row["calls"] for row in found["values"]) == answer("summary", *state)["total"]["calls"]
    assert answer("session", "configured", *state)["dimensions"]["project"] == ["agents"]


def test_a_label_is_the_configured_one_else_the_process_else_short(tmp_path: Path) -> None:
    state = ledger(
        tmp_path,
        _of("a", {"service.name": "agent-a", "service.instance.id": "host-7"}),
        _of("b", {"service.name": "agent-a", "service.instance.id": "host-8"}),
        _of("0123456789abcdef", {}),
        _of("c", {"service.instance.id": "one"}),
        _of("c", {"service.instance.id": "two"}),
        _of("d", {"service.name": "agent-a", "service.instance.id": "host-7"}, **{"gen_ai.agent.name": "review-me"}),
        sets=(LABELS,),
    )
    labels = {row["id"]: row["label"] for row in answer("sessions", *state)}
    assert labels == {
        "a": "Seven",
        "b": "host-8",
        "0123456789abcdef": "0123456789ab",
        "c": "c",
        "d": "Reviews",
    }
    assert {session: answer("session", session, *state)["label"] for session in labels} == labels


def test_without_the_dimension_only_the_session_tells_it(tmp_path: Path) -> None:
    state = ledger(tmp_path, _of("a", {"service.name": "agent-a"}), sets=(LABELS, "processor.dimensions={project: []}"))
    assert answer("session", "a", *state)["project"] == "agents"
    assert "project" not in answer("session", "a", *state)["dimensions"]


def test_usual_calls_keep_their_way() -> None:
    """Names that all spans of a service have are no reason for the full rules."""
    config = load(None, (LABELS,), {"HOME": "/nowhere"})
    stage = make_stage(config, Signer(b"k" * 32))
    kinds, store = [], MemoryStore()
    for number in range(4):
        body = _of(f"s{number}", {"service.name": "agent-a"}, **{"gen_ai.response.id": f"response-{number}"})
        (batch,) = stage.read(body, {}, time.time_ns()).batches
        with store.unit() as unit:
            decision = enter(batch, unit).decisions[0]
        kinds.append((type(batch.facts[0]), type(decision)))
        call = batch.facts[0].call
        assert call is not None
        assert (call.session_project, batch.facts[0].dimensions) == (
            "agents",
            ("project", "agents", "service", "agent-a"),
        )
    assert kinds[-1] == (UsualFact, UsualDecision)
    with store.snapshot() as reader:
        assert {row["project"] for row in queries.sessions(reader, tenant_hash(""))} == {"agents"}


@pytest.mark.parametrize("wrong", ["[{label: x}]", "[{agent: x}]", "[{agent: x, label: ''}]"])
def test_a_rule_says_of_whom_and_what(wrong: str) -> None:
    with pytest.raises(ConfigError, match=r"processor\.sessions\.labels"):
        load(None, (f"processor.sessions.labels={wrong}",), {"HOME": "/nowhere"})
