"""One trace as the accounting remembers it: links, claims, what was counted and what was sent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass, field
from itertools import chain
from operator import neg
from typing import Any, NamedTuple

from msgspec import Struct

from spanledger_processor.accounting.facts import NO_EVIDENCE, Evidence
from spanledger_processor.accounting.grouping import NOTHING, Named
from spanledger_processor.dialects.registry import library_of
from spanledger_processor.dialects.schema import Library
from spanledger_processor.ledger.facts import TOOL_LABEL, activity_ns
from spanledger_processor.ledger.sums import Added, speeds_of
from spanledger_processor.model import CONTAINERS, INPUT, NO_SPEND, OUTPUT, Call, Cost, Usage, UsageVector, known_counts
from spanledger_processor.pricing import canonical_model
from spanledger_processor.pricing.pricer import cost_on
from spanledger_processor.pricing.rate_card import read_card
from spanledger_processor.units import NS_PER_DAY, Pico

MAX_SPANS = 4096
"""Spans remembered of one trace; beyond it some are forgotten, what they added stays."""
_SLACK = 256
_MOST_AWAITED = 512
"""Unknown parents of forgotten spans that are remembered."""

COUNTED = "counted"
"""The role of a span that adds its claim to the ledger."""
REPEATS = "repeats"
"""The role of a span that repeats others, and adds nothing."""
DUPLICATE = "duplicate:"
"""The role of a further report of a call, followed by the span id in hex of the span that is counted."""
MOST_TWINS = 16
"""Reports of a call in other traces that are remembered beside the one that counts."""


WHAT_IS_REPORTED = slice(0, 4)
"""The part of `Claim.richness` that tells what a claim knows."""


class Claim(Struct):
    """The usage and cost that a span reports: what it adds to the ledger if it is the span that is counted. Its fields
    are stored in their order (`trace_record`).

    `tokens` in the order of `USAGE_CLASSES`, None where a class is unknown; empty where there is no usage. `provider`
    is the one name of who sold it (`pricing.sold_by`); in a record of a version before, as the span had it.
    `fallback` is true where only a raw answer inside the span has usage: it counts where no other span of the trace
    spends. `granularity` is empty for one model call, else what the amount is the sum of. `card` is the rate card
    of its model (`Card.written`) where log events below the span name none, `first_token_ns` when the first token
    came after the span's start (0: not reported). `fresh` is the part of the amount that is for input which was not
    read from the cache; None where it is not known. `terms` is the number of terms of its price (tier, speed,
    region) that it reports. `cached`: the application's or a proxy's cache answered, so that there was no call and
    no cost.
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
    cached: bool = False
    granularity: str = ""
    card: str = ""
    first_token_ns: int = 0
    fresh: Pico | None = None
    terms: int = 0
    _spend: UsageVector | None = None
    _listed: str = ""

    @property
    def spends(self) -> bool:
        """Return whether anything was spent at all: a span without usage does not make its parent a repeat."""
        return any(self.tokens) or bool(self.amount)

    @property
    def richness(self) -> tuple[bool, bool, int, int, int]:
        """Return the order of claims by richness: a cached answer, a price, its terms, classes of tokens, tokens.

        `WHAT_IS_REPORTED` is all of it but how many tokens there are.
        """
        known = [count for count in self.tokens if count is not None]
        return self.cached, self.amount is not None, self.terms, len(known), sum(known)

    @property
    def of_anthropic(self) -> bool:
        """Return whether its model is Anthropic's, wherever it runs."""
        return self.provider.startswith("anthropic") or "claude" in self.model.lower()

    @property
    def label(self) -> str:
        """Return provider and model as tables show them."""
        return f"{self.provider}/{self.listed}" if self.provider else self.listed

    @property
    def listed(self) -> str:
        """Return the model's one name, under which the ledger has its sums (docs/pricing.md); kept, as `spend` is."""
        if not self._listed:
            self._listed = canonical_model(self.model)
        return self._listed

    @property
    def spend(self) -> UsageVector:
        """Return what it adds where it is counted; kept, for it is the same once the claim is complete."""
        if self._spend is None:
            counts = () if self.cached else self.tokens
            amount = self.amount or 0
            self._spend = UsageVector(amount, known_counts(counts)) if counts else UsageVector(amount)
        return self._spend


