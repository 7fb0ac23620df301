"""Prices from a configuration: the user's own, then the price list's."""

from __future__ import annotations

from spanledger_processor.config import Config
from spanledger_processor.config.processing import PriceOverride
from spanledger_processor.pricing import Override, Pricer


def make_pricer(config: Config) -> Pricer:
    """A pricer that asks the configured overrides first."""
    return Pricer([_override(override) for override in config.processor.pricing.overrides])


def _override(given: PriceOverride) -> Override:
    return Override(
        given.model,
        provider=given.provider or "",
        valid_from=given.valid_from,
        input=given.input,
        output=given.output,
        cache_read=given.cache_read,
        cache_write=given.cache_write,
        cache_write_1h=given.cache_write_1h,
        name=given.name or "",
    )
