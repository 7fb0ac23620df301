"""What became of a call: whether an answer began, what it bought beside tokens, and what its span may leave out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from http import HTTPStatus
from typing import Any

from spanledger_processor.dialects import texts
from spanledger_processor.dialects.responses import (
    BOUGHT_MARKS,
    ESCAPED,
    MODALITY_MARKS,
    Response,
    bought_in,
    modalities_in,
)
from spanledger_processor.dialects.schema import Dialect, ScopedSpan
from spanledger_processor.dialects.usage import add_parts
from spanledger_processor.dialects.values import first_text
from spanledger_processor.model import Call

ERROR = 2
"""The status of a span that failed."""
OUTPUT = "gen_ai.output.messages"
_NO_MESSAGES = "[]"
"""The output of a request that was refused, in spans of OpenLLMetry's OpenAI responses."""
_MOST_CHOICES = 128
"""Events of choices that are compared; providers give no more choices to one call."""
_CHOICE = "gen_ai.choice"
"""The event of an answer, one a choice, in releases of the convention before 1.37."""
_BEGINNINGS = frozenset((_CHOICE, "First Token Stream Event", "llm.content.completion.chunk"))
"""Events of an answer: the convention's, and of a stream OpenInference's and OpenLLMetry's for its first piece."""
_RESPONSE_MODEL = "gen_ai.response.model"
_HTTP_STATUS = "http.response.status_code"
"""On a failed span of a call, 200 shows that the answer began: the AI SDK 7 keeps it of a stream that was cut."""
_REFUSALS = frozenset(range(HTTPStatus.BAD_REQUEST, 499)) - {HTTPStatus.REQUEST_TIMEOUT}
"""By these nothing was answered. After 408 and 499 (who asked did not wait) and a server's failure the model may have:
LiteLLM gives 408 to a timeout of its own and 500 to a connection that broke.
"""
_EXCEPTION = "exception"
"""The event of an exception."""
_ERROR_TYPES = ("error.type", "exception.type")
_ERROR_TEXTS = ("exception.message", "error.message", "langfuse.observation.status_message")
"""OpenInference for JavaScript and Langfuse tell an exception by its text alone."""
_UNREADABLE = frozenset(
    (
        *("ValidationError", "JSONDecodeError", "SyntaxError", "ZodError", "OutputParserException"),
        *("LengthFinishReasonError", "ContentFilterFinishReasonError", "APIResponseValidationError"),
        *("ResponseValidationError", "JSONSchemaValidationError", "UnexpectedModelBehavior"),
        *("AI_NoObjectGeneratedError", "AI_NoOutputGeneratedError", "AI_JSONParseError", "AI_TypeValidationError"),
    )
)
"""Exceptions of who could not read an answer as the object that was asked for. The answer was paid for, and SDKs and
LangChain raise them before an instrumentation has seen it. A few SDKs raise the first for a request of a wrong form as
well: it becomes a call without usage, where else an answer would be lost.
"""
_UNREADABLE_TEXT = re.compile(
    r"(?:\w*Error: )?(?:\d+ validation errors? for |Unexpected (?:token|end of JSON)|Expecting value: line "
    r"|Could not parse response content as )"
)
"""How their texts begin: Pydantic's, V8's, that of Python's `json`, and OpenAI's."""
_PAGE = re.compile(r"(?:\w*Error: )?Unexpected token '?<")
"""A page of HTML in place of JSON: of a proxy that failed."""
_TOOL_ROLE = (b'"tool"', ESCAPED)
_OUTPUT_TYPES = {"image": ("image",), "speech": ("audio",), "audio": ("audio",), "video": ("video",)}
"""Values of `gen_ai.output.type` that are no text, and the modality of each."""


def read_outcome(call: Call, dialect: Dialect, view: ScopedSpan) -> None:
    """Note whether the answer of a call began, what it bought, and that it may have used more than is reported."""
    call.answered = _has_begun(call, dialect, view)
    if call.usage is None or call.kind != "llm":
        return
    doubt_several_answers(call, dialect, view)
    if dialect.offers:
        _add_offered(call, dialect, view)
    if OUTPUT in dialect.answered:
        add_bought(call, bought_in(view.attributes.marked(OUTPUT, BOUGHT_MARKS)))
        add_shown(call, modalities_in(view.attributes.marked(OUTPUT, MODALITY_MARKS)))
    if dialect.output_type:
        add_shown(call, _OUTPUT_TYPES.get(first_text(view, dialect.output_type).lower(), ()))
    if view.status_code == ERROR:
        call.estimate = True
        call.note = call.note or "it ended in an error: the answer may have been cut before all usage was told"


def _has_begun(call: Call, dialect: Dialect, view: ScopedSpan) -> bool:
    """Return whether an answer began, so that a failed request is a call.

    Its model is none of the evidence where it is the one that was asked for: several libraries copy that one. Nor is an
    id where the HTTP status says that the request was refused: LiteLLM gives every call one of its own.
    """
    failed, keys = view.status_code == ERROR, dialect.answered
    if failed and view.attributes.get(OUTPUT) == _NO_MESSAGES:
        keys = tuple(key for key in keys if key != OUTPUT)
    status = view.attributes.get(_HTTP_STATUS) if failed else None
    if failed and (_is_refusal(status) or (dialect.refused is not None and dialect.refused(view))):
        return False
    if failed and call.response_model == call.request_model:
        keys = tuple(key for key in keys if key != _RESPONSE_MODEL)
    return bool(
        call.response_id
        or any(map(view.attributes.is_filled, keys))
        or status == HTTPStatus.OK
        or any(event.name in _BEGINNINGS for event in view.events)
        or (failed and _is_unreadable(view))
    )


