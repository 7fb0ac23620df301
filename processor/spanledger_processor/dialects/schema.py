"""The schema of a dialect: the keys and rules of one vocabulary as data. The engine reads it; `document` prints it.

Everywhere a tuple of keys means "the first that holds something".
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from functools import cached_property
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

from spanledger_processor.dialects.normalize import COUNTS, Arranged, Counts, Input, Output, arranged_by
from spanledger_processor.model import Call, Kind
from spanledger_processor.units import USD, Pico


class Attributes(Protocol):
    """Attributes as `otlp` reads them: text, numbers, lists (array) and dictionaries (key-value list).

    A span is read by one like it where the rules get the same answers here (ARCHITECTURE.md), so a rule asks for no
    more than it needs: `marked` where it searches a text, `derived` where little of it matters, `is_filled` where any
    value will do.
    """

    def get(self, key: str, /) -> Any:
        """Return the value of a key, None if it is not there; raises MalformedError for one that cannot be read."""
        ...

    def integers(self, keys: tuple[str, ...], /) -> list[int] | None:
        """Return the values of `keys` where each is an integer that is no more than a count can be; else None."""
        ...

    def marked(self, key: str, marks: tuple[bytes, ...], /) -> Any:
        """Return what `get` returns, but "" for a text that holds none of `marks` (UTF-8)."""
        ...

    def derived(self, key: str, marks: tuple[bytes, ...], read: Callable[[Any], Hashable], /) -> Any:
        """Return what `read`, a function of a module, makes of a value; None for a text with none of `marks`."""
        ...

    def is_filled(self, key: str, /) -> bool:
        """Return whether a key has a value other than the empty text."""
        ...

    def keys(self) -> Iterable[str]:
        """Return every key there is, in no order."""
        ...

    def among(self, keys: frozenset[str], /) -> frozenset[str]:
        """Return those of `keys` that are there."""
        ...

    def fingerprint(self, keys: tuple[str, ...], /) -> tuple[Any, ...]:
        """Return the encoded values of `keys`, to compare spans by."""
        ...

    def __contains__(self, key: object, /) -> bool: ...


class Event(Protocol):
    """One event of a span."""

    @property
    def name(self) -> str: ...

    @property
    def attributes(self) -> Attributes: ...


class ScopedSpan(Protocol):
    """One span with the scope and resource around it, as dialects see it. `status_code` is OTLP's: 2 is an error."""

    @property
    def name(self) -> str: ...

    @property
    def status_code(self) -> int: ...

    @property
    def attributes(self) -> Attributes: ...

    @property
    def events(self) -> Sequence[Event]: ...

    @property
    def scope_name(self) -> str: ...

    @property
    def scope_version(self) -> str: ...

    @property
    def resource(self) -> Attributes: ...


def has(view: ScopedSpan, *keys: str) -> bool:
    """Return whether a span has one of these keys."""
    return any(key in view.attributes for key in keys)


Keys: TypeAlias = tuple[str, ...]

CostOrigin: TypeAlias = Literal["billed", "reported"]
"""Origin of a cost: the one that charges, or a library that multiplied."""


class Precedence(IntEnum):
    """The order in which dialects are tried; `Dialect.rank` orders those of one precedence."""

    OWN = 1
    """Spans that Spanledger synthesized."""
    CODING_AGENT = 2
    """Coding agents: names and scopes of their own."""
    OWN_KEYS = 3
    """Libraries with keys of their own."""
    CONVENTION_KEYS = 4
    """Libraries that speak the convention with an accent: known by scope, or by a key or two."""
    CONVENTION = 5
    """The two conventions."""


@dataclass(frozen=True, slots=True)
class Detection:
    """Signs of a vocabulary, any of which is enough: an attribute, or the prefix of a scope's or a span's name.

    `scopes` count only on spans that hold one of `requires`, so that a plain span can be recognised by its bytes
    alone: the prefilter reads no scopes.
    """

    keys: Keys = ()
    scopes: Keys = ()
    names: Keys = ()
    requires: Keys = ()


@dataclass(frozen=True, slots=True)
class Kinds:
    """A key whose value (lower case) gives the kind, by a table; other values give none."""

    key: str
    table: Mapping[str, Kind]


class PlainTokens(NamedTuple):
    """Keys of counts of which each is read by itself; `parts` are the names of the classes of the last ones."""

    keys: Keys
    parts: tuple[str, ...]
    arranged: Arranged


