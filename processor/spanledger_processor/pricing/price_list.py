"""The prices that come with genai-prices: looking a model up, and its rate cards for one day.

Only the bundled data is read, by the lookups that keep nothing: the package's own entry points remember every name they
are asked for, for ever, and names come from the network. Nothing here opens a connection.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

import genai_prices
from genai_prices.data import providers
from genai_prices.types import ModelInfo, Provider, StartDateConstraint, TimeOfDateConstraint

from spanledger_processor.pricing.model_names import Candidate
from spanledger_processor.pricing.rate_card import Card, compile_card

PROVENANCE = f"genai-prices@{genai_prices.__version__}"
STANDARD = frozenset({"auto", "default", "global", "normal", "not_available", "on_demand", "standard", "standard_only"})
"""Values of a price context that ask for nothing but the list price."""

_ALLOWANCE = {"google": ("web_searches",)}
"""Usage classes of which a seller gives a daily allowance for nothing, which no call tells: searches by Google, see
https://ai.google.dev/gemini-api/docs/pricing."""
_A_PROMPT = ("google", "gemini-2")
"""Models of a seller that are charged for a prompt with searches, not for each of them (the same page)."""

_SPEECH = re.compile(r"(?:^|[-/.])(?:audio|live|realtime|sonic|transcribe|voxtral)(?:[-.:]|$)")
_FROM_SPEECH = "transcribe"
"""Names of models that speak or are spoken to: of one that does not say how much of it was sound, nothing is known."""

_BY_ID = {provider.id: provider for provider in providers}
_BATCH = {("service_tier", "batch"): ("processing", "batch")}


@dataclass(frozen=True, slots=True)
class Listing:
    """A model as a seller lists it, and the candidate of its name that led there."""

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
        model = seller.find_model(candidate.model, all_providers=providers)
        if model is not None:
            return Listing(candidate, seller, model)
    return None


def cards(listing: Listing, day: date, context: tuple[tuple[str, str], ...]) -> list[tuple[int, Card | None]]:
    """Return the model's cards on a day (UTC), each with the nanosecond of the day from which it holds.

    One, from 0, for almost all models; a few cost less at night.
    """
    wanted = dict(_BATCH.get(pair, pair) for pair in context)
    # A model that the seller has no entry of its own for has no variants there either (as `calc_price` has it).
    own = any(listing.model is model for model in listing.seller.models)
    variants = (listing.model.price_variants or []) if own else []
    midnight = datetime.combine(day, time(), tzinfo=UTC)
    found: list[tuple[int, Card | None]] = []
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
        card = compile_card(
            listing.model.get_prices(at, wanted if own else None),
            listing.price,
            free=listing.model.id.endswith(":free"),
            estimate=unlisted,
            unstated=_ALLOWANCE.get(listing.seller.id, ()),
            untold=_untold(listing.model.id),
            once=("web_searches",) if (listing.seller.id, listing.model.id[: len(_A_PROMPT[1])]) == _A_PROMPT else (),
        )
        if not found or found[-1][1] != card:
            found.append((start // timedelta(microseconds=1) * 1000, card))
    return found


def _untold(model: str) -> tuple[str, ...]:
    """Return the classes of which a model is likely to have used something where a call does not tell them."""
    if not _SPEECH.search(model):
        return ()
    return ("input_audio",) if _FROM_SPEECH in model else ("input_audio", "output_audio")


def _changes(model: ModelInfo) -> set[timedelta]:
    """The times of the day at which a model's price may change."""
    constraints: list[StartDateConstraint | TimeOfDateConstraint | None] = []
    if isinstance(model.prices, list):
        constraints += [conditional.constraint for conditional in model.prices]
    constraints += [variant.constraint for variant in model.price_variants or []]
    moments = {timedelta(0)}
    for constraint in constraints:
        if isinstance(constraint, TimeOfDateConstraint):
            moments |= {_since_midnight(constraint.start_time), _since_midnight(constraint.end_time)}
    return moments


def _since_midnight(moment: time) -> timedelta:
    at = datetime.combine(date(1970, 1, 2), moment, tzinfo=moment.tzinfo or UTC).astimezone(UTC)
    return timedelta(hours=at.hour, minutes=at.minute, seconds=at.second, microseconds=at.microsecond)
