"""The user's own prices. They go before every list, and the first that matches holds."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from datetime import date
from decimal import Decimal
from fractions import Fraction

from spanledger_processor.model import FURTHER_CLASSES, USAGE_CLASSES
from spanledger_processor.pricing.model_names import Candidate, clean, provider_key, seller_of
from spanledger_processor.pricing.rate_card import PICO_PER_KCOUNT, PICO_PER_MTOK, Card, build

OVERRIDE = "override/"
"""The beginning of `Card.price` where the price is the user's own."""

_PICO = {one.name: PICO_PER_MTOK if one.unit == "token" else PICO_PER_KCOUNT for one in USAGE_CLASSES}


@dataclass(frozen=True)
class Override:
    """Rates in USD per million tokens for models named exactly or by a glob (`acme-*`), in any case.

    The name may be the one that came in or the one that is left without prefixes. `valid_from` is the first day (UTC)
    it holds for. It holds for every service tier and length of input. A rate that is not given is never free: cache
    reads and writes are charged as plain input, writes for an hour as other writes, and a call that has such tokens is
    marked as an estimate; a call with input or output stays unpriced where there is no rate for that direction.
    `classes` are the rates of further usage classes by their names, of those sold per call in USD per thousand.
    """

    model: str
    _: KW_ONLY
    provider: str = ""
    valid_from: date | None = None
    input: Decimal | None = None
    output: Decimal | None = None
    cache_read: Decimal | None = None
    cache_write: Decimal | None = None
    cache_write_1h: Decimal | None = None
    name: str = ""
    classes: Mapping[str, Decimal] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.model.strip():
            raise ValueError("an override needs a model")
        if self.input is None and self.output is None and not self.classes:
            raise ValueError("an override needs a rate for input, output or a usage class")
        if unknown := sorted(self.classes.keys() - FURTHER_CLASSES):
            raise ValueError(f"{unknown[0]}: no usage class; there are {', '.join(sorted(FURTHER_CLASSES))}")
        for key, rate in self._stated().items():
            if not rate.is_finite() or rate < 0:
                raise ValueError(f"{key}: a rate is a number of USD, 0 or more, not {rate}")

    def matches(self, provider: str, model: str, candidates: list[Candidate], day: date) -> bool:
        """Return whether the override holds for a call, by the names as they came in and as they were read."""
        if self.valid_from is not None and day < self.valid_from:
            return False
        sellers = {candidate.seller for candidate in candidates[:1]}
        if self.provider and provider_key(self.provider) != provider_key(provider):
            seller = seller_of(self.provider)
            if not seller or seller not in sellers:
                return False
        names = {model.strip().lower(), clean(model)} | {candidate.model for candidate in candidates}
        pattern = self.model.strip().lower()
        return pattern in names or any(fnmatch.fnmatchcase(name, pattern) for name in names)

    def card(self) -> Card:
        """Return the rates as a card."""
        rates = self._stated()
        return build(
            f"{OVERRIDE}{self.name or self.model}",
            [{name: Fraction(rate) * _PICO[name] for name, rate in rates.items()}],
            [],
            unstated={"cache_read", "cache_write", "cache_write_1h"} - rates.keys(),
        )

    def _stated(self) -> dict[str, Decimal]:
        rates = {
            "input": self.input,
            "output": self.output,
            "cache_read": self.cache_read,
            "cache_write": self.cache_write,
            "cache_write_1h": self.cache_write_1h,
        }
        return {name: rate for name, rate in rates.items() if rate is not None} | dict(self.classes)