def _is_unreadable(view: ScopedSpan) -> bool:
    """Return whether a call failed because its answer could not be read as what was asked for."""
    places = [view.attributes, *(event.attributes for event in view.events if event.name == _EXCEPTION)]
    reasons = [str(text) for one in places for key in _ERROR_TEXTS if (text := one.get(key)) is not None]
    names = {
        str(name).rpartition(".")[2] for one in places for key in _ERROR_TYPES if (name := one.get(key)) is not None
    }
    if any(map(_PAGE.match, reasons)):
        return False
    return not names.isdisjoint(_UNREADABLE) or any(map(_UNREADABLE_TEXT.match, reasons))


def _is_refusal(status: Any) -> bool:
    return isinstance(status, int) and status in _REFUSALS


def doubt_several_answers(call: Call, dialect: Dialect, view: ScopedSpan) -> None:
    """Doubt usage beside more answers than one call gives, as messages show it, or two events of one choice."""
    choices = [event.attributes.get("index") for event in view.events if event.name == _CHOICE][:_MOST_CHOICES]
    repeated = any(isinstance(index, int) and choices.count(index) > 1 for index in choices)
    if repeated or (OUTPUT in dialect.answered and _turns(view.attributes.marked(OUTPUT, _TOOL_ROLE)) > 1):
        call.estimate = True
        call.note = call.note or "its output holds several answers of the model: usage may be of the last one only"


def _turns(messages: Any) -> int:
    """Return how many answers of a model a list of messages holds: between two is a message of a tool or user."""
    if not isinstance(messages, str | list) or (isinstance(messages, str) and '"tool"' not in messages):
        return 0
    parsed = texts.parse(messages)
    turns, open_turn = 0, False
    for message in parsed if isinstance(parsed, list) else []:
        role = message.get("role") if isinstance(message, dict) else None
        answered = role in ("assistant", "model")
        turns += answered and not open_turn
        open_turn = answered or (open_turn and role not in ("tool", "user"))
    return turns


def add_bought(call: Call, response: Response) -> None:
    """Add the items that are sold per call from the answer, where no count has them."""
    add_parts(call, response)
    call.unclassed = tuple(dict.fromkeys((*call.unclassed, *response.terms.unclassed)))


def add_shown(call: Call, modalities: Iterable[str]) -> None:
    """Doubt the price of a call whose output is of another modality than text, where no count has its size."""
    for modality in modalities:
        what = f"{modality} output"
        if getattr(call.usage, f"output_{modality}", None) is None and what not in call.unclassed:
            call.unclassed = (*call.unclassed, what)


_SOLD_TOOLS = {
    "web_search": "web searches",
    "google_search": "web searches",
    "file_search": "file searches",
    "code_interpreter": "code executions",
    "code_execution": "code executions",
    "image_generation": "generated images",
    "google_maps": "map searches",
}
"""Beginnings of the names of tools, and what their calls are sold as."""
_READING_TOOLS = ("url_context", "web_fetch")
"""Beginnings of the names of tools that cost no more than the tokens that they put into the prompt."""
_TOOL_MARKS = (*(name.encode() for name in (*_SOLD_TOOLS, *_READING_TOOLS)), ESCAPED)
_APPLICATIONS = frozenset(("function", "custom"))
_MOST_TOOLS = 256
_TELLS_TOOLS = "logfire.anthropic"
"""The scope of a library that tells how often Anthropic's tools were used."""
_ADDS_PROMPTS = "opentelemetry.instrumentation.google"
"""The beginning of scopes of libraries that tell what such tools put into the prompt in the total alone."""


def _add_offered(call: Call, dialect: Dialect, view: ScopedSpan) -> None:
    """Doubt the price of a call that was offered tools that the provider runs, of whose use its span cannot tell.

    They are sold by the call, or put what they found into the prompt.
    """
    if view.scope_name == _TELLS_TOOLS:
        return
    offered: tuple[str, ...] = ()
    for key in dialect.offers:
        offered += view.attributes.derived(key, _TOOL_MARKS, _offered) or ()
    sold = [what for name in offered for beginning, what in _SOLD_TOOLS.items() if name.startswith(beginning)]
    doubted = [what for what in sold if getattr(call.usage, what.replace(" ", "_"), None) is None]
    if offered and view.scope_name.startswith(_ADDS_PROMPTS):
        doubted.append("tokens of tools")
    call.unclassed = tuple(dict.fromkeys((*call.unclassed, *doubted)))


def _offered(value: Any) -> tuple[str, ...]:
    """Return the names of the tools in a list of definitions that the provider runs."""
    parsed = texts.parse(value)
    return tuple(_names(parsed)) if isinstance(parsed, list) else ()


def _names(definitions: list[Any]) -> Iterator[str]:
    """Yield names: OpenAI and Anthropic give such a tool a type of its own, Google's is an object under its name.

    OpenLLMetry keeps the name alone, and of the application's tools what describes their arguments as well. The AI SDK
    tells the use of OpenAI's and Anthropic's tools, and not that of Google's.
    """
    for tool in definitions[:_MOST_TOOLS]:
        if not isinstance(tool, Mapping):
            continue
        kind, name = tool.get("type"), tool.get("name")
        alone = name if len(tool) == 1 else None
        named = kind if kind not in _APPLICATIONS else None
        if kind == "provider":
            named = name if str(tool.get("id")).startswith("google.") else None
        candidates = (named or alone,) if "type" in tool or "name" in tool else tuple(tool)
        yield from (
            one for one in candidates if isinstance(one, str) and one.startswith((*_SOLD_TOOLS, *_READING_TOOLS))
        )
