"""The attributes that hold content, by the table that each vocabulary declares (`schema.ContentKeys`).

Keys that a dialect reads for something else, and those listed as plain, hold none. Under a prefix of a GenAI vocabulary
every other key holds content. Elsewhere on a GenAI span or log record an unknown key does if one of its words says so
(`_WORDS`) or names a user, or if its value reads like prose or is an object.

The same tables tell which values nothing here reads, so that a client may send those keys without
(`unread_values`, processor/collector/enrich.proto). Where a dialect reads such a key all the same, its detection is the
exception. A tool's arguments and result are read of tool executions only, so a span that names another kind is an
exception from that. What a model is sent is read where it may hold enough results of tools for a loop (`read_values`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from itertools import chain
from typing import Final, Literal, TypeAlias, get_args

from spanledger_processor.dialects import registry
from spanledger_processor.dialects.asked_tools import read_inputs
from spanledger_processor.dialects.keys import keys_of
from spanledger_processor.dialects.log_events import LOG_MARKERS
from spanledger_processor.dialects.registry import CONTENT_KEYS, DIALECTS, MARKERS
from spanledger_processor.dialects.schema import NO_CLASSES, NO_TOOL, ContentClass, Detection, Dialect, Keys

CLASSES: Final[tuple[ContentClass, ...]] = get_args(ContentClass)
UNKNOWN: Final = frozenset[ContentClass]()
"""Content of a class that no table tells."""

Verdict: TypeAlias = frozenset[ContentClass] | Literal["plain", "by its value"]
"""The classes of a key's content (`UNKNOWN` where no table tells them), none, or what depends on the value."""

_PREFIXES = tuple(sorted({prefix for content in CONTENT_KEYS for prefix in content.prefixes}))
_NAMED = tuple(scope for content in CONTENT_KEYS for scope in content.spans_named_by_content)
_GENAI = tuple(marker.decode() for marker in (*MARKERS, *LOG_MARKERS))
_USERS: frozenset[ContentClass] = frozenset({"user_ids"})
_KEPT = 8192
_SHAPES_KEPT, _MOST_KEYS = 1024, 256
"""Likewise of spans' shapes, of so many keys at most."""
_LONGEST = 256
_LONGEST_NAME, _MOST_WORDS = 100, 6
"""A longer name of a span or event is no name that a library gives."""


def _split(keys: Iterable[str]) -> tuple[frozenset[str], tuple[re.Pattern[str], ...]]:
    """Return exact keys, and patterns for those with a `*`."""
    keys = list(keys)
    patterns = tuple(re.compile(".*".join(map(re.escape, key.split("*")))) for key in keys if "*" in key)
    return frozenset(key for key in keys if "*" not in key), patterns


_CLASSES: dict[str, frozenset[ContentClass]] = {}
_plain_keys = [key for content in CONTENT_KEYS for key in content.plain]
for _content in CONTENT_KEYS:
    for _key, _of in (*_content.unread.items(), *_content.keys.items()):
        if _of == NO_CLASSES:
            _plain_keys.append(_key)
        else:
            _CLASSES[_key] = _CLASSES.get(_key, frozenset()).union(_of)
for _dialect in DIALECTS:
    for _key in _dialect.tool.arguments:
        _CLASSES.setdefault(_key, frozenset({"tool_arguments"}))
    for _key in _dialect.tool.result:
        _CLASSES.setdefault(_key, frozenset({"tool_results"}))
_PATTERNS = [(_split([key])[1][0], classes) for key, classes in _CLASSES.items() if "*" in key]
_PLAIN, _PLAIN_PATTERNS = _split(_plain_keys)
_GROUPING = (registry.SESSION_KEYS, registry.SESSION_PARENT_KEYS, registry.RUN_KEYS, registry.AGENT_KEYS)
_MORE_GROUPING = (registry.AGENT_PARENT_KEYS, registry.TASK_ID_KEYS, registry.TASK_KIND_KEYS)
_READ = frozenset(
    (*(key for dialect in DIALECTS for key in keys_of(dialect)), *chain.from_iterable(_GROUPING + _MORE_GROUPING))
).difference(
    {"", *(key for dialect in DIALECTS for key in (*dialect.answered, *dialect.asked_in, *dialect.served_in))},
    (row.key for dialect in DIALECTS for row in (*dialect.usage_texts, *dialect.fallback_texts)),
)
"""Keys of ids, names, counts and costs: what dialects read, but for answers and objects, which hold more than that."""

