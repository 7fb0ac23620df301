"""One trace as the accounting remembers it: links, usage seen, what was counted and what was sent."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from spanledger_processor.accounting.facts import NO_EVIDENCE, Evidence
from spanledger_processor.accounting.grouping import NOTHING, Named
from spanledger_processor.ledger.sums import Sums
from spanledger_processor.model import NO_SPEND, UsageVector
from spanledger_processor.units import Pico

MAX_SPANS = 4096
"""Spans remembered of one trace; beyond it the oldest are forgotten, what they added stays."""
_SLACK = 256

COUNTED = "counted"
"""The role of a span that adds its claim to the ledger (`roles` has the others)."""


@dataclass(slots=True)
class Claim:
    """What a span says was spent: tokens and the money that it would add if it is the one that is counted.

    `tokens` in the order of `USAGE_CLASSES`, None where a class is unknown; empty where there is no usage. `fallback`
    is true where only a raw answer inside the span says it: it stands in where no other span of the trace spends.
    """

    tokens: tuple[int | None, ...] = ()
    amount: Pico | None = None
    unpriced: str = ""
    provider: str = ""
    model: str = ""
    day: int = 0
    task_id: str = ""
    task_kind: str = ""
    fallback: bool = False
    evidence: Evidence = NO_EVIDENCE

    @property
    def spends(self) -> bool:
        """Whether anything was spent at all: a span without usage does not make its parent a repeat."""
        return any(self.tokens) or bool(self.amount)

    @property
    def richness(self) -> tuple[bool, int, int]:
        """How much this claim tells: whether it has a price, the number of token classes known, the tokens."""
        known = [count for count in self.tokens if count is not None]
        return self.amount is not None, len(known), sum(known)

    @property
    def label(self) -> str:
        """Provider and model as tables show them."""
        return f"{self.provider}/{self.model}" if self.provider else self.model

    @property
    def spend(self) -> UsageVector:
        """What it adds where it is counted."""
        if not self.tokens:
            return UsageVector(self.amount or 0)
        return UsageVector(self.amount or 0, tuple([count or 0 for count in self.tokens]))


@dataclass(slots=True)
class Place:
    """Where a span stands in the ledger: what it adds (by role), and to whose totals."""

    role: str = ""
    session: str = ""
    run: str = ""


@dataclass(slots=True)
class Span:
    """One span of a trace. `kind` is empty for a plain span.

    `logged` is true for a span made from a log event, `again` for a report of a tool execution that another one told of
    before. `sent` is what spans sent on so far have carried for this call; `twin` is the span id in hex of a span of
    another trace that is counted for the same response.
    """

    span_id: bytes
    parent_id: bytes = b""
    start_ns: int = 0
    end_ns: int = 0
    kind: str = ""
    scope: str = ""
    session: Named = NOTHING
    run: Named = NOTHING
    parent_session: str = ""
    response: str = ""
    call_id: str = ""
    signature: str = ""
    logged: bool = False
    again: bool = False
    claim: Claim | None = None
    place: Place | None = None
    sent: UsageVector = NO_SPEND
    twin: str = ""
    carries_below: bool = False
    """A forgotten descendant had usage."""
    closes: bool = False
    """Its source says that the session has ended; not remembered, the session is."""
    reported_by: set[str] = field(default_factory=set)
    """Sources in other traces that report the call which is counted here."""
    lent_session: str = ""
    """The session of a twin in another trace, where its own trace names none."""
    fixed: bytes = b""
    """The packed part of its stored row (`trace_record`); empty for a span that has not been decided on."""
    stored: list[Any] = field(default_factory=list)
    """Its state as it is stored."""
    segment: int = 0
    """The closed segment of its trace's record that holds it; 0 is the head."""

    @property
    def counted(self) -> bool:
        """Whether the ledger holds its claim."""
        return self.place is not None and self.place.role == COUNTED and self.claim is not None

    def enter(self, sums: Sums, role: str, sign: int) -> None:
        """Add to `sums` what this span adds if it plays `role`, or with `sign` -1 take it out again."""
        sums.spans += sign
        if self.kind == "tool" and not self.again:
            sums.tool_calls += sign
        if sign > 0:
            sums.widen(self.start_ns, self.end_ns)
            sums.closed = sums.closed or self.closes
        claim = self.claim
        if role != COUNTED or claim is None:
            return
        sums.calls += sign
        sums.spend(claim.spend, sign)
        if claim.amount is None:
            sums.unpriced += sign
            sums.add_reason(claim.unpriced, sign)
        else:
            sums.priced += sign
            sums.add_model(claim.label, sign * claim.amount)


@dataclass(slots=True)
class Trace:
    """All that is remembered of one trace, by span id, in order of arrival."""

    spans: dict[bytes, Span] = field(default_factory=dict)

    def forget_oldest(self) -> list[Span]:
        """Keep the trace within its bound; an ancestor of a forgotten span with usage remembers that there was one.

        Returns the forgotten spans. They are some more than have to go, so that this is rare.
        """
        if len(self.spans) <= MAX_SPANS:
            return []
        gone = [self.spans.pop(span_id) for span_id in list(self.spans)[: len(self.spans) - MAX_SPANS + _SLACK]]
        for span in gone:
            parent = self.spans.get(span.parent_id)
            if parent is not None and (span.claim is not None or span.carries_below):
                parent.carries_below = True
        return gone
