"""Loops of tool calls that only the messages of model calls tell of."""

from __future__ import annotations

import json
from typing import Any

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from chats import chat, request, set_attributes
from spanledger_processor.config import load
from spanledger_processor.server.wiring import make_stage
from spanledger_processor.signing.signer import Signer


def conversation(calls: list[tuple[Any, Any]]) -> Span:
    """A model call that was sent these tool calls, arguments and results, in turn."""
    messages: list[dict[str, Any]] = []
    for number, (arguments, result) in enumerate(calls):
        part = {"type": "tool_call", "id": f"c{number}", "name": "read", "arguments": arguments}
        messages.append({"role": "assistant", "parts": [part]})
        answer = {"type": "tool_call_response", "id": f"c{number}", "response": result}
        messages.append({"role": "tool", "parts": [answer]})
    span = chat()
    set_attributes(span, {"gen_ai.input.messages": json.dumps(messages)})
    return span


SAME = ({"path": "a"}, "text")


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
        ([({"path": "a"}, "__REDACTED__")] * 3, ()),
        ([("__REDACTED__", "text")] * 3, ()),
        ([({"path": "a"}, "")] * 3, ()),
        ([(None, "text")] * 3, ()),
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
def test_a_loop_is_seen_where_both_arguments_and_results_are_known(
    calls: list[tuple[Any, Any]], stuck: tuple[str, ...]
) -> None:
    stage = make_stage(load(None, (), {"HOME": "/nowhere"}), Signer(b"k" * 32))
    ((fact,),) = (batch.facts for batch in stage.read(request(conversation(calls)), {}, 1).batches)
    assert fact.stuck == stuck
    assert fact.asked == ()
