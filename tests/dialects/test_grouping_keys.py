"""Which attributes name a session, a run, an agent by default."""

from __future__ import annotations

import pytest

from dialect_view import PlainAttributes
from spanledger_processor.dialects import registry
from spanledger_processor.enrichment.names import IdResolver, KeyLists, Names, pick

NAMING = IdResolver(KeyLists(session=registry.SESSION_KEYS, run=registry.RUN_KEYS, agent=registry.AGENT_KEYS))


def named(what: str, attributes: dict[str, object]) -> str:
    return pick(what, NAMING.names(PlainAttributes(attributes)), Names()).id


@pytest.mark.parametrize(
    "key",
    [
        "gen_ai.conversation.id",
        "session.id",
        "langfuse.session.id",
        "langfuse.observation.metadata.langfuse_session_id",
        "langfuse.observation.metadata.session_id",
        "langfuse.observation.metadata.thread_id",
        "traceloop.association.properties.session_id",
        "langsmith.metadata.session_id",
        "langsmith.metadata.thread_id",
        "ai.telemetry.metadata.sessionId",
        "metadata.session_id",
        "mlflow.trace.session",
        "voltagent.conversation_id",
        "copilot_chat.session_id",
        "sessionId",
        "conversation.id",
        "gcp.vertex.agent.session_id",
        "mastra.metadata.sessionId",
        "session_id",
    ],
)
def test_a_session_is_named_by(key: str) -> None:
    assert named("session", {key: "s"}) == "s"


@pytest.mark.parametrize(
    "key", ["tokenjam.run_id", "run_id", "gen_ai.agent.call.id", "gcp.vertex.agent.invocation_id", "workflow.run_id"]
)
def test_a_run_is_named_by(key: str) -> None:
    assert named("run", {key: "r"}) == "r"


@pytest.mark.parametrize(
    "key",
    ["langsmith.trace.session_id", "langsmith.trace.session_name", "prompt.id", "mlflow.traceRequestId", "trace_id"],
)
def test_what_names_a_project_a_turn_or_a_trace_names_neither(key: str) -> None:
    assert (named("session", {key: "x"}), named("run", {key: "x"})) == ("", "")


def test_the_convention_beats_a_librarys_own_key() -> None:
    assert named("session", {"session_id": "library", "gen_ai.conversation.id": "convention"}) == "convention"


@pytest.mark.parametrize(
    ("value", "session"), [("[Scrubbed due to 'session']", ""), ('"s"', "s"), (" s ", "s"), (7, "7")]
)
def test_values_that_stand_for_something_else(value: object, session: str) -> None:
    assert named("session", {"session_id": value}) == session