class Detail(Struct, frozen=True):
    """The data of a GenAI span for sums by agent, tool, failure, denial and dimension.

    `dimensions` are names and values in turn. `fee` is what a tool costs by itself, `day` the day on which it was
    executed, since 1970. `asked` and `stuck` are ids and tools in turn, as in `Fact`; `asked_again` are calls that
    messages of a model's span show to have been made again: signature, tool, times, times in a row, whether it looped.
    `asked_signatures` are those of `asked`, where nothing tells results.
    """

    agent: str = ""
    agent_parent: str = ""
    tool: str = ""
    failed: bool = False
    dimensions: tuple[str, ...] = ()
    denied: bool = False
    fee: Pico = 0
    day: int = 0
    asked: tuple[str, ...] = ()
    stuck: tuple[str, ...] = ()
    asked_again: tuple[tuple[str, str, int, int, bool], ...] = ()
    asked_signatures: tuple[str, ...] = ()


NO_DETAIL = Detail()


def tool_label(tool: str) -> str:
    """Return the model under which the own cost of a tool is summed."""
    return TOOL_LABEL + tool


class Fed(NamedTuple):
    """The part of a model call that results of a tool make up (`tool_calls`): `results` of so many executions, `tokens`
    of its input and their `cost`. `unpriced` of them went into a call whose cost is not known.
    """

    tool: str
    results: int
    tokens: int
    cost: Pico
    unpriced: int


class Posting(Struct):
    """The posting of a span in the ledger: its role, which decides what it adds, and the totals that it adds to.

    `agent_parent` is the agent above the one that an agent's span names, `turn` true for an agent's span
    below no other agent's. `repeated` is the one call below it whose usage it tells again, if it is no sum.
    `fed` is what results of tools brought into it. `asked` are the tools of calls that exist
    only in its output, `stuck` those of calls without a span of their own that it shows to have completed a loop.
    `own_session` is the session that its trace names for it where calls of other traces lend it one; None: `session`.
    `counts_elsewhere`: the role names a span of another trace, though its own may have one of that id, too.
    """

    role: str = ""
    session: str = ""
    run: str = ""
    agent: str = ""
    agent_parent: str = ""
    turn: bool = False
    repeated: bytes = b""
    fed: tuple[Fed, ...] = ()
    asked: tuple[str, ...] = ()
    stuck: tuple[str, ...] = ()
    own_session: str | None = None
    counts_elsewhere: bool = False

    @property
    def named_session(self) -> str:
        """Return the session that its trace names for it."""
        return self.session if self.own_session is None else self.own_session


