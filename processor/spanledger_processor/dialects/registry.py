"""All dialects by precedence, and the call of a span by the first of them that detects it.

What a vocabulary says stands in its module of `vendors/`: its dialects and log events are found there, nothing lists
them. Kept here is the order of all their keys that name sessions, runs, agents and tasks by default, with keys that
belong to no dialect; the keys that name users, which are of no dialect's table (`USER_KEYS`); and stems, which only
make the markers fewer (docs/configuration.md shows the lists).

A span may carry the words of two vocabularies. The library's own come first, because a translator has only them to go
by (OpenInference's AI SDK processor writes `llm.token_count.*` beside `ai.usage.*`, and the wrong number there); of two
libraries the one whose words are rarer; OpenInference, and then the convention, whose keys nearly all others use too,
come last (`schema.Precedence`).
"""

from __future__ import annotations

import pkgutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from importlib import import_module
from types import ModuleType

from spanledger_processor import synthesized
from spanledger_processor.dialects import engine, vendors
from spanledger_processor.dialects.keys import keys_of, specialize
from spanledger_processor.dialects.schema import (
    Attributes,
    ContentKeys,
    Detection,
    Dialect,
    Library,
    LogEvent,
    ScopedSpan,
)
from spanledger_processor.dialects.usual import UsualCalls, usual_calls
from spanledger_processor.dialects.values import text
from spanledger_processor.model import CALLS, COST_ALIASES, Call


def _modules() -> Iterator[ModuleType]:
    for module in pkgutil.iter_modules(vendors.__path__, f"{vendors.__name__}."):
        yield import_module(module.name)


def _dialects() -> Iterator[Dialect]:
    for module in _modules():
        yield from (value for value in vars(module).values() if isinstance(value, Dialect))


DIALECTS: tuple[Dialect, ...] = tuple(
    sorted(
        {id(dialect): dialect for dialect in _dialects()}.values(),
        key=lambda dialect: (dialect.precedence, dialect.rank),
    )
)
LOG_EVENTS: tuple[LogEvent, ...] = tuple(event for module in _modules() for event in getattr(module, "LOG_EVENTS", ()))

CONTENT_KEYS: tuple[ContentKeys, ...] = tuple({id(dialect.content): dialect.content for dialect in DIALECTS}.values())
"""The tables of content of all dialects; many have the convention's own."""

LIBRARIES = tuple(dict.fromkeys(library for dialect in DIALECTS for library in dialect.libraries))
"""Libraries whose reports differ from their calls; several dialects may have one."""
_ANY_LIBRARY = Library("*")

_FIRST = ("gen_ai.conversation.id", "session.id")


def _grouping_keys(field: str, first: tuple[str, ...]) -> tuple[str, ...]:
    """Return the keys that name sessions, runs, agents and tasks by default, most trusted first.

    The processor's own come first (synthesized spans carry them), then what the convention says, then each library's.
    """
    keys = [*first]
    for dialect in reversed(DIALECTS):
        keys += [key for key in getattr(dialect.groups, field) if key not in keys]
    return tuple(keys)


SESSION_KEYS = _grouping_keys("session", (synthesized.SESSION_ID, *_FIRST))
SESSION_FIRST = {
    one.name: (synthesized.SESSION_ID, *one.groups.session_first) for one in DIALECTS if one.groups.session_first
}
"""By dialect the keys of `SESSION_KEYS` that name the session of its spans before the others, our own still first."""
SESSION_PARENT_KEYS = _grouping_keys("session_parent", (synthesized.SESSION_PARENT, "tokenjam.parent_session_id"))
RUN_KEYS = _grouping_keys("run", (synthesized.RUN_ID, "tokenjam.run_id", "run_id"))
AGENT_KEYS = _grouping_keys("agent", (synthesized.AGENT_ID,))
AGENT_NAME_KEYS = ("gen_ai.agent.name", "agent.name", "agent_name")
AGENT_PARENT_KEYS = _grouping_keys("agent_parent", (synthesized.AGENT_PARENT,))
TASK_ID_KEYS = _grouping_keys("task_id", (synthesized.TASK_ID,))
TASK_KIND_KEYS = _grouping_keys("task_kind", (synthesized.TASK_KIND,))

