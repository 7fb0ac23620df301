"""Build the fact of a span: its call, names, price and signature."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from types import MappingProxyType
from typing import Any, Protocol

from msgspec import structs

from spanledger_processor.accounting.facts import NO_EVIDENCE, Evidence, Fact, digest_of
from spanledger_processor.accounting.grouping import Named
from spanledger_processor.enrichment.evidence import resource_evidence, span_evidence
from spanledger_processor.enrichment.names import IdResolver, Names, pick
from spanledger_processor.enrichment.plain_spans import NO_NAMES, link
from spanledger_processor.model import CALLS, Call, Cost, Signature, ToolCall
from spanledger_processor.otlp.envelope import ScopeGroup
from spanledger_processor.otlp.views import Attributes, Event, SpanView
from spanledger_processor.pricing.rate_card import Card
from spanledger_processor.units import NS_PER_DAY

NO_HEADERS: Mapping[str, str] = MappingProxyType({})
_EARLIEST_NS = 1_577_836_800 * 10**9
"""2020-01-01: an earlier start is a clock that was never set."""


def price_time(start_ns: int, now_ns: int) -> tuple[int, bool]:
    """Return the time by which a span is priced, and whether it is the span's own: its start, else its arrival."""
    if _EARLIEST_NS <= start_ns <= now_ns + NS_PER_DAY:
        return start_ns, True
    return now_ns, False


class ScopedSpanView:
    """What `dialects.detect` reads: the span's own fields, and those of the scope and resource around it."""

    __slots__ = ("_group", "_span", "attributes", "name")

    def __init__(self, span: SpanView, group: ScopeGroup) -> None:
        self._span = span
        self._group = group
        self.name: str = span.name
        self.attributes: Attributes = span.attributes

    @property
    def status_code(self) -> int:
        return self._span.status_code

    @property
    def events(self) -> Sequence[Event]:
        return self._span.events

    @property
    def scope_name(self) -> str:
        return self._group.scope_name

    @property
    def scope_version(self) -> str:
        return self._group.scope_version

    @property
    def resource(self) -> Attributes:
        return self._group.resource_attributes


_MOST_RESOURCES = 256
_STATUS_ERROR = 2


class Pricing(Protocol):
    """The part of `pricing` that facts need."""

    @property
    def revision(self) -> int: ...

    def cost(self, call: Call, at_ns: int, *, time_known: bool = True) -> Cost: ...

    def usual_card(self, call: Call, day: int) -> Card | None: ...

    def card_of(self, call: Call, at_ns: int) -> Card | None: ...

    def tool_cost(self, tool: str) -> Cost | None: ...


class Signing(Protocol):
    """The part of `signing` that facts need."""

    def sign(self, tool: ToolCall) -> Signature | None: ...

    def digest(self, value: Any) -> bytes: ...

    def ids(self, identity: bytes) -> tuple[bytes, bytes]: ...


