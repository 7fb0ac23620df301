"""Reads providers' responses that a span keeps, as objects or as text: usage, and terms of the price.

Input attributes are never looked at: they hold other calls' responses. Text that a model wrote stands in a response
with its quotes escaped, so that no pattern here meets it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeAlias

from msgspec import Struct, field

from spanledger_processor.dialects import texts
from spanledger_processor.dialects.normalize import UNREAD, Terms
from spanledger_processor.dialects.schema import ScopedSpan, UsageText
from spanledger_processor.dialects.usage_objects import ParsedUsage, read_usage
from spanledger_processor.dialects.usage_shapes import STANDARD

_RESPONSE = frozenset({"choices", "usage", "object", "stop_reason"})
"""Keys that only a provider's whole response has at its top."""
_IDS = re.compile(r"""["']id["']\s{0,4}:\s{0,4}["']((resp_|chatcmpl-|msg_)[\w-]{8,120})["']""")
_ID_KEYS = ('"id', "'id")
"""What every match of `_IDS` begins with."""
_NAMES_ID = ("resp_", "chatcmpl-", "msg_")
"""How the ids of responses begin. OpenAI's hold messages with ids of their own, so that those come last."""
ID_MARKS = tuple(beginning.encode() for beginning in _NAMES_ID)
_SHORT = 4096
"""Characters of a text that may be a usage object and nothing else."""
_COUNTS = ("_token", "Token", "search_units")
_EARLY = 100
"""Characters in which a usage object has named its first count."""
_TIER = re.compile(
    r"""\b(?:service_tier|serviceTier)(?:["']\s{0,4}:\s{0,4}(?:\{\s{0,4}["']type["']\s{0,4}:\s{0,4})?|=)["'](\w{1,32})["']"""
)
_TIERS = ("service_tier", "serviceTier")
_LATENCY = re.compile(
    r"""\bperformanceConfig["']\s{0,4}:\s{0,4}\{\s{0,4}["']latency["']\s{0,4}:\s{0,4}["'](\w{1,32})["']"""
)
_SOLD_BY_THE_CALL = {
    "web_search_call": "web_searches",
    "file_search_call": "file_searches",
    "code_interpreter_call": "code executions",
    "image_generation_call": "generated images",
    "shell_call": "containers",
}
"""Output items of OpenAI's responses (https://platform.openai.com/docs/api-reference/responses/object), and what each
is: a usage class, or something without one."""
_CLASSES = frozenset({"web_searches", "file_searches"})
_NO_SEARCH = frozenset({"open_page", "find", "find_in_page", "openPage", "findInPage"})
"""Actions of a web search call that OpenAI does not charge as a search; the last two in the words of the AI SDK."""
_QUERIES = ("webSearchQueries", "web_search_queries")
"""Google's grounding (https://ai.google.dev/gemini-api/docs/google-search): the searches that were made."""
_MAPS, _RETRIEVALS = "map searches", "retrievals"
_CHUNKS = {"maps": _MAPS, "retrievedContext": _RETRIEVALS, "retrieved_context": _RETRIEVALS}
"""Sources of Google's grounding that have a price of their own, and no class."""
_OWN_DATA = ("retrievalQueries", "retrieval_queries")
_LISTS_OF_CHUNKS = ("groundingChunks", "grounding_chunks")
_GROUNDS = frozenset((*_QUERIES, *_OWN_DATA, *_LISTS_OF_CHUNKS))
_Grounding: TypeAlias = tuple[tuple[int | str, ...], ...]
_MAY_BE_ITEMS = ("_call", "earch", "server_tool_use", "etrieval", "unding")
"""One of them stands in every text of something that is sold by the call."""
_ITEM_MARKS = (*_SOLD_BY_THE_CALL, *_QUERIES, *_OWN_DATA, *_LISTS_OF_CHUNKS)
_BLOCK = re.compile(r"""\btype(?:["']\s{0,4}:\s{0,4}|=)["']server_tool_use["']""")
_ITEM = re.compile(r"""\btype(?:["']\s{0,4}:\s{0,4}|=)["'](\w{1,32}_call|open_page|find|find_in_page)["']""")
_UNREAD = re.compile(r"""\bstop_reason(?:["']\s{0,4}:\s{0,4}null|["']\s{0,4}:\s{0,4}None|=None)\b""")
_READ = re.compile(r"""\b(?:stop|finish)_reason(?:["']\s{0,4}:\s{0,4}|=)["']""")
_ENDS = ("stop_reason", "finish_reason")
_FUNCTIONS = re.compile(
    r"""["']automatic(?:_function_calling_history|FunctionCallingHistory)["']\s{0,4}:\s{0,4}\[\s{0,4}\{"""
)
"""Google's SDK makes as many calls as a model asks for functions, and returns the last response (google-genai,
`Models.generate_content`)."""
_SERVER_TOOLS = ("server_tool_call", "server_tool_use")
_RAN_BY_THE_PROVIDER = ("builtin", *_SERVER_TOOLS, "tool_call_response", *_SOLD_BY_THE_CALL)
BOUGHT_MARKS = tuple(mark.encode() for mark in _RAN_BY_THE_PROVIDER)
"""Output messages in whose text none of these stands tell of nothing that was bought."""
_FREE = ("fetch", "tool_search", "mcp")
"""Words in the names of tools that cost no more than their tokens."""
_LONGEST_NAME = 64
MODALITIES = ("image", "audio", "video")
_TELLS_MODALITY = ("modality", "mime_type", "media_type")
MODALITY_MARKS = tuple(mark.encode() for mark in _TELLS_MODALITY)
"""Output messages in whose text none of these stands are text alone."""
ESCAPED = b"\\u00"
"""Begins an ASCII character that JSON has escaped: a key may be spelled so."""
_TELLS = (
    *("stop_sequence", "usage", "Usage", "billed_units", *_COUNTS),
    *("service_tier", "serviceTier", "performanceConfig", "automatic_function", "automaticFunction"),
    *(*_SOLD_BY_THE_CALL, "server_tool_use", *_QUERIES, *_OWN_DATA, *_LISTS_OF_CHUNKS),
)
_TEXT_MARKS = tuple(mark.encode() for mark in _TELLS)
"""A text in which none of these stands tells nothing of a call: no usage, no terms, nothing that was bought."""
_OBJECT_MARKS = (*_TEXT_MARKS, b"llm_output", ESCAPED)
"""Likewise, of a text that is parsed as a whole."""
_MODEL_MARKS = (b'"model"', b"'model'", ESCAPED)
"""A text in which none of these stands names no model under a key of its objects."""
_MAX_NODES = 4000
_NESTED = (dict, list)