@dataclass(frozen=True)
class Tokens:
    """Keys of counts. Of several keys of one cache class the largest value counts, never the sum.

    `adds` are input tokens that `input` leaves out, unless a total denies it. `parts` are the keys of classes that are
    copied as they are, by their names in `Usage`; `unclassed` those of what has no class and may have a price; `text`
    those of the text in "input" and "output", whose rest is something else.
    """

    input: Keys = ()
    output: Keys = ()
    total: Keys = ()
    cache_read: Keys = ()
    cache_write: Keys = ()
    cache_write_5m: Keys = ()
    cache_write_1h: Keys = ()
    reasoning: Keys = ()
    adds: Keys = ()
    parts: Mapping[str, Keys] = field(default_factory=dict)
    unclassed: Mapping[str, Keys] = field(default_factory=dict)
    text: Mapping[str, Keys] = field(default_factory=dict)

    @cached_property
    def plain(self) -> PlainTokens | None:
        """Return where the counts stand if the first key of each class has one; None where that takes more."""
        of_classes = [getattr(self, name) for name in COUNTS]
        takes_more = self.adds or self.unclassed or self.text or max(len(self.cache_read), len(self.cache_write)) > 1
        if takes_more or not (self.input or self.output or "search_units" in self.parts):
            return None
        keys = [keys[0] for keys in (*of_classes, *self.parts.values()) if keys]
        arranged = arranged_by([place for place, keys in enumerate(of_classes) if keys])
        return PlainTokens(tuple(keys), tuple(self.parts), arranged)


NO_TOKENS = Tokens()


@dataclass(frozen=True, slots=True)
class UsageText:
    """A key whose value is the usage, or holds it: an object, its JSON, or Python's repr of it.

    `path` leads to the usage inside. `read` says what its numbers mean where its shape does not, or is not the
    dialect's. `whole`: this is where this vocabulary keeps usage; otherwise it only adds classes that are missing.
    `mixed`: what a model wrote stands here as well, so that only a provider's whole response, or its output items, are
    read.
    """

    key: str
    path: tuple[str, ...] = ()
    whole: bool = False
    mixed: bool = False
    read: Callable[[Mapping[str, Any]], tuple[Counts | None, Input | None]] | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """Meaning of the counts of one source; the first that matches a span holds. Empty fields match everything.

    `since` and `before` bound the scope's version; `has` and `lacks` are keys that tell versions apart where no scope
    does. `providers` are beginnings of the provider's name.
    `absent_cache_is_zero`: this source leaves a cache class out where it is 0; else an absent one is unknown.
    `package` is the library ("pypi:name" or "npm:name", with "@6" behind it for releases up to 6 alone) and `read` the
    oldest and the newest release whose source was read for this row.
    """

    input: Input = Input.INCLUSIVE
    scope: str = ""
    providers: Keys = ()
    since: tuple[int, ...] = ()
    before: tuple[int, ...] = ()
    has: Keys = ()
    lacks: Keys = ()
    output: Output = Output.INCLUSIVE
    absent_cache_is_zero: bool = False
    why: str = ""
    package: str = ""
    read: tuple[str, str] = ("", "")


@dataclass(frozen=True, slots=True)
class Library:
    """How the reports of one library differ from its calls, whichever vocabulary it speaks; `Source` is on its counts.

    `scope` is its scope's name, with `*` behind it the beginning of the name. `calls_again`: its span of a call may
    stand for several, one more after each tool below it, and tells the last one's usage. `tells_last_step`: so does its
    span of a call in several steps, and the agent's span above it tells the usage of all. `adds_first_count`: it adds
    the first count of a stream's output to the last one, which holds it. `begins_late`: it reports every call from when
    it was sent, so that a framework's span around one may begin earlier. `holds_steps`: its span of a call holds the
    tools that the answer asked for and the agents that it handed over to, whose calls are not its own.
    """

    scope: str
    calls_again: bool = False
    tells_last_step: bool = False
    adds_first_count: bool = False
    begins_late: bool = False
    holds_steps: bool = False