@dataclass(slots=True)
class FactBuilder:
    """Builds facts of spans by the dialects, prices, signatures and names that it was given."""

    detect: Callable[[ScopedSpanView], Call | None]
    pricing: Pricing
    signing: Signing
    resolver: IdResolver
    _resource: tuple[Attributes | None, Names, Evidence] = (None, Names(), NO_EVIDENCE)
    """Of the current group; of that only its resource: the group holds the bytes of a whole request."""
    _resources: dict[frozenset[tuple[str, bytes]], tuple[Names, Evidence]] = field(default_factory=dict)
    """Those of recent resources."""

    def genai(
        self, span: bytes, view: SpanView, group: ScopeGroup, now_ns: int, headers: Mapping[str, str] = NO_HEADERS
    ) -> Fact | None:
        """Return the facts of a GenAI span, None if no dialect knows it."""
        call = self.detect(ScopedSpanView(view, group))
        if call is None:
            return None
        fact = self._named(view, group, call, headers)
        fact.failed = view.status_code == _STATUS_ERROR
        if not _valid(view.trace_id, 16) or not _valid(view.span_id, 8):
            fact.trace_id = fact.span_id = blake2b(span, digest_size=16).digest()
            fact.parent_id = b""
        at_ns, own = price_time(view.start_ns, now_ns)
        fact.day = at_ns // NS_PER_DAY
        fact.cost = self.cost(call, view, at_ns, own=own)
        if call.prices_events and (card := self.pricing.card_of(call, at_ns)) is not None:
            fact.card = card.written()
        fact.digest = digest_of(call)
        fact.evidence = span_evidence(view.attributes, self._resource[2])
        if call.tool is not None and call.kind == "tool":
            fact.signature, fact.result = self.signed(call.tool)
            if fact.cost is None and not call.tool.denied and call.tool.name:
                fact.fee = self.pricing.tool_cost(call.tool.name)
        return fact

    def _named(self, view: SpanView, group: ScopeGroup, call: Call, headers: Mapping[str, str]) -> Fact:
        span, resource = self.resolver.names(view.attributes, call.dialect), self.names_of(group)
        fact = link(Fact(*view.head(), group.scope_name), span, resource)
        fact.call = call
        fact.dimensions = self.resolver.dimensions(span, resource, headers)
        fact.instance = pick("instance", NO_NAMES, resource).id
        fact.agent = pick("agent_name", span, resource).id
        fact.session_parent_id = call.session_parent_id or pick("session_parent", span, resource).id
        if call.source.startswith("file:") and fact.session.id:
            fact.session = Named(fact.session.id, "file")
        for role, name in _ON_THE_CALL:
            if (role in span.ranked or role in resource.ranked) and not getattr(call, name):
                setattr(call, name, pick(role, span, resource).id)
        service = pick("service", NO_NAMES, resource).id
        project, label, fact.dimensions = self.resolver.labelled(
            fact.dimensions, fact.agent or call.agent_id, service, fact.instance
        )
        call.session_project, call.session_name = project or call.session_project, label or call.session_name
        return fact

    def names_of(self, group: ScopeGroup) -> Names:
        """Return what the resource of a group names."""
        known, names, _ = self._resource
        if known is not group.resource_attributes:
            names, evidence = self._known_resource(group.resource_attributes)
            self._resource = (group.resource_attributes, names, evidence)
        return names

    def _known_resource(self, resource: Attributes) -> tuple[Names, Evidence]:
        contents = resource.contents()
        known = None if contents is None else self._resources.get(contents)
        if known is None:
            known = self.resolver.names(resource), resource_evidence(resource)
            if contents is not None:
                if len(self._resources) >= _MOST_RESOURCES:
                    self._resources.clear()
                self._resources[contents] = known
        return known

    def signed(self, tool: ToolCall) -> tuple[Signature | None, bytes]:
        """Return the signature of an execution, and the hash of its result."""
        own = Signature(tool.signature, tool.signature_scope or "full") if tool.signature else None
        return own or self.signing.sign(tool), self.signing.digest(tool.result)

    @property
    def resource_evidence(self) -> Evidence:
        """Return the evidence of the resource of the current group."""
        return self._resource[2]

    def cost(self, call: Call, view: SpanView, at_ns: int, *, own: bool) -> Cost | None:
        """Return the cost of a call by the prices at a time: its `own`, or that of its arrival."""
        if call.usage is not None or call.reported is not None or call.problem:
            return self.pricing.cost(call, at_ns, time_known=own)
        if call.fallback is not None:
            return self.pricing.cost(structs.replace(call, usage=call.fallback), at_ns, time_known=own)
        # one without usage is marked, unless it failed before an answer began
        if call.kind in CALLS and (call.answered or view.status_code != _STATUS_ERROR):
            return Cost(unpriced="no_usage")
        return None


_ON_THE_CALL = (
    ("agent", "agent_id"),
    ("agent_parent", "agent_parent_id"),
    ("task_id", "task_id"),
    ("task_kind", "task_kind"),
)


def _valid(identifier: bytes, length: int) -> bool:
    return len(identifier) == length and identifier.count(0) != length