class Response(Struct):
    """The responses on a span: their usage objects, best place first, and the terms and items beside these."""

    usages: list[ParsedUsage] = field(default_factory=list)
    terms: Terms = field(default_factory=Terms)
    parts: dict[str, int] = field(default_factory=dict)


def read_response(view: ScopedSpan, locations: tuple[UsageText, ...]) -> Response:
    """Read the responses at `locations`; those that hold the span's own usage are not responses."""
    response = Response()
    for location in locations:
        if location.whole:
            continue
        value = _value(view, location)
        if value is None or value == "":
            continue
        if location.mixed:
            _read_answer(texts.parse(value), response)
            continue
        response.usages += _usages(value, location)
        written = value if isinstance(value, str) else texts.written(value)
        if written:
            _read_text(written, response)
    return response


def sold_by_the_call(kinds: Iterable[str]) -> Response:
    """Return the units that output items of these types are sold as, where the items themselves are not there.

    Not every item of a search is charged as one, so that its price is unsure.
    """
    response = Response()
    _add_items((kind for kind in kinds if kind in _SOLD_BY_THE_CALL), response)
    if "web_searches" in response.parts:
        response.terms.unclassed += ("web searches",)
    return response


def answer_id(value: Any) -> str:
    """Return the id of the one response that a text holds, "" where it holds none, or several."""
    if not isinstance(value, str) or len(value) > texts.MAX_WHOLE:
        return ""
    identifiers = {match[1]: match[2] for match in texts.matches(_IDS, value, _ID_KEYS)}
    for beginning in _NAMES_ID:
        ids = [identifier for identifier, begins in identifiers.items() if begins == beginning]
        if ids:
            return ids[0] if len(ids) == 1 else ""
    return ""


