"""Explanations of prices: the arithmetic behind `Pricer.cost`, and the rates of a model, as text for people."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction

from spanledger_processor.model import USAGE_CLASSES, Call, Cost, Unpriced, counts_of
from spanledger_processor.pricing.model_names import NAMED
from spanledger_processor.pricing.pricer import PARTS, Pricer, Quote, priced_name
from spanledger_processor.pricing.providers import provider_of
from spanledger_processor.pricing.rate_card import PICO_PER_KCOUNT, PICO_PER_MTOK, Card, ClassRates, untold_classes
from spanledger_processor.units import NS_PER_DAY, USD, Pico

_SOLD = (
    *sorted(
        ((place, one.label, one.unit) for place, one in enumerate(USAGE_CLASSES)),
        key=lambda sold: PARTS.index(USAGE_CLASSES[sold[0]].cost),
    ),
    (-1, "requests", "request"),
)
"""The place in a row of a card, the label and the unit of each class, by the part of the cost that it is in."""
_ASKED = "its host was asked"
_PLURAL = {"search": "searches"}
REASONS: dict[Unpriced, str] = {
    "no_model": "the span names no model",
    "no_usage": "the span does not say how much was used, in the units that it is sold by",
    "unknown_provider": "the price list has no seller of the provider's name; processor.pricing.overrides can price it",
    "unknown_model": "the price list has no rate for this model, or none for what was used of it; "
    "processor.pricing.overrides can price it",
    "inconsistent_usage": "the counts contradict each other",
    "not_accounted": "the state was not available",
}


@dataclass(frozen=True, slots=True)
class ChargeLine:
    """One class of usage. `rate` is in USD per `unit`: a million tokens, or a thousand of what is sold per call."""

    label: str
    tokens: int
    rate: Fraction
    amount: Pico
    unit: str = "MTok"

    def __str__(self) -> str:
        return f"{self.label:<17}{self.tokens:>12,} x ${plain(self.rate)} / {self.unit} = ${usd(self.amount)}"


@dataclass(frozen=True, slots=True)
class Explanation:
    """The arithmetic of one call: `names` are the steps to its model, `lines` add up to `cost.computed`.

    `doubt` says what the price would depend on, where it is an estimate and that is known.
    """

    names: tuple[str, ...]
    lines: tuple[ChargeLine, ...]
    cost: Cost
    doubt: str = ""

    def text(self) -> list[str]:
        """Return the explanation line by line."""
        return [*self.names, *(str(line) for line in self.lines), *_outcome(self.cost)]


@dataclass(frozen=True, slots=True)
class Rate:
    """The price of one usage class in USD per `unit`."""

    label: str
    unit: str
    usd: Fraction

    def __str__(self) -> str:
        return f"{self.label:<17}${plain(self.usd)} / {self.unit}"


@dataclass(frozen=True, slots=True)
class Quotation:
    """The rates of a model at a time: `tiers` by the tokens of input that a call must exceed, the first from 0.

    `changes`: the price depends on the time of the day. `unpriced` is the reason where there are no tiers.
    """

    names: tuple[str, ...]
    price: str = ""
    tiers: tuple[tuple[int, tuple[Rate, ...]], ...] = ()
    changes: bool = False
    unpriced: Unpriced | None = None


def explain(call: Call, at_ns: int, pricer: Pricer, *, time_known: bool = True) -> Explanation:
    """Return the arithmetic behind `pricer.cost(call, at_ns, time_known=time_known)`."""
    cost = pricer.cost(call, at_ns, time_known=time_known)
    quote = "no_usage" if call.granularity == "cost-only" else pricer.quote(call, at_ns)
    provider, asked = call.provider, call.endpoint_provider
    if call.plan and isinstance(quote, tuple) and not _is_sold(call, pricer, at_ns):
        provider = asked = ""  # the plan's seller has no price: the model's maker has
    names = (*_names(provider, priced_name(call), pricer, at_ns, call.price_context, asked),)
    if not isinstance(quote, tuple):
        return Explanation(names, (), cost, cost.note)
    return Explanation(names, _lines(quote), cost, cost.note or _untold(call, quote))


def _untold(call: Call, quote: Quote) -> str:
    """Return which classes a call does not tell though they have a price of their own; empty if none."""
    _, rates, counts, _ = quote
    classes = untold_classes(counts_of(call.usage), counts, rates) if call.usage is not None else ()
    return f"not told, and sold at a price of its own: {', '.join(one.label for one in classes)}" if classes else ""


def describe(
    model: str, provider: str, at_ns: int, pricer: Pricer, price_context: tuple[tuple[str, str], ...] = ()
) -> Quotation:
    """Return the rates of a model at a time, and how its name was read."""
    day, ns = divmod(at_ns, NS_PER_DAY)
    resolved = pricer.resolve(provider, model, day, price_context)
    names = tuple(_names(provider, model, pricer, at_ns, price_context))
    card = resolved.card(ns)
    if card is None:
        return Quotation(names, unpriced=resolved.unpriced or "unknown_model")
    tiers = tuple((start, _rates(card, rates)) for start, rates in ((0, card.base), *card.tiers))
    return Quotation(names, card.price, tiers, changes=len(resolved.cards) > 1)


def usd(amount: Pico) -> str:
    """Return an amount in USD, exactly."""
    return plain(Fraction(amount, USD))


def plain(number: Fraction) -> str:
    """Return a number with a finite decimal expansion, without an exponent; others to twelve places."""
    whole, decimals = divmod(round(number * 10**12), 10**12)
    return f"{whole}.{f'{decimals:012d}'.rstrip('0'):0<2}"


def _names(
    provider: str, model: str, pricer: Pricer, at_ns: int, context: tuple[tuple[str, str], ...], asked: str = ""
) -> list[str]:
    resolved = pricer.resolve(provider, model, at_ns // NS_PER_DAY, context, asked)
    by_host = provider_of(provider, asked) != provider
    lines = [f'model "{model}" of provider "{provider}"' if provider else f'model "{model}", no provider named']
    price = next((card.price for _, card in resolved.cards if card is not None), "")
    if price:
        lines.append(f"{price} on {_date(at_ns)}: {_why(resolved.why, by_host=by_host)}")
    else:
        lines += (
            f'not listed: "{one.model}" at {one.seller} ({_why(one.why, by_host=by_host)})'
            for one in resolved.candidates
        )
    if context:
        lines.append("price context: " + ", ".join(f"{key}={value}" for key, value in context))
    return lines


def _is_sold(call: Call, pricer: Pricer, at_ns: int) -> bool:
    day, ns = divmod(at_ns, NS_PER_DAY)
    resolved = pricer.resolve(call.provider, priced_name(call), day, call.price_context, call.endpoint_provider)
    return resolved.card(ns) is not None


def _why(why: str, *, by_host: bool) -> str:
    """Return why a candidate is one of its seller, whose host decides where another provider is named."""
    return _ASKED if by_host and why == NAMED else why


def _lines(quote: Quote) -> tuple[ChargeLine, ...]:
    card, rates, counts, amounts = quote
    return tuple(
        ChargeLine(label, counts[index], _per_unit(unit, rates[index], card), amounts[index], _unit(unit))
        for index, label, unit in _SOLD
        if counts[index] and (rates[index] or unit != "request")
    )


def _rates(card: Card, rates: ClassRates) -> tuple[Rate, ...]:
    """Return the rates that differ from those of what includes the class, and whatever input and output cost."""
    return tuple(
        Rate(label, _unit(unit), _per_unit(unit, rates[index], card))
        for index, label, unit in _SOLD
        if _stated(card, rates, index) or (label in ("input", "output") and index not in card.unsold)
    )


def _stated(card: Card, rates: ClassRates, index: int) -> bool:
    """Return whether a class has a rate to show, and not only that of the class that includes it."""
    wholes = USAGE_CLASSES[index].part_of if index >= 0 else ()
    return bool(rates[index]) and not (index in card.unstated and wholes)


def _unit(unit: str) -> str:
    return "MTok" if unit == "token" else f"1000 {_PLURAL.get(unit, f'{unit}s')}"


def _per_unit(unit: str, rate: int, card: Card) -> Fraction:
    return Fraction(rate, card.den * (PICO_PER_MTOK if unit == "token" else PICO_PER_KCOUNT))


def _outcome(cost: Cost) -> list[str]:
    lines = []
    if cost.computed is not None:
        lines.append(f"computed ${usd(cost.computed)}")
    if cost.reported is not None:
        lines.append(f"reported ${usd(cost.reported)}")
    if cost.amount is None:
        assert cost.unpriced is not None
        lines.append(f"unpriced ({cost.unpriced}): {REASONS[cost.unpriced]}")
    else:
        lines.append(f"counts: ${usd(cost.amount)} ({cost.source}{', an estimate' if cost.estimate else ''})")
    return lines


def _date(at_ns: int) -> str:
    return datetime.fromtimestamp(max(at_ns, 0) // 10**9, UTC).date().isoformat()
