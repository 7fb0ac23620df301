"""The one shape that every GenAI dialect is read into.

A dialect fills a `Call`; pricing, signing, grouping and accounting read nothing else of a span's attributes.
Amounts of money are integers of 1e-12 USD (`Pico`) everywhere but on spans and in answers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

Pico: TypeAlias = int
"""Money: an integer count of 1e-12 USD."""

USD: Pico = 10**12

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