class Span(Struct):
    """One span of a trace. `kind` is empty for a plain span.

    `logged` is true for a span synthesized from a log event, `again` for a further report of a tool execution. `sent`
    is what spans sent on so far have carried for this call; `twin` is the span id in hex of the span of another trace,
    `twin_trace`, that is counted for the same call. Without `twin_trace` it is a span that its own trace forgot.
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
    session_labels: tuple[str, str] = ("", "")
    """Name and project of its session; not remembered, the session's are."""
    instance: str = ""
    """Its process (`service.instance.id`); likewise."""
    response: str = ""
    call_id: str = ""
    signature: str = ""
    tool_result: bytes = b""
    """A hash of the tool's result; not remembered, the session's count of the call is."""
    logged: bool = False
    closes: bool = False
    """Its source reports the end of the session; not remembered, the session is."""
    claim: Claim | None = None
    detail: Detail = NO_DETAIL
    again: bool = False
    asked_before: bool = False
    """An execution that an earlier release counted where a model asked for it, in another trace."""
    elsewhere: frozenset[str] = frozenset()
    """Calls that it asks for and that spans of other traces execute, in its session."""
    failed_before: bool = False
    """It says that its execution failed, as another report does, or one that has the execution is counted for that."""
    failed_elsewhere: bool = False
    """It has its execution, and not it but another report says that this failed."""
    loops: int = 0
    """How many more tool calls of its session complete a loop because of it."""
    posting: Posting | None = None
    sent: UsageVector = NO_SPEND
    twin: str = ""
    twin_trace: bytes = b""
    carries_below: bool = False
    """A forgotten descendant had usage."""
    reported_by: set[str] = set()
    """Sources in other traces that report the call which is counted here."""
    twins: list[tuple[bytes, bytes]] = []
    """Their reports that would count, `MOST_TWINS` of them: trace and span of each."""
    lent_session: str = ""
    """The session of a twin in another trace, where its own trace names none."""
    lent_price: tuple[Pico, str, str] | None = None
    """Amount, provider and model of a log event's call, where only the span above names the model."""
    fixed: bytes = b""
    """The packed part of its stored row (`trace_record`); empty for a span that has not been decided on."""
    stored: list[Any] = []
    """Its state as it is stored."""
    segment: int = 0
    """The closed segment of its trace's record that holds it; 0 is the head."""

    @property
    def spends(self) -> bool:
        """Return whether it claims that anything was spent."""
        claim = self.claim
        return claim is not None and (any(claim.tokens) or bool(claim.amount))

    @property
    def library(self) -> Library:
        """Return how the library that made it reports its calls."""
        return library_of(self.scope)

    @property
    def own_session(self) -> str:
        """Return the session that the span itself names."""
        return "" if self.lent_session else self.session.id

    @property
    def has_input(self) -> bool:
        """Return whether it tells how much was put in."""
        return self.claim is not None and bool(self.claim.tokens) and bool(self.claim.tokens[INPUT])

    @property
    def output(self) -> int:
        """Return the output tokens that it tells, 0 where it tells none."""
        return (self.claim.tokens[OUTPUT] or 0) if self.claim is not None and self.claim.tokens else 0

    @property
    def is_model_call(self) -> bool:
        """Return whether it is a single call of a model, with usage."""
        return self.kind == "llm" and self.claim is not None and bool(self.claim.tokens) and not self.claim.granularity

    @property
    def context(self) -> int:
        """Return the input tokens of a single call of a model, 0 of anything else."""
        claim = self.claim
        return claim.tokens[INPUT] or 0 if claim is not None and self.is_model_call else 0

    @property
    def speeds(self) -> list[int]:
        """Return how fast it was, as buckets: of a single call of a model that was made, and came to its end."""
        claim = self.claim
        if claim is None or claim.cached or self.detail.failed or not self.is_model_call:
            return []
        return speeds_of([(self.end_ns - self.start_ns, claim.first_token_ns, claim.tokens[OUTPUT] or 0)])

    @property
    def fee(self) -> Pico:
        """Return its own cost as the first report of a tool's execution, 0 for any other span."""
        return 0 if self.again else self.detail.fee

    @property
    def forgotten_twin(self) -> str:
        """Return the span id in hex of the span that counts for its call and that its own trace does not hold any more.

        Records of earlier releases have one of another trace, too.
        """
        return "" if self.twin_trace else self.twin

    @property
    def asks_elsewhere(self) -> bool:
        """Return whether a report of its call in another trace asks for what its model asks for."""
        return bool(self.twin)

    @property
    def fails(self) -> bool:
        """Return whether it is counted among those that failed."""
        return self.failed_elsewhere or (self.detail.failed and not self.failed_before)

    @property
    def counted(self) -> bool:
        """Return whether the ledger holds its claim."""
        return self.posting is not None and self.posting.role == COUNTED and self.claim is not None

    def lend_price(self, price: tuple[Pico, str, str]) -> None:
        """Let it claim an amount for a call of a provider's model."""
        self.lent_price = price
        if self.claim is not None:
            self.claim.unpriced, self.claim._listed, self.claim._spend = "", "", None
            self.claim.amount, self.claim.provider, self.claim.model = price

    def activity(self, now_ns: int) -> tuple[int, int]:
        """Return when something was done, from its start to its end; neither is far ahead of the clock, and none ends
        before it starts: one that says so was done at its start.
        """
        start_ns, end_ns = self.start_ns, self.end_ns
        if start_ns > now_ns or end_ns > now_ns:
            start_ns, end_ns = activity_ns(start_ns, now_ns), activity_ns(end_ns, now_ns)
        return start_ns, max(start_ns, end_ns)

    @property
    def spent_ns(self) -> int:
        """Return when its cost was caused: at its start, or where that is far ahead of the day of its price, on this.

        It is the same whenever it is asked for: an amount is taken out again where it was entered.
        """
        day = self.claim.day if self.claim is not None else self.detail.day
        return day * NS_PER_DAY if 0 < day < self.start_ns // NS_PER_DAY - 1 else self.start_ns

    def added(self, role: str, sign: int, now_ns: int) -> Added:
        """Return what this span adds to each total if it plays `role`; with `sign` -1, what takes it out again."""
        added, claim = Added(sign), self.claim
        if self.kind == "tool" and not self.again:
            added.tool_calls = 0 if self.asked_before else sign
            if fee := self.detail.fee:
                added.models = ((tool_label(self.detail.tool), sign * fee),)
        if sign > 0:
            added.first_ns, added.last_ns = self.activity(now_ns)
            if self.closes:
                added.closed_ns = added.last_ns
        if role != COUNTED or claim is None or claim.cached:
            return added
        counts = claim.spend.counts
        added.calls, added.granularity = sign, claim.granularity
        added.usage = counts if sign > 0 else tuple(map(neg, counts))
        if claim.amount is None:
            added.reason = claim.unpriced
        else:
            added.models = (*added.models, (claim.label, sign * claim.amount))
        return added


