"""Usual calls read by what spans like them said: the same scope, resource, keys, status, and values under all keys
whose values were asked for, but for ids, times, counts and the session.

What the full rules ask of a span is noted while they read it, so that a rule that asks for more needs no word here.
What is kept of a span is used only if it comes to the very fact that the full rules made; what is unusual they read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeAlias

from spanledger_processor.accounting.facts import Fact
from spanledger_processor.accounting.grouping import Named
from spanledger_processor.accounting.usual import LARGEST_COUNT, LONGEST_ID, Prototype, UsualFact
from spanledger_processor.dialects.asked_tools import MARKS, has_messages
from spanledger_processor.dialects.registry import (
    detect_in_full,
    is_detected_by_name,
    tells_first_token,
    usual_calls_of,
)
from spanledger_processor.dialects.usual import ReportedCounts, UsualCalls, UsualReading
from spanledger_processor.enrichment.alike import AlikePlan, learned
from spanledger_processor.enrichment.facts import NO_HEADERS, FactBuilder, ScopedSpanView, price_time
from spanledger_processor.enrichment.marks import OWN
from spanledger_processor.enrichment.names import is_plain_id
from spanledger_processor.model import CostParts, Usage
from spanledger_processor.otlp.envelope import Items, ScopeGroup
from spanledger_processor.otlp.layout import Found, Layouts
from spanledger_processor.otlp.values import RecordedAttributes, holds
from spanledger_processor.otlp.views import SpanView
from spanledger_processor.pricing.pricer import usual_money
from spanledger_processor.pricing.rate_card import Card
from spanledger_processor.units import NS_PER_DAY, Pico

_MOST_READERS, _MOST_SHAPES, _MOST_GROUPS = 4096, 4096, 1024
_MOST_KEYS, _LONGEST = 128, 8192
"""Keys of a span, and bytes of them, of a resource or of the compared values, that are worth keeping."""
_MOST_DAYS = 8
_PATIENCE, _LEAST_PATIENCE, _A_TRY = 64, 32, 4
"""For spans of a shape: half of it is for usual calls, which are known when one like them comes again, the other for
eight spans that another way to read them was looked for in vain."""
_MOST_SESSIONS = 4096
_LEAST_USE, _PAUSE = 4, 100_000
"""Spans that each of what is kept has to be of use for; else nothing is kept of so many spans: where each is of another
user, say, none is like another.
"""
_NO_TRACE, _NO_SPAN = bytes(16), bytes(8)

_UNSEEN: Any = object()
"""Stands for a card that was not looked for."""
_Shape: TypeAlias = tuple[str, ...]


@dataclass(slots=True)
class _Reader:
    """What makes facts of spans that are like one another."""

    calls: UsualCalls
    reading: UsualReading
    prototype: Prototype
    has_messages: bool = False
    """Messages stand in spans whose layout is known: tool calls may, too."""
    cards: dict[tuple[int, int], Card | None] = field(default_factory=dict)
    """By the revision of the prices, and day."""


@dataclass(slots=True)
class _Plan:
    """What is asked of spans of one group and shape: values to compare, and the key of the session."""

    compared: tuple[str, ...]
    session_key: str
    readers: dict[tuple[Any, ...], _Reader] = field(default_factory=dict)
    used: int = 0
    missed: int = 0
    """Spans that none of the readers could read."""


@dataclass(slots=True)
class _Unread:
    """Of a shape of which no span has shown how to read others; without `patience` left, the full rules read them."""

    patience: int = 0


@dataclass(slots=True)
class _Group:
    """What is known of the spans of one scope and resource."""

    plans: dict[_Shape, _Plan | AlikePlan | _Unread] = field(default_factory=dict)
    layouts: Layouts[_Reader] = field(default_factory=Layouts)

    def clear(self) -> None:
        """Know nothing any more."""
        self.plans.clear()
        self.layouts = Layouts()


class UsualSpans:
    """Reads usual calls. What it keeps is bounded: all of it goes when there is too much."""

    def __init__(self, builder: FactBuilder) -> None:
        self._builder = builder
        self._in_full = replace(builder, detect=detect_in_full)
        self._groups: dict[Any, _Group] = {}
        self._shapes = self._readers = self._uses = self._pause = 0
        self._group: ScopeGroup | None = None
        self._known: _Group | None = None
        """Of the group that is read."""
        self._sessions: dict[bytes, Named | None] = {}
        """Sessions named lately; None of what is no plain id."""

    def enter(self, group: ScopeGroup, headers: Mapping[str, str] = NO_HEADERS) -> None:
        """Take up what is known of a group's spans: nothing of one whose resource is too large to be compared."""
        contents = group.resource_attributes.contents()
        self._group, self._known = group, None
        if contents is not None:
            asked = frozenset(headers.items()) if self._builder.resolver.asks_request else None
            which = (contents, group.scope_name, group.scope_version, asked)
            if which not in self._groups and len(self._groups) >= _MOST_GROUPS:
                self._forget()
                self._groups.clear()
            self._known = self._groups.get(which)
            if self._known is None:
                self._known = self._groups[which] = _Group()

    def leave(self) -> None:
        """Let go of the group that was read: it holds the bytes of a whole request, until the next one."""
        self._group = self._known = None

    @property
    def may_lay_out(self) -> bool:
        """Return whether spans of the group that is read may be laid out like ones before."""
        return self._known is not None and self._known.layouts.learned > 0

    def knows_layouts(self, group: ScopeGroup, headers: Mapping[str, str]) -> bool:
        """Return whether spans of a group may be laid out like ones before."""
        if self._group is not group:
            self.enter(group, headers)
        return self._known is not None and bool(self._known.layouts)

    def side_by_side(
        self, items: Items, first: int, end: int, group: ScopeGroup, now_ns: int, headers: Mapping[str, str]
    ) -> list[UsualFact]:
        """Return the facts of spans of a group from `first` on, each laid out like one before, up to the first that is
        not. Such a span has no attributes which only Spanledger writes: its keys are those of that one, which had none.
        """
        if self._group is not group:
            self.enter(group, headers)
        facts: list[UsualFact] = []
        if self._known is not None and self._known.layouts:
            body, layouts = items.body, self._known.layouts
            starts, ends = items.starts[first:end], items.ends[first:end]
            for start, stop, found in zip(starts, ends, layouts.read(body, starts, ends), strict=False):
                fact = self._cut(body, start, stop, found, now_ns)
                if fact is None:
                    break
                facts.append(fact)
            layouts.used += len(facts)
        return facts

    def _cut(self, body: bytes, start: int, end: int, found: Found[_Reader], now_ns: int) -> UsualFact | None:
        """Return the fact of the span at [start, end), as it was read; None of one that is no usual call."""
        reader, (trace_id, span_id, parent_id, start_ns, end_ns, session, response_id), numbers = found
        if reader.has_messages and holds(body[start:end], MARKS):
            return None  # they may ask for tools
        named = self._sessions.get(session) or self._session(session)
        if named is None:
            return None
        reported = reader.calls.counts_from(response_id.decode("utf-8", "replace"), numbers, reader.reading)
        if reported is None:
            return None
        return self._fact(reader, trace_id, span_id, parent_id, start_ns, end_ns, named, reported, now_ns)

    def genai(
        self, span: bytes, view: SpanView, group: ScopeGroup, now_ns: int, headers: Mapping[str, str] = NO_HEADERS
    ) -> Fact | None:
        """Return what `FactBuilder.genai` returns."""
        if self._group is not group:
            self.enter(group, headers)
        fact, may_learn = self._read(span, view, group, now_ns)
        if fact is not None:
            self._uses += 1
            return fact
        if self._pause and may_learn:
            self._pause -= 1
            may_learn = False
        if not may_learn:
            return self._builder.genai(span, view, group, now_ns, headers)
        recorded, asked = view.recorded()
        whole = self._builder.genai(span, recorded, group, now_ns, headers)
        if whole is not None and whole.call is not None:

            def full(other: SpanView) -> Fact | None:
                return self._in_full.genai(span, other, group, now_ns, headers)

            self._learn(view, asked, group, whole, now_ns, full)
        return whole

    def _read(self, span: bytes, view: SpanView, group: ScopeGroup, now_ns: int) -> tuple[Fact | None, bool]:
        """Return the fact of a span that is like others; else None, and whether others may be read by it."""
        known = self._known
        if known is None:
            return None, False
        shape = view.attributes.shape()
        plan = known.plans.get(shape)
        if type(plan) is AlikePlan:
            return plan.read(view, group, now_ns, self._builder)
        if plan is None:
            if _is_worth_keeping(shape):
                self._keep(known, shape, _Unread(_PATIENCE))
            return None, False
        if type(plan) is _Unread:
            return None, plan.patience > 0
        assert type(plan) is _Plan
        if view.has_events or is_detected_by_name(view.name):
            return None, False
        reader = plan.readers.get((view.status_code, *view.attributes.fingerprint(plan.compared)))
        if reader is None:
            plan.missed += 1
            if plan.missed > _PATIENCE and plan.missed > plan.used + known.layouts.used:
                self._keep(known, shape, _Unread(_LEAST_PATIENCE))
            return None, True
        plan.used += 1
        fact = self._fact_of(reader, plan, view, now_ns)
        if fact is not None and known.layouts.learns():
            self._lay_out(span, view, known, plan, reader, fact, now_ns)
        return fact, False

    def _lay_out(
        self,
        span: bytes,
        view: SpanView,
        known: _Group,
        plan: _Plan,
        reader: _Reader,
        fact: UsualFact,
        now_ns: int,
    ) -> None:
        """Keep how a usual call is laid out, if others that are so come to the same."""
        if OWN in span or tells_first_token(reader.reading.dialect, view.attributes):
            return
        reader.has_messages = reader.has_messages or has_messages(view.attributes)
        known.layouts.learn(span, (plan.session_key, *reader.calls.own_keys), plan.compared, reader)
        found = known.layouts.find(span)
        again = None if found is None else self._cut(span, 0, len(span), found, now_ns)
        if again is not None and any(getattr(again, name) != getattr(fact, name) for name in _FIELDS):
            known.layouts.forget()

    def _learn(
        self,
        view: SpanView,
        asked: RecordedAttributes,
        group: ScopeGroup,
        fact: Fact,
        now_ns: int,
        full: Callable[[SpanView], Fact | None],
    ) -> None:
        """Keep what the full rules made of a span, if others can be read by it."""
        known, shape = self._known, view.attributes.shape()
        if known is None or not _is_worth_keeping(shape):
            return
        plan = known.plans.get(shape)
        if type(plan) is not AlikePlan:
            tries_usual = type(plan) is not _Unread or plan.patience > _LEAST_PATIENCE
            may_be_usual = tries_usual and self._learn_usual(known, shape, view, asked, group, fact)
            if type(plan) is not _Unread or type(known.plans.get(shape)) is _Plan:
                return
            if may_be_usual:
                plan.patience -= 1
                return
        before = plan if type(plan) is AlikePlan else None
        recorded, asked = view.recorded()
        alike = None
        if full(recorded) == fact:
            alike = learned(before, view, asked, group, fact, self._builder, now_ns, full)
        if alike is not None:
            self._keep(known, shape, alike if alike.is_of_use else _Unread(0))
        elif type(plan) is _Unread:
            plan.patience -= _A_TRY

    def _learn_usual(
        self, known: _Group, shape: _Shape, view: SpanView, asked: RecordedAttributes, group: ScopeGroup, fact: Fact
    ) -> bool:
        """Keep a usual call; return whether calls of this shape may be usual."""
        attributes, scoped = view.attributes, ScopedSpanView(view, group)
        calls, dialect = usual_calls_of(scoped), fact.call.dialect if fact.call is not None else ""
        session_keys = self._builder.resolver.keys_that_name("session", shape, dialect)
        if calls is None or not session_keys or is_detected_by_name(view.name):
            return False
        reading = calls.reading(scoped)
        if reading is None or fact.call is None or fact.card:
            return True
        own = {key for key in (*calls.own_keys, *session_keys) if key in attributes}
        if any(asked.read[key] > 1 for key in own):
            return True  # one of them means something else besides
        in_texts = (*(one[0] for one in asked.unmarked), *(one[0] for one in asked.derivations))
        all_asked = {*asked.read, *asked.filled, *in_texts}
        compared = {key for key in all_asked if key in attributes} - own
        before = known.plans.get(shape)
        plan = before if type(before) is _Plan else None
        if plan is None or not compared <= set(plan.compared):
            plan = _Plan(tuple(sorted(compared.union(plan.compared if plan else ()))), session_keys[0])
        values = attributes.fingerprint(plan.compared)
        if sum(len(value or b"") for value in values) > _LONGEST:
            return True
        reader = _Reader(calls, reading, Prototype(fact))
        usual = self._fact_of(reader, plan, view, fact.start_ns)
        if usual is None or any(getattr(usual, name) != getattr(fact, name) for name in _FIELDS):
            return True
        self._keep(known, shape, plan)
        plan.readers[(view.status_code, *values)] = reader
        return True

    def _keep(self, known: _Group, shape: _Shape, plan: _Plan | AlikePlan | _Unread) -> None:
        if self._readers >= _MOST_READERS or self._shapes >= _MOST_SHAPES:
            self._forget()
        before = known.plans.get(shape)
        self._shapes += before is None
        self._readers += type(plan) is not _Unread
        if type(before) is _Plan and before is not plan:
            known.layouts.forget()
        known.plans[shape] = plan

    def _forget(self) -> None:
        """Forget all that was learned, and learn nothing for a while if it was of little use."""
        for known in self._groups.values():
            self._uses += known.layouts.used
            known.clear()
        self._pause = _PAUSE if self._uses < _LEAST_USE * self._readers else 0
        self._shapes = self._readers = self._uses = 0

    def _session(self, encoded: bytes) -> Named | None:
        """Return the session that a text names."""
        session = encoded.decode("utf-8", "replace")
        named = Named(session, "attribute") if len(session) <= LONGEST_ID and is_plain_id(session) else None
        if len(self._sessions) >= _MOST_SESSIONS:
            self._sessions.clear()
        self._sessions[encoded] = named
        return named

    def _fact_of(self, reader: _Reader, plan: _Plan, view: SpanView, now_ns: int) -> UsualFact | None:
        get = view.attributes.get
        session, reported = get(plan.session_key), reader.calls.read_counts(get, reader.reading)
        if reported is None or type(session) is not str or len(session) > LONGEST_ID or not is_plain_id(session):
            return None
        return self._fact(reader, *view.head(), Named(session, "attribute"), reported, now_ns)

    def _fact(
        self,
        reader: _Reader,
        trace_id: bytes,
        span_id: bytes,
        parent_id: bytes,
        start_ns: int,
        end_ns: int,
        session: Named,
        reported: ReportedCounts,
        now_ns: int,
    ) -> UsualFact | None:
        if len(trace_id) != 16 or len(span_id) != 8 or trace_id == _NO_TRACE or span_id == _NO_SPAN:
            return None
        response_id, counts, is_unsure = reported
        own_ns, is_own = price_time(start_ns, now_ns)
        if not is_own or len(response_id) > LONGEST_ID or counts[0] > LARGEST_COUNT:
            return None
        day = own_ns // NS_PER_DAY
        which = self._builder.pricing.revision, day
        card = reader.cards.get(which, _UNSEEN)
        if card is _UNSEEN:
            card = self._card(reader, which)
        if card is None:
            priced = self._priced(reader, reported, own_ns)
        else:
            rates = card.rates("per-message", counts[0]) if card.tiers else card.base
            money = usual_money(counts, rates, estimate=is_unsure)
            priced = None if money is None else (card.price, *money)
        if priced is None:
            return None
        fact = UsualFact.__new__(UsualFact)
        fact.trace_id, fact.span_id, fact.parent_id = trace_id, span_id, parent_id
        fact.start_ns, fact.end_ns, fact.day = start_ns, end_ns, day
        fact.prototype, fact.response_id, fact.counts = reader.prototype, response_id, counts
        fact.session, fact.is_unsure, fact.first_token_ns = session, is_unsure, 0
        fact.price, fact.amount, fact.parts, fact.estimate = priced
        return fact

    def _priced(
        self, reader: _Reader, reported: ReportedCounts, at_ns: int
    ) -> tuple[str, Pico, CostParts, bool] | None:
        """Return price, amount, parts and estimate of a call for which a card with more than the usual rates holds."""
        response_id, counts, is_unsure = reported
        call = reader.reading.call(Usage(*counts), response_id, estimate=is_unsure)
        cost = self._builder.pricing.cost(call, at_ns)
        if cost.amount is None or cost.amount != cost.computed or cost.source != "computed" or cost.note:
            return None
        parts = (cost.input, cost.cache_read, cost.cache_write, cost.output, cost.other)
        return cost.price, cost.amount, parts, cost.estimate

    def _card(self, reader: _Reader, which: tuple[int, int]) -> Card | None:
        call = reader.prototype.fact.call
        assert call is not None
        if len(reader.cards) >= _MOST_DAYS:
            reader.cards.clear()
        card = reader.cards[which] = self._builder.pricing.usual_card(call, which[1])
        return card


_FIELDS = tuple(one.name for one in fields(Fact))


def _is_worth_keeping(shape: _Shape) -> bool:
    return len(shape) <= _MOST_KEYS and sum(map(len, shape)) <= _LONGEST
