"""Spans read by what the full rules read of one like them.

Two spans of one group are alike if they have the same keys, name, status and names of events, and if what the full
rules asked of the one gives the same answers on the other: values that were asked for are equal, texts in which they
only looked for marks have none of these, what they derived of a text is equal, keys of which they only asked whether
they hold something do. A span stands for no other if they read more of an event than its name. What the rules read is
then the same, but for what is a span's own: ids, times, session, run, usage and cost, a tool's arguments and result,
and who made the call. These are read of each span by the functions that the full rules use, and what those functions
ask is not compared. The rules that come after usage look at no count, but whether there is one and whether it is 0; so
two spans are alike only if these agree.

What is kept of a span is used only if it comes to what the full rules make of it, and of another that differs in all
values of its own (`learned`). tests/accounting/test_usual.py holds both ways to the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, fields, replace
from functools import lru_cache
from hashlib import blake2b
from itertools import chain
from operator import attrgetter, is_
from typing import Any, TypeAlias

from msgspec import structs

from spanledger_processor.accounting.facts import Evidence, Fact, begun_digest, digest_of, models_reported
from spanledger_processor.accounting.grouping import Named
from spanledger_processor.dialects import engine
from spanledger_processor.dialects.keys import keys_in
from spanledger_processor.dialects.normalize import NO_TERMS, Terms
from spanledger_processor.dialects.registry import dialect_of
from spanledger_processor.dialects.schema import Dialect
from spanledger_processor.dialects.usage import read_usage_of
from spanledger_processor.dialects.values import first_text, text
from spanledger_processor.enrichment.evidence import NO_KEYS, EvidenceKeys, evidence_keys, evidence_under
from spanledger_processor.enrichment.facts import FactBuilder, ScopedSpanView, price_time
from spanledger_processor.enrichment.names import MAX_ID, is_plain_id
from spanledger_processor.model import CLASS_NAMES, Call, Kind, ToolCall, Usage, counts_of
from spanledger_processor.otlp.envelope import ScopeGroup
from spanledger_processor.otlp.values import Derivation, RecordedAttributes
from spanledger_processor.otlp.views import SpanView
from spanledger_processor.units import NS_PER_DAY

_LONGEST = 8192
"""Bytes of the compared values that are worth keeping."""
_FEW, _LEAST_USE = 16, 4
"""A plan that learned more often than these few times is kept while that many spans, in the mean, were of use each."""
_NAMED = ("session", "run")
"""What a span names by keys of its own: the best of them decides, if it holds an id."""
_NOTHING = (None, "")
_NO_COUNTS = (None,) * len(CLASS_NAMES)
_NO_TRACE, _NO_SPAN = bytes(16), bytes(8)
_FACT_FIELDS = tuple(one.name for one in fields(Fact))
_CALL_FIELDS = Call.__struct_fields__
_values_of: Callable[[Call], tuple[Any, ...]] = attrgetter(*_CALL_FIELDS)
_USAGE, _FALLBACK, _REPORTED, _RESPONSE_ID, _TOOL = map(
    _CALL_FIELDS.index, ("usage", "fallback", "reported", "response_id", "tool")
)
_Key: TypeAlias = tuple[Hashable, ...]


@dataclass(frozen=True, slots=True)
class Own:
    """Keys of a shape under which stands what is a span's own, empty where there is none.

    `response_id`: there is something that may tell one; `evidence` are the keys of who made the call.
    """

    session: str = ""
    run: str = ""
    response_id: bool = False
    arguments: str = ""
    result: str = ""
    call_id: str = ""
    evidence: EvidenceKeys = NO_KEYS


@dataclass(frozen=True, slots=True)
class Asked:
    """What the full rules asked of spans of a shape beside their own: values, marks in texts, fillings, derivations."""

    values: frozenset[str] = frozenset()
    texts: frozenset[tuple[str, tuple[bytes, ...]]] = frozenset()
    filled: frozenset[str] = frozenset()
    derived: frozenset[Derivation] = frozenset()

    @classmethod
    def of(cls, full: RecordedAttributes, own: RecordedAttributes) -> Asked:
        """Return what the full rules asked of a span more often than those do that read what is its own."""

        def more(all_: Counter[Any], own_: Counter[Any]) -> frozenset[Any]:
            return frozenset(which for which, times in all_.items() if times > own_[which])

        values = frozenset(key for key in more(full.read, own.read) if key in full)
        texts = frozenset((key, marks) for key, marks in more(full.unmarked, own.unmarked) if key not in values)
        derived = frozenset(one for one in more(full.derivations, own.derivations) if one[0] not in values)
        filled = frozenset(key for key in more(full.filled, own.filled) if key in full) - values
        return cls(values, texts, filled, derived)

    def joined(self, other: Asked) -> Asked:
        """Return what was asked in either."""
        values = self.values | other.values
        texts = frozenset((key, marks) for key, marks in self.texts | other.texts if key not in values)
        derived = frozenset(one for one in self.derived | other.derived if one[0] not in values)
        return Asked(values, texts, (self.filled | other.filled) - values, derived)


@dataclass(frozen=True, slots=True)
class _Template:
    """A fact that stands for others. `changed` are the counts that rules changed in its usage, by class."""

    fact: Fact
    values: tuple[Any, ...]
    changed: tuple[tuple[str, int | None], ...]
    is_shared: bool
    """Nothing of its call is a span's own."""
    digest: blake2b
    """The beginning of the digests of such calls that report no cost."""


