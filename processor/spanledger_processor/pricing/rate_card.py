"""Rate cards: what one seller asks for one model at one time, and the arithmetic of a call on a card.

The arithmetic is that of genai-prices' `calc_price`, to the pico-USD: a class without a rate of its own is part of the
class that includes it. Beyond that it says when the outcome is an estimate:
- a class is unknown (None) and its rate differs from that of the class it then counts as: cache reads and writes
  count as plain input, writes for an hour as writes for five minutes, reasoning, sound and pictures as plain output;
- a class is told that may have a price of its own, and the list has none: sound, pictures, what is sold per call;
- the sum of several calls may have crossed a long-context tier, which is a cliff on one call's input: sums are
  priced at the base rates. A sum over a session spans days as well, so it is always an estimate;
- a model that speaks or is spoken to, by its name, does not tell how much of its input and output was sound;
- the model also gives video or citations at rates of their own, of which a call says nothing;
- the price asked for (flex, priority, batch, ...) is not listed for the model, so the standard one was taken.
Any other call that tells no sound, pictures or searches in its input is taken for text, as `calc_price` would.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, fields
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from math import lcm
from operator import mul
from typing import Any, TypeAlias

from genai_prices.types import ModelPrice, TieredPrices

from spanledger_processor.model import (
    CLASS_NAMES,
    INPUT,
    NO_OUTPUT,
    OUTPUT,
    REASONING,
    TEXT_CLASSES,
    USAGE_CLASSES,
    Call,
    Granularity,
    Unpriced,
    UsageClass,
    counts_of,
)

PICO_PER_MTOK = 10**6
"""One USD per million tokens, in pico-USD per token."""
PICO_PER_KCOUNT = 10**9
"""One USD per thousand units, in pico-USD per unit."""

REQUESTS = "requests_kcount"

ClassRates: TypeAlias = Sequence[int]
"""A number for each of `USAGE_CLASSES`, and one for the request itself behind them."""

Charge: TypeAlias = tuple[ClassRates, ClassRates]
"""Counts that are charged for, each token in one class only, and the money for each."""

_SEARCH_UNITS = CLASS_NAMES.index("search_units")
_WHOLES = tuple(tuple(CLASS_NAMES.index(whole) for whole in one.part_of) for one in USAGE_CLASSES)
"""For each class those that it is a part of."""
_SHARED = tuple(place for place, wholes in enumerate(_WHOLES) if len(wholes) > 1)
_UNKNOWN = tuple(
    (place, _WHOLES[place][0], _WHOLES[place][-1])
    for place, one in enumerate(USAGE_CLASSES)
    if one.absent == "unknown" and one.part_of
)
"""Classes that are unknown where a call does not report them, each with the one or two classes that include it."""
_OUTPUT_PLACES = tuple(place for place, one in enumerate(USAGE_CLASSES) if one.cost == "output")
_TEXT_CLASSES = frozenset(TEXT_CLASSES)
_OWN_PRICE = {one.name for one in USAGE_CLASSES if one.own_price}


def _above(index: int) -> tuple[int, ...]:
    return tuple(dict.fromkeys(above for whole in _WHOLES[index] for above in (whole, *_above(whole))))


_PARTS_FIRST = tuple((place, _above(place)) for place in reversed(range(len(USAGE_CLASSES))) if _WHOLES[place])
"""Classes and all those that include them, the finest first."""


@dataclass(frozen=True, slots=True)
class Card:
    """Rates below and above the thresholds of total input (`tiers`, ascending). `price` is the provenance.

    Rates are pico-USD per unit, in units of 1/`den`. `unsold` are the classes of tokens that cannot be had by the
    token, `unstated` those whose rate nobody stated although there may be another one than that of the whole, or whose
    rate depends on more than the call; `untold` those that were likely used where a call does not tell them; `once` are
    charged one time a call, however many there were.
    `usual` is true where text is sold by the token in both directions, at whole rates that are all known, and output of
    every kind at one rate: what a call of text costs is then a sum of five products (`pricer`), whatever is not known
    of other classes.
    """

    price: str
    den: int
    base: ClassRates
    unsold: frozenset[int] = frozenset()
    tiers: tuple[tuple[int, ClassRates], ...] = ()
    estimate: bool = False
    other_output: bool = False
    unstated: frozenset[int] = frozenset()
    untold: frozenset[int] = frozenset()
    once: frozenset[int] = frozenset()
    usual: bool = False

    def rates(self, granularity: Granularity, total_input: int) -> ClassRates:
        """Return the rates for a call with that much input; a sum of calls always gets the base rates."""
        rates = self.base
        if granularity == "per-message":
            for start, above in self.tiers:
                if total_input <= start:
                    break
                rates = above
        return rates

    def is_estimate(self, call: Call, counts: ClassRates, rates: ClassRates) -> bool:
        """Return whether another amount is possible, by what the call leaves open."""
        usage = call.usage
        assert usage is not None
        if self.estimate or call.estimate or call.unclassed or (self.other_output and counts[OUTPUT]):
            return True
        reported = counts_of(usage)
        if untold_classes(reported, counts, rates) or self.guessed(counts) or self.likely(reported, counts):
            return True
        if call.granularity != "per-message" and self._hides(call.granularity, usage.input or 0):
            return True
        # More reasoning than output: no money hangs on it where both cost the same, but one of the counts is wrong.
        return (usage.reasoning or 0) > counts[OUTPUT] + counts[REASONING]

    def written(self) -> str:
        """Return the card as text, which `read_card` reads."""
        return _written(self)

    def guessed(self, counts: ClassRates) -> list[UsageClass]:
        """Return the classes that were used and whose own rate is not known."""
        return [USAGE_CLASSES[index] for index in sorted(self.unstated) if counts[index]]

    def likely(self, reported: Sequence[int | None], counts: ClassRates) -> list[UsageClass]:
        """Return the classes of which something was likely used, and nothing is reported."""
        return [
            USAGE_CLASSES[index]
            for index in sorted(self.untold)
            if reported[index] is None and all(counts[whole] for whole in _WHOLES[index][:1])
        ]

    def _hides(self, granularity: Granularity, total_input: int) -> bool:
        return granularity != "per-turn" or self.depends_on_calls(total_input)

    def depends_on_calls(self, total_input: int) -> bool:
        """Return whether the price of several calls with that much input in all depends on how they divide it."""
        return bool(self.base[-1]) or bool(self.tiers and total_input > self.tiers[0][0])


@lru_cache(maxsize=256)
def _written(card: Card) -> str:
    return json.dumps([sorted(value) if isinstance(value, frozenset) else value for value in astuple(card)])


def untold_classes(reported: Sequence[int | None], counts: ClassRates, rates: ClassRates) -> list[UsageClass]:
    """Return the classes of which a call says nothing, and that cost otherwise than what includes them."""
    return [
        USAGE_CLASSES[index]
        for index, one, other in _UNKNOWN
        if reported[index] is None and counts[one] and counts[other]
        if rates[one] != rates[index] or rates[other] != rates[index]
    ]


@lru_cache(maxsize=256)
def read_card(written: str) -> Card:
    """Return the card that `Card.written` wrote."""
    row: dict[str, Any] = dict(zip((one.name for one in fields(Card)), json.loads(written), strict=True))
    row.update((name, frozenset(row[name])) for name in ("unsold", "unstated", "untold", "once"))
    row["base"], row["tiers"] = tuple(row["base"]), tuple((start, tuple(rates)) for start, rates in row["tiers"])
    return Card(**row)


def missing(call: Call) -> Unpriced | None:
    """Return why a call reports too little to be priced at any rate.

    A part of a total is never priced as the total. A ranking is sold by search units or by tokens.
    """
    if call.problem:
        return "inconsistent_usage"
    usage = call.usage
    if usage is None:
        return "no_usage"
    if call.kind == "rerank" and usage.search_units is not None:
        return None
    if usage.input is None:
        return "no_usage"
    return "no_usage" if usage.output is None and call.kind not in NO_OUTPUT else None


def charge(call: Call, card: Card, rates: ClassRates) -> Charge | Unpriced:
    """Return a call's counts and amounts by the classes that these rates price apart, or why it has no price.

    A direction that was used and is not sold by the token has no known price, so neither has the call; embeddings
    and rankings have no output, whatever they count as such. Search units without a rate are no usage that has a price.
    """
    usage = call.usage
    assert usage is not None
    reported = counts_of(usage)
    counts = [count or 0 for count in reported]
    if rates[REASONING] == rates[OUTPUT]:
        counts[REASONING] = 0
    if OUTPUT in card.unsold and call.kind in NO_OUTPUT:
        for index in _OUTPUT_PLACES:
            counts[index] = 0
    _separate(reported, counts)
    if min(counts) < 0:
        return "inconsistent_usage"
    if usage.input is None and _SEARCH_UNITS in card.unstated:
        return "no_usage"
    for index in card.once:
        counts[index] = min(counts[index], 1)
    if card.unsold and any(counts[index] for index in card.unsold):
        return "unknown_model"
    counts.append(1)
    amounts = list(map(mul, counts, rates))
    if (den := card.den) != 1:
        amounts = [round(Fraction(amount, den)) if amount else 0 for amount in amounts]
    return counts, amounts


def _separate(reported: tuple[int | None, ...], counts: list[int]) -> None:
    """Take the parts out of what includes them, so that each token is in one class; a contradiction goes below 0.

    Cached sound that is not reported is as much as the cache reads and the sound must have in common.
    """
    for index, wholes in _PARTS_FIRST:
        if count := counts[index]:
            for above in wholes:
                counts[above] -= count
    if counts[INPUT] >= 0:
        return
    for index in _SHARED:
        one, other = _WHOLES[index]
        if reported[index] is None and (both := min(-counts[INPUT], counts[one], counts[other])) > 0:
            counts[index] += both
            counts[one] -= both
            counts[other] -= both
            counts[INPUT] += both


def compile_card(
    model: ModelPrice,
    price: str,
    *,
    free: bool,
    estimate: bool,
    unstated: Iterable[str] = (),
    untold: Iterable[str] = (),
    once: Iterable[str] = (),
) -> Card | None:
    """Return the card of a genai-prices entry, or None where it lists nothing that a call could be priced with.

    An entry without any price is not a price of zero: it stands for "included in a subscription", "no longer listed"
    or "not looked up". Only where the seller's own name for the model says `free` is it one.
    """
    listed = {name: value for name, value in vars(model).items() if value is not None}
    if not listed:
        return Card(price, 1, (0,) * (len(USAGE_CLASSES) + 1)) if free else None
    keys = {one.name: one.price for one in USAGE_CLASSES} | {REQUESTS: REQUESTS}
    stated: dict[str, Decimal | TieredPrices] = {name: listed[key] for name, key in keys.items() if key in listed}
    if stated.keys() <= {REQUESTS, "web_searches", "file_searches"}:
        return None
    tiered = [value for value in stated.values() if isinstance(value, TieredPrices)]
    starts = sorted({tier.start for value in tiered for tier in value.tiers})
    steps = [{name: _rate(keys[name], value, start) for name, value in stated.items()} for start in (-1, *starts)]
    return build(
        price,
        steps,
        starts,
        estimate=estimate,
        other_output=any(key.startswith("output_") for key in listed.keys() - keys.values()),
        unstated=unstated,
        untold=untold,
        once=once,
    )


def build(
    price: str,
    steps: list[dict[str, Fraction]],
    starts: list[int],
    *,
    estimate: bool = False,
    other_output: bool = False,
    unstated: Iterable[str] = (),
    untold: Iterable[str] = (),
    once: Iterable[str] = (),
) -> Card:
    """Return a card from pico-USD per unit by class: `steps[0]` below all of `starts`, the others above one each.

    `unstated` are further classes whose rate is not sure, beside those with a price of their own that is not listed.
    """
    den = lcm(*(rate.denominator for step in steps for rate in step.values()))
    filled = [_filled(step) for step in steps]
    rates = [tuple(int((rate or 0) * den) for rate in row) for row in filled]
    unsure_text = _TEXT_CLASSES.intersection((*unstated, *untold, *once))
    usual = not (den != 1 or estimate or other_output or untold or unsure_text) and all(
        step[INPUT] is not None and step[OUTPUT] is not None and len({step[index] for index in _OUTPUT_PLACES}) == 1
        for step in filled
    )
    unsure = (_OWN_PRICE - steps[0].keys()) | set(unstated)
    return Card(
        price,
        den,
        rates[0],
        frozenset(index for index, one in enumerate(USAGE_CLASSES) if one.unit == "token" and filled[0][index] is None),
        tuple(zip(starts, rates[1:], strict=True)),
        estimate,
        other_output,
        frozenset(CLASS_NAMES.index(name) for name in unsure),
        frozenset(CLASS_NAMES.index(name) for name in untold),
        frozenset(CLASS_NAMES.index(name) for name in once),
        usual,
    )


def _filled(step: dict[str, Fraction]) -> list[Fraction | None]:
    """Return the rates of all classes; a class without a rate has that of what includes it, one with its own first."""
    rates: list[Fraction | None] = []
    for one, wholes in zip(USAGE_CLASSES, _WHOLES, strict=True):
        stated = [step[name] for name in (one.name, *one.part_of) if name in step]
        rates.append(next((rate for rate in (*stated, *(rates[whole] for whole in wholes)) if rate is not None), None))
    return [*rates, step.get(REQUESTS)]


def _rate(key: str, value: Decimal | TieredPrices, above: int) -> Fraction:
    """Return the rate under a key of the list for an input just over a threshold; -1 asks for the base rate."""
    unit = PICO_PER_KCOUNT if key.endswith("_kcount") else PICO_PER_MTOK
    if isinstance(value, TieredPrices):
        passed = [tier.price for tier in value.tiers if tier.start <= above]
        value = passed[-1] if passed else value.base
    return Fraction(value) * unit