USER_KEYS = (
    "user.id",
    "enduser.id",
    "langfuse.user.id",
    "traceloop.association.properties.user_id",
    "llm.user",
    "user_id",
)
"""Attributes that name the user, most trusted first."""

_WANTED = frozenset([*COST_ALIASES, *(key for dialect in DIALECTS for key in keys_of(dialect))])
_NAMES = tuple(name for dialect in DIALECTS for name in dialect.detection.names)
_FIRST_TOKENS = {dialect.name: dialect.first_token for dialect in DIALECTS}
_UNITS_NS = {"s": 10**9, "ms": 10**6}
_LONGEST_NS = 1 << 62
_CLOCKS_NS = 2 * 10**6
"""By how much a library's own timer may differ from its span's times."""
_MOST_SHAPES = 4096
_LONGEST_SCOPE = 200


def _markers() -> tuple[bytes, ...]:
    """Return few and short markers: a stem covers all keys that begin with it, a key all that contain it."""
    known = [dialect.detection for dialect in DIALECTS]
    keys = {key for by in known for key in (*by.keys, *by.names, *by.requires)}
    markers: list[str] = []
    for key in sorted({_stem(key) for key in keys}, key=len):
        if not any(shorter in key for shorter in markers):
            markers.append(key)
    return tuple(key.encode() for key in sorted(markers))


_STEMS = (
    "braintrust.",
    "codex.",
    "copilot",
    "gcp.vertex.agent.",
    "gen_ai.",
    "genkit:",
    "langfuse.",
    "lk.",
    "llm.",
    "mlflow.",
    "spanledger.",
    "spring.ai.",
    "voltagent.",
)


def _stem(key: str) -> str:
    return next((stem for stem in _STEMS if stem in key), key)


MARKERS: tuple[bytes, ...] = _markers()
"""Every span that any dialect knows holds one of these: its keys and its name stand in its bytes."""


@dataclass(frozen=True, slots=True)
class _SpanShape:
    """Common to spans of one scope with the same keys: the dialects to ask, and the cost keys that came in."""

    dialects: tuple[Dialect, ...]
    aliases: frozenset[str]
    usual: UsualCalls | None


def detect(view: ScopedSpan) -> Call | None:
    """Return the call that a span reports, None if it is no GenAI span.

    The first dialect that knows the span names it. Where it finds no usage, the next that does lends its own; not
    where a rule made it another kind, which is no call.
    """
    shape = _shape_of(view)
    if shape is None:
        return None
    usual = shape.usual
    if usual is not None and (call := usual.read(view)) is not None:
        return call
    call = _read_in_full(shape, view)
    if usual is not None and call is not None:
        usual.learn(view, call)
    return call


def detect_in_full(view: ScopedSpan) -> Call | None:
    """Return what `detect` does, asking the span for no more than the full rules ask."""
    shape = _shape_of(view)
    return None if shape is None else _read_in_full(shape, view)


@lru_cache(maxsize=_MOST_SHAPES)
def library_of(scope: str) -> Library:
    """Return how the library of a scope reports its calls."""
    for library in LIBRARIES:
        beginning = library.scope.removesuffix("*")
        if scope == beginning or (beginning != library.scope and scope.startswith(beginning)):
            return library
    return _ANY_LIBRARY


def first_token_ns(dialect: str, attributes: Attributes, start_ns: int, end_ns: int) -> int:
    """Return how long after its start the first token of a call came; 0 where it is not reported, or impossible."""
    for row in _FIRST_TOKENS.get(dialect, ()):
        value = attributes.get(row.key)
        if value is None:
            continue
        if row.unit == "time":
            after_ns = _time_ns(text(value)) - start_ns
        elif type(value) in (int, float):
            after_ns = int(min(value * _UNITS_NS[row.unit], _LONGEST_NS)) if value > 0 else 0
        else:
            continue
        if 0 < after_ns <= end_ns - start_ns + _CLOCKS_NS:
            return after_ns
    return 0


