"""Which vocabulary a span speaks, and what it says in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from spanledger_processor.dialects import costs, engine
from spanledger_processor.dialects.dialect import Dialect, Signs
from spanledger_processor.dialects.narrow import keys_of, narrow
from spanledger_processor.dialects.order import DIALECTS
from spanledger_processor.dialects.values import text
from spanledger_processor.dialects.view import View
from spanledger_processor.model import Call

_WANTED = frozenset(key for dialect in DIALECTS for key in keys_of(dialect)) | costs.ALIASES
_NAMES = tuple(name for dialect in DIALECTS for name in dialect.signs.names)
_CALLS = frozenset({"llm", "embedding", "rerank"})
_MOST_SHAPES = 4096
_LONGEST_SCOPE = 200


def _markers() -> tuple[bytes, ...]:
    """Few and short: a stem stands for all keys that begin with it, a key for all that contain it."""
    signs = [dialect.signs for dialect in DIALECTS]
    keys = {key for sign in signs for key in (*sign.keys, *sign.names, *sign.marks)}
    found: list[str] = []
    for key in sorted({_stem(key) for key in keys}, key=len):
        if not any(shorter in key for shorter in found):
            found.append(key)
    return tuple(key.encode() for key in sorted(found))


_STEMS = (
    "codex.",
    "copilot",
    "gcp.vertex.agent.",
    "gen_ai.",
    "genkit:",
    "langfuse.",
    "litellm.",
    "lk.",
    "llm.",
    "mlflow.",
    "spring.ai.",
    "voltagent.",
)


def _stem(key: str) -> str:
    return next((stem for stem in _STEMS if stem in key), key)


MARKERS: tuple[bytes, ...] = _markers()
"""Every span that any dialect knows holds one of these: its keys and its name stand in its bytes."""


@dataclass(frozen=True, slots=True)
class _Shape:
    """What spans of one scope with the same keys share: the dialects to ask, and the cost keys that came in."""

    dialects: tuple[Dialect, ...]
    aliases: frozenset[str]


def recognise(view: View) -> Call | None:
    """What a span says, None if it is no GenAI span.

    The first dialect that knows the span names it. Where it finds no usage, the next that does lends its own.
    """
    present = view.attributes.among(_WANTED)
    name = view.name
    named = name if name.startswith(_NAMES) else ""
    if not present and not named:
        return None
    shape = _shape(view.scope_name[:_LONGEST_SCOPE], view.scope_version[:32], present, _prefix(named) if named else "")
    for number, dialect in enumerate(shape.dialects):
        kind = engine.kind_of(dialect, view)
        if kind is None:
            continue
        call = engine.read(dialect, view, kind)
        if call.usage is None and not call.problem and number + 1 < len(shape.dialects):
            _lend(call, view, shape.dialects[number + 1 :])
        if kind in _CALLS and not (call.provider and call.model):
            _from_resource(call, view)
        if shape.aliases:
            call.present = shape.aliases
        return call
    return None


def _prefix(name: str) -> str:
    return next(prefix for prefix in _NAMES if name.startswith(prefix))


@lru_cache(maxsize=_MOST_SHAPES)
def _shape(scope: str, version: str, present: frozenset[str], name: str) -> _Shape:
    """Bounded: keys, scopes and versions come from the network."""
    return _Shape(
        tuple(
            narrow(dialect, present, scope, version)
            for dialect in DIALECTS
            if _suspect(dialect.signs, scope, present, name)
        ),
        costs.ALIASES & present,
    )


def _suspect(signs: Signs, scope: str, present: frozenset[str], name: str) -> bool:
    """Whether a span may speak a vocabulary. A scope alone is no sign: the prefilter does not know it."""
    if not present.isdisjoint(signs.keys) or (name and name in signs.names):
        return True
    return bool(signs.scopes) and scope.startswith(signs.scopes) and not present.isdisjoint(signs.marks)


def _from_resource(call: Call, view: View) -> None:
    """Services that speak to one model only may name it, and its provider, on their resource."""
    get = view.resource.get
    call.provider = call.provider or text(get("gen_ai.provider.name")) or text(get("gen_ai.system"))
    if not call.model:
        call.request_model = text(get("gen_ai.request.model"))


def _lend(call: Call, view: View, others: Sequence[Dialect]) -> None:
    for dialect in others:
        if engine.kind_of(dialect, view) is None:
            continue
        other = engine.read(dialect, view, call.kind)
        if other.usage is not None:
            call.usage, call.estimate, call.problem = other.usage, other.estimate, other.problem
            call.request_model = call.request_model or other.request_model
            call.response_model = call.response_model or other.response_model
            call.provider = call.provider or other.provider
            call.granularity = engine.granularity(call)
            return