@dataclass(slots=True)
class _Stem:
    """What spans of one kind have in common before their usage is read, and templates by what that comes to."""

    dialect: Dialect
    kind: Kind
    provider: str
    request_model: str
    response_model: str
    resource: Evidence
    revision: int
    """Of the prices: what a tool costs by itself."""
    tells: bool
    """The dialect's tables have a place for usage or cost."""
    templates: dict[_Key, _Template] = field(default_factory=dict)

    def usage(self, view: ScopedSpanView) -> tuple[Call | None, _Key | None]:
        """Return a call with a span's own usage and reported cost, and what must be the same of others.

        No call where the dialect tells no usage of such spans; no key where the full rules have to read them.
        """
        dialect = self.dialect
        if not self.tells:
            return None, ()
        call = Call(dialect.name, self.kind)
        call.provider = self.provider
        call.request_model, call.response_model = self.request_model, self.response_model
        terms = read_usage_of(call, dialect, view)
        if dialect.costs:
            call.reported = engine.reported(dialect.costs, view)
        return call, None if terms.reported is not None else _usage_key(call, terms)


def _usage_key(call: Call, terms: Terms) -> _Key:
    of_terms: _Key = ()
    if terms is not NO_TERMS:
        of_terms = (terms.unclassed, *sorted(terms.context.items()), terms.plan, terms.doubt, terms.own_cache)
    reported = None if call.reported is None else call.reported.billed
    usage, fallback = _pattern(call.usage), _pattern(call.fallback)
    return (usage, fallback, call.problem, call.estimate, call.note, call.response_model, reported, of_terms)


def _pattern(usage: Usage | None) -> _Key:
    """Return of each class whether it is more than 0, and whether it is not reported."""
    if usage is None:
        return ()
    counts = counts_of(usage)
    return (*map(bool, counts), *map(is_, counts, _NO_COUNTS))


