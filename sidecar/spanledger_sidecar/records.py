"""What sources find, one record a span, in the sidecar's own terms; `emit` says how each looks as a span."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from spanledger_sidecar.tokens import Five

Granularity: TypeAlias = Literal["per-message", "per-turn", "per-session-aggregate"]


@dataclass(frozen=True, slots=True)
class Session:
    """Whose usage it is: a Mux workspace, a tilth session. Empty where not known; no titles, no paths."""

    id: str
    parent: str = ""
    name: str = ""
    project: str = ""
    agent_type: str = ""


@dataclass(frozen=True, slots=True)
class Made:
    """What every record has. Times in ms since 1970; `source` is the source's name (`mux`, `tilth`)."""

    source: str
    session: Session
    trace_id: bytes
    span_id: bytes
    start_ms: int
    end_ms: int
    parent_id: bytes = field(default=b"", kw_only=True)
    note: str = field(default="", kw_only=True)
    task_id: str = field(default="", kw_only=True)
    task_kind: str = field(default="", kw_only=True)


@dataclass(frozen=True, slots=True)
class UsageRecord(Made):
    """Tokens that were used. `tokens` are Mux's disjoint classes.

    `cost` is what the source says it cost (picodollars), None where it does not know; `charged` is true where that is
    what was really charged: nothing under a subscription, or the provider's own figure. `cumulative` is what the
    source's file says of this session and model in all, with its cost (None: not known). `ttft_ms` is the time to the
    first token. `finer` says which of a source's files it was read from, where there are several.
    """

    granularity: Granularity
    provider: str
    model: str
    tokens: Five
    cost: int | None = None
    charged: bool = False
    cumulative: tuple[Five, int | None] | None = None
    model_key: str = ""
    service_tier: str = ""
    agent: str = ""
    route: str = ""
    ttft_ms: int | None = None
    finish_reason: str = ""
    response_id: str = ""


@dataclass(frozen=True, slots=True)
class ToolRecord(Made):
    """A tool call, signed where it was read: its arguments are not here."""

    name: str
    call_id: str = ""
    signature: str = ""
    signature_scope: str = ""
    failed: bool = False


@dataclass(frozen=True, slots=True)
class ClosedRecord(Made):
    """The source ended this session."""


Record: TypeAlias = UsageRecord | ToolRecord | ClosedRecord