_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
_WORDS = frozenset(
    word
    for line in (
        "answer answers argument arguments args body command completion completions content contents",
        "conversation description document documents history input inputs instruction instructions message",
        "messages output outputs payload prompt prompts query question reasoning reply response result",
        "results text texts thought thinking transcript utterance",
    )
    for word in line.split()
)
_NO_CONTENT = frozenset(
    word
    for line in (
        "bytes code cost count format hash id ids index kind length limit mime ms model name role seconds",
        "size source status time timestamp token tokens type usage usd uuid version",
    )
    for word in line.split()
)
"""Last words of keys that count, name or type what the words before them say."""
_USER_WORDS = frozenset({"user", "userid", "username", "enduser", "email"})
_OF_USERS = frozenset({"address", "display", "full", "hash", "id", "ids", "login", "mail", "name", "uuid"})
_MEASURES = frozenset({"cost", "count", "cpu", "duration", "ms", "seconds", "time", "tokens", "usage", "usd"})
"""Words of what is measured of a user, or of the mode that processors call so (`cpu_usage_user`)."""
_ELSEWHERE = (
    *("client.", "cloud.", "code.", "container.", "db.", "deployment.", "device.", "host.", "http.", "k8s.", "net."),
    *("network.", "os.", "otel.", "peer.", "process.", "rpc.", "server.", "service.", "session.", "telemetry."),
    *("thread.", "url.", "user_agent.", "spanledger."),
)
"""Namespaces of OpenTelemetry's other conventions, and our own."""
_PARTS = (".role", ".finish_reason", ".mime_type", ".type", "_type", ".id", ".tool_call_id", ".function.name", ".score")
"""Ends of keys below a message: what it is, not what it says."""


def _verdict(key: str) -> Verdict:
    if (classes := _CLASSES.get(key)) is not None:
        return classes
    if key in _PLAIN or key in _READ:
        return "plain"
    matches = [classes for pattern, classes in _PATTERNS if pattern.fullmatch(key)]
    if matches and not key.endswith(_PARTS):
        known = frozenset[ContentClass]().union(*matches)
        return known if not any(pattern.fullmatch(key) for pattern in _PLAIN_PATTERNS) or _narrower(key) else "plain"
    if matches or any(pattern.fullmatch(key) for pattern in _PLAIN_PATTERNS):
        return "plain"
    if key.startswith(_PREFIXES):
        return UNKNOWN
    return "plain" if key.startswith(_ELSEWHERE) else "by its value"


def _narrower(key: str) -> bool:
    """Return whether a table of content names a longer beginning of a key than those of plain keys do."""
    content = max(len(pattern.pattern) for pattern, _ in _PATTERNS if pattern.fullmatch(key))
    return content > max(len(pattern.pattern) for pattern in _PLAIN_PATTERNS if pattern.fullmatch(key))


def verdict(key: str) -> Verdict:
    """Return the class of content that a key of a GenAI span or log record has by its name."""
    return _with_users(key) if len(key) <= _LONGEST else UNKNOWN


@lru_cache(_KEPT)
def _with_users(key: str) -> Verdict:
    """Return the verdict on a key, with the class of users where its words name one."""
    result = _verdict(key)
    if result == "plain" or not _says_user(key):
        return result
    if result == "by its value":
        return _USERS
    return (result or frozenset(CLASSES)) | _USERS


def _says_user(key: str) -> bool:
    """Return whether the words of a key end with a user, or an identifier of one: `acme.userId`, `x.user.email`."""
    words = [word.lower() for word in _WORD.findall(key)]
    while len(words) > 1 and words[-1] in _OF_USERS:
        words.pop()
    return bool(words) and words[-1] in _USER_WORDS and _MEASURES.isdisjoint(words)


def holds_content(key: str) -> bool:
    """Return whether a key holds content other than who a user is, or may do so."""
    result = verdict(key)
    return isinstance(result, frozenset) and result != _USERS


def tells_results(shape: tuple[str, ...]) -> bool:
    """Return whether one of a model call's keys may hold results of tools, as what a model is sent does."""
    return _kept_tells_results(shape) if len(shape) <= _MOST_KEYS else _tells_results(shape)


def _tells_results(shape: tuple[str, ...]) -> bool:
    return any(isinstance(result := verdict(key), frozenset) and "tool_results" in result for key in shape)


_kept_tells_results = lru_cache(_SHAPES_KEPT)(_tells_results)


def names_user(key: str) -> bool:
    """Return whether a key holds the id or name of a user."""
    result = verdict(key)
    return isinstance(result, frozenset) and "user_ids" in result


@lru_cache(_KEPT)
def says_content(key: str) -> bool:
    """Return whether a key that is in no table holds content, by its words."""
    words = [word.lower() for word in _WORD.findall(key)]
    return not _WORDS.isdisjoint(words) and words[-1] not in _NO_CONTENT