def is_response(value: Any) -> bool:
    """Return whether an object is a provider's whole response, by keys that it has at its top."""
    return isinstance(value, dict) and not _RESPONSE.isdisjoint(value)


def _read_answer(value: Any, response: Response) -> None:
    """Read a whole response, or the list of the items of one's output, also as a message's content; nothing else."""
    if isinstance(value, dict) and value.get("role") == "assistant" and isinstance(value.get("content"), list):
        value = value["content"]
    kinds = (
        [item.get("type") if isinstance(item, dict) else None for item in value[:_MAX_NODES]]
        if isinstance(value, list)
        else []
    )
    listed = bool(kinds) and all(isinstance(kind, str) for kind in kinds)
    if is_response(value):
        response.usages += [parsed for item in usages_in(value) if (parsed := read_usage(item)) is not None]
    if listed or is_response(value):
        _add_items(_items(value), response)


def models_in(view: ScopedSpan, locations: tuple[UsageText, ...]) -> set[str]:
    """Return the models beside usage in the responses on a span."""
    models: set[str] = set()
    for location in locations:
        value = inside(view, location) if location.path else view.attributes.marked(location.key, _MODEL_MARKS)
        stack, nodes = [texts.parse(value)], 0
        while stack and nodes < _MAX_NODES:
            node = stack.pop()
            nodes += 1
            inner = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
            stack += [one for one in inner if isinstance(one, _NESTED)]
            if isinstance(node, dict) and isinstance(node.get("model"), str) and not USAGE_KEYS.isdisjoint(node):
                models.add(node["model"])
    return models


def inside(view: ScopedSpan, location: UsageText) -> Any:
    """Return the value that a place leads to, parsed."""
    value = (
        view.attributes.marked(location.key, marks_of(location.path))
        if location.path
        else view.attributes.get(location.key)
    )
    value = texts.parse(value)
    for step in location.path:
        if not isinstance(value, dict):
            return None
        value = texts.parse(value.get(step))
    return value


def marks_of(path: tuple[str, ...]) -> tuple[bytes, ...]:
    """Return the marks that every JSON text contains in which a path leads to something."""
    return path[-1].encode(), ESCAPED


def _value(view: ScopedSpan, location: UsageText) -> Any:
    if location.path:
        return inside(view, location)
    value = view.attributes.marked(location.key, _OBJECT_MARKS if location.mixed else _TEXT_MARKS)
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    return value if isinstance(value, str) else texts.parse(value)


def _usages(value: Any, location: UsageText) -> list[ParsedUsage]:
    """Return the usage objects in what stands at a place, or that itself, outermost first."""
    if isinstance(value, str) and not location.path:
        itself = _usage_itself(value)
        if itself is not None:
            return [itself]
        found: Iterable[Mapping[str, Any]] = texts.usages(value)
    else:
        found = (value, *usages_in(value)) if isinstance(value, dict) else usages_in(value)
    parsed: list[ParsedUsage] = []
    before: Mapping[str, Any] | None = None
    usage: ParsedUsage | None = None
    for item in found:
        if item != before:  # LangChain writes the same object twice
            before, usage = item, read_usage(item)
        if usage is not None:
            parsed.append(usage)
    return parsed


def _usage_itself(value: str) -> ParsedUsage | None:
    if len(value) > _SHORT or not texts.holds(value[:_EARLY], _COUNTS):
        return None
    parsed = texts.parse(value)
    return read_usage(parsed) if isinstance(parsed, dict) else None


def _read_text(value: str, response: Response) -> None:
    if len(value) > texts.MAX_SEARCHED:
        return
    if "service_tier" in value or "serviceTier" in value:
        named = (match[1].lower() for match in texts.matches(_TIER, value, _TIERS))
        tiers = {"" if tier in STANDARD else tier for tier in named}
        if len(tiers) == 1:
            response.terms.context.setdefault("service_tier", tiers.pop())
        elif tiers:
            response.terms.doubt = "the response names several service tiers"
    latency = _LATENCY.search(value) if "performanceConfig" in value else None
    if latency is not None:
        response.terms.context.setdefault("speed", "" if latency[1].lower() in STANDARD else latency[1].lower())
    if "stop_sequence" in value and _is_unread(value):
        response.terms.doubt = UNREAD
    if "automatic" in value and _FUNCTIONS.search(value):
        response.terms.doubt = "automatic function calling made several calls: usage is of the last one"
    if texts.holds(value, _MAY_BE_ITEMS):
        _read_items(value, response)