class TraceNames(NamedTuple):
    """The sessions and the runs that a trace names, and whether a span of it names its agent."""

    sessions: set[str]
    runs: set[str]
    has_agents: bool


@dataclass(slots=True)
class Trace:
    """All that is remembered of one trace: its spans by id, in order of arrival, and what forgotten ones leave behind.

    `awaited` has the unknown parents of forgotten spans that spend: with the first and the last of their times, from
    start to end. `sessions` and `runs` are up to two ids that forgotten spans named, `surplus` is by how much what was
    sent of them exceeds what they add to the ledger. `cut` is true where more had to be forgotten than that.
    """

    spans: dict[bytes, Span] = field(default_factory=dict)
    awaited: dict[bytes, list[tuple[int, int]]] = field(default_factory=dict)
    sessions: set[str] = field(default_factory=set)
    runs: set[str] = field(default_factory=set)
    surplus: UsageVector = NO_SPEND
    cut: bool = False

    def add(self, span: Span) -> None:
        """Take in a span; a plain one that turns out to be a GenAI span moves to the end."""
        if span.span_id in self.spans:
            del self.spans[span.span_id]
        self.spans[span.span_id] = span
        if span.span_id in self.awaited:
            span.carries_below = True

    def names(self) -> TraceNames:
        """Return what the trace names; of sessions and runs that only forgotten spans name, up to two."""
        names = {(span.session.id, span.run.id, span.detail.agent) for span in self.spans.values()}
        sessions, runs, agents = map(set, zip(*names, strict=True)) if names else (set(), set(), set())
        return TraceNames((sessions | self.sessions) - {""}, (runs | self.runs) - {""}, any(agents))

    def forget(self) -> tuple[list[Span], list[Span]]:
        """Keep the trace within its bound; return the forgotten spans, and those of the others that changed by that.

        Some more go than have to, to make it rare. The oldest without children here that cannot become repeats are
        forgotten: what later spans may change is kept.
        """
        if len(self.spans) <= MAX_SPANS:
            return [], []
        changed: list[Span] = []
        wanted = len(self.spans) - MAX_SPANS + _SLACK
        children = Counter(span.parent_id for span in self.spans.values())
        parents, known, uppers = set(children), [*self.spans.values()], list[Span]()
        leaves = (span for span in known if span.span_id not in parents and _is_settled(span))
        gone: list[Span] = []
        for span in chain(leaves, uppers):
            if len(gone) == wanted:
                break
            gone.append(self._forget(span, changed))
            children[span.parent_id] -= 1
            upper = self.spans.get(span.parent_id)
            if upper is not None and not children[span.parent_id] and _is_settled(upper):
                uppers.append(upper)
        if len(self.spans) > MAX_SPANS:
            self.cut = True
            oldest = [span for span in self.spans.values() if span.segment]
            gone += [self._forget(span, changed) for span in oldest[: wanted - len(gone)]]
        changed += self._keep_duplicates(
            {DUPLICATE + span.span_id.hex() for span in gone if span.counted or span.twin_trace}
        )
        return gone, [span for span in changed if span.span_id in self.spans]

    def _keep_duplicates(self, roles: set[str]) -> Iterator[Span]:
        """Let spans stay duplicates of spans that are forgotten; yield them."""
        for span in self.spans.values():
            if span.posting is not None and span.posting.role in roles:
                span.twin = span.posting.role.removeprefix(DUPLICATE)
                yield span

    def _forget(self, span: Span, changed: list[Span]) -> Span:
        del self.spans[span.span_id]
        for named, kept in ((span.session.id, self.sessions), (span.run.id, self.runs)):
            if named and len(kept) < 2:
                kept.add(named)
        if span.sent:
            self.surplus = self.surplus + span.sent
        if span.counted and span.claim is not None:
            self.surplus = self.surplus - span.claim.spend
        times = self.awaited.pop(span.span_id, [])
        if (span.carries_below or _carries(span)) and not self._is_below_its_twin(span):
            upper = self.spans.get(span.parent_id)
            if upper is not None and not upper.carries_below:
                upper.carries_below = True
                changed.append(upper)
            elif upper is None and span.parent_id:
                own = [(span.start_ns, span.end_ns)] if span.end_ns else []  # else only its links were kept
                times = sorted([*times, *self.awaited.pop(span.parent_id, []), *own])
                self.awaited[span.parent_id] = [times[0], times[-1]] if times else []
                if len(self.awaited) > _MOST_AWAITED:
                    self.cut = True
                    del self.awaited[next(iter(self.awaited))]
        return span

    def _is_below_its_twin(self, span: Span) -> bool:
        role = span.posting.role if span.posting is not None else ""
        upper, counted = span, role.removeprefix(DUPLICATE)
        for _ in range(_SLACK if role.startswith(DUPLICATE) else 0):
            above = self.spans.get(upper.parent_id)
            if above is None or above.span_id.hex() == counted:
                return above is not None
            upper = above
        return False

    def state(self) -> list[Any]:
        """Return what forgotten spans leave behind, as plain values; nothing for most traces."""
        surplus = [self.surplus.cost, *self.surplus.counts] if self.surplus else []
        if not (self.awaited or self.sessions or self.runs or surplus or self.cut):
            return []
        awaited = [[parent, *(edge for time in times for edge in time)] for parent, times in self.awaited.items()]
        return [awaited, sorted(self.sessions), sorted(self.runs), surplus, self.cut]

    def restore(self, state: list[Any]) -> None:
        """Take in what `state` gave."""
        if state:
            awaited, sessions, runs, surplus, self.cut, *_ = state
            self.surplus = UsageVector.read(surplus[0], surplus[1:]) if surplus else NO_SPEND
            self.awaited = {parent: list(zip(edges[::2], edges[1::2], strict=True)) for parent, *edges in awaited}
            self.sessions, self.runs = set(sessions), set(runs)


