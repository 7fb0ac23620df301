"""What a model is sent after tool calls: the calls and what came of them, as libraries write them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from chats import set_attributes

Calls: TypeAlias = Sequence[tuple[Any, Any]]
"""Arguments and result of each; None for a result that is not there."""
Form: TypeAlias = Callable[[Calls, str], dict[str, Any]]
TOOL = "read"
_LONG = " of more than a few words, as prompts are, so that it is worth it to leave it out"


def _convention(calls: Calls, prompt: str) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = [{"role": "user", "parts": [{"type": "text", "content": prompt}]}]
    for name, arguments, result in _named(calls):
        part = {"type": "tool_call", "id": name, "name": TOOL, "arguments": arguments}
        messages.append({"role": "assistant", "parts": [part]})
        if result is not None:
            answer = {"type": "tool_call_response", "id": name, "response": result}
            messages.append({"role": "tool", "parts": [answer]})
    return messages


def _gemini(calls: Calls, prompt: str) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = [{"role": "user", "parts": [{"text": prompt}]}]
    for name, arguments, result in _named(calls):
        messages.append({"role": "model", "parts": [{"functionCall": {"id": name, "name": TOOL, "args": arguments}}]})
        if result is not None:
            answer = {"id": name, "name": TOOL, "response": result}
            messages.append({"role": "user", "parts": [{"functionResponse": answer}]})
    return messages


def _ai_sdk(calls: Calls, prompt: str) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = [{"role": "user", "content": [{"type": "text", "text": prompt}]}]
    for name, arguments, result in _named(calls):
        part = {"type": "tool-call", "toolCallId": name, "toolName": TOOL, "input": arguments}
        messages.append({"role": "assistant", "content": [part]})
        if result is not None:
            answer = {"type": "tool-result", "toolCallId": name, "toolName": TOOL, "output": result}
            messages.append({"role": "tool", "content": [answer]})
    return messages


def _openinference(calls: Calls, prompt: str) -> dict[str, Any]:
    attributes: dict[str, Any] = {"llm.input_messages.0.message.content": prompt}
    for number, (name, arguments, result) in enumerate(_named(calls)):
        call = f"llm.input_messages.{2 * number + 1}.message.tool_calls.0.tool_call."
        attributes |= {f"{call}id": name, f"{call}function.name": TOOL, f"{call}function.arguments": _text(arguments)}
        if result is not None:
            message = f"llm.input_messages.{2 * number + 2}.message."
            attributes |= {f"{message}tool_call_id": name, f"{message}content": _text(result)}
    return attributes


def _openllmetry(calls: Calls, prompt: str) -> dict[str, Any]:
    attributes: dict[str, Any] = {"gen_ai.prompt.0.content": prompt}
    for number, (name, arguments, result) in enumerate(_named(calls)):
        call = f"gen_ai.prompt.{2 * number + 1}.tool_calls.0."
        attributes |= {f"{call}id": name, f"{call}name": TOOL, f"{call}arguments": _text(arguments)}
        if result is not None:
            message = f"gen_ai.prompt.{2 * number + 2}."
            attributes |= {f"{message}tool_call_id": name, f"{message}content": _text(result)}
    return attributes


FORMS: dict[str, Form] = {
    "convention": lambda calls, prompt: {"gen_ai.input.messages": json.dumps(_convention(calls, prompt))},
    "convention, as objects": lambda calls, prompt: {"gen_ai.input.messages": _convention(calls, prompt)},
    "Gemini CLI": lambda calls, prompt: {"gen_ai.input.messages": json.dumps(_gemini(calls, prompt))},
    "AI SDK": lambda calls, prompt: {"ai.prompt.messages": json.dumps(_ai_sdk(calls, prompt))},
    "OpenInference": _openinference,
    "OpenLLMetry": _openllmetry,
}

WITHOUT_IDS: dict[str, Form] = {
    "convention, without ids": lambda calls, prompt: _without_ids("convention", calls, prompt),
    "Gemini CLI, without ids": lambda calls, prompt: _without_ids("Gemini CLI", calls, prompt),
    "AI SDK, without ids": lambda calls, prompt: _without_ids("AI SDK", calls, prompt),
}


def add_conversation(span: Span, form: str, calls: Calls, prompt: str = f"A prompt{_LONG}") -> Span:
    """Give a model call what it was sent, and return it."""
    for key, value in (FORMS | WITHOUT_IDS)[form](calls, prompt).items():
        if isinstance(value, list):
            span.attributes.add(key=key).value.CopyFrom(any_value(value))
        else:
            set_attributes(span, {key: value})
    return span


def _without_ids(form: str, calls: Calls, prompt: str) -> dict[str, Any]:
    ((key, messages),) = FORMS[form](calls, prompt).items()
    return {key: re.sub(r'"(id|toolCallId)": "c[0-9]+", ', "", messages)}


def _named(calls: Calls) -> list[tuple[str, Any, Any]]:
    return [(f"c{number}", *call) for number, call in enumerate(calls)]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def any_value(value: Any) -> AnyValue:
    """A plain value as the protocol has it."""
    result = AnyValue()
    if isinstance(value, list):
        result.array_value.values.extend(map(any_value, value))
    elif isinstance(value, dict):
        for key, one in value.items():
            result.kvlist_value.values.add(key=key).value.CopyFrom(any_value(one))
    elif isinstance(value, int):
        result.int_value = value
    elif value is not None:
        result.string_value = value
    return result
