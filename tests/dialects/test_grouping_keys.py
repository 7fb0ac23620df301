"""Which attributes name a session, a run, an agent by default."""

from __future__ import annotations

import pytest

from dialect_view import PlainAttributes, chat, read, span
from spanledger_processor.config import load
from spanledger_processor.dialects import registry
from spanledger_processor.enrichment.names import IdResolver, KeyLists, Names, pick
from spanledger_processor.server.wiring import make_id_resolver

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
    ("written", "name"),
    [
        # https://github.com/mlflow/mlflow/blob/master/mlflow/entities/span.py: attributes are JSON
        ('"a-session"', "a-session"),
        ('"; DROP', '"; DROP'),
        ('q1"', 'q1"'),
        ("'q1'", "'q1'"),
        ('say "yes"', 'say "yes"'),
        (" q7\n", "q7"),
        ('" q7 "', "q7"),
        ('"', '"'),
        ('""', ""),
        (" \t", ""),
    ],
)
@pytest.mark.parametrize("key", ["session.id", "spanledger.session.id"])
def test_of_an_id_only_the_quotes_of_a_json_string_and_blanks_go(written: str, name: str, key: str) -> None:
    assert named("session", {key: written}) == name
    above = read(span(chat(input_tokens=1) | {"spanledger.session.parent_id": written, "gen_ai.agent.id": written}))
    resolver = make_id_resolver(load(None, []).processor)
    names = resolver.names(PlainAttributes({"spanledger.session.parent_id": written, "gen_ai.agent.id": written}))
    assert pick("session_parent", names, Names()).id == name
    assert (above.agent_id or pick("agent", names, Names()).id) == name


def test_a_sub_agent_of_claude_code_belongs_to_the_session_above_it() -> None:
    """Its spans have its own id as `gen_ai.conversation.id`, its log events the session's alone."""
    both = {"session.id": "whole", "gen_ai.conversation.id": "agent"}
    resolver = IdResolver(KeyLists(session=registry.SESSION_KEYS), session_first=registry.SESSION_FIRST)
    for dialect, session in (("claude_code", "whole"), ("openlit", "agent"), ("", "agent")):
        assert pick("session", resolver.names(PlainAttributes(both), dialect), Names()).id == session
        assert resolver.keys_that_name("session", (*both,), dialect)[0] == next(
            key for key in both if both[key] == session
        )
    chosen = PlainAttributes({**both, "spanledger.session.id": "chosen"})
    assert pick("session", resolver.names(chosen, "claude_code"), Names()).id == "chosen"
    assert resolver.keys_that_name("session", (*chosen,), "claude_code")[0] == "spanledger.session.id"
    without = PlainAttributes({"gen_ai.conversation.id": "agent", "session.id": ""})
    assert pick("session", resolver.names(without, "claude_code"), Names()).id == "agent"


@pytest.mark.parametrize("keys", [registry.SESSION_KEYS, ("gen_ai.conversation.id", "session.id")])
def test_configured_keys_of_sessions_are_in_the_configured_order(keys: tuple[str, ...]) -> None:
    processor = load(None, (f"processor.sessions.keys=[{', '.join(keys)}]",), {"HOME": "/nowhere"}).processor
    both = PlainAttributes({"session.id": "whole", "gen_ai.conversation.id": "agent"})
    session = pick("session", make_id_resolver(processor).names(both, "claude_code"), Names()).id
    assert session == ("whole" if keys == registry.SESSION_KEYS else "agent")


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
    ("value", "session"),
    [
        ("[Scrubbed due to 'session']", ""),
        ('"s"', "s"),
        (" s ", "s"),
        (7, "7"),
        ("resp_dd0d6e4bff9fab318f51c63e2615396b1fe3dda6efd93d2d", ""),
        ("resp_1", "resp_1"),
        (
            "conv_dd0d6e4bff9fab318f51c63e2615396b1fe3dda6efd93d2d",
            "conv_dd0d6e4bff9fab318f51c63e2615396b1fe3dda6efd93d2d",
        ),
    ],
)
def test_values_that_stand_for_something_else(value: object, session: str) -> None:
    """Among them the id of the answer before, another one each call, which agent-framework 1.23.0 tells as the
    conversation with OpenAI's responses.
    """
    assert named("session", {"session_id": value}) == session


@pytest.mark.parametrize("key", ["spanledger.session.parent_id", "tokenjam.parent_session_id"])
def test_the_session_that_spawned_one_is_named_by(key: str) -> None:
    """On the span, or on the resource (`OTEL_RESOURCE_ATTRIBUTES` of what was launched)."""
    resolver = make_id_resolver(load(None, (), {"HOME": "/nowhere"}).processor)
    names, none = resolver.names(PlainAttributes({key: "p"})), Names()
    assert pick("session_parent", names, none).id == pick("session_parent", none, names).id == "p"
