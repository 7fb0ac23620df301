"""Tool calls in the messages of model calls: those that its output asks for, and those that its input tells of.

Read are the messages of OpenTelemetry's convention (and of Gemini CLI in its place), of the AI SDK, and the flat keys
of OpenInference and OpenLLMetry; and what OpenLIT writes on a model's span as on a tool's. Gemini, Ollama and others
give calls no ids: then a result in a list of messages is that of the earliest call without one, of the tool that it
names if it names one. Inputs are among what clients may leave out (`content.unread_values`), but for those that may
hold enough results for a loop (`read_inputs`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import orjson
from msgspec import Struct, structs

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
_ASKED_KEYS = frozenset((*_OUTPUTS, _ID_KEY))
_BETWEEN = ", "
_MOST_KEYS, _LONGEST_NUMBER = 256, 6
"""Keys of spans of which the flat ones are kept by shape, and digits of a message's number and one more."""
_TEXT_MARKS = (*MARKS[:3], b"tool-call", b"\\u00")
"""A list of messages, as text, in which none of these stands asks for no tool (`\\u00` may spell one of them)."""
_RESULTS = ("tool_call_response", "tool-result", "functionResponse")
"""One of them stands in a list of messages for each result."""
_RESULT_MARKS = tuple(result.encode() for result in _RESULTS)


class AskedTool(Struct, frozen=True):
    """A tool call in a message; `id` is empty where it has none, `arguments` are as plain as in `ToolCall`."""

    id: str
    tool: str
    arguments: Any


class ToolResult(Struct, frozen=True):
    """A result in a message, as text; `id` and `tool` are empty where it does not name them."""

    id: str
    tool: str
    result: str


class Step(Struct, frozen=True):
    """A tool call of an input's history with its result, both as text; `is_new` where no answer followed before.

    `id` is made of its place in the conversation where the call has none (`is_made_id`).
    """

    id: str
    tool: str
    arguments: str
    result: str
    is_new: bool


class Messages(Struct, frozen=True):
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
    present = attributes.among(_ASKED_KEYS)
    sources = [_listed(attributes.marked(key, _TEXT_MARKS)) for key in _OUTPUTS if key in present]
    if flat:
        sources += [_flat(attributes, form) for form in _flat_forms(attributes, _FLAT_OUTPUTS)]
    if _ID_KEY in present:
        sources.append(_named(attributes))
    for source in sources:
        is_first = not by_id
        for index, call in enumerate([call for message in source for call in message.asked]):
            if len(by_id) >= _MOST_ASKED:
                break
            if call.id:
                by_id.setdefault(call.id, call)
            elif is_first:
                by_id.setdefault(made := made_id(index), structs.replace(call, id=made))
    return [*by_id.values()]


def history(attributes: Attributes, *, flat: bool = True, fewest: int = 1) -> list[Step]:
    """Return the latest tool calls of a model's input that have results; none where it does not end with results.

    A key, or a vocabulary's flat keys, with fewer results than `fewest` is passed over; of others the first counts.
    """
    conversations = [_listed(attributes.get(key)) for key in INPUTS if _may_hold(attributes, key, fewest)]
    if flat:
        forms = _flat_forms(attributes, _FLAT_INPUTS)
        conversations += [_flat(attributes, form) for form in forms if form.results >= fewest]
    for conversation in conversations:
        if steps := _steps(_with_results([*conversation], fewest)):
            return steps[-_MOST_STEPS:]
    return []


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


def _may_hold(attributes: Attributes, key: str, results: int) -> bool:
    """Return whether a value may be a list of messages with so many results. Clients go by the same (`read_inputs`)."""
    if key not in attributes or attributes.is_unmarked(key, _RESULT_MARKS):
        return False
    value = attributes.get(key)
    if not isinstance(value, str):
        return value is not None
    return len(value) <= MAX_WHOLE and sum(map(value.count, _RESULTS)) >= results


def _with_results(messages: Sequence[Messages], fewest: int) -> Sequence[Messages]:
    return messages if sum([len(message.results) for message in messages]) >= fewest else ()


def _listed(value: Any) -> Iterator[Messages]:
    """Yield the messages of a value that is, or as a text holds, a list of them."""
    if value == "":
        return
    for message in _list_of(parse(value)):
        yield _message([message] if "toolCallId" in message else _parts(message))


def _parts(message: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [*_list_of(message.get("parts")), *_list_of(message.get("content"))]


def _list_of(value: Any) -> list[Mapping[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


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
        elif isinstance(called, dict):
            _ask(message, called.get("id"), called.get("name"), called.get("args"))
        elif isinstance(answered, dict):
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
    if isinstance(value, dict | list):
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


class _FlatMessage(NamedTuple):
    """Keys of one message: of each call those of id, tool and arguments; and of a result, empty if it brings none."""

    calls: tuple[tuple[str, str, str], ...]
    result_of: str
    result: str


class _FlatForm(NamedTuple):
    """The messages, in order, of which a span has keys by one vocabulary, and how many of them may bring a result."""

    messages: tuple[_FlatMessage, ...]
    results: int


def _flat_forms(attributes: Attributes, forms: tuple[_FlatKeys, ...]) -> tuple[_FlatForm, ...]:
    shape = attributes.shape()
    return _known_forms(shape, forms) if len(shape) <= _MOST_KEYS else _forms_in(shape, forms)


def _forms_in(shape: tuple[str, ...], forms: tuple[_FlatKeys, ...]) -> tuple[_FlatForm, ...]:
    found = ([*_messages_in(shape, form)] for form in forms)
    return tuple(
        _FlatForm(tuple(messages), sum(bool(message.result_of) for message in messages))
        for messages in found
        if messages
    )


_known_forms = lru_cache(maxsize=1024)(_forms_in)
"""Bounded, as the shapes that it keeps are (`_MOST_KEYS`): keys come from the network."""


def _messages_in(shape: tuple[str, ...], form: _FlatKeys) -> Iterator[_FlatMessage]:
    prefix = form.message.partition("{")[0]
    own = frozenset(key for key in shape if key.startswith(prefix))
    numbers = {
        int(number)
        for key in own
        if (number := key[len(prefix) :].partition(".")[0]).isdecimal() and len(number) < _LONGEST_NUMBER
    }
    for index in sorted(numbers):
        message_key = form.message.format(index)
        calls: list[tuple[str, str, str]] = []
        for place in range(_MOST_ASKED):
            call_key = message_key + form.call.format(place)
            if call_key + form.tool not in own:
                break
            calls.append((call_key + form.id, call_key + form.tool, call_key + form.arguments))
        result_of = message_key + form.result_of
        yield _FlatMessage(tuple(calls), result_of if result_of in own else "", message_key + form.result)


def _flat(attributes: Attributes, form: _FlatForm) -> Iterator[Messages]:
    """Yield messages that have a key for each value."""
    get = attributes.get
    for keys in form.messages:
        message = Messages([], [])
        for identifier, tool_key, arguments in keys.calls:
            tool = get(tool_key)
            if tool is None:
                break
            _ask(message, get(identifier), tool, get(arguments))
        if keys.result_of and (answered := get(keys.result_of)):
            _answer(message, answered, None, get(keys.result))
        yield message
