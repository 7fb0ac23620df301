"""The pricer: the cost of a call, and the rule for which of several amounts counts.

The rules, in order; the first that holds decides:
1. The application's or a proxy's own cache answered: 0, `response_cache`.
2. A plan covers the call (a subscription, provisioned throughput): 0, `billed`, unless a charge was reported. Our
   arithmetic beside it is what the call would have cost, at the price of the model's maker where the plan's seller has
   none.
3. The one that charges said it: `billed`. With the caller's own key behind a gateway that is the provider's charge and
   the gateway's fee. A charge of 0 for what we have a price for needs a reason: a model that is free by its name.
   Without one our own amount counts, as an estimate. A charge far below our amount, without a reason, is an estimate:
   it may be a gateway's fee beside what the provider charges the caller's own key.
4. What a file says of a session counts before our arithmetic on it, which cannot know the tiers: `reported`. Without it
   a sum of calls has no price (`no_usage`: that of the single calls is not known), unless the user stated one price a
   token (`overrides`).
5. Our own arithmetic: `computed`. A library's cost beside it that is far from ours makes it an estimate, because one of
   the two reads the counts wrongly; or, if it multiplies by the list that we have, and its cost is exactly that of one
   tier, because the tier is not reported (Pydantic AI).
6. A library's own estimate: `reported`. 0 is what several write for a model that they do not know, so it counts only
   where nothing was used.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from fnmatch import fnmatchcase
from fractions import Fraction
from functools import lru_cache
from operator import attrgetter
from typing import TypeAlias

from msgspec import structs

from spanledger_processor.model import (
    OTHER_CLASSES,
    USAGE_CLASSES,
    Call,
    Cost,
    CostParts,
    CostSource,
    ReportedCost,
    SixCounts,
    Unpriced,
    counts_of,
)
from spanledger_processor.pricing import price_list
from spanledger_processor.pricing.model_names import BEDROCK, Candidate
from spanledger_processor.pricing.price_list import MAX_NAME, OVERRIDE, NameRead, Override, read_name
from spanledger_processor.pricing.providers import provider_of
from spanledger_processor.pricing.rate_card import Card, ClassRates, charge, missing
from spanledger_processor.units import NS_PER_DAY, Pico

FAR = Fraction(3, 2)
"""By how many times another's cost may exceed ours, or ours another's, before one of them must be wrong."""
_FAR_HIGH, _FAR_LOW = FAR.as_integer_ratio()

FAR_BELOW = 4
"""By how many times our amount may exceed a charge. Sellers of one open model differ by less; a fee is about 5 %."""

PLANS = {
    "subscription": "covered by a subscription: cost.computed_usd is what it would have cost",
    "provisioned": "covered by provisioned throughput: cost.computed_usd is what it would have cost",
}
"""The notes of calls that a plan covers."""

HIDDEN = "the source does not know its cost, and the usage and the dates of the single calls are not told"
"""The note of a sum of calls without a cost: its calls may lie on both sides of a tier, or of a change of price."""

_TIER, _TIERS = "service_tier", ("flex", "batch", "priority")
_ROUNDED = 10
"""Picodollars by which two roundings of one amount differ at most."""

_FREE = ":free"
"""The end of OpenRouter's names of models that cost nothing, https://openrouter.ai/docs/guides/routing/model-variants."""

PARTS = ("input", "cache_read", "cache_write", "output", "other")
"""The parts of a `Cost` whose sum is what was computed."""
_PART = (*(PARTS.index(one.cost) for one in USAGE_CLASSES), PARTS.index("other"))
"""The part of a `Cost` that each amount of a card's arithmetic belongs to; the request's own is among the others."""

_other_counts = attrgetter(*OTHER_CLASSES)

_EPOCH = date(1970, 1, 1)
_MAX_DAY = (date.max - _EPOCH).days


@dataclass(frozen=True, slots=True)
class Resolved:
    """The rate cards of a name on a day, each with the nanosecond of day from which it holds, or why there are none.

    `only` is the card of a model whose price does not change during the day.
    """

    candidates: tuple[Candidate, ...]
    unpriced: Unpriced | None = None
    cards: tuple[tuple[int, Card | None], ...] = ()
    why: str = ""
    only: Card | None = None

    def card(self, ns: int) -> Card | None:
        """Return the card that holds at a nanosecond of the day."""
        current = None
        for start, card in self.cards:
            if ns >= start:
                current = card
        return current


