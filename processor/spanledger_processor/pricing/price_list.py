"""Prices by model and day: the user's overrides, and the list that comes with genai-prices.

Overrides go before the list, and the first that matches holds. Of genai-prices only the bundled data is read,
by the lookups that keep nothing: the package's own entry points remember every name they are asked for, for ever, and
names come from the network. Nothing here opens a connection.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Mapping
from dataclasses import KW_ONLY, dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from typing import TypeAlias

import genai_prices
from genai_prices.types import ModelInfo, ModelPrice, Provider, StartDateConstraint, TimeOfDateConstraint

from spanledger_processor.model import FURTHER_CLASSES, USAGE_CLASSES, Unpriced
from spanledger_processor.pricing.model_names import Candidate, candidates_for, clean
from spanledger_processor.pricing.providers import (
    GATEWAYS,
    PROVIDERS,
    provider_key,
    provider_name,
    provider_of,
    seller_of,
)
from spanledger_processor.pricing.rate_card import PICO_PER_KCOUNT, PICO_PER_MTOK, Card, build, compile_card

OVERRIDE = "override/"
"""The beginning of `Card.price` where the price is the user's own."""

MAX_NAME = 512
"""Characters of a model's name, its provider's and a price context. Longer ones are nobody's, and are not kept."""

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


PROVENANCE = f"genai-prices@{genai_prices.__version__}"
STANDARD = frozenset({"auto", "default", "global", "normal", "not_available", "on_demand", "standard", "standard_only"})
"""Values of a price context that mean the list price."""

_UNSURE = (
    ("google", "", ("web_searches",)),
    ("openai", "gpt-4", ("web_searches",)),
    ("perplexity", "perplexity/", ("web_searches",)),
)
"""Seller, beginning of a model, and usage classes that may cost something else than the list says, which no call tells.

Google gives a number of searches a day for nothing (https://ai.google.dev/gemini-api/docs/pricing). OpenAI charges its
models that do not reason $10 or $25 for 1,000 searches, by the version of the tool, and its small ones 8,000 input
tokens for each, which no usage has (https://platform.openai.com/docs/pricing). Perplexity's Agent API has two kinds and
counts both as one (https://docs.perplexity.ai/docs/agent-api/tools/web-search)."""
_BY_MORE = frozenset({"cloudflare", "databricks", "zhipuai"})
"""Sellers whose prices the list has for one case of several, by its own words. Cloudflare gives a number of neurons a
day for nothing (https://developers.cloudflare.com/workers-ai/platform/pricing/). Databricks charges by the region and
the cloud, up to 2.4 times the list's (https://www.databricks.com/product/pricing/foundation-model-serving). Zhipu
charges in CNY, and most models by the length of input and output, of which the list has the shortest
(https://open.bigmodel.cn/pricing)."""
_HOURS = "audio_hours"
"""How the list's keys of prices for an hour of sound end."""
_A_PROMPT = ("google", "gemini-2")
"""Models of a seller that are charged for a prompt with searches, not for each of them (the same page)."""

_IMPORTED, _CHECKED = "Imported from OpenRouter pricing", "Verified against"
"""What the list's comments begin with where a price was not the seller's own, and what they hold where it was compared.
OpenAI sells no gpt-oss: what is called through its library, a server of one's own perhaps, is called by its name."""
_ONE_PRICE = frozenset({("azure", "openai"), ("azure", "anthropic"), ("google", "anthropic")})
"""Sellers that ask what a maker asks for its models: of other makers' models the list takes the makers' own prices for
those on Azure, which has others (https://azure.microsoft.com/pricing/details/ai-foundry-models/deepseek/)."""

_SEARCHES = re.compile(r"-search(?:-preview|-api)?(?:-\d|$)|-online$|(?:^|[-/])sonar(?:-|$)")
"""Names of models that search for every answer, at a fee a search or a request: https://platform.openai.com/docs/pricing,
https://docs.perplexity.ai/docs/getting-started/pricing."""
_DRAWS = re.compile(r"(?:gemini|gpt)-[\d.]+(?:-[a-z]+)*-image(?:-|$)")
"""Names of models that write and draw: a picture costs ten times what as many tokens of text do, and not every seller's
list has a price for it (https://ai.google.dev/gemini-api/docs/pricing)."""
_SPEECH = re.compile(r"(?:^|[-/.])(?:audio|live|realtime|sonic|transcribe|voxtral)(?:[-.:]|$)")
_FROM_SPEECH = "transcribe"
"""Names of models that speak or are spoken to, or are spoken to alone: of one that does not say how much of it was
sound, nothing is known."""

_BY_ID = {provider.id: provider for provider in PROVIDERS}
_BATCH = {("service_tier", "batch"): ("processing", "batch")}


@dataclass(frozen=True, slots=True, eq=False)
class Listing:
    """A model as a seller lists it, and the candidate of its name that led there; equal to no other."""

    candidate: Candidate
    seller: Provider
    model: ModelInfo

    @property
    def price(self) -> str:
        """Return the provenance of its prices."""
        return f"{PROVENANCE}/{self.seller.id}/{self.model.id}"


def find(candidates: Iterable[Candidate]) -> Listing | None:
    """Return the first candidate that its seller lists."""
    for candidate in candidates:
        seller = _BY_ID[candidate.seller]
        model = seller.find_model(candidate.model, all_providers=PROVIDERS)
        if model is not None:
            return Listing(candidate, seller, model)
    return None


NameRead: TypeAlias = tuple[tuple[Candidate, ...], Unpriced | None, Listing | None]
"""The models that a name may be, or why it is none, and the first of them that is listed."""