PRICED_ABOVE = "priced as a call of the model of the span that it belongs to"


def event_cost(trace: Trace, span: Span, call: Call) -> Cost:
    """Return what the call of a log event that names no model costs by the rate card of the span that it belongs to."""
    above = trace.spans[span.parent_id].claim
    assert above is not None
    cost = cost_on(read_card(above.card), call)
    cost.note = cost.note or PRICED_ABOVE
    return cost


def price_events(trace: Trace) -> list[tuple[Span, Claim]]:
    """Price the log events of a trace whose model only the span above names; return them with what they claimed before.

    It stays so, also when that span is forgotten.
    """
    cards = {span_id for span_id, span in trace.spans.items() if span.claim is not None and span.claim.card}
    priced: list[tuple[Span, Claim]] = []
    for span in trace.spans.values() if cards else ():
        above, claim = trace.spans.get(span.parent_id), span.claim
        if span.parent_id not in cards or above is None or above.claim is None or claim is None:
            continue
        if not span.logged or claim.unpriced != "no_model" or not claim.tokens:
            continue
        cost = event_cost(trace, span, Call("", "llm", usage=Usage(*claim.tokens)))
        if cost.amount is not None:
            span.claim = copy(claim)
            span.lend_price((cost.amount, above.claim.provider, above.claim.model))
            priced.append((span, claim))
    return priced


def _is_settled(span: Span) -> bool:
    """Return whether later spans cannot make a repeat of it: a call, or a repeat already; and not in the head."""
    if not span.segment:
        return False
    claims = span.spends and span.posting is not None and span.posting.role == COUNTED
    return not (claims and span.kind in CONTAINERS)


def _carries(span: Span) -> bool:
    """Return whether the spans above this one repeat it."""
    return span.spends and span.posting is not None and bool(span.posting.role)
