"""Traces in which several spans report a call of a model or a tool, as two libraries and the servers behind them do."""

from __future__ import annotations

import json
import random
from typing import Any

from opentelemetry.proto.trace.v1.trace_pb2 import Span

from chats import set_attributes
from every_view import Sent

_MODELS = (
    ("openai", "gpt-4o-mini"),
    ("anthropic", "claude-haiku-4-5"),
    ("openai", "no such model"),
    ("anthropic", "claude-sonnet-4-5"),
)
_KINDS = ("", "call", "call", "call", "agent", "tool", "tool", "asks", "embeddings")
_TEAMS = ("red", "blue", "green")
_TOOLS = ("read", "search")
_RESPONSES = ("response 1", "response 2", "chatcmpl-3AbCdEfGhKq", "chatcmpl-4AbCdEfGhKq")
_NAMED_CALLS = 6
"""Tool calls with an id that any span may report, or ask for."""


class Traces:
    """Spans of up to four traces, in order by their start: agents and sub-agents, calls, tools and what asks for them.

    Any of them may name a session, a run or a parent session, late ones too; tools are executed in one trace, asked for
    in another, and reported in a third, and several spans have one response, most of them at one time: log events, too,
    that tell all of it, and those of one response have one id in all traces. What the reports of one tool call say of
    it is the same, and all have its id: of one without it only the time tells whose it is
    (docs/views.md#tool-calls-without-a-span).
    """

    def __init__(self, seed: int, number: int, now_ns: int) -> None:
        self._draw = random.Random(seed)
        self._number, self._now_ns = number, now_ns
        self._above = {trace: [0] for trace in range(1, self._draw.randint(1, 4) + 1)}
        self._sessions = [f"s{place}" for place in range(self._draw.randint(1, 4))]
        self._share_named = self._draw.choice([0.2, 0.06])
        self._calls = {response: self._draw.randint(1, number) for response in _RESPONSES}
        """The span that each of them begins with."""
        self._events: set[tuple[int, str]] = set()
        """Responses of which a trace has a log event."""

    def spans(self) -> list[Sent]:
        """Return the spans."""
        return [self._span(number) for number in range(1, self._number + 1)]

    def _maybe(self, share: float) -> bool:
        return self._draw.random() < share

    def _span(self, number: int) -> Sent:
        choice = self._draw.choice
        trace, kind = choice([*self._above]), choice(_KINDS)
        attributes = self._attributes(kind)
        is_named = kind == "tool" and "gen_ai.tool.call.id" in attributes
        resource = {"service.name": "one" if is_named else choice(["one", "two"])}
        if self._maybe(self._share_named / 2):
            resource["session.id"] = self._sessions[-1]
        self._name(attributes)
        response = attributes.get("gen_ai.response.id", "")
        if not is_named and not (response and self._maybe(0.7)):
            self._describe(kind, attributes)
        parent = 0 if is_named else choice(self._above[trace])
        self._above[trace].append(number)
        span = Span(name=f"span {number}", trace_id=trace.to_bytes(16, "big"), span_id=number.to_bytes(8, "big"))
        span.parent_span_id = parent.to_bytes(8, "big") if parent else b""
        first = self._calls[response] if response and self._maybe(0.8) else number
        span.start_time_unix_nano = self._now_ns - (self._number - first + 1) * 10**9
        length = choice([5, 500, 5000]) if first == number else choice([500, 300])
        span.end_time_unix_nano = span.start_time_unix_nano + length * 10**6
        if self._maybe(0.15):
            span.status.code = span.status.STATUS_CODE_ERROR
        set_attributes(span, attributes)
        scope = "one" if kind == "tool" and not is_named else choice(["one", "one", "two"])
        is_event = bool(response) and (trace, response) not in self._events and self._maybe(0.4)
        if is_event:
            self._events.add((trace, response))
            self._above[trace].remove(number)
        return Sent(span, resource, scope, is_event)

    def _name(self, attributes: dict[str, Any]) -> None:
        if self._maybe(self._share_named):
            attributes["session.id"] = self._draw.choice(self._sessions)
        if self._maybe(0.08):
            attributes["workflow.run_id"] = self._draw.choice(["r", "q"])
        if self._maybe(0.08):
            attributes["spanledger.session.parent_id"] = self._draw.choice([*self._sessions, "above"])

    def _describe(self, kind: str, attributes: dict[str, Any]) -> None:
        if self._maybe(0.3):
            attributes["app.team"] = self._draw.choice(_TEAMS)
        if self._maybe(0.2):
            attributes["user.id"] = self._draw.choice(_TEAMS)
        if kind and self._maybe(0.15):
            attributes["gen_ai.agent.name"] = self._draw.choice(["lead", "helper"])
        if kind and self._maybe(0.2):
            attributes["spanledger.task.id"] = self._draw.choice(["t1", "t2"])
            attributes["spanledger.task.kind"] = self._draw.choice(["judge", "work"])

    def _attributes(self, kind: str) -> dict[str, Any]:
        if kind == "agent":
            name = self._draw.choice(["lead", "helper", "reviewer"])
            return {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": name}
        if kind == "tool":
            return self._tool()
        return self._call(kind) if kind else {}

    def _tool(self) -> dict[str, Any]:
        place = self._draw.randrange(_NAMED_CALLS) if self._maybe(0.5) else None
        tool, of = (self._draw.choice(_TOOLS), self._draw.choice("cd")) if place is None else _call_at(place)
        attributes = {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": tool,
            "gen_ai.tool.call.arguments": json.dumps({"p": of}),
        }
        if place is not None:
            attributes["gen_ai.tool.call.id"] = f"call {place}"
        if self._maybe(0.5):
            attributes["gen_ai.tool.call.result"] = self._draw.choice("12") if place is None else str(place % 2)
        return attributes

    def _call(self, kind: str) -> dict[str, Any]:
        response = self._draw.choice(_RESPONSES) if self._maybe(0.6) else ""
        draw = random.Random(response) if response else self._draw
        provider, model = draw.choice(_MODELS)
        call = {
            "gen_ai.operation.name": "embeddings" if kind == "embeddings" else "chat",
            "gen_ai.provider.name": provider,
            "gen_ai.request.model": model,
            "gen_ai.usage.input_tokens": draw.randint(100, 9999),
        }
        if kind != "embeddings":
            call["gen_ai.usage.output_tokens"] = draw.choice([10, 10, 500])
        if draw.random() < 0.3:
            call["gen_ai.usage.cache_read.input_tokens"] = 50
        if response:
            call["gen_ai.response.id"] = response
        if kind == "asks":
            place = self._draw.randrange(_NAMED_CALLS)
            tool, of = _call_at(place)
            part = {"type": "tool_call", "id": f"call {place}", "name": tool, "arguments": {"p": of}}
            message = {"role": "assistant", "parts": [part], "finish_reason": "tool_call"}
            call["gen_ai.output.messages"] = json.dumps([message])
            call["gen_ai.input.messages"] = json.dumps([{"role": "user", "parts": [{"type": "text", "content": "go"}]}])
        return call


def _call_at(place: int) -> tuple[str, str]:
    return _TOOLS[place % 2], "ab"[place // 2 % 2]
