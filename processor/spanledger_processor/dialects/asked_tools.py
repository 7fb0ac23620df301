"""Tool calls in the messages of model calls: those that its output asks for, and those that its input tells of.

Read are the messages of OpenTelemetry's convention (and of Gemini CLI in its place), of the AI SDK, and the flat keys
of OpenInference and OpenLLMetry; and what OpenLIT writes on a model's span as on a tool's. Gemini, Ollama and others
give calls no ids: then a result in a list of messages is that of the earliest call without one, of the tool that it
names if it names one. Inputs are among what clients may leave out (`content.unread_values`), but for those that may
hold enough results for a loop (`read_inputs`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from spanledger_processor.dialects.texts import MAX_WHOLE, parse
from spanledger_processor.otlp.values import Attributes

MARKS = (b"tool_call", b"toolCall", b"functionCall", b"gen_ai.tool.call.id")
"""One of them stands in every span with such a call, in a key or a value."""
FLAT_MARK = b".tool_call"
"""Stands in those that have keys of their own for the parts of one."""
_MOST_ASKED, _MOST_STEPS = 64, 100
"""Calls of an output, and of an input from the latest back, that are looked at."""
_LONGEST_ID = 512
_MADE = "\0"
_OUTPUTS = ("gen_ai.output.messages", "ai.response.toolCalls")
INPUTS = ("gen_ai.input.messages", "ai.prompt.messages")
"""Keys of lists of messages that a model was sent."""
_TOOL_KEY, _ID_KEY, _ARGUMENTS_KEY = "gen_ai.tool.name", "gen_ai.tool.call.id", "gen_ai.tool.call.arguments"
_BETWEEN = ", "
_RESULTS = ("tool_call_response", "tool-result", "functionResponse")
"""One of them stands in a list of messages for each result."""


class AskedTool(NamedTuple):
    """A tool call in a message; `id` is empty where it has none, `arguments` are as plain as in `ToolCall`."""

    id: str
    tool: str
    arguments: Any


class ToolResult(NamedTuple):
    """A result in a message, as text; `id` and `tool` are empty where it does not name them."""

    id: str
    tool: str
    result: str


class Step(NamedTuple):
    """A tool call of an input's history with its result, both as text; `is_new` where no answer followed before.

    `id` is made of its place in the conversation where the call has none (`is_made_id`).
    """

    id: str
    tool: str
    arguments: str
    result: str
    is_new: bool


class Messages(NamedTuple):
    """One message: the tool calls that it asks for, and the results that it brings."""

    asked: list[AskedTool]
    results: list[ToolResult]


def made_id(*parts: object) -> str:
    """Return an id that stands for a call without one; none that is on the wire begins like it."""
    return ".".join(map(str, (_MADE, *parts)))


def is_made_id(identifier: str) -> bool:
    """Return whether an id was made by `made_id`."""
    return identifier.startswith(_MADE)


def has_messages(attributes: Attributes) -> bool:
    """Return whether a span has a key under which tool calls may stand."""
    return any(key in (*_OUTPUTS, *INPUTS, _ID_KEY) or key.startswith(_PREFIXES) for key in attributes.shape())


def asked_in(attributes: Attributes, *, flat: bool = True) -> list[AskedTool]:
    """Return the tool calls that a model's output asks for, each once; `flat` if it may have keys of their own.

    Several keys may hold the same output: of calls without an id the first key's count. They get one here.
    """
    by_id: dict[str, AskedTool] = {}
    sources = [_listed(attributes.get(key)) for key in _OUTPUTS]
    if flat:
        sources += [_flat(attributes, form) for form in _FLAT_OUTPUTS]
    for source in (*sources, _named(attributes)):
        is_first = not by_id
        for index, call in enumerate(call for message in source for call in message.asked):
            if (call.id or is_first) and len(by_id) < _MOST_ASKED:
                identifier = call.id or made_id(index)
                by_id.setdefault(identifier, call._replace(id=identifier))
    return [*by_id.values()]


def history(attributes: Attributes, *, flat: bool = True, fewest: int = 1) -> list[Step]:
    """Return the latest tool calls of a model's input that have results; none where it does not end with results.

    A key, or a vocabulary's flat keys, with fewer results than `fewest` is passed over; of others the first counts.
    """
    values = (attributes.get(key) for key in INPUTS)
    sources = [_listed(value) for value in values if _may_hold(value, fewest)]
    if flat:
        sources += [_flat(attributes, form) for form in _FLAT_INPUTS]
    conversations = (_with_results([*source], fewest) for source in sources)
    return next((steps[-_MOST_STEPS:] for messages in conversations if (steps := _steps(messages))), [])


def _steps(messages: Sequence[Messages]) -> list[Step]:
    if not messages or not messages[-1].results:
        return []
    last = next((index for index in range(len(messages) - 1, -1, -1) if messages[index].asked), 0)
    calls: dict[str, tuple[AskedTool, bool]] = {}
    waiting: dict[str, str] = {}
    results: dict[str, str] = {}
    for index, message in enumerate(messages):
        for number, call in enumerate(message.asked):
            identifier = call.id or made_id(index, number)
            calls[identifier] = (call, index >= last)
            waiting[identifier] = call.tool
        for answer in message.results:
            identifier = answer.id or _answered(waiting, answer.tool)
            waiting.pop(identifier, None)
            results[identifier] = answer.result
    return [
        Step(identifier, call.tool, _text(call.arguments), results[identifier], is_new)
        for identifier, (call, is_new) in calls.items()
        if identifier in results
    ]


def _answered(waiting: Mapping[str, str], tool: str) -> str:
    """Return the id of the earliest call without a result, of `tool` where the result names one."""
    return next((identifier for identifier, name in waiting.items() if not tool or name == tool), "")


def _named(attributes: Attributes) -> Iterator[Messages]:
    """Yield the calls that OpenLIT writes on a model's span as on a tool's, several of them in one text."""
    tools, identifiers = (attributes.get(key) for key in (_TOOL_KEY, _ID_KEY))
    if isinstance(tools, str) and isinstance(identifiers, str):
        named = [*zip(tools.split(_BETWEEN), identifiers.split(_BETWEEN), strict=False)]
        message = Messages([], [])
        for tool, identifier in named if identifiers else ():
            _ask(message, identifier, tool, attributes.get(_ARGUMENTS_KEY) if len(named) == 1 else None)
        yield message


class ReadInput(NamedTuple):
    """Which values under a key of a model's input are looked at; `*` in keys stands for digits.

    Those that hold `results` so many times as there are results, in no more characters than `longest`; or those of
    spans that have as many keys like `result_key`, of a result itself (`is_result`) with the same first digits.
    """

    key: str
    results: tuple[str, ...] = ()
    longest: int = 0
    result_key: str = ""
    is_result: bool = False


def read_inputs() -> tuple[ReadInput, ...]:
    """Return the keys of content that `history` reads."""
    flat: list[ReadInput] = []
    for form in _FLAT_INPUTS:
        message, call = form.message.replace("{}", "*"), form.call.replace("{}", "*")
        result_key = message + form.result_of
        flat.append(ReadInput(message + form.result, result_key=result_key, is_result=True))
        flat.append(ReadInput(message + call + form.arguments, result_key=result_key))
    return (*(ReadInput(key, _RESULTS, MAX_WHOLE) for key in INPUTS), *flat)


def _may_hold(value: Any, results: int) -> bool:
    """Return whether a value may be a list of messages with so many results. Clients go by the same (`read_inputs`)."""
    if not isinstance(value, str):
        return value is not None
    return len(value) <= MAX_WHOLE and sum(map(value.count, _RESULTS)) >= results


def _with_results(messages: Sequence[Messages], fewest: int) -> Sequence[Messages]:
    return messages if sum(len(message.results) for message in messages) >= fewest else ()


def _listed(value: Any) -> Iterator[Messages]:
    """Yield the messages of a value that is, or as a text holds, a list of them."""
    for message in _list_of(parse(value)):
        yield _message([message] if "toolCallId" in message else _parts(message))


def _parts(message: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [*_list_of(message.get("parts")), *_list_of(message.get("content"))]


def _list_of(value: Any) -> list[Mapping[str, Any]]:
    return [one for one in value if isinstance(one, Mapping)] if isinstance(value, list) else []


def _message(parts: Iterable[Mapping[str, Any]]) -> Messages:
    message = Messages([], [])
    for part in parts:
        what = part.get("type")
        called, answered = part.get("functionCall"), part.get("functionResponse")
        if what == "tool_call":
            _ask(message, part.get("id"), part.get("name"), part.get("arguments"))
        elif what == "tool_call_response":
            _answer(message, part.get("id"), part.get("name"), part.get("response", part.get("result")))
        elif what == "tool-result":
            _answer(message, part.get("toolCallId"), part.get("toolName"), part.get("output", part.get("result")))
        elif what == "tool-call" or ("toolCallId" in part and what in ("function", None)):
            _ask(message, part.get("toolCallId"), part.get("toolName"), part.get("input", part.get("args")))
        elif isinstance(called, Mapping):
            _ask(message, called.get("id"), called.get("name"), called.get("args"))
        elif isinstance(answered, Mapping):
            _answer(message, answered.get("id"), answered.get("name"), answered.get("response"))
    return message


def _ask(message: Messages, identifier: Any, tool: Any, arguments: Any) -> None:
    if _is_id(identifier) and isinstance(tool, str) and tool:
        message.asked.append(AskedTool(identifier or "", tool, arguments))


def _answer(message: Messages, identifier: Any, tool: Any, result: Any) -> None:
    if _is_id(identifier):
        message.results.append(ToolResult(identifier or "", tool if isinstance(tool, str) else "", _text(result)))


def _is_id(identifier: Any) -> bool:
    """Return whether a value is the id of a call, or says that it has none."""
    if identifier is None:
        return True
    return isinstance(identifier, str) and len(identifier) <= _LONGEST_ID and not is_made_id(identifier)


def _text(value: Any) -> str:
    """Return arguments or a result as a text in which equal objects are equal; empty where there is none."""
    value = parse(value) if isinstance(value, str) and value[:1] in ("{", "[") else value
    if isinstance(value, Mapping | list):
        try:
            return orjson.dumps(value, option=orjson.OPT_SORT_KEYS, default=str).decode()
        except (TypeError, ValueError):
            pass
    return "" if value is None else str(value)


class _FlatKeys(NamedTuple):
    """Keys of a message: its prefix with a place for its number, and behind it those of calls and of a result."""

    message: str
    call: str
    id: str
    tool: str
    arguments: str
    result_of: str
    result: str


_OF_OPENINFERENCE = (
    "message.tool_calls.{}.tool_call.",
    "id",
    "function.name",
    "function.arguments",
    "message.tool_call_id",
    "message.content",
)
_OF_OPENLLMETRY = ("tool_calls.{}.", "id", "name", "arguments", "tool_call_id", "content")
_FLAT_OUTPUTS = (
    _FlatKeys("llm.output_messages.{}.", *_OF_OPENINFERENCE),
    _FlatKeys("gen_ai.completion.{}.", *_OF_OPENLLMETRY),
)
_FLAT_INPUTS = (
    _FlatKeys("llm.input_messages.{}.", *_OF_OPENINFERENCE),
    _FlatKeys("gen_ai.prompt.{}.", *_OF_OPENLLMETRY),
)
_PREFIXES = tuple(form.message.partition("{")[0] for form in (*_FLAT_OUTPUTS, *_FLAT_INPUTS))


def _flat(attributes: Attributes, form: _FlatKeys) -> Iterator[Messages]:
    """Yield messages that have a key for each value."""
    prefix = form.message.partition("{")[0]
    numbers = {
        int(number)
        for key in attributes.shape()
        if key.startswith(prefix) and (number := key[len(prefix) :].partition(".")[0]).isdecimal() and len(number) < 6
    }
    for index in sorted(numbers):
        yield _flat_message(attributes, form, form.message.format(index))


def _flat_message(attributes: Attributes, form: _FlatKeys, message_key: str) -> Messages:
    message = Messages([], [])
    for index in range(_MOST_ASKED):
        call_key = message_key + form.call.format(index)
        tool = attributes.get(call_key + form.tool)
        if tool is None:
            break
        _ask(message, attributes.get(call_key + form.id), tool, attributes.get(call_key + form.arguments))
    if identifier := attributes.get(message_key + form.result_of):
        _answer(message, identifier, None, attributes.get(message_key + form.result))
    return message