@dataclass(slots=True)
class AlikePlan:
    """Reads spans of one group and shape by those that are like them."""

    own: Own
    asked: Asked
    stems: dict[_Key, _Stem] = field(default_factory=dict)
    values: tuple[str, ...] = ()
    texts: tuple[tuple[str, tuple[bytes, ...]], ...] = ()
    filled: tuple[str, ...] = ()
    derived: tuple[Derivation, ...] = ()
    used: int = 0
    learned: int = 0

    def __post_init__(self) -> None:
        self.values, self.filled = tuple(sorted(self.asked.values)), tuple(sorted(self.asked.filled))
        self.texts, self.derived = tuple(sorted(self.asked.texts)), tuple(self.asked.derived)

    @property
    def is_of_use(self) -> bool:
        """Return whether enough spans were read by it for what it learned, once that is a few."""
        return self.learned < _FEW or self.used >= _LEAST_USE * self.learned

    def read(self, view: SpanView, group: ScopeGroup, now_ns: int, builder: FactBuilder) -> tuple[Fact | None, bool]:
        """Return what the full rules make of a span; else None, and whether others may be read by it."""
        attributes = view.attributes
        names = view.event_names()
        if names is None:
            return None, False
        for key, marks in self.texts:
            if not attributes.is_unmarked(key, marks):
                return None, False
        scoped = ScopedSpanView(view, group)
        stem = self.stems.get(self.which(view, scoped.name, names))
        if stem is None or stem.revision != builder.pricing.revision:
            return None, True
        usage_call, usage_key = stem.usage(scoped)
        template = None if usage_key is None else stem.templates.get(usage_key)
        if template is None:
            return None, usage_key is not None
        self.used += 1
        return self.fact(stem, template, usage_call, view, scoped, now_ns, builder), False

    def which(self, view: SpanView, name: str, events: tuple[str, ...] | None) -> _Key:
        """Return what spans of one name and with these events must have in common that are read by one stem."""
        attributes = view.attributes
        values = attributes.fingerprint(self.values)
        if self.filled or self.derived:
            derived = [attributes.derived(*one) for one in self.derived]
            return (name, view.status_code, events, *values, *map(attributes.is_filled, self.filled), *derived)
        return (name, view.status_code, events, *values)

    def fact(
        self,
        stem: _Stem,
        template: _Template,
        usage_call: Call | None,
        view: SpanView,
        scoped: ScopedSpanView,
        now_ns: int,
        builder: FactBuilder,
    ) -> Fact | None:
        """Return the fact of a span whose usage is that of `usage_call`; None if the full rules have to read it."""
        trace_id, span_id, parent_id, start_ns, end_ns = view.head()
        if len(trace_id) != 16 or len(span_id) != 8 or trace_id == _NO_TRACE or span_id == _NO_SPAN:
            return None
        own, base = self.own, template.fact
        session = _named(view, own.session) if own.session else base.session
        run = _named(view, own.run) if own.run else base.run
        call = self._call(stem, template, usage_call, scoped)
        if call is None or session is None or run is None:
            return None
        at_ns, is_own = price_time(start_ns, now_ns)
        signature, result = None, b""
        if call.tool is not None:
            signature, result = builder.signed(call.tool)
        return Fact(
            trace_id,
            span_id,
            parent_id,
            start_ns,
            end_ns,
            base.scope,
            session,
            run,
            base.session_parent_id,
            call,
            None if base.cost is None else builder.cost(call, view, at_ns, own=is_own),
            signature,
            result,
            at_ns // NS_PER_DAY,
            base.digest if usage_call is None else digest_of(call, template.digest),
            base.evidence if own.evidence is NO_KEYS else evidence_under(own.evidence, view.attributes, stem.resource),
            base.dimensions,
            base.failed,
            base.instance,
            base.agent,
            fee=base.fee,
        )

    def _call(self, stem: _Stem, template: _Template, usage_call: Call | None, scoped: ScopedSpanView) -> Call | None:
        """Return the call with a span's own values; None if the full rules have to read it."""
        own, base, get = self.own, template.fact.call, scoped.attributes.get
        if template.is_shared:
            return base
        values = list(template.values)
        if usage_call is not None:
            if values[_USAGE] is not None:
                values[_USAGE] = usage = usage_call.usage
                for name, count in template.changed:
                    setattr(usage, name, count)
            if values[_FALLBACK] is not None:
                values[_FALLBACK] = usage_call.fallback
            if values[_REPORTED] is not None:
                values[_REPORTED] = usage_call.reported
        if own.response_id:
            response_id = engine.response_id(stem.dialect, scoped, stem.kind)
            if bool(response_id) != bool(values[_RESPONSE_ID]):
                return None
            values[_RESPONSE_ID] = response_id
        tool = values[_TOOL]
        if tool is None:
            return Call(*values)
        arguments = result = call_id = None
        if (
            (own.arguments and (arguments := get(own.arguments)) in _NOTHING)
            or (own.result and (result := get(own.result)) in _NOTHING)
            or (own.call_id and not (call_id := text(get(own.call_id))))
        ):
            return None
        values[_TOOL] = ToolCall(tool.name, arguments, call_id, denied=tool.denied, result=result)
        call = Call(*values)
        for rule in stem.dialect.tool_rules:
            rule(scoped, call)
        return call


def _named(view: SpanView, key: str) -> Named | None:
    """Return the session or run that a span names under a key, None where that is no plain id."""
    named = view.attributes.get(key)
    return _plain(named) if type(named) is str and len(named) <= MAX_ID else None


@lru_cache(maxsize=1024)
def _plain(named: str) -> Named | None:
    """Return what an id names: mostly that of the span before."""
    return Named(named, "attribute") if is_plain_id(named) else None


def learned(
    plan: AlikePlan | None,
    view: SpanView,
    asked: RecordedAttributes,
    group: ScopeGroup,
    fact: Fact,
    builder: FactBuilder,
    now_ns: int,
    full: Callable[[SpanView], Fact | None],
) -> AlikePlan | None:
    """Return a plan by which others can be read like a span, of which the full rules made `fact`; None if none can be.

    `plan` is the one of its shape so far, which is kept if it asks no less. `full` reads by the full rules.
    """
    call = fact.call
    if call is None or not _may_stand_for_others(view, call, asked):
        return None
    stem = _stem(ScopedSpanView(view, group), call, builder)
    if stem is None:
        return None
    recorded, again = view.recorded()
    own = _own(stem.dialect, view, call, builder)
    usage_call, usage_key = stem.usage(ScopedSpanView(recorded, group))
    template = _template(own, usage_call, fact)
    if usage_key is None or template is None:
        return None
    candidate = AlikePlan(own, Asked())
    if not _is_same(
        candidate.fact(stem, template, usage_call, recorded, ScopedSpanView(recorded, group), now_ns, builder), fact
    ):
        return None
    shape = view.attributes.shape()
    for what in _NAMED:
        again.read.update(builder.resolver.further_questions(what, shape, call.dialect))
    plan = _asking(plan, own, Asked.of(asked, again))
    if sum(len(value or b"") for value in view.attributes.fingerprint(plan.values)) > _LONGEST:
        return None
    which = plan.which(view, view.name, view.event_names())
    known = plan.stems.get(which)
    if known is None or known.revision != stem.revision:
        plan.stems[which] = known = stem
    known.templates[usage_key] = template
    plan.learned += 1
    for other in _others(view, own, stem.dialect):
        read, _ = plan.read(other, group, now_ns, builder)
        if read is not None and not _is_same(read, full(other)):
            del known.templates[usage_key]
            return None
    return plan


