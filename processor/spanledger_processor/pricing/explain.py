"""The same numbers as `Pricer.cost`, with how they came about, for a person to read."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction

from spanledger_processor.model import Call, Cost, Unpriced
from spanledger_processor.pricing.card import CLASSES, PICO_PER_MTOK, Card, Rates
from spanledger_processor.pricing.pricer import Pricer, Quote, Resolved, priced_name
from spanledger_processor.units import USD, Pico

_DAY_NS = 86_400 * 10**9
_LABELS = dict(
    zip(
        CLASSES,
        ("input", "cache read", "cache write", "cache write 1h", "output", "reasoning", "requests"),
        strict=True,
    )
)
REASONS: dict[Unpriced, str] = {
    "no_model": "the span names no model",
    "no_usage": "the span does not say how many tokens went in and came out",
    "unknown_provider": "the provider is not known; an override can price it",
    "unknown_model": "the seller lists no rate for what was used of this model; an override can price it",
    "inconsistent_usage": "the counts contradict each other",
    "not_accounted": "the state was not available",
}


@dataclass(frozen=True, slots=True)
class Line:
    """One class of tokens. `rate` is in USD per million tokens (per thousand requests)."""

    label: str
    tokens: int
    rate: Fraction
    amount: Pico

    def __str__(self) -> str:
        return f"{self.label:<15}{self.tokens:>12,} x ${plain(self.rate)} / {_unit(self.label)} = ${usd(self.amount)}"


@dataclass(frozen=True, slots=True)
class Explanation:
    """How a call was priced: `names` tell how its model was found, `lines` add up to `cost.computed`."""

    names: tuple[str, ...]
    lines: tuple[Line, ...]
    cost: Cost

    def text(self) -> list[str]:
        """All of it, line by line."""
        return [*self.names, *(str(line) for line in self.lines), *_outcome(self.cost)]


@dataclass(frozen=True, slots=True)
class Rate:
    """What one class of tokens costs, in USD per `unit`."""

    label: str
    unit: str
    usd: Fraction

    def __str__(self) -> str:
        return f"{self.label:<15}${plain(self.usd)} / {self.unit}"


@dataclass(frozen=True, slots=True)
class Quotation:
    """What a model costs at a time: `tiers` by the tokens of input that a call must exceed, the first from 0.

    `changes`: the price depends on the time of the day. `unpriced` says why there are no tiers.
    """

    names: tuple[str, ...]
    price: str = ""
    tiers: tuple[tuple[int, tuple[Rate, ...]], ...] = ()
    changes: bool = False
    unpriced: Unpriced | None = None

    def text(self) -> list[str]:
        """All of it, line by line."""
        lines = [*self.names]
        for start, rates in self.tiers:
            lines += [f"for a call with more than {start:,} tokens of input:"] if start else []
            lines += [f"  {rate}" for rate in rates]
        if self.unpriced:
            lines.append(f"unpriced: {REASONS[self.unpriced]}")
        if self.changes:
            lines.append("the price changes during the day (UTC); this is the one at the time asked for")
        return lines


def explain(call: Call, at_ns: int, pricer: Pricer, *, time_known: bool = True) -> Explanation:
    """The arithmetic behind `pricer.cost(call, at_ns, time_known=time_known)`."""
    cost = pricer.cost(call, at_ns, time_known=time_known)
    quote = "no_usage" if call.granularity == "cost-only" else pricer.quote(call, at_ns)
    names = (*_names(call.provider, priced_name(call), pricer, at_ns, call.price_context),)
    return Explanation(names, _lines(quote) if isinstance(quote, tuple) else (), cost)


def describe(
    model: str, provider: str, at_ns: int, pricer: Pricer, price_context: tuple[tuple[str, str], ...] = ()
) -> Quotation:
    """What a model would cost at a time, and how its name was read."""
    day, ns = divmod(at_ns, _DAY_NS)
    resolved = pricer.resolve(provider, model, day, price_context)
    names = tuple(_names(provider, model, pricer, at_ns, price_context))
    card = resolved.card(ns)
    if card is None:
        return Quotation(names, unpriced=resolved.unpriced or "unknown_model")
    tiers = tuple((start, _rates(card, rates)) for start, rates in ((0, card.base), *card.tiers))
    return Quotation(names, card.price, tiers, changes=len(resolved.cards) > 1)


def usd(amount: Pico) -> str:
    """Money in USD, exactly."""
    return plain(Fraction(amount, USD))


def plain(number: Fraction) -> str:
    """A number with a finite decimal expansion, without an exponent; others to twelve places."""
    whole, places = divmod(round(number * 10**12), 10**12)
    return f"{whole}.{f'{places:012d}'.rstrip('0'):0<2}"


def _names(provider: str, model: str, pricer: Pricer, at_ns: int, context: tuple[tuple[str, str], ...]) -> list[str]:
    resolved = pricer.resolve(provider, model, at_ns // _DAY_NS, context)
    lines = [f'model "{model}" of provider "{provider}"' if provider else f'model "{model}", no provider named']
    price = next((card.price for _, card in resolved.cards if card is not None), "")
    if price:
        lines.append(f"{price} on {_date(at_ns)}: {resolved.why}")
    else:
        lines += _tried(resolved)
    if context:
        lines.append("price context: " + ", ".join(f"{key}={value}" for key, value in context))
    return lines


def _tried(resolved: Resolved) -> list[str]:
    return [f'not listed: "{reading.model}" at {reading.seller} ({reading.why})' for reading in resolved.readings]


def _lines(quote: Quote) -> tuple[Line, ...]:
    card, rates, counts, amounts = quote
    return tuple(
        Line(_LABELS[name], tokens, _per_unit(name, rate, card), amount)
        for name, tokens, rate, amount in zip(CLASSES, counts, rates, amounts, strict=True)
        if tokens and (rate or name != "requests")
    )


def _rates(card: Card, rates: Rates) -> tuple[Rate, ...]:
    return tuple(
        Rate(_LABELS[name], _unit(name), _per_unit(name, rate, card))
        for name, rate in zip(CLASSES, rates, strict=True)
        if rate or (name == "input" and card.sells_input) or (name == "output" and card.sells_output)
    )


def _unit(name: str) -> str:
    return "1000 requests" if name == "requests" else "MTok"


def _per_unit(name: str, rate: int, card: Card) -> Fraction:
    return Fraction(rate, card.den * (10**9 if name == "requests" else PICO_PER_MTOK))


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
