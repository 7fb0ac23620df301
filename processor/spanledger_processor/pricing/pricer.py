"""What a call costs: which amount counts, and why there may be none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import lru_cache
from typing import TypeAlias

from spanledger_processor.model import Call, Cost, Unpriced
from spanledger_processor.pricing import catalogue
from spanledger_processor.pricing.card import Amounts, Card, Counts, Rates, charge, missing
from spanledger_processor.pricing.normalise import BEDROCK, Reading, read
from spanledger_processor.pricing.overrides import Override

MAX_NAME = 512
"""Characters of a model's name, its provider's and a price context. Longer ones are nobody's, and are not kept."""

_DAY_NS = 86_400 * 10**9
_EPOCH = date(1970, 1, 1)
_MAX_DAY = (date.max - _EPOCH).days


@dataclass(frozen=True, slots=True)
class Resolved:
    """What a name came to on a day: rate cards, each with the nanosecond of day from which it holds, or a reason.

    `only` is the card of a model whose price does not change during the day.
    """

    readings: tuple[Reading, ...]
    unpriced: Unpriced | None = None
    cards: tuple[tuple[int, Card | None], ...] = ()
    why: str = ""
    only: Card | None = None

    def card(self, ns: int) -> Card | None:
        """The card that holds at a nanosecond of the day."""
        found = None
        for start, card in self.cards:
            if ns >= start:
                found = card
        return found


Quote: TypeAlias = tuple[Card, Rates, Counts, Amounts]
"""The arithmetic of one call: at which rates of a card, how many tokens of each class, and how much money."""


class _TooLongError(Exception):
    """A name or a price context that is not worth keeping: no seller lists it."""


class Pricer:
    """Prices calls by the user's overrides, then by genai-prices.

    Keeps the last `cards` names (with day and price context) that were asked for, known or not, and nothing else.
    """

    def __init__(self, overrides: Sequence[Override] = (), cards: int = 4096) -> None:
        self._overrides = [(override, override.card()) for override in overrides]
        self._resolve = lru_cache(maxsize=cards)(self._kept)

    def cost(self, call: Call, at_ns: int, *, time_known: bool = True) -> Cost:
        """The cost of a call that began at a time (ns since 1970).

        What the one that charges says counts first, then our own arithmetic, then another's estimate. That comes
        before ours for what a file says of a session, and is not trusted where it calls a call that had tokens free:
        several libraries write 0 for a model they do not know. `estimate` is about our arithmetic only.
        """
        reported = call.reported
        if reported is not None and reported.amount < 0:
            reported = None
        quote: Quote | Unpriced = "no_usage" if call.granularity == "cost-only" else self.quote(call, at_ns)
        if isinstance(quote, tuple):
            cost = _computed(call, quote)
            if not time_known:
                cost.estimate = True
        else:
            cost = Cost(unpriced=quote)
        if reported is None:
            return cost
        cost.reported = reported.amount
        if reported.billed:
            source = "billed"
        elif call.granularity == "per-session-aggregate" or (cost.amount is None and _says_something(call)):
            source = "reported"
        else:
            return cost
        cost.amount, cost.source, cost.unpriced, cost.estimate = reported.amount, source, None, False
        return cost

    def quote(self, call: Call, at_ns: int) -> Quote | Unpriced:
        """The counts and rates that a call is priced with, or why it cannot be."""
        usage, provider, context = call.usage, call.provider, call.price_context
        model = call.response_model or call.request_model
        if len(call.request_model) > len(model):
            model = priced_name(call)
        if not model:
            return "no_model"
        if (call.problem or usage is None or usage.input is None or usage.output is None) and (lacks := missing(call)):
            return lacks
        assert usage is not None
        day = at_ns // _DAY_NS
        try:
            resolved = self._resolve(provider, model, day, context)
        except _TooLongError:
            return "unknown_model"
        if resolved.unpriced is not None:
            return resolved.unpriced
        card = resolved.only or resolved.card(at_ns - day * _DAY_NS)
        if card is None:
            return "unknown_model"
        rates = card.rates(call.granularity, usage.input or 0) if card.tiers else card.base
        charged = charge(call, card, rates)
        return charged if isinstance(charged, str) else (card, rates, *charged)

    def _kept(self, provider: str, model: str, day: int, context: tuple[tuple[str, str], ...]) -> Resolved:
        if len(provider) + len(model) + sum(len(key) + len(value) for key, value in context) > MAX_NAME:
            raise _TooLongError
        return self.resolve(provider, model, day, context)

    def resolve(self, provider: str, model: str, day: int, context: tuple[tuple[str, str], ...] = ()) -> Resolved:
        """What a name means on a day (days since 1970), looked up anew: overrides first, then genai-prices."""
        on = _EPOCH + timedelta(days=min(max(day, 0), _MAX_DAY))
        read_as = read(provider, model)
        readings = () if isinstance(read_as, str) else tuple(read_as)
        if read_as == "no_model":
            return Resolved((), "no_model")
        for override, card in self._overrides:
            if override.matches(provider, model, list(readings), on):
                return Resolved(readings, None, ((0, card),), "an override matches", card)
        if isinstance(read_as, str):
            return Resolved((), read_as)
        listing = catalogue.find(readings)
        if listing is None:
            return Resolved(readings, "unknown_model")
        cards = tuple(catalogue.cards(listing, on, context))
        return Resolved((listing.reading,), None, cards, listing.reading.why, cards[0][1] if len(cards) == 1 else None)


def priced_name(call: Call) -> str:
    """The name that a price goes by: the model that answered, else the one that was asked.

    Where both are one Bedrock model, the longer spelling: some libraries cut the region, and with it the price, off.
    """
    asked, answered = call.request_model, call.response_model
    if answered and len(asked) > len(answered) and asked.endswith(answered) and BEDROCK.match(asked.lower()):
        return asked
    return answered or asked


def _computed(call: Call, quote: Quote) -> Cost:
    card, rates, counts, (plain, read, short, hour, output, reasoning, other) = quote
    write = short + hour
    output += reasoning
    total = plain + read + write + output + other
    estimate = card.is_estimate(call, counts, rates)
    return Cost(total, "computed", total, plain, read, write, output, other, None, card.price, estimate)


def _says_something(call: Call) -> bool:
    """Whether a library's own estimate is one: 0 is what several write for "unknown", unless nothing was used."""
    usage = call.usage
    assert call.reported is not None
    return bool(call.reported.amount) or (usage is not None and usage.input == 0 and not usage.output)