def tells_first_token(dialect: str, attributes: Attributes) -> bool:
    """Return whether a span of a dialect may have the time of its first token."""
    return any(first.key in attributes for first in _FIRST_TOKENS.get(dialect, ()))


def _time_ns(stamp: str) -> int:
    try:
        moment = datetime.fromisoformat(stamp.strip('"'))
    except ValueError:
        return 0
    return int(moment.timestamp() * 1000) * 10**6 if moment.tzinfo is not None else 0


def usual_calls_of(view: ScopedSpan) -> UsualCalls | None:
    """Return the reader of usual calls for spans of a view's scope and keys; none of them is detected by name."""
    if is_detected_by_name(view.name):
        return None
    present = view.attributes.among(_WANTED)
    return _shape(view.scope_name[:_LONGEST_SCOPE], view.scope_version[:32], present, "").usual if present else None


def dialect_of(view: ScopedSpan, name: str) -> Dialect | None:
    """Return the dialect called `name` with only the keys of a view's shape; None if it is not asked of such spans."""
    shape = _shape_of(view)
    return next((dialect for dialect in shape.dialects if dialect.name == name), None) if shape is not None else None


def is_detected_by_name(name: str) -> bool:
    """Return whether a span may be of a dialect that detects spans by their names."""
    return name.startswith(_NAMES)


def _shape_of(view: ScopedSpan) -> _SpanShape | None:
    present = view.attributes.among(_WANTED)
    prefix = _prefix(view.name) if view.name.startswith(_NAMES) else ""
    if not present and not prefix:
        return None
    return _shape(view.scope_name[:_LONGEST_SCOPE], view.scope_version[:32], present, prefix)


def _read_in_full(shape: _SpanShape, view: ScopedSpan) -> Call | None:
    for number, dialect in enumerate(shape.dialects):
        kind = engine.kind_of(dialect, view)
        if kind is None:
            continue
        call = engine.read(dialect, view, kind)
        if call.usage is None and not call.problem and call.kind == kind and number + 1 < len(shape.dialects):
            _lend(call, view, shape.dialects[number + 1 :])
        if kind in CALLS and not (call.provider and call.model):
            _from_resource(call, view)
        if shape.aliases:
            call.present = shape.aliases
        return call
    return None


def _prefix(name: str) -> str:
    return next(prefix for prefix in _NAMES if name.startswith(prefix))


@lru_cache(maxsize=_MOST_SHAPES)
def _shape(scope: str, version: str, present: frozenset[str], name: str) -> _SpanShape:
    """Return what spans of one scope and keys have in common; kept for few, since keys come from the network."""
    dialects = tuple(
        specialize(dialect, present, scope, version)
        for dialect in DIALECTS
        if _may_speak(dialect.detection, scope, present, name)
    )
    return _SpanShape(dialects, present.intersection(COST_ALIASES), usual_calls(dialects))


def _may_speak(detection: Detection, scope: str, present: frozenset[str], name: str) -> bool:
    """Return whether a span may speak a vocabulary. A scope alone is no sign: the prefilter does not know it."""
    if not present.isdisjoint(detection.keys) or (name and name in detection.names):
        return True
    return bool(detection.scopes) and scope.startswith(detection.scopes) and not present.isdisjoint(detection.requires)


def _from_resource(call: Call, view: ScopedSpan) -> None:
    """Complete model and provider from the resource, where services that speak to one model only may name them."""
    get = view.resource.get
    call.provider = call.provider or text(get("gen_ai.provider.name")) or text(get("gen_ai.system"))
    if not call.model:
        call.request_model = text(get("gen_ai.request.model"))


def _lend(call: Call, view: ScopedSpan, others: Sequence[Dialect]) -> None:
    for dialect in others:
        if not engine.tells_usage(dialect) or engine.kind_of(dialect, view) is None:
            continue
        other = engine.read(dialect, view, call.kind)
        if other.usage is not None:
            call.usage, call.estimate, call.problem = other.usage, other.estimate, other.problem
            call.request_model = call.request_model or other.request_model
            call.response_model = call.response_model or other.response_model
            call.provider = call.provider or other.provider
            call.endpoint_provider = call.endpoint_provider or other.endpoint_provider
            call.granularity = engine.granularity(call)
            return