def _is_unread(value: str) -> bool:
    """Return whether a message of Anthropic's has no reason for its end: the last event of a stream brings it."""
    return any(texts.matches(_UNREAD, value, _ENDS[:1])) and not any(texts.matches(_READ, value, _ENDS))


def _read_items(value: str, response: Response) -> None:
    blocks = "server_tool_use" in value and _BLOCK.search(value) is not None
    if not (blocks or texts.holds(value, _ITEM_MARKS)):
        return
    parsed = texts.parse(value)
    if parsed is not None:
        kinds = list(_items(parsed))
    else:
        types = [match[1] for match in _ITEM.finditer(value)]
        kinds = [kind for kind in types if kind in _SOLD_BY_THE_CALL]
        for _ in range(min(kinds.count("web_search_call"), sum(kind in _NO_SEARCH for kind in types))):
            kinds.remove("web_search_call")
        kinds += ["server-side tools"] * blocks
    _add_items(kinds, response)


def _add_items(kinds: Iterable[str], response: Response) -> None:
    for kind in kinds:
        what = _SOLD_BY_THE_CALL.get(kind, kind)
        if what in _CLASSES:
            response.parts[what] = response.parts.get(what, 0) + 1
        elif what not in response.terms.unclassed:
            response.terms.unclassed += (what,)


def _items(root: Any) -> Iterator[str]:
    """Yield the kinds of the items that are sold by the call, each item once: some libraries repeat them."""
    seen: set[str] = set()
    grounded: set[_Grounding] = set()
    stack, nodes = [root], 0
    while stack and nodes < _MAX_NODES:
        node = stack.pop()
        nodes += 1
        if isinstance(node, list):
            stack += [inner for inner in node if isinstance(inner, _NESTED)]
        if not isinstance(node, dict):
            continue
        stack += [inner for inner in node.values() if isinstance(inner, _NESTED)]
        kind, action, item = node.get("type"), node.get("action"), node.get("id")
        if isinstance(kind, str) and kind in _SOLD_BY_THE_CALL and not (isinstance(item, str) and item in seen):
            seen.add(item if isinstance(item, str) else f"{nodes}")
            if not is_no_search(action):
                yield kind
        elif kind == "server_tool_use" and not (isinstance(item, str) and item in seen):
            seen.add(item if isinstance(item, str) else f"{nodes}")
            yield from _used(node.get("name"), node.get("input"))
        if not _GROUNDS.isdisjoint(node) and (grounding := _content_of(node)) not in grounded:
            grounded.add(grounding)  # LangChain has that of an answer twice, with it and in its message
            yield from _grounding(node)


def _content_of(node: Mapping[str, Any]) -> _Grounding:
    """Return what tells a grounding from others: its searches, and how many sources it has. No list in it is gone into:
    groundings may stand in one another.
    """
    lists = [listed if isinstance(listed := node.get(key), list) else [] for key in _GROUNDS]
    return tuple((len(listed), *(one for one in listed if isinstance(one, str))) for listed in lists)


def _grounding(node: Mapping[str, Any]) -> Iterator[str]:
    for key in _QUERIES:
        queries = node.get(key)
        if isinstance(queries, list):
            yield from ("web_searches" for query in queries if isinstance(query, str))
    if any(isinstance(queries := node.get(key), list) and queries for key in _OWN_DATA):
        yield _RETRIEVALS
    chunks = next((listed for key in _LISTS_OF_CHUNKS if (listed := node.get(key))), None)
    for chunk in chunks if isinstance(chunks, list) else ():
        yield from (what for key, what in _CHUNKS.items() if isinstance(chunk, dict) and chunk.get(key))


