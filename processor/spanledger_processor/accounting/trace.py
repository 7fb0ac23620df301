"""One trace as the accounting remembers it: links, usage seen, what was counted and what was sent."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgpack

from spanledger_processor.calls import Pico
from spanledger_processor.grouping.resolve import NOTHING, Named
from spanledger_processor.state.sums import Sums

MAX_SPANS = 4096
"""Spans remembered of one trace; beyond it the oldest are forgotten, what they added stays."""
_VERSION = 1


@dataclass(slots=True)
class Claim:
    """What a span says was spent: tokens and the money that it would add if it is the one that is counted."""

    tokens: tuple[int | None, ...] = ()
    amount: Pico | None = None
    unpriced: str = ""
    provider: str = ""
    model: str = ""
    day: int = 0
    task_id: str = ""
    task_kind: str = ""

    @property
    def spends(self) -> bool:
        """Whether anything was spent at all: a span without usage does not make its parent a repeat."""
        return any(self.tokens) or bool(self.amount)

    @property
    def richness(self) -> tuple[int, int]:
        """How much this claim tells: the number of token classes known, then the tokens themselves."""
        known = [count for count in self.tokens if count is not None]
        return len(known), sum(known)


@dataclass(slots=True)
class Place:
    """Where a span stands in the ledger: what it adds (by role), and to whose totals."""

    role: str = ""
    session: str = ""
    run: str = ""


@dataclass(slots=True)
class Span:
    """One span of a trace. `kind` is empty for a plain span; `sent` is the cost that it was sent on with."""

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
    claim: Claim | None = None
    place: Place | None = None
    sent: Pico = 0
    twin: str = ""
    """Set where a span of another trace was counted for the same response: its span id in hex."""
    carries_below: bool = False
    """A forgotten descendant had usage."""

    def sums(self, role: str) -> Sums:
        """What this span adds to every total that it belongs to, if it plays `role`."""
        sums = Sums(spans=1, tool_calls=int(self.kind == "tool"), first_ns=self.start_ns, last_ns=self.end_ns)
        if role == "counted" and self.claim is not None:
            _add_claim(sums, self.claim)
        return sums


def _add_claim(sums: Sums, claim: Claim) -> None:
    sums.calls = 1
    for name, count in zip(_TOKENS, claim.tokens, strict=False):
        if count:
            setattr(sums, name, count)
    label = f"{claim.provider}/{claim.model}" if claim.provider else claim.model
    if claim.amount is None:
        sums.unpriced = 1
        sums.reasons[claim.unpriced] = 1
    else:
        sums.priced = 1
        sums.cost = claim.amount
        sums.models[label] = claim.amount


_TOKENS = ("input", "output", "cache_read", "cache_write", "cache_write_1h", "reasoning")


@dataclass(slots=True)
class Trace:
    """All that is remembered of one trace, by span id."""

    spans: dict[bytes, Span] = field(default_factory=dict)

    def forget_oldest(self) -> None:
        """Keep the trace within its bound; an ancestor of a forgotten span with usage remembers that there was one."""
        while len(self.spans) > MAX_SPANS:
            span = self.spans.pop(next(iter(self.spans)))
            parent = self.spans.get(span.parent_id)
            if parent is not None and (span.claim is not None or span.carries_below):
                parent.carries_below = True

    def pack(self, arrival_ns: int) -> bytes:
        """The stored form; its second element is the arrival in ms, by which the retention goes."""
        record: bytes = msgpack.packb([_VERSION, arrival_ns // 1_000_000, [_pack_span(s) for s in self.spans.values()]])
        return record

    @classmethod
    def unpack(cls, record: bytes) -> Trace:
        """Read a stored record."""
        _, _, spans = msgpack.unpackb(record)
        return cls({row[0]: _unpack_span(row) for row in spans})


def _pack_span(span: Span) -> list[Any]:
    """Four elements of links; eight with names; all of them for a GenAI span, and its claim last."""
    row: list[Any] = [span.span_id, span.parent_id, span.start_ns, span.end_ns]
    names = (span.session.id, span.session.source, span.run.id, span.run.source)
    if not span.kind:
        return [*row, *names] if any(names) else row
    row += [*names, span.kind, span.scope, span.parent_session, span.response, span.call_id, span.twin]
    claim, place = span.claim, span.place
    row.append(None if place is None else [place.role, place.session, place.run])
    row += [_wide(span.sent), span.carries_below]
    if claim is not None:
        amount = None if claim.amount is None else _wide(claim.amount)
        names = (claim.unpriced, claim.provider, claim.model)
        row.append([claim.tokens, amount, *names, claim.day, claim.task_id, claim.task_kind])
    return row


def _wide(amount: Pico) -> int | str:
    """msgpack integers end at 64 bits."""
    return str(amount) if amount >> 63 else amount


def _unpack_span(row: list[Any]) -> Span:
    span = Span(row[0], row[1], row[2], row[3])
    if len(row) == 4:
        return span
    if row[4]:
        span.session = Named(row[4], row[5])
    if row[6]:
        span.run = Named(row[6], row[7])
    if len(row) == 8:
        return span
    span.kind, span.scope, span.parent_session, span.response, span.call_id, span.twin = row[8:14]
    span.place = None if row[14] is None else Place(*row[14])
    span.sent, span.carries_below = int(row[15]), row[16]
    if len(row) > 17:
        tokens, amount, *rest = row[17]
        span.claim = Claim(tuple(tokens), None if amount is None else int(amount), *rest)
    return span