def is_prose(text: str) -> bool:
    """Return whether a text may be prose, or an object that holds prose; names and ids are not."""
    start = text.lstrip()[:1]
    return start in ("{", "[", "<") or "\n" in text or text.strip().count(" ") > 1


def names_genai(key: str) -> bool:
    """Return whether a key, a span's name or an event's name marks GenAI telemetry."""
    return key.startswith(_PREFIXES) or any(marker in key for marker in _GENAI)


def kept_of_name(name: str, scope: str) -> str | None:
    """Return what stays of a span's or event's name that may hold content; None where it holds none."""
    if scope.startswith(_NAMED) and "." in name:
        return name.rpartition(".")[2]
    if "\n" in name or len(name) > _LONGEST_NAME or len(name.split()) > _MOST_WORDS:
        return ""
    return None


@dataclass(frozen=True, slots=True)
class UnreadValue:
    """A key whose value is not read, and of which spans; `*` in it stands for digits.

    It is read of spans that hold one of `unless_keys`, or whose scope or name begins with one of `unless_scopes` or
    `unless_names`; but for those whose text under `where` is, in lower case, one of `values`.
    """

    key: str
    unless_keys: Keys = ()
    unless_scopes: Keys = ()
    unless_names: Keys = ()
    where: str = ""
    values: Keys = ()


@dataclass(frozen=True, slots=True)
class ReadValue:
    """A value under a key of `UnreadValue` that is read all the same where all holds that is set.

    `markers` stand in it, together `fewest` times or more, in no more characters than `longest`; of a list or an object
    they are looked for in keys and texts. `fewest` keys of the span are like `beside`, `same_place`: one of them with
    the same digits for its first `*`.
    """

    key: str
    fewest: int
    markers: Keys = ()
    longest: int = 0
    beside: str = ""
    same_place: bool = False


def read_values(fewest: int) -> tuple[ReadValue, ...]:
    """Return what of unread values is read for loops of `fewest` tool calls or more; nothing where there are none."""
    if not fewest:
        return ()
    return tuple(
        ReadValue(one.key, fewest, one.results, one.longest, one.result_key, one.is_result) for one in read_inputs()
    )


def unread_values(named: Iterable[str] = ()) -> tuple[UnreadValue, ...]:
    """Return what is not read; `named` are keys that a configuration reads."""
    read_anyway = frozenset(named)
    keys = sorted({key for content in CONTENT_KEYS for key in content.unread})
    read = [(dialect, _read_of_all_kinds(dialect), _read_of_tools(dialect)) for dialect in DIALECTS]
    return tuple(_unread(key, read) for key in keys if not _any(_pattern(key), read_anyway))


def _unread(key: str, read: Sequence[tuple[Dialect, frozenset[str], frozenset[str]]]) -> UnreadValue:
    """Return what is known of a key; `read` are the keys whose values each dialect reads: of all kinds, of tools."""
    pattern = _pattern(key)
    of_all_kinds = [dialect for dialect, keys, _ in read if _any(pattern, keys)]
    of_tools = [dialect for dialect, _, keys in read if _any(pattern, keys)]
    spoken = [dialect.detection for dialect in (*of_all_kinds, *of_tools)]
    kinds = {dialect.kinds[0].key for dialect in of_tools if dialect.kind_of is None and dialect.kinds}
    where, values = "", Keys()
    if not of_all_kinds and len(kinds) == 1 and all(d.kind_of is None and d.kinds for d in of_tools):
        where = kinds.pop()
        tables = (dialect.kinds[0].table.items() for dialect in of_tools)
        values = tuple(
            sorted(set.intersection(*({value for value, kind in rows if kind != "tool"} for rows in tables)))
        )
    return UnreadValue(
        key,
        tuple(sorted({known for one in spoken for known in one.keys})),
        tuple(sorted({known for one in spoken for known in one.scopes})),
        tuple(sorted({known for one in spoken for known in one.names})),
        where,
        values,
    )


def _read_of_all_kinds(dialect: Dialect) -> frozenset[str]:
    """Return keys whose values a dialect's tables ask for. Of the others it matters only that they hold something."""
    by_value = replace(dialect, detection=Detection(), answered=(), sources=(), tool=NO_TOOL)
    return frozenset(keys_of(by_value))


def _read_of_tools(dialect: Dialect) -> frozenset[str]:
    groups = (getattr(dialect.tool, item.name) for item in fields(dialect.tool))
    return frozenset(key for group in groups if isinstance(group, tuple) for key in group)


def _pattern(key: str) -> re.Pattern[str]:
    return re.compile("[0-9]+".join(map(re.escape, key.split("*"))))


def _any(pattern: re.Pattern[str], keys: Iterable[str]) -> bool:
    return any(map(pattern.fullmatch, keys))
