"""The short way through the arithmetic that nearly all calls take, against the general one."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from spanledger_processor.model import CLASS_NAMES, Call, Cost, Usage
from spanledger_processor.pricing.model_names import Candidate
from spanledger_processor.pricing.price_list import Listing, cards
from spanledger_processor.pricing.pricer import general_cost, usual_cost
from spanledger_processor.pricing.providers import PROVIDERS
from spanledger_processor.pricing.rate_card import Card, read_card

DAY = datetime(2026, 11, 3, tzinfo=UTC).date()


def listed(provider: Any, model: Any) -> list[Card]:
    found = cards(Listing(Candidate(provider.id, model.id, ""), provider, model), DAY, ())
    return [card for _, card in found if card is not None]


CARDS = [card for provider in PROVIDERS for model in provider.models for card in listed(provider, model)]
COUNTS = st.one_of(
    st.none(), st.integers(-2, 20), st.sampled_from([0, 199_999, 200_001, 272_001]), st.integers(0, 10**9)
)
MORE = st.one_of(st.none(), st.just(0), st.integers(0, 5))


@st.composite
def calls(draw: st.DrawFn) -> Call:
    """Any counts at all; where the ones beyond text are told, mostly as 0."""
    counts = {name: draw(COUNTS if place < 6 else MORE) for place, name in enumerate(CLASS_NAMES)}
    if draw(st.booleans()):
        counts |= dict.fromkeys(CLASS_NAMES[6:])
    granularity = draw(st.sampled_from(["per-message", "per-message", "per-turn", "per-session-aggregate"]))
    unclassed = draw(st.sampled_from([(), (), ("code executions",)]))
    return Call(
        "otel",
        "llm",
        granularity=granularity,  # type: ignore[arg-type]
        usage=Usage(**counts),
        estimate=draw(st.booleans()),
        unclassed=unclassed,
    )


@settings(max_examples=2000, deadline=None)
@given(st.sampled_from(CARDS), calls())
def test_the_short_way_gives_what_the_general_one_gives(card: Card, call: Call) -> None:
    assert call.usage is not None
    rates = card.rates(call.granularity, call.usage.input or 0)
    usual = usual_cost(call, card, rates)
    assert usual is None or usual == general_cost(call, card, rates)


def test_a_card_that_is_written_and_read_is_the_same() -> None:
    assert [card for card in CARDS if read_card(card.written()) != card] == []


def test_a_call_of_text_takes_the_short_way() -> None:
    """Most of the list's models sell it so, also those whose searches or sound have no listed price."""
    call = Call("otel", "llm", usage=Usage(1000, 100, 500, 0, 0, 50))
    usual = [card for card in CARDS if usual_cost(call, card, card.base) is not None]
    assert len(usual) > len(CARDS) * 4 / 5


def test_more_reasoning_than_output_is_an_estimate_both_ways() -> None:
    """One of the counts is wrong, though both classes cost the same."""
    call = Call("otel", "llm", usage=Usage(1000, 100, 0, 0, 0, 150))
    ways = [(usual_cost(call, card, card.base), general_cost(call, card, card.base)) for card in CARDS if card.usual]
    assert len(ways) > 100
    assert all(isinstance(general, Cost) and general.estimate and usual in (None, general) for usual, general in ways)