Quote: TypeAlias = tuple[Card, ClassRates, ClassRates, ClassRates]
"""The arithmetic of one call: at which rates of a card, how many tokens of each class, and how much money."""


class _TooLongError(Exception):
    """A name or a price context that is not worth keeping: no seller lists it."""


OF_TOOL = "tool/"
"""What `Cost.price` begins with where a tool costs something by itself (`processor.tools.prices`)."""


class Pricer:
    """Prices calls by the user's overrides, then by genai-prices.

    Keeps the last `cards` names (with day and price context) that were asked for, known or not, as many with the models
    that they were read as, and nothing else.
    """

    def __init__(
        self, overrides: Sequence[Override] = (), cards: int = 4096, tools: Sequence[tuple[str, Pico, str]] = ()
    ) -> None:
        """Price by `overrides` first; `tools` are patterns of names, amounts for one execution, and names of rules."""
        self._overrides = [(override, override.card()) for override in overrides]
        self._tools = tools
        self._resolve = lru_cache(maxsize=cards)(self._kept)
        self._read_name = lru_cache(maxsize=cards)(read_name)
        self._cards = lru_cache(maxsize=cards)(price_list.cards)
        """Of the days since which they hold."""
        self.revision = 0
        """Another one whenever cards that were given out may no longer hold."""

    def adopt(self, other: Pricer) -> None:
        """Price by the overrides of another pricer from now on."""
        self._overrides = other._overrides
        self._tools = other._tools
        self._resolve.cache_clear()
        self.revision += 1

    def cost(self, call: Call, at_ns: int, *, time_known: bool = True) -> Cost:
        """Return the cost of a call that began at `at_ns` (since 1970): our arithmetic and the amount that counts."""
        rated = "no_usage" if call.granularity == "cost-only" else self._rates(call, at_ns)
        cost = (
            Cost(unpriced=rated) if isinstance(rated, str) else usual_cost(call, *rated) or general_cost(call, *rated)
        )
        if not time_known and cost.computed is not None:
            cost.estimate = True
        if call.reported is not None and call.reported.same_list:
            cost = self._by_its_tier(call, call.reported.amount, cost, at_ns)
        if call.reported is not None or call.response_cache or call.plan:
            _choose_amount(call, cost)
        if call.granularity == "per-session-aggregate" and cost.source == "computed" and not isinstance(rated, str):
            _doubt_aggregate(call, cost, rated[0])
        return cost

    def _by_its_tier(self, call: Call, theirs: Pico, cost: Cost, at_ns: int) -> Cost:
        """Return the cost of a call at the one tier that gives another's amount, where it tells none; else `cost`."""
        terms = dict(call.price_context)
        if _TIER in terms or cost.amount is None or not is_far(cost.amount, theirs):
            return cost
        for tier in _TIERS:
            tiered = structs.replace(call, price_context=tuple(sorted({**terms, _TIER: tier}.items())))
            rates = self._rates(tiered, at_ns)
            at_tier = None if isinstance(rates, str) else general_cost(tiered, *rates)
            if at_tier is not None and at_tier.amount and abs(at_tier.amount - theirs) <= _ROUNDED:
                at_tier.estimate, at_tier.note = True, f"the span's own cost is that of the {tier} tier, and so is ours"
                return at_tier
        return cost

    def tool_cost(self, tool: str) -> Cost | None:
        """Return what one execution of a tool costs by itself, None if that is nothing."""
        for pattern, amount, rule in self._tools:
            if fnmatchcase(tool, pattern):
                return Cost(amount, "computed", amount, other=amount, price=OF_TOOL + rule) if amount else None
        return None

    def quote(self, call: Call, at_ns: int) -> Quote | Unpriced:
        """Return the counts and rates that a call is priced with, or why it cannot be."""
        rated = self._rates(call, at_ns)
        if isinstance(rated, str):
            return rated
        charged = charge(call, *rated)
        return charged if isinstance(charged, str) else (*rated, *charged)

    def usual_card(self, call: Call, day: int) -> Card | None:
        """Return the card of a model on a day (since 1970) for `usual_money`; None where it takes more."""
        model = priced_name(call)
        if not model or call.plan:
            return None
        try:
            card = self._resolve(call.provider, model, day, call.price_context, call.endpoint_provider).only
        except _TooLongError:
            return None
        return card if card is not None and card.usual else None

    def card_of(self, call: Call, at_ns: int) -> Card | None:
        """Return the card of a call's model at a time (ns since 1970), whatever it used; None where there is none."""
        if not call.model:
            return None
        day = at_ns // NS_PER_DAY
        try:
            name, asked = priced_name(call), call.endpoint_provider
            resolved = self._resolve(call.provider, name, day, call.price_context, asked)
        except _TooLongError:
            return None
        return resolved.only or resolved.card(at_ns - day * NS_PER_DAY)

    def _rates(self, call: Call, at_ns: int) -> tuple[Card, ClassRates] | Unpriced:
        """Return the card and the rates on it that hold for a call; under a plan else those of the model's maker."""
        rated = self._sellers_rates(call, at_ns)
        if rated == "unknown_model" and call.request_model.endswith(f"/{call.response_model}"):
            call = structs.replace(call, response_model="")  # OpenLLMetry cuts off whose model answered
            rated = self._sellers_rates(call, at_ns)
        if rated == "unknown_model" and call.plan:
            return self._sellers_rates(structs.replace(call, provider="", endpoint_provider=""), at_ns)
        return rated

    def _sellers_rates(self, call: Call, at_ns: int) -> tuple[Card, ClassRates] | Unpriced:
        usage, provider, context = call.usage, call.provider, call.price_context
        model = call.response_model or call.request_model
        if len(call.request_model) > len(model):
            model = priced_name(call)
        if not model:
            return "inconsistent_usage" if call.problem else "no_model"
        if (call.problem or usage is None or usage.input is None or usage.output is None) and (lacks := missing(call)):
            return lacks
        assert usage is not None
        day = at_ns // NS_PER_DAY
        try:
            resolved = self._resolve(provider, model, day, context, call.endpoint_provider)
        except _TooLongError:
            return "unknown_model"
        if resolved.unpriced is not None:
            return resolved.unpriced
        card = resolved.only or resolved.card(at_ns - day * NS_PER_DAY)
        if card is None:
            return "unknown_model"
        return card, card.rates(call.granularity, usage.input or 0) if card.tiers else card.base

    def _kept(self, provider: str, model: str, day: int, context: tuple[tuple[str, str], ...], asked: str) -> Resolved:
        if len(provider) + len(model) + len(asked) + sum(len(key) + len(value) for key, value in context) > MAX_NAME:
            raise _TooLongError
        return self._resolved(self._read_name, provider, model, day, context, asked, self._cards)

    def resolve(
        self, provider: str, model: str, day: int, context: tuple[tuple[str, str], ...] = (), asked: str = ""
    ) -> Resolved:
        """Look up a name on a day (days since 1970): overrides first, then genai-prices. `asked`: see `provider_of`."""
        return self._resolved(read_name, provider, model, day, context, asked, price_list.cards)

    def _resolved(
        self,
        read: Callable[[str, str], NameRead],
        provider: str,
        model: str,
        day: int,
        context: tuple[tuple[str, str], ...],
        asked: str,
        cards_of: Callable[[price_list.Listing, date, tuple[tuple[str, str], ...]], list[tuple[int, Card | None]]],
    ) -> Resolved:
        on = _EPOCH + timedelta(days=min(max(day, 0), _MAX_DAY))
        seller = provider_of(provider, asked)
        candidates, problem, listing = read(seller, model)
        if problem == "no_model":
            return Resolved((), "no_model")
        # A user may have stated the price of either: of the provider that the span names, or of the one that was asked.
        names = {one: list(read(one, model)[0]) for one in (seller, provider)}
        for override, card in self._overrides:
            if any(override.matches(one, model, read_as, on) for one, read_as in names.items()):
                return Resolved(candidates, None, ((0, card),), "an override matches", card)
        if problem is not None:
            return Resolved((), problem)
        if listing is None:
            return Resolved(candidates, "unknown_model")
        cards = tuple(cards_of(listing, price_list.holds_since(listing, on), context))
        return Resolved(
            (listing.candidate,), None, cards, listing.candidate.why, cards[0][1] if len(cards) == 1 else None
        )


