"""A rate card: what one seller asks for one model at one time, ready for integer arithmetic, and that arithmetic.

It does what genai-prices' `calc_price` does with the same counts (a class without a rate of its own is part of the
class that includes it), to the pico-USD. Beyond that it says when the outcome is an estimate:
- a class is unknown (None) and its rate differs from that of the class it then counts as: cache reads and writes
  count as plain input, writes for an hour as writes for five minutes, reasoning as plain output;
- the sum of several calls may have crossed a long-context tier, which is a cliff on one call's input: sums are
  priced at the base rates. A sum over a session spans days as well, so it is always an estimate;
- the model also gives pictures, sound or citations at rates of their own, of which a call says nothing;
- the price asked for (flex, priority, batch, ...) is not listed for the model, so the standard one was taken.
Sound and pictures in the input and searches are not counted either: a call is taken for text, as `calc_price` would.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from math import lcm
from typing import NamedTuple, TypeAlias

from genai_prices.types import ModelPrice, TieredPrices

from spanledger_processor.model import Call, Granularity, Unpriced

PICO_PER_MTOK = 10**6
"""One USD per million tokens, in pico-USD per token."""


Counts: TypeAlias = tuple[int, int, int, int, int, int, int]
"""Tokens by what is charged for them, in the order of `CLASSES`: each token is in one class, a call is one request."""

Amounts: TypeAlias = Counts
"""Money for `Counts`."""

Charge: TypeAlias = tuple[Counts, Amounts]


class Rates(NamedTuple):
    """Pico-USD per token (or request) by class, in units of 1/`Card.den`."""

    input: int
    cache_read: int
    cache_write: int
    cache_write_1h: int
    output: int
    reasoning: int
    requests: int


CLASSES = Rates._fields
_FALL_BACK = {"cache_read": "input", "cache_write": "input", "cache_write_1h": "cache_write", "reasoning": "output"}
_KEYS = {
    "input": "input_mtok",
    "cache_read": "cache_read_mtok",
    "cache_write": "cache_write_mtok",
    "cache_write_1h": "cache_write_1h_mtok",
    "output": "output_mtok",
    "reasoning": "output_reasoning_mtok",
    "requests": "requests_kcount",
}
_OTHER_OUTPUT = ("output_audio_mtok", "output_image_mtok", "output_video_mtok", "output_citation_mtok")


@dataclass(frozen=True, slots=True)
class Card:
    """Rates below and above the thresholds of total input (`tiers`, ascending). `price` is the provenance.

    `sells_input`, `sells_output`: whether there is a price by the token at all.
    `assumed` names the classes whose rate nobody stated although there might be another one (overrides).
    """

    price: str
    den: int
    base: Rates
    sells_input: bool = True
    sells_output: bool = True
    tiers: tuple[tuple[int, Rates], ...] = ()
    estimate: bool = False
    other_output: bool = False
    assumed: frozenset[str] = frozenset()

    def rates(self, granularity: Granularity, total_input: int) -> Rates:
        """The rates for a call with that much input; a sum of calls always gets the base rates."""
        rates = self.base
        if granularity == "per-message":
            for start, above in self.tiers:
                if total_input <= start:
                    break
                rates = above
        return rates

    def is_estimate(self, call: Call, counts: Counts, rates: Rates) -> bool:
        """Whether another amount is possible, by what the call leaves open."""
        usage = call.usage
        assert usage is not None
        plain, _, short, _, output, reasoning, _ = counts
        if (
            (usage.cache_read is None and plain and rates.cache_read != rates.input)
            or (usage.cache_write is None and plain and rates.cache_write != rates.input)
            or (usage.cache_write_1h is None and short and rates.cache_write_1h != rates.cache_write)
            or (usage.reasoning is None and output and rates.reasoning != rates.output)
            or (self.other_output and output)
        ):
            return True
        if self.assumed and any(n and name in self.assumed for name, n in zip(CLASSES, counts, strict=True)):
            return True
        if call.granularity != "per-message" and self._hides(call.granularity, usage.input or 0):
            return True
        # More reasoning than output: no money hangs on it where both cost the same, but one of the counts is wrong.
        return self.estimate or call.estimate or (usage.reasoning or 0) > output + reasoning

    def _hides(self, granularity: Granularity, total_input: int) -> bool:
        return (
            granularity != "per-turn" or bool(self.base.requests) or bool(self.tiers and total_input > self.tiers[0][0])
        )


def missing(call: Call) -> Unpriced | None:
    """Why a call says too little to be priced, whatever the rates: a part of a total is never priced as the total."""
    if call.problem:
        return "inconsistent_usage"
    usage = call.usage
    if usage is None or usage.input is None:
        return "no_usage"
    return "no_usage" if usage.output is None and call.kind not in ("embedding", "rerank") else None


def charge(call: Call, card: Card, rates: Rates) -> Charge | Unpriced:
    """A call's tokens by the classes that these rates tell apart, and the money; or why they cannot be told.

    A direction that was used and is not sold by the token has no known price, so neither has the call; embeddings
    and rankings have no output, whatever they count as such.
    """
    usage = call.usage
    assert usage is not None
    total, output, reasoning = usage.input or 0, usage.output or 0, usage.reasoning or 0
    read, write, hour = usage.cache_read or 0, usage.cache_write or 0, usage.cache_write_1h or 0
    plain, short = total - read - write, write - hour
    if plain < 0 or short < 0 or read < 0 or hour < 0 or output < 0 or reasoning < 0:
        return "inconsistent_usage"
    if not card.sells_output and call.kind in ("embedding", "rerank"):
        output = reasoning = 0
    if (total and not card.sells_input) or (output and not card.sells_output):
        return "unknown_model"
    r_plain, r_read, r_short, r_hour, r_output, r_reasoning, r_request = rates
    if r_reasoning == r_output:
        reasoning = 0
    elif reasoning > output:
        return "inconsistent_usage"
    output -= reasoning
    amounts = (
        plain * r_plain,
        read * r_read,
        short * r_short,
        hour * r_hour,
        output * r_output,
        reasoning * r_reasoning,
        r_request,
    )
    if card.den != 1:
        amounts = _rounded(amounts, card.den)
    return (plain, read, short, hour, output, reasoning, 1), amounts


def compile_card(model: ModelPrice, price: str, *, free: bool, estimate: bool) -> Card | None:
    """The card of a genai-prices entry, or None where it lists nothing that a call could be priced with.

    An entry without any price is not a price of zero: it stands for "included in a subscription", "no longer listed"
    or "not looked up". Only where the seller's own name for the model says `free` is it one.
    """
    listed = {name: value for name, value in vars(model).items() if value is not None}
    if not listed:
        return Card(price, 1, Rates(*[0] * len(CLASSES))) if free else None
    stated: dict[str, Decimal | TieredPrices] = {name: listed[key] for name, key in _KEYS.items() if key in listed}
    if not {"input", "output"} & stated.keys():
        return None
    tiered = [value for value in stated.values() if isinstance(value, TieredPrices)]
    starts = sorted({tier.start for value in tiered for tier in value.tiers})
    steps = [{name: _rate(name, value, start) for name, value in stated.items()} for start in (-1, *starts)]
    return build(
        price,
        steps,
        starts,
        estimate=estimate,
        other_output=any(key in listed for key in _OTHER_OUTPUT),
    )


def build(
    price: str,
    steps: list[dict[str, Fraction]],
    starts: list[int],
    *,
    estimate: bool = False,
    other_output: bool = False,
    assumed: Iterable[str] = (),
) -> Card:
    """A card from pico-USD per token by class: `steps[0]` below all of `starts`, the others above one each."""
    den = lcm(*(rate.denominator for step in steps for rate in step.values()))
    rates = [_filled(step, den) for step in steps]
    return Card(
        price,
        den,
        rates[0],
        "input" in steps[0],
        "output" in steps[0],
        tuple(zip(starts, rates[1:], strict=True)),
        estimate,
        other_output,
        frozenset(assumed),
    )


def _filled(step: dict[str, Fraction], den: int) -> Rates:
    rates: dict[str, int] = {}
    for name in CLASSES:
        rate = step.get(name)
        rates[name] = int(rate * den) if rate is not None else rates.get(_FALL_BACK.get(name, ""), 0)
    return Rates(**rates)


def _rounded(amounts: Amounts, den: int) -> Amounts:
    a, b, c, d, e, f, g = (round(Fraction(amount, den)) for amount in amounts)
    return a, b, c, d, e, f, g


def _rate(name: str, value: Decimal | TieredPrices, above: int) -> Fraction:
    """The rate of a class for an input just over a threshold; -1 asks for the base rate."""
    unit = 10**9 if name == "requests" else PICO_PER_MTOK
    if isinstance(value, TieredPrices):
        passed = [tier.price for tier in value.tiers if tier.start <= above]
        value = passed[-1] if passed else value.base
    return Fraction(value) * unit