@dataclass(frozen=True, slots=True)
class CostKey:
    """A key that holds what a call cost; `unit` is what 1 of it is worth. `path` leads into a JSON object.

    `upstream` are keys of what the provider charges the buyer's own key beside it, `own_key` those that tell of one.
    `currency` is a key that must hold USD or nothing; `said_by` one whose value "provider" makes the cost billed.
    `reliable` is false where this library is known to compute wrongly: a difference from ours then means nothing.
    `means_zero`: nobody writes a 0 here for a model that is not known. `same_list`: this library multiplies by the list
    that we have, and may know a tier that it does not tell. `parts`: where `path` leads to nothing, the sum of all
    amounts in the object counts.
    """

    key: str
    source: CostOrigin = "reported"
    unit: Pico = USD
    path: tuple[str, ...] = ()
    upstream: Keys = ()
    own_key: Keys = ()
    currency: str = ""
    said_by: str = ""
    reliable: bool = True
    means_zero: bool = False
    same_list: bool = False
    parts: bool = False


@dataclass(frozen=True, slots=True)
class Mark:
    """A key that counts as set where it holds one of `values` (lower case); "true" includes the boolean.

    `path` leads into an object, or its JSON.
    """

    key: str
    values: Keys = ("true",)
    path: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FirstToken:
    """A key that tells when the first token of an answer came: seconds or milliseconds after the span's start, or a
    time, as ISO 8601 writes it.
    """

    key: str
    unit: Literal["s", "ms", "time"]


FIRST_CHUNK = FirstToken("gen_ai.response.time_to_first_chunk", "s")
"""The convention's own."""


@dataclass(frozen=True, slots=True)
class ToolKeys:
    """Keys of a tool execution's name, arguments, id and permission; the last may stand in a span event as well.

    `name_from_span`: the span's own name is the tool's.
    """

    name: Keys = ()
    arguments: Keys = ()
    result: Keys = ()
    call_id: Keys = ()
    decision: Keys = ("gen_ai.tool.call.decision.outcome",)
    name_from_span: bool = False


NO_TOOL = ToolKeys()


@dataclass(frozen=True, slots=True)
class GroupingKeys:
    """Keys that name the session, the run, the agent and the task; the default key lists are made of them.

    By the default list, `session_first` name the session of this vocabulary's spans before any other key does.
    """

    session: Keys = ()
    session_first: Keys = ()
    session_parent: Keys = ()
    run: Keys = ()
    agent: Keys = ()
    agent_parent: Keys = ()
    task_id: Keys = ()
    task_kind: Keys = ()


NO_GROUPS = GroupingKeys()
ANY_SOURCE = Source(Input.PRESUMED)

ContentClass: TypeAlias = Literal[
    "prompts", "completions", "system_instructions", "tool_arguments", "tool_results", "user_ids"
]
"""The classes of content; `processor.redaction` has a mode for each."""
RedactionMode: TypeAlias = Literal["keep", "drop", "hash", "truncate"]
"""What redaction does with a value; `truncate` keeps its beginning."""
Classes: TypeAlias = tuple[ContentClass, ...]
INPUT: Classes = ("prompts", "system_instructions", "tool_arguments", "tool_results")
"""The input of a model: its history may hold all of these."""
ANSWER: Classes = ("completions", "tool_arguments")
"""The output of a model: text and tool calls."""
ANY_INPUT: Classes = ("prompts", "completions", "system_instructions", "tool_arguments", "tool_results")
"""The input or output of any step: a message, arguments or results."""


NO_CLASSES: Classes = ()
"""Of a value that is no content, however long it is: the schema of another attribute."""


@dataclass(frozen=True, slots=True)
class ContentKeys:
    """Keys of one vocabulary that hold content, with all classes that their values may be of.

    No dialect reads the values of `unread` but those that are exceptions by their tables, so that a client may send
    such a key without its value (`content.unread_values`); `*` in it stands for digits. `keys` are all others that hold
    content; `*` in those and in `plain` stands for any text. A key that begins with one of `prefixes` and is in no
    table of any dialect holds content as well: libraries add keys. `plain` are the keys there that hold none, beside
    those that the other tables of a dialect read. `spans_named_by_content` are the beginnings of scopes whose spans are
    named by content up to the last dot.
    """

    unread: Mapping[str, Classes] = field(default_factory=dict)
    keys: Mapping[str, Classes] = field(default_factory=dict)
    prefixes: Keys = ()
    plain: Keys = ()
    spans_named_by_content: Keys = ()


NO_CONTENT = ContentKeys()

Rule: TypeAlias = Callable[[ScopedSpan, Call], None]
"""Says what a table cannot; runs last. Of a count it may ask only whether it is reported and whether it is 0. Those of
`Dialect.tool_rules` run on tool executions only, and change nothing but the arguments."""