def priced_name(call: Call) -> str:
    """Return the model name that determines the price: of the model that answered, else of the one that was asked.

    Where both are one Bedrock model, the longer spelling: some libraries cut the region, and with it the price, off.
    """
    asked, answered = call.request_model, call.response_model
    if answered and len(asked) > len(answered) and asked.endswith(answered) and BEDROCK.match(asked.lower()):
        return asked
    return answered or asked


def cost_on(card: Card, call: Call) -> Cost:
    """Return the cost of a call of any model at the rates of a card, or the reason that it has none."""
    if lacks := missing(call):
        return Cost(unpriced=lacks)
    assert call.usage is not None
    return general_cost(call, card, card.rates(call.granularity, call.usage.input or 0))


def usual_cost(call: Call, card: Card, rates: ClassRates) -> Cost | None:
    """Return what `general_cost` returns, in a third of the time; None for a call that is not one of text alone.

    Nearly all calls come this way: six classes at most, on a card without anything unusual.
    """
    usage = call.usage
    if not card.usual or usage is None or call.granularity != "per-message" or call.unclassed:
        return None
    given, output = usage.input, usage.output
    if given is None or output is None or any(_other_counts(usage)):
        return None
    six = (given, output, usage.cache_read, usage.cache_write, usage.cache_write_1h, usage.reasoning)
    money = usual_money(six, rates, estimate=call.estimate)
    if money is None:
        return None
    total, parts, estimate = money
    return Cost(total, "computed", total, *parts, None, card.price, estimate)