def _asking(plan: AlikePlan | None, own: Own, asked: Asked) -> AlikePlan:
    """Return a plan that asks this much at least, for a shape with these keys: the one so far, where it does."""
    if plan is None or plan.own != own:
        return AlikePlan(own, asked)
    joined = plan.asked.joined(asked)
    return plan if joined == plan.asked else AlikePlan(own, joined, used=plan.used, learned=plan.learned)


def _may_stand_for_others(view: SpanView, call: Call, asked: RecordedAttributes) -> bool:
    is_made = call.source or call.prices_events or (call.tool is not None and call.tool.signature)
    return not is_made and not asked.has_read_events and view.event_names() is not None


def _stem(scoped: ScopedSpanView, call: Call, builder: FactBuilder) -> _Stem | None:
    dialect = dialect_of(scoped, call.dialect)
    kind = None if dialect is None else engine.kind_of(dialect, scoped)
    if dialect is None or kind is None:
        return None
    provider = first_text(scoped, dialect.provider) or dialect.fixed_provider
    models = first_text(scoped, dialect.request_model), first_text(scoped, dialect.response_model)
    tells = engine.tells_usage(dialect) or bool(dialect.costs)
    return _Stem(dialect, kind, provider, *models, builder.resource_evidence, builder.pricing.revision, tells)


def _template(own: Own, usage_call: Call | None, fact: Fact) -> _Template | None:
    """Return what stands for others; None where rules did more to usage than its own says."""
    call = fact.call
    assert call is not None
    changed: list[tuple[str, int | None]] = []
    if usage_call is not None:
        if (call.usage is not None and usage_call.usage is None) or call.fallback not in (None, usage_call.fallback):
            return None
        if call.reported not in (None, usage_call.reported):
            return None
        if call.usage is not None and usage_call.usage is not None:
            pairs = zip(CLASS_NAMES, counts_of(call.usage), counts_of(usage_call.usage), strict=True)
            changed = [(name, count) for name, count, before in pairs if count != before]
    if call.tool is not None:  # no content is kept
        call = structs.replace(call, tool=structs.replace(call.tool, arguments=None, result=None, call_id=None))
        fact = replace(fact, call=call)
    has_own = call.usage or call.fallback or call.reported or call.tool or own.response_id
    begun = begun_digest(models_reported(call, None))
    return _Template(fact, _values_of(call), tuple(changed), not has_own, begun)


def _is_same(fact: Fact | None, whole: Fact | None) -> bool:
    if fact is None or whole is None:
        return False
    return all(getattr(fact, name) == getattr(whole, name) for name in _FACT_FIELDS)


def _own(dialect: Dialect, view: SpanView, call: Call, builder: FactBuilder) -> Own:
    """Return the keys of what is a span's own."""
    attributes, shape = view.attributes, view.attributes.shape()

    def first(keys: tuple[str, ...]) -> str:
        return next((key for key in keys if key in attributes), "")

    session, run = (first(builder.resolver.keys_that_name(what, shape, dialect.name)) for what in _NAMED)
    present = evidence_keys(attributes)
    evidence = NO_KEYS if present == NO_KEYS else present
    if call.tool is None:
        return Own(session, run, bool(dialect.response_id or dialect.answers), evidence=evidence)
    tool = dialect.tool
    return Own(session, run, False, first(tool.arguments), first(tool.result), first(tool.call_id), evidence)


def _others(view: SpanView, own: Own, dialect: Dialect) -> list[SpanView]:
    """Return spans that differ from another in all texts of its own, and in all counts: twice as many."""
    get = view.attributes.get
    keys = (own.session, own.run, own.arguments, own.result, own.call_id, *dialect.response_id[:1])
    changed: dict[str, str | int] = {}
    for key in (*keys, *chain.from_iterable(own.evidence)):
        if key and isinstance(value := get(key), str) and value:
            changed[key] = f"{value[:1]}'{value[1:]}"
    tokens = {key for group in (dialect.tokens, dialect.aggregated) for key in keys_in(group)}
    counts = {key: 2 * value for key in tokens if type(value := get(key)) is int and 0 < value < 1 << 30}
    return [view.changed(changed), view.changed(changed | counts)] if counts else [view.changed(changed)]