CountRule: TypeAlias = Callable[[ScopedSpan, Counts], None]
"""Adds counts and terms that have no flat key, in the source's own sense; runs before counts are read as usage."""

KindRule: TypeAlias = Callable[[ScopedSpan], Kind | None]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Dialect:
    """One vocabulary. The kind is what `kind_of` says, else `kinds`, else `kind_else`, else `otherwise`.

    Without a kind the span is none of this vocabulary's GenAI spans. `aggregated` are the token keys of spans that sum
    up others; with `increments` a span may tell what was added, of which the input may be nothing. `usage_texts` hold,
    or complete, the span's own usage; what only `fallback_texts` hold becomes `Call.fallback`. `answers` hold a whole
    response, whose id is the call's where no key tells one. `not_costs` look like a cost and are not in USD. `agent`
    and `agent_parent` are keys too plain to mean an agent on a span of another vocabulary; the keys of `groups` do on
    any. `served` are keys of tiers, speeds and regions that a response tells,
    `asked` those of the request, which count where the response says nothing; `served_in` and `asked_in` are keys of
    objects that hold them: a whole response, and the request's parameters. `endpoints` hold the host that was asked,
    `output_type` the modality that was asked for.
    `answered` show that an answer began, unless `refused` denies it of a failed span; `own_cache` that it came from the
    application's or a proxy's own cache, `subscription` that a plan pays for it. `prices_events`: log events below a
    span report calls and leave the model to it. `offers` are the tools that were offered, of whose use nothing is told.
    """

    name: str
    precedence: Precedence
    rank: int
    about: str
    detection: Detection
    kinds: tuple[Kinds, ...] = ()
    kind_of: KindRule | None = None
    kind_else: KindRule | None = None
    otherwise: Kind | None = None
    request_model: Keys = ()
    response_model: Keys = ()
    provider: Keys = ()
    fixed_provider: str = ""
    response_id: Keys = ()
    answers: Keys = ()
    tokens: Tokens = NO_TOKENS
    aggregated: Tokens = NO_TOKENS
    increments: bool = False
    usage_texts: tuple[UsageText, ...] = ()
    fallback_texts: tuple[UsageText, ...] = ()
    sources: tuple[Source, ...] = (ANY_SOURCE,)
    libraries: tuple[Library, ...] = ()
    costs: tuple[CostKey, ...] = ()
    not_costs: Keys = ()
    served: Keys = ()
    asked: Keys = ()
    served_in: Keys = ()
    asked_in: Keys = ()
    endpoints: Keys = ()
    output_type: Keys = ()
    offers: Keys = ()
    answered: Keys = ()
    refused: Callable[[ScopedSpan], bool] | None = None
    content: ContentKeys = NO_CONTENT
    own_cache: tuple[Mark, ...] = ()
    subscription: tuple[Mark, ...] = ()
    prices_events: bool = False
    tool: ToolKeys = NO_TOOL
    first_token: tuple[FirstToken, ...] = (FIRST_CHUNK,)
    agent: Keys = ()
    agent_parent: Keys = ()
    groups: GroupingKeys = NO_GROUPS
    completes: CountRule | None = None
    rules: tuple[Rule, ...] = ()
    tool_rules: tuple[Rule, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class LogEvent:
    """One kind of event. `condition` are attributes that must have these values.

    `request_id` names the response: a span of the same call has it too. `identity` are keys whose values together are
    the event's own where there is no request id. `usage_text` holds the provider's answer: it adds to what another
    event counts, and is left out where it has no request id to join them (a gateway may drop it).
    """

    client: str
    names: Keys
    operation: str
    condition: Mapping[str, str] = field(default_factory=dict)
    model: Keys = ()
    fixed_provider: str = ""
    session: Keys = ()
    request_id: Keys = ()
    identity: Keys = ()
    tokens: Tokens = NO_TOKENS
    input: Input = Input.INCLUSIVE
    output: Output = Output.INCLUSIVE
    usage_text: Keys = ()
    cost: Keys = ()
    speed: Keys = ()
    duration_ms: Keys = ()
    first_token_ms: Keys = ()
    tool_name: Keys = ()
    arguments: Keys = ()
    call_id: Keys = ()
    failed: Mapping[str, str] = field(default_factory=dict)
    agent: Keys = ()
    agent_parent: Keys = ()
    kept: Keys = ()
    subscription: tuple[Mark, ...] = ()
