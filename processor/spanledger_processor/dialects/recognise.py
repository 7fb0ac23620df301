"""Which vocabulary a span speaks, and what it says in it."""

from __future__ import annotations

from collections import defaultdict
from functools import lru_cache

from spanledger_processor.calls import Call
from spanledger_processor.dialects import engine
from spanledger_processor.dialects.dialect import Dialect
from spanledger_processor.dialects.order import DIALECTS
from spanledger_processor.dialects.view import View

_BY_KEY: dict[str, list[int]] = defaultdict(list)
for _index, _dialect in enumerate(DIALECTS):
    for _key in _dialect.signs.keys:
        _BY_KEY[_key].append(_index)
_SIGNS = frozenset(_BY_KEY)
_BY_NAME = [(index, dialect) for index, dialect in enumerate(DIALECTS) if dialect.signs.names]
_BY_RESOURCE = [(index, dialect) for index, dialect in enumerate(DIALECTS) if dialect.signs.resource is not None]
_CALLS = frozenset({"llm", "embedding", "rerank"})


def _markers() -> tuple[bytes, ...]:
    """Few and short: a stem stands for all keys that begin with it, a key for all that contain it."""
    signs = [dialect.signs for dialect in DIALECTS]
    keys = {key for sign in signs for key in (*sign.keys, *sign.names, *sign.marks)}
    found: list[str] = []
    for key in sorted({_stem(key) for key in keys}, key=len):
        if not any(shorter in key for shorter in found):
            found.append(key)
    return tuple(key.encode() for key in sorted(found))


_STEMS = ("gen_ai.", "llm.", "litellm.", "spring.ai.", "mlflow.", "langfuse.", "gcp.vertex.agent.", "codex.")


def _stem(key: str) -> str:
    return next((stem for stem in _STEMS if key.startswith(stem)), key)


MARKERS: tuple[bytes, ...] = _markers()
"""Every span that any dialect knows holds one of these: its keys and its name stand in its bytes."""


def recognise(view: View) -> Call | None:
    """What a span says, None if it is no GenAI span.

    The first dialect that knows the span names it. Where it finds no usage, the next that does lends its own.
    """
    asked = [DIALECTS[index] for index in sorted(_suspects(view))]
    for number, dialect in enumerate(asked):
        kind = engine.kind_of(dialect, view)
        if kind is not None:
            call = engine.read(dialect, view, kind)
            if call.usage is None and not call.problem and number + 1 < len(asked):
                _lend(call, view, asked[number + 1 :])
            return call
    return None


def _suspects(view: View) -> set[int]:
    found: set[int] = set()
    for key in _SIGNS & view.keys:
        found.update(_BY_KEY[key])
    found.update(_by_scope(view.scope_name))
    for index, dialect in _BY_NAME:
        if view.name.startswith(dialect.signs.names):
            found.add(index)
    for index, dialect in _BY_RESOURCE:
        assert dialect.signs.resource is not None
        key, value = dialect.signs.resource
        if view.resource.get(key) == value:
            found.add(index)
    if found:
        return {index for index in found if _marked(DIALECTS[index], view)}
    return found


def _marked(dialect: Dialect, view: View) -> bool:
    """Whether the span itself bears a sign: a scope, a name or a resource alone is none."""
    signs = dialect.signs
    return (
        not view.keys.isdisjoint(signs.keys)
        or not view.keys.isdisjoint(signs.marks)
        or (bool(signs.names) and view.name.startswith(signs.names))
    )


@lru_cache(maxsize=1024)
def _by_scope(scope: str) -> frozenset[int]:
    """The dialects whose scope this is. Bounded: names come from the network."""
    return frozenset(
        index
        for index, dialect in enumerate(DIALECTS)
        if dialect.signs.scopes and scope.startswith(dialect.signs.scopes)
    )


def _lend(call: Call, view: View, others: list[Dialect]) -> None:
    for dialect in others:
        kind = engine.kind_of(dialect, view)
        if kind is None:
            continue
        other = engine.read(dialect, view, call.kind)
        if other.usage is not None:
            call.usage, call.estimate, call.problem = other.usage, other.estimate, other.problem
            call.request_model = call.request_model or other.request_model
            call.response_model = call.response_model or other.response_model
            call.provider = call.provider or other.provider
            call.granularity = engine.granularity(call)
            return
