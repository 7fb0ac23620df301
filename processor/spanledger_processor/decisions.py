"""What was decided about one GenAI span: the single source of the attributes that are appended to it.

A decision is kept for as long as a span may come again, so that a repeat gets the same attributes whatever
prices or configuration say by then (contract, "State and money").
"""

from __future__ import annotations

from dataclasses import dataclass, field

from spanledger_processor.calls import Granularity, Kind, Pico, Unpriced, Usage


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
