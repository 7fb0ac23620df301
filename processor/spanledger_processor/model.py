"""The one shape that every GenAI dialect is read into.

A dialect fills a `Call`; pricing, signing, grouping and accounting read nothing else of a span's attributes.
Amounts of money are integers of 1e-12 USD (`Pico`) everywhere but on spans and in answers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from spanledger_processor.units import Pico

Kind: TypeAlias = Literal["llm", "embedding", "rerank", "retrieval", "tool", "agent", "workflow", "other"]
Granularity: TypeAlias = Literal["per-message", "per-turn", "per-session-aggregate", "cost-only"]
Unpriced: TypeAlias = Literal[
    "no_model", "no_usage", "unknown_provider", "unknown_model", "inconsistent_usage", "not_accounted"
]


@dataclass(slots=True)
class Usage:
    """Tokens of one call, in the convention's sense: input includes both caches, output includes reasoning.

    `None` is unknown; 0 is a count of zero. `cache_write` is all cache writes, `cache_write_1h` the part of it
    written for an hour.
    """

    input: int | None = None
    output: int | None = None
    cache_read: int | None = None
    cache_write: int | None = None
    cache_write_1h: int | None = None
    reasoning: int | None = None


@dataclass(slots=True)
class ReportedCost:
    """A cost that came in on the span.

    `billed` is true where the one that charges (provider or gateway) said it; false for a library's own estimate.
    """

    amount: Pico
    billed: bool
    key: str


@dataclass(slots=True)
class ToolCall:
    """A tool execution. `arguments` is a str (JSON or other text), bytes, a plain Python value, or None if absent.

    `signature` and `signature_scope` are there where the source signed the call itself: its arguments stay where they
    are (contract, "Made spans").
    """

    name: str | None
    arguments: Any = None
    call_id: str | None = None
    signature: str = ""
    signature_scope: str = ""


@dataclass(slots=True)
class Call:
    """What one GenAI span says, whatever vocabulary said it.

    `problem` is set where usage was there but contradicts itself (cache larger than input, negative counts);
    `usage` then holds what could be read. `estimate` is true where a class or the inclusive/exclusive reading had
    to be guessed. `price_context` is what genai-prices calls so, e.g. (("service_tier", "flex"),).
    `present` names the cost alias keys that came in, which are never overwritten. `fallback` is usage that only a raw
    provider answer inside the span holds: it stands in where no span of the trace has usage of its own, else a
    hand-over would be counted again.
    """

    dialect: str
    kind: Kind
    granularity: Granularity = "per-message"
    provider: str = ""
    request_model: str = ""
    response_model: str = ""
    usage: Usage | None = None
    fallback: Usage | None = None
    problem: str = ""
    estimate: bool = False
    reported: ReportedCost | None = None
    price_context: tuple[tuple[str, str], ...] = ()
    tool: ToolCall | None = None
    response_id: str = ""
    agent_id: str = ""
    agent_parent_id: str = ""
    task_id: str = ""
    task_kind: str = ""
    session_parent_id: str = ""
    session_closed: bool = False
    source: str = ""
    note: str = ""
    present: frozenset[str] = field(default=frozenset())

    @property
    def model(self) -> str:
        """The model that a price goes by: the one that answered, else the one that was asked."""
        return self.response_model or self.request_model


@dataclass(slots=True)
class Cost:
    """The money of one call.

    `amount` is what counts, by `source` ("billed", "computed" or "reported"); None exactly where `unpriced` says
    why. `computed` and its parts are there whenever a price was found: input + cache_read + cache_write + output +
    other == computed, exactly. `price` names where the rates came from. All amounts are >= 0.
    """

    amount: Pico | None = None
    source: str = ""
    computed: Pico | None = None
    input: Pico = 0
    cache_read: Pico = 0
    cache_write: Pico = 0
    output: Pico = 0
    other: Pico = 0
    reported: Pico | None = None
    price: str = ""
    estimate: bool = False
    unpriced: Unpriced | None = None


@dataclass(slots=True)
class Signature:
    """A keyed hash of a tool call: `value` is h1:<key id>:<hash>, `scope` one of full, truncated, name_only."""

    value: str
    scope: str


@dataclass(slots=True)
class Decision:
    """One GenAI span's place in the ledger, and thereby its attributes.

    `usage` is None where the span adds nothing (no usage, repeats its children, duplicate of another span).
    `aliases` holds the keys to which the amount is copied for other backends.
    """

    kind: Kind
    dialect: str
    granularity: Granularity = "per-message"
    session_id: str = ""
    session_source: str = ""
    session_parent_id: str = ""
    session_closed: bool = False
    run_id: str = ""
    run_source: str = ""
    agent_id: str = ""
    agent_parent_id: str = ""
    task_id: str = ""
    task_kind: str = ""
    usage: Usage | None = None
    cost: Cost | None = None
    repeats_children: bool = False
    subtree: Pico | None = None
    duplicate_of: str = ""
    signature: Signature | None = None
    tool_repeats: int = 0
    tool_consecutive: int = 0
    tool_loop: bool = False
    session_cost: Pico | None = None
    run_cost: Pico | None = None
    source: str = ""
    note: str = ""
    aliases: tuple[str, ...] = field(default=())
