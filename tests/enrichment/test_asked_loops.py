"""Loops of tool calls that only the messages of model calls tell of, also where a client leaves out what it may."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from chats import chat, request, set_attributes
from clients import without_content
from conversations import FORMS, WITHOUT_IDS, Calls, add_conversation
from spanledger_processor.accounting.facts import Fact
from spanledger_processor.config import load
from spanledger_processor.dialects.content import read_values
from spanledger_processor.dialects.texts import MAX_WHOLE
from spanledger_processor.enrichment import Stage
from spanledger_processor.model import ToolCall
from spanledger_processor.server.wiring import make_stage
from spanledger_processor.signing.signer import Signer

SAME = ({"path": "a"}, "text")
RULES = (
    (),
    ("processor.tools.loop.consecutive=2",),
    ("processor.tools.loop.consecutive=0", "processor.tools.loop.cycles=2"),
    ("processor.tools.loop.consecutive=0", "processor.tools.loop.repeats=5"),
    ("processor.tools.loop.tools=[{tool: rea*, consecutive: 2}]",),
    ("processor.tools.loop.consecutive=0", "processor.tools.loop.cycles=0"),
)


@cache
def stage_of(rule: tuple[str, ...], _which: str = "") -> Stage:
    return make_stage(load(None, rule, {"HOME": "/nowhere"}), Signer(b"k" * 32))


def read(stage: Stage, body: bytes) -> Fact:
    ((fact,),) = (batch.facts for batch in stage.read(body, {}, 1).batches)
    return fact


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("calls", "stuck"),
    [
        ([SAME] * 2, ()),
        ([SAME] * 3, ("c2", "read")),
        ([SAME] * 4, ("c3", "read")),
        ([({"path": "a"}, f"text {number}") for number in range(4)], ()),
        ([*[SAME] * 3, ({"path": "b"}, "text")], ()),
        ([({"path": "a"}, "-")] * 3, ()),
        ([("-", "text")] * 3, ()),
        ([({"path": "a"}, "__REDACTED__")] * 3, ("c2", "read")),
        ([("__REDACTED__", "text")] * 3, ()),
        ([({"path": "a"}, "")] * 3, ("c2", "read")),
        ([("", "text")] * 3, ()),
        ([({"path": "a", "lines": 3}, "text"), ({"lines": 3, "path": "a"}, "text")] * 2, ("c3", "read")),
    ],
    ids=[
        "too few",
        "three",
        "one more",
        "polling",
        "another came behind",
        "a client leaves out results",
        "and arguments",
        "hidden results",
        "hidden arguments",
        "no results",
        "no arguments",
        "the same in another order",
    ],
)
def test_a_loop_is_seen_where_arguments_are_known_and_results_are_not_left_out(
    form: str, calls: Calls, stuck: tuple[str, ...]
) -> None:
    body = request(add_conversation(chat(), form, calls))
    for sent in (body, without_content(body)):
        fact = read(stage_of(()), sent)
        assert fact.stuck == stuck
        assert fact.stuck_steps == ((tuple(f"c{len(calls) - back}" for back in (3, 2, 1)),) if stuck else ())
        assert fact.asked == ()


@pytest.mark.parametrize("form", FORMS)
def test_a_call_that_was_made_before_is_known_with_how_often(form: str) -> None:
    other = ({"path": "b"}, "text")
    for calls, expected in (
        ([SAME, other, SAME, SAME], (3, 2)),
        ([SAME, ({"path": "a"}, "1"), ({"path": "a"}, "2")], (3, 3)),
        ([SAME, SAME, other], None),
        ([SAME, SAME, ({"path": "a"}, "-")], None),
    ):
        body = request(add_conversation(chat(), form, calls))
        for sent in (body, without_content(body)):
            again = read(stage_of(()), sent).asked_again
            assert [(tool, *times) for _, _, tool, *times in again] == ([("read", *expected)] if expected else [])
            signer = Signer(b"k" * 32)
            assert all(one[1] == signer.sign(ToolCall("read", {"path": "a"})).value for one in again)  # type: ignore[union-attr]


_OF_OPENLIT = {
    "gen_ai.tool.name": "read",
    "gen_ai.tool.call.id": "c0",
    "gen_ai.tool.call.arguments": '{"path": "a"}',
}
_OF_THE_CONVENTION = {
    "gen_ai.output.messages": '[{"role": "assistant", "parts": [{"type": "tool_call", "id": "c0", "name": "read", '
    '"arguments": {"path": "a"}}]}]'
}
_OF_OPENLLMETRY = {
    "gen_ai.completion.0.tool_calls.0.id": "c0",
    "gen_ai.completion.0.tool_calls.0.name": "read",
    "gen_ai.completion.0.tool_calls.0.arguments": '{"path": "a"}',
}


def _asking(attributes: dict[str, str]) -> Span:
    span = chat()
    set_attributes(span, attributes)
    return span


@pytest.mark.parametrize(
    ("asked", "more", "is_signed"),
    [
        (_OF_OPENLIT, {}, True),
        (_OF_THE_CONVENTION, {}, True),
        (_OF_OPENLLMETRY, {}, None),
        (_OF_OPENLIT, {"gen_ai.input.messages": "[]"}, None),
        (_OF_OPENLIT, {"gen_ai.input.messages": "__REDACTED__"}, None),
        (_OF_OPENLIT, {"input.value": "{}"}, None),
        (_OF_OPENLIT, {"gen_ai.prompt.0.content": "read it"}, None),
        (_OF_OPENLIT, {"gen_ai.tool.call.arguments": "__REDACTED__"}, False),
        (_OF_OPENLIT, {"gen_ai.tool.name": "read, read", "gen_ai.tool.call.id": "c0, c1"}, False),
    ],
    ids=["OpenLIT", "convention", "flat", "input", "hidden input", "any input", "prompt", "hidden arguments", "two"],
)
def test_calls_are_signed_where_nothing_tells_results(
    asked: dict[str, str], more: dict[str, str], *, is_signed: bool | None
) -> None:
    """A flat key's arguments are not among what the Collector's component sends."""
    body = request(_asking(asked | more))
    for sent in (body, without_content(body)):
        fact = read(stage_of(()), sent)
        assert fact.asked[:2] == ("c0", "read")
        signed = [bool(signature) for signature in fact.asked_signatures]
        assert signed == ([] if is_signed is None else [is_signed] * (len(fact.asked) // 2))
    assert read(stage_of(RULES[-1]), body).asked_signatures == ()


def test_messages_in_events_tell_results() -> None:
    span = _asking(_OF_OPENLIT)
    span.events.add(name="exception")
    assert read(stage_of(()), request(span)).asked_signatures
    span.events.add(name="gen_ai.content.prompt")
    assert read(stage_of(()), request(span)).asked_signatures == ()


def test_a_loop_of_calls_without_ids_is_seen_under_one_id_of_its_place() -> None:
    """By whichever span it is told: another request with the same history tells of the same step."""

    def stuck(calls: Calls, name: bytes) -> tuple[str, ...]:
        span = add_conversation(chat(span_id=name), "convention", calls)
        (value,) = (one.value for one in span.attributes if one.key == "gen_ai.input.messages")
        messages = json.loads(value.string_value)
        for message in messages:
            for part in message["parts"]:
                part.pop("id", None)
        value.string_value = json.dumps(messages)
        return read(stage_of(()), request(span)).stuck

    first = stuck([SAME] * 3, b"1" * 8)
    assert first[1:] == ("read",)
    assert stuck([SAME] * 3, b"2" * 8) == first
    assert stuck([SAME] * 4, b"3" * 8) != first
    assert stuck([({"path": "b"}, "text")] * 3, b"4" * 8) != first
    assert stuck([({"path": "a"}, f"text {number}") for number in range(4)], b"5" * 8) == ()


@pytest.mark.parametrize("form", FORMS)
def test_prompts_stay_where_no_loop_can_be(form: str) -> None:
    """With enough results a list of messages is sent as it is; of flat keys, the results and arguments."""
    prompt = "a secret prompt, " * 9
    for calls, is_sent in ([SAME] * 2, False), ([SAME] * 3, not form.startswith("Open")):
        body = request(add_conversation(chat(), form, calls, prompt))
        assert prompt.encode() in body
        assert (prompt.encode() in without_content(body)) == is_sent


def test_messages_that_are_too_long_to_be_read_are_not_sent() -> None:
    for more, stuck in ((0, ("c2", "read")), (1, ())):
        rest = MAX_WHOLE - len(_input(add_conversation(chat(), "AI SDK", [SAME] * 3, "")))
        body = request(add_conversation(chat(), "AI SDK", [SAME] * 3, "x" * (rest + more)))
        assert read(stage_of(()), body).stuck == read(stage_of(()), without_content(body)).stuck == stuck
        assert (len(without_content(body)) > MAX_WHOLE) == bool(stuck)


def test_without_a_rule_nothing_is_read_for_loops() -> None:
    rules = {rule: stage_of(rule).loop.fewest_calls for rule in RULES}
    assert [*rules.values()] == [3, 2, 4, 5, 2, 0]
    assert read_values(0) == ()
    body = request(add_conversation(chat(), "convention", [SAME] * 3))
    assert read(stage_of(RULES[-1]), body).stuck == ()


def _input(span: Span) -> str:
    return next(one.value.string_value for one in span.attributes if one.key == "ai.prompt.messages")


_arguments = st.sampled_from([{"path": "a"}, {"path": "b"}, "a text", "-", "", {"text": "tool-result"}])
_results = st.sampled_from(["text", "other", "-", "", None, {"ok": 1}, "x" * 100, "tool_call_response"])
_prompts = st.sampled_from(
    ["", "read it", "tool_call_response", "functionResponse toolCallId", "\\u0041 tool-result" * 3]
)
_conversations = st.lists(
    st.tuples(
        st.sampled_from(sorted(FORMS | WITHOUT_IDS)),
        st.lists(st.tuples(_arguments, _results), max_size=4).flatmap(
            lambda calls: st.integers(1, 3).map(lambda times: calls * times)
        ),
        _prompts,
    ),
    min_size=1,
    max_size=2,
)
_kinds = st.sampled_from(["chat", "execute_tool", "invoke_agent", "embeddings"])


@given(rule=st.sampled_from(RULES), conversations=_conversations, kind=_kinds)
def test_what_a_client_leaves_out_changes_nothing(
    rule: tuple[str, ...], conversations: list[tuple[str, Any, str]], kind: str
) -> None:
    span = chat(trace_id=b"t" * 16, span_id=b"s" * 8, start_time_unix_nano=10**18, end_time_unix_nano=10**18 + 1)
    next(one for one in span.attributes if one.key == "gen_ai.operation.name").value.string_value = kind
    for form, calls, prompt in conversations:
        add_conversation(span, form, calls, prompt)
    body = request(span)
    sparing = without_content(body, read=read_values(stage_of(rule).loop.fewest_calls))
    assert read(stage_of(rule, "sparing"), sparing) == read(stage_of(rule), body)