def read_name(provider: str, model: str) -> NameRead:
    """Look a model up in the list as what a provider's and its name say."""
    read_as = candidates_for(provider, model)
    if isinstance(read_as, str):
        return (), read_as, None
    return tuple(read_as), None, find(read_as)


@lru_cache(2048)
def sold_by(provider: str, model: str, asked: str = "") -> str:
    """Return the one name of who sells a call, by its provider and `priced_name`: what sums by provider stand under.

    That is the seller whose price it has, as `providers.NAMES` spells it: also where the span names a library, no
    provider, or another than the one whose endpoint was `asked`. A gateway charges itself, whoever made the model.
    Where no seller lists the model, the provider that was asked or named; one that is not known as it was written.
    """
    provider = provider_of(provider, asked)
    name = provider_name(provider)
    if name in GATEWAYS or not model or len(provider) + len(model) > MAX_NAME:
        return name
    listing = read_name(provider, model)[2]
    return name if listing is None else listing.candidate.provider


def listed_models() -> list[str]:
    """Return the names of all models of the list, each behind its seller's."""
    return [f"{seller.id}/{model.id}" for seller in PROVIDERS for model in seller.models]


def holds_since(listing: Listing, day: date) -> date:
    """Return the day (UTC) since which a model has had the prices that it has on `day`."""
    starts = [one.start_date for one in _constraints(listing.model) if isinstance(one, StartDateConstraint)]
    return max((start for start in starts if start <= day), default=date(1970, 1, 1))


def cards(listing: Listing, day: date, context: tuple[tuple[str, str], ...]) -> list[tuple[int, Card | None]]:
    """Return the model's cards on a day (UTC), each with the nanosecond of the day from which it holds.

    One, from 0, for almost all models; a few cost less at night.
    """
    wanted = dict(_BATCH.get(pair, pair) for pair in context)
    # A model that the seller has no entry of its own for has no variants there either (as `calc_price` has it).
    own = any(listing.model is model for model in listing.seller.models)
    variants = (listing.model.price_variants or []) if own else []
    midnight = datetime.combine(day, time(), tzinfo=UTC)
    result: list[tuple[int, Card | None]] = []
    for start in sorted(_changes(listing.model)):
        at = midnight + start
        active = [
            variant.when.items()
            for variant in variants
            if (variant.constraint is None or variant.constraint.active(at)) and variant.when.items() <= wanted.items()
        ]
        unlisted = any(
            value not in STANDARD and not any((key, value) in when for when in active) for key, value in wanted.items()
        )
        prices = listing.model.get_prices(at, wanted if own else None)
        card = compile_card(
            prices,
            listing.price,
            free=listing.model.id.endswith(":free"),
            estimate=unlisted or _depends_on_more(listing, prices) or _is_anothers(listing),
            unstated=_unsure(listing),
            untold=_untold(listing.model.id) or _untold(listing.candidate.model),
            once=("web_searches",) if (listing.seller.id, listing.model.id[: len(_A_PROMPT[1])]) == _A_PROMPT else (),
        )
        if not result or result[-1][1] != card:
            result.append((start // timedelta(microseconds=1) * 1000, card))
    return result


def _depends_on_more(listing: Listing, prices: ModelPrice) -> bool:
    """Return whether a call may cost something else than the list says, by what no call tells.

    Perplexity's fee of a request goes by how much it may search, and the list has the highest alone:
    https://docs.perplexity.ai/docs/getting-started/pricing. Sound that is sold by the hour is paid beside all tokens.
    """
    per_hour = any(value is not None for key, value in vars(prices).items() if key.endswith(_HOURS))
    return per_hour or prices.requests_kcount is not None or listing.seller.id in _BY_MORE


def _is_anothers(listing: Listing) -> bool:
    """Return whether the list has a price of another seller's in place of this one's, which may be another."""
    comments = listing.model.price_comments or ""
    if comments.startswith(_IMPORTED):
        return _CHECKED not in comments
    owner = next(one.id for one in PROVIDERS if any(listing.model is model for model in one.models))
    return owner != listing.seller.id and (listing.seller.id, owner) not in _ONE_PRICE


def _unsure(listing: Listing) -> tuple[str, ...]:
    """Return the classes whose rate in the list may not be what a call is charged."""
    rows = ((seller, classes) for seller, model, classes in _UNSURE if listing.model.id.startswith(model))
    return next((classes for seller, classes in rows if seller == listing.seller.id), ())


def _untold(model: str) -> tuple[str, ...]:
    """Return the classes of which a model likely used something where a call does not report them."""
    if _SEARCHES.search(model):
        return ("web_searches",)
    if _DRAWS.search(model):
        return ("output_image",)
    if not _SPEECH.search(model):
        return ()
    return ("input_audio",) if _FROM_SPEECH in model else ("input_audio", "output_audio")


def _constraints(model: ModelInfo) -> list[StartDateConstraint | TimeOfDateConstraint | None]:
    """Return when each of a model's prices holds; None: always."""
    prices = model.prices if isinstance(model.prices, list) else []
    of_prices = [conditional.constraint for conditional in prices]
    return of_prices + [variant.constraint for variant in model.price_variants or []]


def _changes(model: ModelInfo) -> set[timedelta]:
    """Return the times of the day at which a model's price may change."""
    moments = {timedelta(0)}
    for constraint in _constraints(model):
        if isinstance(constraint, TimeOfDateConstraint):
            moments |= {_since_midnight(constraint.start_time), _since_midnight(constraint.end_time)}
    return moments


def _since_midnight(moment: time) -> timedelta:
    at = datetime.combine(date(1970, 1, 2), moment, tzinfo=moment.tzinfo or UTC).astimezone(UTC)
    return timedelta(hours=at.hour, minutes=at.minute, seconds=at.second, microseconds=at.microsecond)