UsualMoney: TypeAlias = tuple[Pico, CostParts, bool]
"""An amount, its parts, and whether another one is possible."""


def usual_money(counts: SixCounts, rates: ClassRates, *, estimate: bool) -> UsualMoney | None:
    """Return what the first six classes of usage cost at the rates of a card that is `usual`.

    `estimate`: another reading of the counts is possible. None where the counts contradict each other.
    """
    given, output, read, write, hour, reasoning = counts
    if output is None:
        return None
    kept_tokens, lasting_tokens = read or 0, hour or 0
    short, plain = (write or 0) - lasting_tokens, given - kept_tokens - (write or 0)
    if plain < 0 or short < 0 or output < 0 or kept_tokens < 0 or lasting_tokens < 0 or (reasoning or 0) < 0:
        return None
    new, out, kept, written, lasting = rates[:5]  # the order of `USAGE_CLASSES`
    estimate = (
        estimate
        or (reasoning or 0) > output
        or (read is None and plain > 0 and kept != new)
        or (write is None and plain > 0 and written != new)
        or (hour is None and short > 0 and lasting != written)
    )
    fresh, reused, stored = plain * new, kept_tokens * kept, short * written + lasting_tokens * lasting
    answer, fee = output * out, rates[-1]
    return fresh + reused + stored + answer + fee, (fresh, reused, stored, answer, fee), estimate


def general_cost(call: Call, card: Card, rates: ClassRates) -> Cost:
    """Return the cost of a call at the rates of a card, or the reason why it has none."""
    charged = charge(call, card, rates)
    if isinstance(charged, str):
        return Cost(unpriced=charged)
    counts, amounts = charged
    parts = [0, 0, 0, 0, 0]
    for part, amount in zip(_PART, amounts, strict=True):
        if amount:
            parts[part] += amount
    given, read, write, output, other = parts
    total = given + read + write + output + other
    estimate = card.is_estimate(call, counts, rates)
    cost = Cost(total, "computed", total, given, read, write, output, other, None, card.price, estimate)
    assert call.usage is not None
    classes = [*card.guessed(counts), *card.likely(counts_of(call.usage), counts)] if estimate else []
    if estimate and (unsure := (*(one.label for one in classes), *call.unclassed)):
        cost.note = f"no sure price for: {', '.join(unsure)}"[:MAX_NAME]
    return cost