def _used(name: Any, arguments: Any) -> Iterator[str]:
    """Yield what one use of a tool that the provider ran is sold as: a class, or the tool's name."""
    named = name if isinstance(name, str) else ""
    arguments = texts.parse(arguments)
    about: Mapping[str, Any] = arguments if isinstance(arguments, dict) else {}
    if "web_search" in named or "google_search" in named:
        queries = about.get("queries")
        if not is_no_search(about):
            yield from ["web_searches"] * (len(queries) if isinstance(queries, list) and queries else 1)
    elif "file_search" in named:
        yield "file_searches"
    elif named and not any(free in named for free in _FREE):
        yield named[:_LONGEST_NAME]


def is_no_search(about: Any) -> bool:
    """Return whether arguments or the result of a search tool name an action of OpenAI's that is not charged as one."""
    about = texts.parse(about)
    action = about.get("action", about) if isinstance(about, dict) else None
    return isinstance(action, dict) and str(action.get("type")) in _NO_SEARCH


def modalities_in(messages: Any) -> tuple[str, ...]:
    """Return the modalities beside text of the parts of output messages."""
    if isinstance(messages, str) and not any(mark in messages for mark in _TELLS_MODALITY):
        return ()
    parsed, modalities = texts.parse(messages), dict[str, None]()
    for message in parsed if isinstance(parsed, list) else []:
        answers = isinstance(message, dict) and message.get("role") in ("assistant", "model")
        parts = message.get("parts") if answers else None
        for part in parts if isinstance(parts, list) else []:
            values = [part.get(key) for key in _TELLS_MODALITY] if isinstance(part, dict) else []
            kinds = (value.partition("/")[0] for value in values if isinstance(value, str))
            modalities.update((kind, None) for kind in kinds if kind in MODALITIES)
    return tuple(modalities)


def bought_in(messages: Any, *, results_tell: bool = False) -> Response:
    """Return what the tools that a provider ran are sold as, from a list of output messages.

    They are parts of the answer: of a type of their own in the convention, marked `builtin` by Pydantic AI. With
    `results_tell`, a call whose result is in the same message is one, too.
    """
    response = Response()
    if isinstance(messages, str) and not any(mark in messages for mark in _RAN_BY_THE_PROVIDER):
        return response
    parsed, seen = texts.parse(messages), set[str]()
    for message in parsed if isinstance(parsed, list) else []:
        parts = message.get("parts") if isinstance(message, dict) else None
        parts = [part for part in parts if isinstance(part, dict)] if isinstance(parts, list) else []
        answered = (part for part in parts if results_tell and part.get("type") == "tool_call_response")
        results = {item: part.get("response") for part in answered if isinstance(item := part.get("id"), str)}
        for part in parts:
            kind, item = part.get("type"), part.get("id")
            called = kind == "tool_call" and (
                part.get("builtin") is True or (isinstance(item, str) and item in results)
            )
            if isinstance(kind, str) and kind in _SOLD_BY_THE_CALL:
                _add_items(_items(part), response)
            elif (called or kind in _SERVER_TOOLS) and not (isinstance(item, str) and item in seen):
                seen.add(item if isinstance(item, str) else f"{len(seen)}")
                if isinstance(item, str) and is_no_search(results.get(item)):
                    continue
                server_call = part.get("server_tool_call")
                about = server_call if isinstance(server_call, dict) else {}
                _add_items(_used(part.get("name") or about.get("type"), part.get("arguments") or about), response)
    return response


USAGE_KEYS = frozenset(
    {
        "usage",
        "usage_metadata",
        "usageMetadata",
        "token_usage",
        "tokenUsage",
        "usage_object",
        "llm_output",
        "billed_units",
    }
)


def usages_in(value: Any, *, depth: int = 8, nodes: int = 400) -> Iterator[Mapping[str, Any]]:
    """Yield the objects that a nested value holds under a key for usage, outermost first, among its first `nodes`."""
    level: list[Any] = [value]
    for _ in range(depth):
        below: list[Any] = []
        for node in level:
            nodes -= 1
            if nodes < 0:
                return
            if isinstance(node, dict):
                for key, inner in node.items():
                    if isinstance(inner, dict):
                        if key in USAGE_KEYS:
                            yield inner
                        below.append(inner)
                    elif isinstance(inner, list):
                        below.append(inner)
            elif isinstance(node, list):
                below += [inner for inner in node[:64] if isinstance(inner, dict | list)]
        level = below
