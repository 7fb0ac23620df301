"""The form of a dialect: what one vocabulary calls things, as data. The engine reads it; `document` prints it.

Everywhere a tuple of keys means "the first that holds something".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from spanledger_processor.dialects.counts import Counts, Input, Output
from spanledger_processor.dialects.view import View
from spanledger_processor.model import Call, Kind
from spanledger_processor.units import USD, Pico

Keys: TypeAlias = tuple[str, ...]

Trust: TypeAlias = Literal["billed", "estimate"]
"""Who said a cost: the one that charges, or a library that multiplied."""


@dataclass(frozen=True, slots=True)
class Signs:
    """What gives a vocabulary away. One is enough: a span attribute, a scope's name, a span's name (both by prefix).

    `scopes` count only on spans that hold one of `marks`, so that the bytes of the span alone tell a plain span: the
    prefilter reads no scopes.
    """

    keys: Keys = ()
    scopes: Keys = ()
    names: Keys = ()
    marks: Keys = ()


@dataclass(frozen=True, slots=True)
class Kinds:
    """A key whose value says the kind, value by value (lower case); a value that is not here says nothing."""

    key: str
    table: Mapping[str, Kind]


@dataclass(frozen=True, slots=True)
class Tokens:
    """Keys of token counts. Where a cache class stands under several keys, the largest counts, never the sum."""

    input: Keys = ()
    output: Keys = ()
    total: Keys = ()
    cache_read: Keys = ()
    cache_write: Keys = ()
    cache_write_5m: Keys = ()
    cache_write_1h: Keys = ()
    reasoning: Keys = ()


NO_TOKENS = Tokens()


@dataclass(frozen=True, slots=True)
class UsageText:
    """A key whose value is the usage, or holds it: an object, its JSON, or Python's repr of it.

    `path` leads to the usage inside. `read` says what its numbers mean where its shape does not, or is not the
    dialect's. `whole`: this is where this vocabulary keeps usage; otherwise it only adds classes that are missing.
    """

    key: str
    path: tuple[str, ...] = ()
    whole: bool = False
    read: Callable[[Mapping[str, Any]], tuple[Counts, Input]] | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """What the counts of one source mean; the first that matches a span holds. Empty fields match everything.

    `since` and `before` bound the scope's version. `providers` are beginnings of the provider's name.
    `absent_cache_is_zero`: this source leaves a cache class out where it is 0; else an absent one is unknown.
    """

    input: Input = Input.INCLUSIVE
    scope: str = ""
    providers: Keys = ()
    since: tuple[int, ...] = ()
    before: tuple[int, ...] = ()
    output: Output = Output.INCLUSIVE
    absent_cache_is_zero: bool = False
    why: str = ""


@dataclass(frozen=True, slots=True)
class CostKey:
    """A key that holds what a call cost; `unit` is what 1 of it is worth. `path` leads into a JSON object."""

    key: str
    trust: Trust = "estimate"
    unit: Pico = USD
    path: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ToolKeys:
    """Where a tool execution says what was called. `name_from_span`: the span's own name is the tool's."""

    name: Keys = ()
    arguments: Keys = ()
    call_id: Keys = ()
    name_from_span: bool = False


NO_TOOL = ToolKeys()


@dataclass(frozen=True, slots=True)
class Groups:
    """Keys that name the session, the run, the agent and the task; the default key lists are made of them."""

    session: Keys = ()
    session_parent: Keys = ()
    run: Keys = ()
    agent: Keys = ()
    agent_parent: Keys = ()
    task_id: Keys = ()
    task_kind: Keys = ()


NO_GROUPS = Groups()
ANY_SOURCE = Source()

Rule: TypeAlias = Callable[[View, Call], None]
"""Says what a table cannot; runs last."""

KindRule: TypeAlias = Callable[[View], Kind | None]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Dialect:
    """One vocabulary. The kind is what `kind_of` says, else `kinds`, else `kind_else`, else `otherwise`.

    Without a kind the span is none of this vocabulary's GenAI spans. `aggregated` are the token keys of spans that sum
    up others; with `increments` a span may tell what was added, of which the input may be nothing. `usage_texts` hold,
    or complete, the span's own usage; what only `fallback_texts` hold becomes `Call.fallback`. `not_costs` look like a
    cost and are not in USD. `agent` and `agent_parent` are keys too plain to mean an agent on a span of another
    vocabulary; the keys of `groups` do on any.
    """

    name: str
    about: str
    signs: Signs
    kinds: tuple[Kinds, ...] = ()
    kind_of: KindRule | None = None
    kind_else: KindRule | None = None
    otherwise: Kind | None = None
    request_model: Keys = ()
    response_model: Keys = ()
    provider: Keys = ()
    fixed_provider: str = ""
    response_id: Keys = ()
    tokens: Tokens = NO_TOKENS
    aggregated: Tokens = NO_TOKENS
    increments: bool = False
    usage_texts: tuple[UsageText, ...] = ()
    fallback_texts: tuple[UsageText, ...] = ()
    sources: tuple[Source, ...] = (ANY_SOURCE,)
    costs: tuple[CostKey, ...] = ()
    not_costs: Keys = ()
    tiers: Keys = ()
    tool: ToolKeys = NO_TOOL
    agent: Keys = ()
    agent_parent: Keys = ()
    groups: Groups = NO_GROUPS
    rules: tuple[Rule, ...] = ()
    notes: tuple[str, ...] = ()