def _choose_amount(call: Call, cost: Cost) -> None:
    """Decide which amount of a call counts; `cost` comes with our arithmetic, or why there is none."""
    reported = call.reported
    if reported is not None and reported.amount < 0:
        reported = None
    if reported is not None:
        cost.reported = reported.amount
    if call.response_cache:
        _take(cost, 0, "response_cache")
    elif call.plan and not (reported is not None and reported.billed and reported.amount):
        _under_plan(call, cost)
    elif reported is None:
        return
    elif reported.billed:
        _billed(call, cost, reported)
    elif call.granularity == "per-session-aggregate" or (cost.amount is None and _says_something(call, reported)):
        _take(cost, reported.amount, "reported")
    elif cost.amount and reported.means_zero and not reported.amount:
        cost.estimate = True
        cost.note = cost.note or "the span says that it cost nothing: our price"
    elif cost.amount is not None and reported.reliable and is_far(cost.amount, reported.amount):
        cost.estimate = True
        cost.note = cost.note or "the span's own cost is far from ours"


def is_far(ours: Pico, theirs: Pico) -> bool:
    """Return whether two amounts, neither of them 0, differ by more than `FAR` times."""
    return bool(ours and theirs) and max(ours, theirs) * _FAR_LOW > min(ours, theirs) * _FAR_HIGH


def _billed(call: Call, cost: Cost, reported: ReportedCost) -> None:
    amount, upstream = reported.amount, reported.upstream
    if upstream is not None and upstream < 0:
        upstream = None
    if upstream is not None and reported.own_key is not False and (reported.own_key or amount < upstream):
        sure = reported.own_key is True or not amount
        _take(cost, amount + upstream, "billed")
        cost.estimate = not sure
    elif reported.own_key and upstream is None:
        if cost.computed is not None:
            cost.amount, cost.estimate = cost.computed + amount, True
            cost.note = "charged by the provider to the caller's own key: our price, and the gateway's fee"
    elif cost.computed and not amount and not call.model.endswith(_FREE):
        cost.estimate = True
        cost.note = "billed as 0 without a reason on the span: our price"
    else:
        _take(cost, amount, "billed")
        explained = call.model.endswith(_FREE) or bool(call.plan) or reported.own_key is False
        if not explained and cost.computed is not None and cost.computed > FAR_BELOW * amount:
            cost.estimate = True
            cost.note = "billed far below our price without a reason on the span: it may be a fee alone"
        elif not amount and cost.computed is None and _used(call):
            cost.estimate = True


def _doubt_aggregate(call: Call, cost: Cost, card: Card) -> None:
    """Set a sum of calls without a reported cost to unpriced; our arithmetic stays, and so does a user's price."""
    assert call.usage is not None, "no card prices a call without usage"
    if not card.price.startswith(OVERRIDE) or card.depends_on_calls(call.usage.input or 0):
        cost.amount, cost.source, cost.unpriced, cost.estimate = None, "", "no_usage", False
        cost.note = HIDDEN


def _under_plan(call: Call, cost: Cost) -> None:
    """Charge nothing but the fees by the call that provisioned throughput, which is sold in tokens, does not cover."""
    fees, unsure = (cost.other or 0) if call.plan == "provisioned" else 0, cost.estimate
    _take(cost, fees, "computed" if fees else "billed")
    cost.estimate = bool(fees) and unsure
    cost.note = f"the fees of its tools; the rest is {PLANS[call.plan]}" if fees else PLANS[call.plan]


def _take(cost: Cost, amount: Pico, source: CostSource) -> None:
    cost.amount, cost.source, cost.unpriced, cost.estimate, cost.note = amount, source, None, False, ""


def _says_something(call: Call, reported: ReportedCost) -> bool:
    return bool(reported.amount) or (call.usage is not None and call.usage.input == 0 and not _used(call))


def _used(call: Call) -> bool:
    return call.usage is not None and any(counts_of(call.usage))
